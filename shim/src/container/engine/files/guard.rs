//! How a careless runtime looks a path up: for tests that have taken the guard out, to show what it guards against.

use std::ffi::CStr;
use std::os::fd::{BorrowedFd, OwnedFd};

pub(super) use crate::guard::{Guard, is_off};

/// Looks a path up as a careless runtime does.
pub(super) fn unguarded(directory: BorrowedFd<'_>, path: &CStr, flags: i32) -> nix::Result<OwnedFd> {
    let bytes = path.to_bytes_with_nul();
    let relative = &bytes[bytes.iter().take_while(|byte| **byte == b'/').count()..];
    let path = CStr::from_bytes_with_nul(relative).map_err(|_| nix::errno::Errno::EINVAL)?;
    let path = if path.is_empty() { c"." } else { path };
    crate::sys::mount::open_below(directory, path, flags, 0)
}
