//! Guards that a test can take out of its own process, so that it is known to test something: the attack it makes
//! succeeds then. Outside of tests every guard is always on, and this is a constant.

use std::ffi::CStr;
use std::os::fd::{BorrowedFd, OwnedFd};

/// One guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Guard {
    /// Paths stay inside the root.
    InRoot = 1,
    /// No mount lands in procfs by way of a symbolic link.
    Procfs = 2,
    /// proc and sysfs are mounted on ordinary directories only.
    Ordinary = 4,
    /// What masks files is the null device.
    Null = 8,
}

#[cfg(test)]
static OFF: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);

/// Whether a test has taken this guard out.
#[cfg(test)]
pub(super) fn is_off(guard: Guard) -> bool {
    OFF.load(std::sync::atomic::Ordering::Relaxed) & guard as u8 != 0
}

/// Whether a test has taken this guard out.
#[cfg(not(test))]
pub(super) fn is_off(_: Guard) -> bool {
    false
}

/// Takes guards out, in the forked child of a test.
#[cfg(test)]
pub(super) fn take_out(guards: &[Guard]) {
    let all = guards.iter().fold(0, |all, guard| all | *guard as u8);
    OFF.store(all, std::sync::atomic::Ordering::Relaxed);
}

/// Looks a path up as a careless runtime does.
pub(super) fn unguarded(directory: BorrowedFd<'_>, path: &CStr, flags: i32) -> nix::Result<OwnedFd> {
    let bytes = path.to_bytes_with_nul();
    let relative = &bytes[bytes.iter().take_while(|byte| **byte == b'/').count()..];
    let path = CStr::from_bytes_with_nul(relative).map_err(|_| nix::errno::Errno::EINVAL)?;
    let path = if path.is_empty() { c"." } else { path };
    crate::sys::mount::open_below(directory, path, flags, 0)
}
