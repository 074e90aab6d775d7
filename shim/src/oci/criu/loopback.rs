//! The loopback interface of a network namespace that criu made and leaves empty. A new container's is brought up by its
//! init; here a child joins the namespace for it.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sched::CloneFlags;

use crate::sys::{interface, namespace, pidfd, process};
use crate::wire::Exit;

/// Brings the loopback interface of the process `pid` up.
pub(super) fn raise(pid: i32) -> nix::Result<()> {
    let init = pidfd::open(pid)?;
    let child = process::spawn(CloneFlags::empty(), None, &init, join_and_raise)?;
    let mut polled = [nix::poll::PollFd::new(child.pidfd.as_fd(), nix::poll::PollFlags::POLLIN)];
    while nix::poll::poll(&mut polled, nix::poll::PollTimeout::NONE) == Err(Errno::EINTR) {}
    match process::reap_child(child.pidfd.as_fd()) {
        Some(Exit::Code(0)) => Ok(()),
        Some(Exit::Code(errno)) => Err(Errno::from_raw(i32::from(errno))),
        Some(Exit::Signaled(_) | Exit::Unknown) | None => Err(Errno::ECHILD),
    }
}

/// Its exit status is an errno: all of those are small.
fn join_and_raise(init: &OwnedFd) -> ! {
    let joined = namespace::join(init.as_raw_fd(), libc::CLONE_NEWNET);
    match joined.and_then(|()| interface::raise_loopback()) {
        Ok(()) => process::leave(0),
        Err(errno) => process::leave(errno as i32),
    }
}
