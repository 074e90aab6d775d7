//! How long ago something was, as kubectl says it (reference 10.1).

use jiff::Timestamp;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 365 * DAY;

/// The age of `then`, or `<unknown>` when there is no such time.
#[must_use]
pub fn since(then: Option<Timestamp>, now: Timestamp) -> String {
    let Some(then) = then else {
        return "<unknown>".to_owned();
    };
    let nanoseconds = now.as_nanosecond() - then.as_nanosecond();
    duration(i64::try_from(nanoseconds / 1_000_000_000).unwrap_or(i64::MAX))
}

/// A duration in whole seconds, in at most two units, truncated.
#[must_use]
pub fn duration(seconds: i64) -> String {
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1..0 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => two(seconds, (MINUTE, 'm'), (1, 's')),
        600..10_800 => format!("{}m", seconds / MINUTE),
        10_800..28_800 => two(seconds, (HOUR, 'h'), (MINUTE, 'm')),
        28_800..172_800 => format!("{}h", seconds / HOUR),
        172_800..691_200 => two(seconds, (DAY, 'd'), (HOUR, 'h')),
        691_200..63_072_000 => format!("{}d", seconds / DAY),
        63_072_000..252_288_000 => two(seconds, (YEAR, 'y'), (DAY, 'd')),
        _ => format!("{}y", seconds / YEAR),
    }
}

/// The value in a large unit, and the rest in a small one unless it is zero.
fn two(seconds: i64, (large, large_name): (i64, char), (small, small_name): (i64, char)) -> String {
    match seconds % large / small {
        0 => format!("{}{large_name}", seconds / large),
        rest => format!("{}{large_name}{rest}{small_name}", seconds / large),
    }
}

/// How old an event is: with its count when it happened more than once (reference 9.4).
#[must_use]
pub fn counted(first: Option<Timestamp>, last: Option<Timestamp>, count: i64, now: Timestamp) -> String {
    if count > 1 {
        format!("{} (x{count} over {})", since(last, now), since(first, now))
    } else {
        since(first, now)
    }
}

/// A time as RFC 1123 with a numeric zone; a missing one as Go prints its zero time.
#[must_use]
pub fn rfc1123(time: Option<Timestamp>) -> String {
    match time {
        Some(time) => time.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string(),
        None => "Mon, 01 Jan 0001 00:00:00 +0000".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_told_in_the_units_of_kubectl() {
        for (seconds, text) in [
            (-2, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (599, "9m59s"),
            (600, "10m"),
            (179 * MINUTE + 59, "179m"),
            (3 * HOUR, "3h"),
            (3 * HOUR + 12 * MINUTE, "3h12m"),
            (8 * HOUR, "8h"),
            (47 * HOUR + 1, "47h"),
            (2 * DAY, "2d"),
            (2 * DAY + 5 * HOUR, "2d5h"),
            (8 * DAY, "8d"),
            (400 * DAY, "400d"),
            (729 * DAY, "729d"),
            (2 * YEAR, "2y"),
            (2 * YEAR + 15 * DAY, "2y15d"),
            (9 * YEAR + 3 * DAY, "9y"),
        ] {
            assert_eq!(duration(seconds), text, "{seconds} seconds");
        }
    }

    #[test]
    fn a_repeated_event_shows_its_count() {
        let now: Timestamp = "2024-01-02T03:05:34Z".parse().unwrap();
        let first = "2024-01-02T03:04:00Z".parse().ok();
        let last = "2024-01-02T03:05:29Z".parse().ok();
        assert_eq!(counted(first, last, 21, now), "5s (x21 over 94s)");
        assert_eq!(counted(first, first, 1, now), "94s");
        assert_eq!(since(None, now), "<unknown>");
    }

    #[test]
    fn times_are_rfc_1123() {
        let time = "2024-01-02T03:04:05Z".parse().ok();
        assert_eq!(rfc1123(time), "Tue, 02 Jan 2024 03:04:05 +0000");
        assert_eq!(rfc1123(None), "Mon, 01 Jan 0001 00:00:00 +0000");
    }
}
