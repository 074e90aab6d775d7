//! Descriptors that tasks can wait for.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// Lets tasks wait until a descriptor can be read or written. It does not block from here on: a read that
/// waits would hold up everything else of the supervisor's one thread, and descriptors come from elsewhere.
///
/// # Errors
/// It is of a kind that epoll(7) does not take, such as a regular file.
#[expect(
    deprecated,
    reason = "its successor is unsafe, for types that can change their descriptor; an OwnedFd cannot"
)]
pub fn register(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    rustix::io::ioctl_fionbio(&fd, true)?;
    AsyncFd::new(fd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_blocking_descriptor_blocks_no_more() {
        let (reader, _writer) = rustix::pipe::pipe().unwrap();
        let reader = register(reader).unwrap();
        assert_eq!(rustix::io::read(reader.get_ref(), &mut [0; 1]), Err(rustix::io::Errno::AGAIN));
    }
}
