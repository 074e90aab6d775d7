//! Files in memory; memfd_create(2). Nothing here allocates.

use std::ffi::CStr;
use std::io::IoSlice;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::check;

/// An empty file, close-on-exec.
pub(crate) fn file(name: &CStr) -> nix::Result<OwnedFd> {
    // SAFETY: memfd_create reads a name that ends in a null byte and outlives the call.
    let number = check(unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) }.into())?;
    // SAFETY: the kernel made this descriptor for us just now, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number as i32) })
}

/// Reads the beginning of a file by its descriptor's number; how long that is.
pub(crate) fn read_beginning(number: std::os::fd::RawFd, buffer: &mut [u8]) -> usize {
    // SAFETY: the kernel writes at most `len` bytes into a slice of that length; a closed number comes back as EBADF.
    let length = unsafe { libc::pread(number, buffer.as_mut_ptr().cast(), buffer.len(), 0) };
    usize::try_from(length).unwrap_or_default()
}

/// Writes several parts as one.
pub(crate) fn write_parts(file: BorrowedFd<'_>, parts: &[IoSlice<'_>]) -> nix::Result<()> {
    // SAFETY: `IoSlice` is laid out as iovec, and `len` is the slice's length.
    let written = unsafe { libc::writev(file.as_raw_fd(), parts.as_ptr().cast(), parts.len() as i32) };
    check(written as libc::c_long).map(drop)
}
