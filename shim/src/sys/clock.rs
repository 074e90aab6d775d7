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
