//! Descriptors that tasks can wait for.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// Lets tasks wait until a non-blocking descriptor can be read or written.
///
/// # Errors
/// It is of a kind that epoll(7) does not take, such as a regular file.
#[expect(
    deprecated,
    reason = "its successor is unsafe, for types that can change their descriptor; an OwnedFd cannot"
)]
pub fn register(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(fd)
}
