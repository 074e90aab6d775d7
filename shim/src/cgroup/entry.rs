//! The way into a group: descriptors opened once, used by every process that joins.
//!
//! On v1 these are the `tasks` files, not `cgroup.procs`: a process of one thread that moves itself is moved whole
//! by either, but through `cgroup.procs` the kernel (5.17 and later) waits for an RCU grace period under a global
//! semaphore, five milliseconds and more after a pause. A thread that moves itself alone needs no such wait: 0.1 ms
//! for eight hierarchies. On v2 a process is born in its group.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;

use crate::sys::process;

/// A way into a group, open for as long as it is needed.
#[derive(Debug, Clone, Default)]
pub struct Entry {
    /// v2: the group's directory, for `CLONE_INTO_CGROUP`.
    pub(super) directory: Option<Rc<OwnedFd>>,
    /// v1: `tasks` of every hierarchy.
    pub(super) members: Vec<Rc<OwnedFd>>,
}

impl Entry {
    /// What clone3 needs; none on v1.
    pub fn directory(&self) -> Option<BorrowedFd<'_>> {
        self.directory.as_ref().map(|directory| directory.as_fd())
    }

    /// The descriptors that [`Entry::enter`] needs.
    pub fn numbers(&self) -> impl Iterator<Item = RawFd> {
        self.members.iter().map(|members| members.as_raw_fd())
    }

    /// Moves the calling process, which has one thread, in on v1; on v2 clone3 did. Allocates nothing.
    pub fn enter(&self) -> nix::Result<()> {
        self.members.iter().try_for_each(|members| process::write_to(members.as_raw_fd(), b"0"))
    }
}
