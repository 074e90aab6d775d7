//! Which descriptors a child has, and when it lets go of the others. Nothing here allocates once it is made.

use std::os::fd::{AsRawFd, RawFd};

use super::child::Work;
use crate::sys::descriptor;

/// Lists of numbers, each in ascending order.
#[derive(Debug, Default)]
pub(super) struct Keep {
    /// All that a step needs.
    all: Vec<RawFd>,
    /// The maker's end of the socket, where nothing else has to be closed at once.
    shut: Option<RawFd>,
    /// What the child has done with once it has entered its root, and what is left then.
    outside: Vec<RawFd>,
    inside: Vec<RawFd>,
    /// What is left when it becomes a process of the container, and at the gate.
    as_member: Vec<RawFd>,
    at_gate: Vec<RawFd>,
    /// What an init appears with that joins its PID namespace last.
    to_appear: Vec<RawFd>,
}

impl Keep {
    /// Lists what the child of `work` keeps. With `shut`, the maker's end of the socket, it keeps all else of its maker's
    /// until it becomes a process of the container: nobody but that maker waits for it to be closed.
    pub(super) fn new(work: &Work<'_>, shut: Option<RawFd>) -> Self {
        let preserved = 3..3 + work.preserved as RawFd;
        // What hooks print, files in memory.
        let output = || work.output.into_iter().flatten();
        let printing = output().filter(|_| !work.plan.hooks.start_container.is_empty());
        let at_gate = sorted(work.go.into_iter().chain([work.result]).chain(preserved).chain(printing));
        let procfs = work.procfs.as_ref().map(AsRawFd::as_raw_fd);
        let told = || std::iter::once(work.socket).chain(work.observer);
        let as_member = sorted(at_gate.iter().copied().chain(procfs).chain(told()));
        let to_appear = sorted(at_gate.iter().copied().chain(told()));
        let files = work.stdio.numbers().into_iter().chain(work.sources.numbers()).chain(output());
        let inside = sorted(as_member.iter().copied().chain(files).chain(work.pid_namespace));
        let outside = sorted(work.cgroup.numbers().chain(work.joins.numbers()).chain(work.mounts));
        let all = sorted(inside.iter().chain(&outside).copied());
        Self { all, shut, outside, inside, as_member, at_gate, to_appear }
    }

    /// At the child's start.
    pub(super) fn begin(&self) -> nix::Result<()> {
        match self.shut {
            Some(number) => descriptor::close_all(&[number]),
            None => self.sweep(),
        }
    }

    /// Closes what steps left open.
    pub(super) fn sweep(&self) -> nix::Result<()> {
        descriptor::close_all_but(&self.all)
    }

    /// Once it is in its root: whatever path an image brings, no descriptor leads out of it from here on.
    pub(super) fn enter(&self) -> nix::Result<()> {
        match self.shut {
            Some(_) => descriptor::close_all_but(&self.inside),
            None => descriptor::close_all(&self.outside),
        }
    }

    /// Before it becomes a process of the container.
    pub(super) fn become_member(&self) -> nix::Result<()> {
        descriptor::close_all_but(&self.as_member)
    }

    /// Before it makes the init, which joins its PID namespace last.
    pub(super) fn appear(&self) -> nix::Result<()> {
        descriptor::close_all_but(&self.to_appear)
    }

    /// At the gate.
    pub(super) fn wait(&self) -> nix::Result<()> {
        descriptor::close_all_but(&self.at_gate)
    }
}

fn sorted(numbers: impl Iterator<Item = RawFd>) -> Vec<RawFd> {
    let mut numbers: Vec<RawFd> = numbers.collect();
    numbers.sort_unstable();
    numbers
}
