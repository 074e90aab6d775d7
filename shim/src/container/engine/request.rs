//! What a maker is asked for.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;

use nix::errno::Errno;

use super::files::Covers;
use super::plan::Plan;
use crate::cgroup::Entry;
use crate::container::identity::Identity;
use crate::container::program::Program;

/// Everything that one container needs.
pub(crate) struct Request<'a> {
    pub(crate) plan: Rc<Plan>,
    pub(crate) identity: Rc<Identity>,
    pub(crate) program: Rc<Program>,
    pub(crate) stdio: Stdio,
    /// The container's group, made and limited.
    pub(crate) cgroup: &'a Entry,
    /// Pidfd of pause, when the plan joins a sandbox.
    pub(crate) sandbox: Option<BorrowedFd<'a>>,
    /// A [`trimmed`](super::trimmed) mount namespace, when the plan starts from one.
    pub(crate) mounts: Option<BorrowedFd<'a>>,
    /// Descriptors from 3 on that the program inherits.
    pub(crate) preserved: u32,
    /// Whether a program that is not there fails the making, not only the start.
    pub(crate) looks_up: bool,
    /// The maker's, shared by all its containers; one that makes no other has [`Covers::OfOne`].
    pub(crate) covers: Rc<Covers>,
    /// `/proc` as [`procfs::root`](super::procfs::root) opens it, where the maker has it; else it is opened for this container.
    pub(crate) procfs: Option<&'a Rc<OwnedFd>>,
    /// Makes a step fail, for tests.
    pub(crate) fault: Option<Fault>,
}

/// The standard descriptors of the init.
pub(crate) enum Stdio {
    /// A terminal of the container's own devpts.
    Terminal,
    /// Stdin, stdout, stderr.
    Files([OwnedFd; 3]),
    /// The same, where they are pipes that the maker made.
    Pipes([OwnedFd; 3]),
}

impl Stdio {
    /// All three; none of a terminal.
    pub(crate) fn files(&self) -> Option<&[OwnedFd; 3]> {
        match self {
            Self::Terminal => None,
            Self::Files(files) | Self::Pipes(files) => Some(files),
        }
    }

    /// All of them, for the maker to close once the init has them.
    pub(super) fn into_descriptors(self) -> Vec<OwnedFd> {
        match self {
            Self::Terminal => Vec::new(),
            Self::Files(files) | Self::Pipes(files) => files.into(),
        }
    }

    pub(super) fn numbers(&self) -> Vec<RawFd> {
        self.files().into_iter().flatten().map(AsRawFd::as_raw_fd).collect()
    }
}

/// A step made to fail; release builds have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Its number in the plan.
    pub(crate) step: usize,
    /// How it fails.
    pub(crate) errno: Errno,
}

impl Fault {
    /// Reads `STEP:ERRNO`, both numbers.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (step, errno) = text.split_once(':')?;
        Some(Self { step: step.parse().ok()?, errno: Errno::from_raw(errno.parse().ok()?) })
    }
}
