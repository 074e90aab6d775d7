//! Children that join a namespace of a restored container, do one thing there and end with an errno as their status: all
//! of those are small.

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::sys::process::{Child, reap_child};
use crate::wire::Exit;

/// Waits for such a child.
pub(super) fn wait(child: &Child) -> nix::Result<()> {
    let mut polled = [PollFd::new(child.pidfd.as_fd(), PollFlags::POLLIN)];
    while poll(&mut polled, PollTimeout::NONE) == Err(Errno::EINTR) {}
    match reap_child(child.pidfd.as_fd()) {
        Some(Exit::Code(0)) => Ok(()),
        Some(Exit::Code(errno)) => Err(Errno::from_raw(i32::from(errno))),
        Some(Exit::Signaled(_) | Exit::Unknown) | None => Err(Errno::ECHILD),
    }
}
