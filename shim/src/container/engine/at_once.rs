//! A container that is started as soon as it is made: its init is a child that has its maker's memory (`sys/vfork.rs`), and by the
//! time its maker goes on it has executed the program, or said why not.
//!
//! Nothing needs to be told between them, nothing is copied, and what the child looks at the maker has in its memory
//! already. The plan chooses it (`Plan::at_once`) where nobody else has a part in the making: no hook before the program runs, no
//! agent, no map of a user namespace, no terminal to hand on.
//!
//! **Invariant:** the child is in a PID namespace of its own and joins nobody's, so nobody in the container can look into
//! a memory that is the runtime's. `exec` waits for the container's lock, which the maker holds all that time. What is left is a
//! container with CAP_SYS_PTRACE that is made to join that namespace by path between the record, which is the last step, and the
//! `execve` a moment later.
//!
//! A maker that is killed takes the child along, unless that is on disk already and about to execute: then it lives on, as one that runs.

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd};

use super::child;
use super::failure::Failure;
use super::keep::Keep;
use super::message::Message;
use super::request::Request;
use super::work::{Maker, Opened, Work};
use crate::container::transform::Problem;
use crate::sys::{descriptor, process, vfork};
use crate::{harmless, procfs};

/// How long an end may take that has begun, in milliseconds.
const LAST_MOMENT: u16 = 10_000;

/// What the child leaves for its maker.
#[derive(Debug, Default)]
pub(super) struct Word(Cell<Option<Said>>);

/// The last that the child said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// It failed before it was all that it was to be.
    Failed(Message),
    /// It is about to execute the program.
    Executes,
    /// The program cannot be executed.
    NotExecuted(Problem),
}

impl Word {
    /// Says it. What counts is what was said last.
    pub(super) fn say(&self, said: Said) {
        self.0.set(Some(said));
    }
}

/// How the child puts its container on disk before the program runs: [`Step::Record`](super::step::Step::Record).
#[derive(Clone, Copy)]
pub(crate) struct Recorder<'a> {
    /// What `write` writes to. The child has it until it becomes a process of the container.
    pub(crate) directory: BorrowedFd<'a>,
    /// Takes the pid, and when the process started. Called in the child, whose root is the container's; it may allocate.
    pub(crate) write: &'a dyn Fn(i32, u64) -> nix::Result<()>,
}

/// Makes the container of a plan that says so, and starts it.
pub(crate) fn start(request: Request<'_>, recorder: Recorder<'_>) -> Result<process::Child, Failure> {
    let word = Word::default();
    let opened = Opened::open(&request)?;
    let mut numbers: Vec<_> = opened.numbers().collect();
    let mut work = Work::new(&request, &request.identity, &opened, Maker::Still(&word, recorder));
    work.keep = Keep::new(&work, None);
    let flags = request.plan.namespaces.cloned();
    let made = vfork::spawn(flags, request.cgroup.directory(), &work, child::run_at_once);
    // The child may have put descriptors of its own into it.
    std::mem::forget(opened);
    let started = made
        .map_err(|errno| Failure::unmade(request.cgroup, errno))
        .and_then(|child| judge(&request, child, word.0.take()));
    numbers.extend(request.stdio.into_descriptors().into_iter().map(OwnedFd::into_raw_fd));
    numbers.sort_unstable();
    harmless(descriptor::close_all(&numbers));
    started
}

/// What became of the child.
fn judge(
    request: &Request<'_>,
    child: process::Child,
    said: Option<Said>,
) -> Result<process::Child, Failure> {
    if said != Some(Said::Executes) {
        // Its maker goes on a moment before its end can be seen.
        procfs::wait_end(&child.pidfd, LAST_MOMENT);
    }
    let failure = match said {
        Some(Said::Executes) => return Ok(child),
        Some(Said::NotExecuted(problem) | Said::Failed(Message::Member(problem))) => {
            Failure::of_member(&request.program, &request.identity, problem)
        }
        Some(Said::Failed(Message::Failed { step, failed })) => {
            Failure::of_step(&request.plan, Some(usize::from(step)), failed)
        }
        // It has no other message.
        Some(Said::Failed(_)) | None => Failure::ended(&child),
    };
    // One that takes longer is for whoever comes after us.
    process::reap_child(child.pidfd.as_fd());
    Err(failure)
}
