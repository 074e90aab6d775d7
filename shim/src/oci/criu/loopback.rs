//! The loopback interface of a network namespace that criu made and leaves empty. A new container's is brought up by its
//! init; here a child joins the namespace for it.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::sched::CloneFlags;

use super::children;
use crate::sys::{interface, namespace, pidfd, process};

/// Brings the loopback interface of the process `pid` up.
pub(super) fn raise(pid: i32) -> nix::Result<()> {
    let init = pidfd::open(pid)?;
    children::wait(&process::spawn(CloneFlags::empty(), None, &init, join_and_raise)?)
}

fn join_and_raise(init: &OwnedFd) -> ! {
    let joined = namespace::join(init.as_raw_fd(), libc::CLONE_NEWNET);
    let raised = joined.and_then(|()| interface::raise_loopback());
    process::leave(raised.map_or_else(|errno| errno as i32, |()| 0))
}
