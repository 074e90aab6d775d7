//! The two clocks of the shim: wall time for what is published, monotonic time for waiting.

use nix::time::{ClockId, clock_gettime};

const NANOS: i64 = 1_000_000_000;

/// Nanoseconds since the Unix epoch.
#[must_use]
pub(crate) fn wall() -> i64 {
    read(ClockId::CLOCK_REALTIME)
}

/// Nanoseconds of a clock that never jumps and starts anywhere.
#[must_use]
pub(crate) fn monotonic() -> i64 {
    read(ClockId::CLOCK_MONOTONIC)
}

fn read(clock: ClockId) -> i64 {
    // Both clocks exist on every kernel that has pidfds, and the vdso cannot fail.
    clock_gettime(clock).map_or(0, |time| time.tv_sec() * NANOS + time.tv_nsec())
}

const DAY: i64 = 86_400;

/// Nanoseconds since the Unix epoch as `2024-01-02T03:04:05.123456789Z`.
#[must_use]
pub(crate) fn timestamp(nanoseconds: i64) -> String {
    let (seconds, fraction) = (nanoseconds.div_euclid(NANOS), nanoseconds.rem_euclid(NANOS));
    let (days, second) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:09}Z")
}

/// Year, month and day of a number of days since 1970-01-01, in the proleptic Gregorian calendar: years are
/// counted from March, so that the leap day is the last of its year.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_printed_in_utc_with_nine_digits() {
        assert_eq!(timestamp(1_704_164_645_123_456_789), "2024-01-02T03:04:05.123456789Z");
        assert_eq!(timestamp(951_782_400_000_000_001), "2000-02-29T00:00:00.000000001Z");
        assert_eq!(timestamp(-1), "1969-12-31T23:59:59.999999999Z");
    }
}
