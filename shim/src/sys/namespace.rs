//! Namespaces by descriptor; ioctl_nsfs(2), setns(2). Nothing here allocates.

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use super::check;

/// `_IO(0xb7, 0x3)`.
const GET_TYPE: libc::Ioctl = 0xb703;

/// The `CLONE_NEW…` flag of a namespace; ENOTTY for what is none.
pub(crate) fn kind(namespace: BorrowedFd<'_>) -> nix::Result<i32> {
    // SAFETY: NS_GET_NSTYPE takes no argument.
    check(unsafe { libc::ioctl(namespace.as_raw_fd(), GET_TYPE) }.into()).map(|kind| kind as i32)
}

/// Joins what `flags` name of the process behind a pidfd, by its number.
pub(crate) fn join(pidfd: RawFd, flags: i32) -> nix::Result<()> {
    // SAFETY: setns takes two integers; a closed number comes back as EBADF.
    check(unsafe { libc::setns(pidfd, flags) }.into()).map(drop)
}
