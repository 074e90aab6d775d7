//! Which descriptors a child has, and when it lets go of the others. Nothing here allocates once it is made.

use std::os::fd::{AsFd, AsRawFd, RawFd};

use super::work::{Maker, Work};
use crate::sys::descriptor;

/// Lists of numbers, each in ascending order.
#[derive(Debug, Default)]
pub(super) struct Keep {
    /// All that a step needs.
    all: Vec<RawFd>,
    first: First,
    /// What the child has done with once it has entered its root, and what is left then.
    outside: Vec<RawFd>,
    inside: Vec<RawFd>,
    /// What is left when it becomes a process of the container, and at the gate.
    as_member: Vec<RawFd>,
    at_gate: Vec<RawFd>,
    /// What an init appears with that joins its PID namespace last.
    to_appear: Vec<RawFd>,
}

/// What the child closes at its start. Where it is alone it keeps all else of its maker's until it enters its root.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum First {
    /// All that no step needs.
    #[default]
    Rest,
    /// The maker's end of the socket: nobody but that maker waits for anything to be closed.
    Socket(RawFd),
    Nothing,
}

impl Keep {
    /// Lists what the child of `work` keeps. `ours` is the maker's end of the socket, where there is one.
    pub(super) fn new(work: &Work<'_>, ours: Option<RawFd>) -> Self {
        let preserved = 3..3 + work.preserved as RawFd;
        // What hooks print, files in memory.
        let output = || work.output.into_iter().flatten();
        let printing = output().filter(|_| !work.plan.hooks.start_container.is_empty());
        let (gate, socket, record) = match &work.maker {
            Maker::Apart(ends) => ([Some(ends.go), Some(ends.result)], Some(ends.socket), None),
            Maker::Still(_, recorder) => ([None; 2], None, Some(recorder.directory.as_raw_fd())),
        };
        let at_gate = sorted(gate.into_iter().flatten().chain(preserved).chain(printing));
        let opened = work.opened;
        let procfs = opened.procfs.as_ref().map(|procfs| procfs.as_fd().as_raw_fd());
        let told = || socket.into_iter().chain(work.observer);
        let as_member = sorted(at_gate.iter().copied().chain(procfs).chain(told()));
        let to_appear = sorted(at_gate.iter().copied().chain(told()));
        let files = work.stdio.numbers().into_iter().chain(opened.sources.numbers()).chain(output());
        // No path that an image brings is followed through a descriptor (RESOLVE_NO_MAGICLINKS) as long as that of the record is there.
        let inside =
            sorted(as_member.iter().copied().chain(files).chain(work.last_namespace()).chain(record));
        let joins = opened.joins.numbers();
        let outside = sorted(work.cgroup.numbers().chain(joins).chain(work.mounts));
        let all = sorted(inside.iter().chain(&outside).copied());
        let first = match ours {
            _ if !work.is_alone => First::Rest,
            Some(ours) => First::Socket(ours),
            None => First::Nothing,
        };
        Self { all, first, outside, inside, as_member, at_gate, to_appear }
    }

    /// At the child's start.
    pub(super) fn begin(&self) -> nix::Result<()> {
        match self.first {
            First::Rest => self.sweep(),
            First::Socket(number) => descriptor::close_all(&[number]),
            First::Nothing => Ok(()),
        }
    }

    /// Closes what steps left open.
    pub(super) fn sweep(&self) -> nix::Result<()> {
        descriptor::close_all_but(&self.all)
    }

    /// Once it is in its root: whatever path an image brings, no descriptor leads out of it from here on.
    pub(super) fn enter(&self) -> nix::Result<()> {
        match self.first {
            First::Rest => descriptor::close_all(&self.outside),
            First::Socket(_) | First::Nothing => descriptor::close_all_but(&self.inside),
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
