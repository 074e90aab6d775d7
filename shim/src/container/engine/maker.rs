//! The maker's half: opens what the child needs, makes it, answers it, and undoes what it made when a step fails.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use super::gate::Gate;
use super::plan::Plan;
use crate::cgroup::Entry;
use crate::container::identity::Identity;
use crate::container::program::Program;

/// Everything that one container needs.
pub(crate) struct Request<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) identity: &'a Identity,
    pub(crate) program: &'a Program,
    pub(crate) stdio: Stdio,
    /// The container's group, made and limited.
    pub(crate) cgroup: &'a Entry,
    /// Pidfd of pause, when the plan joins a sandbox.
    pub(crate) sandbox: Option<BorrowedFd<'a>>,
    /// Where the init waits.
    pub(crate) gate: Gate,
    /// Descriptors from 3 on that the program inherits.
    pub(crate) preserved: u32,
    /// Makes a step fail, for tests.
    pub(crate) fault: Option<Fault>,
}

/// The standard descriptors of the init.
pub(crate) enum Stdio {
    /// A terminal of the container's own devpts.
    Terminal,
    /// Stdin, stdout, stderr.
    Files([OwnedFd; 3]),
}

/// A step made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Its number in the plan.
    pub(crate) step: usize,
    /// How it fails.
    pub(crate) errno: Errno,
}

/// A container in the making. Dropped, it takes the init along.
pub(crate) struct Making {
    socket: OwnedFd,
    pid: i32,
    pidfd: OwnedFd,
}

/// Where a making stands.
pub(crate) enum Progress {
    /// Nothing to do until [`Making::descriptor`] is readable.
    Waiting,
    /// The init waits at its gate.
    Created(Created),
}

/// An init at its gate.
pub(crate) struct Created {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    /// The master of its terminal.
    pub(crate) terminal: Option<OwnedFd>,
    socket: OwnedFd,
}

/// Why a container could not be made, in the words that callers of runc know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    /// The number of the step, if it was one of the plan's.
    pub(crate) step: Option<usize>,
    /// What the kernel said.
    pub(crate) errno: Option<Errno>,
    /// The whole message.
    pub(crate) message: String,
}

/// Makes the init and lets it work.
pub(crate) fn begin(request: Request<'_>) -> Result<Making, Failure> {
    let _ = request;
    Err(Failure { step: None, errno: None, message: "not there".to_owned() })
}

impl Making {
    /// The init, which the caller reaps.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// To wait on until it is readable.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Takes what the init told, without waiting.
    pub(crate) fn advance(&mut self) -> Result<Progress, Failure> {
        Ok(Progress::Waiting)
    }

    /// SIGKILL for an init that takes too long; [`Making::advance`] then tells its end.
    pub(crate) fn kill(&self) {
        crate::harmless(crate::sys::pidfd::signal(self.pidfd.as_fd(), libc::SIGKILL));
    }
}

impl Created {
    /// Lets the init outlive this process: its pid is on disk.
    pub(crate) fn release(self) -> (i32, OwnedFd, Option<OwnedFd>) {
        drop(self.socket);
        (self.pid, self.pidfd, self.terminal)
    }
}
