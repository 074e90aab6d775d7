//! What a child works with: what it needs is found or opened before it is made, so that it allocates nothing.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;

use nix::errno::Errno;
use nix::sched::CloneFlags;

use super::at_once::{Recorder, Word};
use super::failure::Failure;
use super::hook::Output;
use super::keep::Keep;
use super::namespace::{self, Joins};
use super::plan::Plan;
use super::procfs::Procfs;
use super::request::{Fault, Request, Stdio};
use super::sources::Sources;
use super::step::Step;
use crate::cgroup::Entry;
use crate::container::identity::Identity;
use crate::container::program::Program;

/// Everything that the child needs.
pub(super) struct Work<'a> {
    pub(super) plan: &'a Plan,
    pub(super) identity: &'a Identity,
    pub(super) program: &'a Program,
    pub(super) stdio: &'a Stdio,
    pub(super) cgroup: &'a Entry,
    pub(super) opened: &'a Opened,
    pub(super) maker: Maker<'a>,
    pub(super) output: Option<[RawFd; 2]>,
    pub(super) observer: Option<RawFd>,
    pub(super) mounts: Option<RawFd>,
    pub(super) keep: Keep,
    /// Nobody waits for a descriptor to be closed that it inherits, and nobody can look into it.
    pub(super) is_alone: bool,
    pub(super) preserved: u32,
    pub(super) looks_up: bool,
    pub(super) fault: Option<Fault>,
}

/// What the maker does meanwhile.
#[derive(Clone, Copy)]
pub(super) enum Maker<'a> {
    /// It is told, and answers.
    Apart(Ends),
    /// It stands still, and shares its memory.
    Still(&'a Word, Recorder<'a>),
}

/// The ways from the child to its maker, and to whoever starts it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    pub(super) socket: RawFd,
    pub(super) go: RawFd,
    pub(super) result: RawFd,
}

/// What the maker opened.
pub(super) struct Opened {
    pub(super) joins: Joins,
    pub(super) pid_namespace: Option<OwnedFd>,
    pub(super) sources: Sources,
    /// Where anything is to be written below it.
    pub(super) procfs: Option<Procfs>,
}

impl Opened {
    /// Opens all.
    pub(super) fn open(request: &Request<'_>) -> Result<Self, Failure> {
        let plan = request.plan.as_ref();
        let (joins, pid_namespace) = open_namespaces(request)?;
        let there = pid_namespace.as_ref().map(AsFd::as_fd);
        let sources = Sources::open(plan, Rc::clone(&request.covers), there)
            .map_err(|(step, failed)| Failure::of_step(plan, step, failed))?;
        let procfs = needs_procfs(plan, &request.identity).then(|| Procfs::of(request.procfs)).transpose();
        let procfs = procfs.map_err(|errno| Failure::system("open /proc", errno))?;
        Ok(Self { joins, pid_namespace, sources, procfs })
    }

    /// All of the root and its files that are for this container alone, for the maker to close once it has a child.
    pub(super) fn into_descriptors(self) -> impl Iterator<Item = OwnedFd> {
        self.sources.into_descriptors().chain(self.procfs.and_then(Procfs::own))
    }

    /// The numbers of those.
    pub(super) fn numbers(&self) -> impl Iterator<Item = RawFd> {
        self.sources.numbers().chain(self.procfs.as_ref().and_then(Procfs::own_number))
    }
}

impl<'a> Work<'a> {
    /// For `request`, to become `identity`.
    pub(super) fn new(
        request: &'a Request<'_>,
        identity: &'a Identity,
        opened: &'a Opened,
        maker: Maker<'a>,
    ) -> Self {
        let is_alone = request.covers.is_of_one() && request.plan.namespaces.joined.is_empty();
        Self {
            plan: &request.plan,
            identity,
            program: &request.program,
            stdio: &request.stdio,
            cgroup: request.cgroup,
            opened,
            maker,
            output: None,
            observer: None,
            mounts: request.mounts.map(|mounts| mounts.as_raw_fd()),
            keep: Keep::default(),
            is_alone: is_alone && opened.sources.root.may_be_littered(),
            preserved: request.preserved,
            looks_up: request.looks_up,
            fault: request.fault,
        }
    }

    /// With files for what hooks print, and somebody to tell of a seccomp listener.
    pub(super) fn told(self, output: Option<&Output>, observer: Option<&OwnedFd>) -> Self {
        Self { output: output.map(Output::numbers), observer: observer.map(AsRawFd::as_raw_fd), ..self }
    }

    /// The PID namespace, where it is joined last.
    pub(super) fn last_namespace(&self) -> Option<RawFd> {
        let there = self.opened.pid_namespace.as_ref();
        there.filter(|_| self.plan.namespaces.joins_last).map(AsRawFd::as_raw_fd)
    }
}

/// Whether anything is to be written below `/proc`.
fn needs_procfs(plan: &Plan, identity: &Identity) -> bool {
    let writes = |step: &Step| matches!(step, Step::Time { .. } | Step::Sysctl { .. });
    identity.label.is_some() || identity.oom_score_adj.is_some() || plan.steps.iter().any(writes)
}

fn open_namespaces(request: &Request<'_>) -> Result<(Joins, Option<OwnedFd>), Failure> {
    let namespaces = &request.plan.namespaces;
    let mut joins = Joins::default();
    let mut pid = None;
    for (flag, path) in &namespaces.joined {
        let file = namespace::open_checked(path, *flag)
            .map_err(|errno| Failure::namespace(path, &namespace::names(*flag), errno))?;
        if flag.contains(CloneFlags::CLONE_NEWPID) {
            pid = Some(file);
        } else {
            joins.opened.push((*flag, file));
        }
    }
    if !namespaces.sandbox.is_empty() {
        let pause = request.sandbox.ok_or_else(|| Failure::system("join the sandbox", Errno::ESRCH))?;
        joins.sandbox = Some((pause.as_raw_fd(), namespaces.sandbox - CloneFlags::CLONE_NEWPID));
        if namespaces.sandbox.contains(CloneFlags::CLONE_NEWPID) {
            pid = Some(copy(pause)?);
        }
    }
    Ok((joins, pid))
}

fn copy(pidfd: BorrowedFd<'_>) -> Result<OwnedFd, Failure> {
    pidfd.try_clone_to_owned().map_err(|error| Failure::io("copy a pidfd", &error))
}
