//! What the shim holds for one instance.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;

use super::output::Output;
use super::record::ProcessRecord;
use super::supervisor::Reply;
use super::watch::Token;
use crate::cgroup::{Entry, Group};
use crate::container::engine;
use crate::container::identity::Identity;
use crate::container::program::Program;
use crate::harmless;
use crate::sys::pidfd;
use crate::wire::{CreateConfig, Ended, Failure, Instance, InstanceId, InstanceState, PreStop};

/// A process and the descriptor that means it.
#[derive(Debug)]
pub(super) struct Init {
    pub(super) record: ProcessRecord,
    pub(super) pidfd: OwnedFd,
}

/// Where an instance stands; the wire's states and the one before them.
#[derive(Debug)]
pub(super) enum State {
    /// Its creator is at work.
    Creating,
    Created,
    Running,
    Exited(Ended),
}

/// A creation under way.
pub(super) enum Creation {
    /// By our own engine.
    Making(Box<Making>),
    /// By libcontainer.
    Creator(Creator),
}

/// An init of our own engine that makes the container.
pub(super) struct Making {
    pub(super) making: engine::Making,
    pub(super) token: Token,
    pub(super) reply: Reply,
}

/// A creator at work.
pub(super) struct Creator {
    pub(super) pidfd: OwnedFd,
    pub(super) result: OwnedFd,
    pub(super) reply: Reply,
}

impl Creation {
    pub(super) fn kill(&self) {
        match self {
            Self::Making(making) => making.making.kill(),
            // One that has ended is as good.
            Self::Creator(creator) => harmless(pidfd::signal(creator.pidfd.as_fd(), libc::SIGKILL)),
        }
    }
}

/// A start that waits for `execve`.
#[derive(Debug)]
pub(super) struct Starting {
    pub(super) token: Token,
    pub(super) reply: Option<Reply>,
}

/// One instance.
pub(super) struct Held {
    pub(super) create: CreateConfig,
    pub(super) state: State,
    pub(super) creation: Option<Creation>,
    pub(super) init: Option<Init>,
    /// In place of `init`: it has ended, and how that went is about to be taken in.
    pub(super) lost: Option<ProcessRecord>,
    pub(super) started_at: Option<i64>,
    pub(super) group: Group,
    pub(super) entry: Entry,
    pub(super) identity: Rc<Identity>,
    /// All its processes are in a PID namespace whose first process is its init.
    pub(super) ends_with_init: bool,
    /// What its init executes, to explain a failure.
    pub(super) program: Rc<Program>,
    /// Why identity and program are not known: its `config.json` could not be read when it was taken up.
    pub(super) unreadable: Option<String>,
    /// Where the init tells why it could not execute.
    pub(super) start: Option<OwnedFd>,
    pub(super) starting: Option<Starting>,
    /// Why it could not execute, for whoever asks for its start again: its predecessor's shim did not hear it.
    pub(super) start_failure: Option<String>,
    pub(super) output: Output,
    /// Our writing end of its standard input.
    pub(super) stdin: Option<OwnedFd>,
    pub(super) terminal: Option<OwnedFd>,
    /// What became of its preStop hook, once that was started.
    pub(super) pre_stop: Option<PreStop>,
}

/// Files of one instance that the shim makes, all in its directory.
pub(super) struct Files<'a>(pub(super) &'a CreateConfig);

impl Files<'_> {
    /// FIFO of standard input.
    pub(super) fn stdin(&self) -> PathBuf {
        self.0.bundle.join("stdin")
    }

    /// FIFO of standard output.
    pub(super) fn stdout(&self) -> PathBuf {
        self.0.bundle.join("stdout")
    }

    /// FIFO of standard error.
    pub(super) fn stderr(&self) -> PathBuf {
        self.0.bundle.join("stderr")
    }

    /// FIFO on which the init tells why `execve` failed.
    pub(super) fn start(&self) -> PathBuf {
        self.0.bundle.join(engine::gate::RESULT)
    }

    /// FIFO through which the init is let go.
    pub(super) fn go(&self) -> PathBuf {
        self.0.bundle.join(engine::gate::GO)
    }

    /// The creator's directory: the completed `config.json` and libcontainer's state.
    pub(super) fn work(&self) -> PathBuf {
        self.0.bundle.join("create")
    }
}

impl Held {
    /// How the wire shows it; none while it is being created.
    pub(super) fn shown(&self) -> Option<Instance> {
        let state = match &self.state {
            State::Creating => return None,
            State::Created => InstanceState::Created,
            State::Running => InstanceState::Running { started_at: self.started_at.unwrap_or_default() },
            State::Exited(ended) => InstanceState::Exited(*ended),
        };
        Some(Instance {
            instance: self.create.instance.clone(),
            id: self.create.id.clone(),
            pid: self.init.as_ref().map_or(0, |init| init.record.pid),
            state,
            pre_stop: self.pre_stop,
        })
    }

    /// SIGKILL to all of its processes: to its init where that takes the others along, else to its group, and to its init
    /// besides, since a container may empty its group itself.
    pub(super) fn kill(&self) -> Result<(), String> {
        if !self.ends_with_init || self.init.is_none() {
            self.group.kill().map_err(|error| super::chain(&error))?;
        }
        let Some(init) = &self.init else { return Ok(()) };
        pidfd::signal(init.pidfd.as_fd(), libc::SIGKILL).map_err(|errno| {
            format!("kill instance {}: {}", self.create.instance, super::launch::reason(errno))
        })
    }

    /// Whether a process of it may still be there.
    pub(super) fn is_alive(&self) -> bool {
        !matches!(self.state, State::Exited(_))
    }

    /// The state in one word, for messages.
    pub(super) fn word(&self) -> &'static str {
        match self.state {
            State::Creating => "being created",
            State::Created => "created",
            State::Running => "running",
            State::Exited(_) => "stopped",
        }
    }
}

/// No such instance.
pub(super) fn unknown(instance: &InstanceId) -> Failure {
    Failure::State { message: format!("there is no instance {instance}") }
}

/// An instance that is not in the state that a request needs.
pub(super) fn unfit(held: &Held, needed: &str) -> Failure {
    let message = format!("instance {} is {}, not {needed}", held.create.instance, held.word());
    Failure::State { message }
}
