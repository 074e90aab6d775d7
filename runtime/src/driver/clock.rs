//! The only clock of the runtime: everything else is given its time as a value.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::core::time::{Mono, Now};

/// Both clocks, read now.
#[must_use]
pub fn now() -> Now {
    Now { mono: boot_time(), wall: wall() }
}

/// The boot-time clock, which suspending the machine does not stop.
#[must_use]
pub fn boot_time() -> Mono {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Mono(Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default()))
}

/// The wall clock.
#[must_use]
pub fn wall() -> jiff::Timestamp {
    let time = clock_gettime(ClockId::Realtime);
    let nanoseconds = i32::try_from(time.tv_nsec).unwrap_or_default();
    jiff::Timestamp::new(time.tv_sec, nanoseconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
}
