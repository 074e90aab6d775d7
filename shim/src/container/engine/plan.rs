//! What is to be done for one container, decided without a system call.

use std::fmt;
use std::path::{Path, PathBuf};

use nix::sched::CloneFlags;
use oci_spec::runtime::Spec;

use super::kernel::Kernel;
use super::step::Step;

/// What is known of the world besides `config.json`.
#[derive(Debug, Clone)]
pub(crate) struct Known<'a> {
    /// The container's name.
    pub(crate) id: &'a str,
    /// Absolute; relative paths of the configuration start here.
    pub(crate) bundle: &'a Path,
    /// The sandbox to join.
    pub(crate) sandbox: Option<Sandbox>,
    /// How the container's own groups are shown to it.
    pub(crate) cgroup: CgroupView,
    /// Who makes the container.
    pub(crate) maker: MakerRights,
    pub(crate) kernel: Kernel,
    /// `--no-pivot`.
    pub(crate) change_root: ChangeRoot,
    /// `--no-new-keyring`; the shim's containers have none either.
    pub(crate) keyring: Keyring,
    /// A socket to be mounted at `/run/notify`: the directory on the host.
    pub(crate) notify: Option<PathBuf>,
}

/// A sandbox whose namespaces take the place of those listed without a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sandbox {
    /// Its PID namespace too.
    pub(crate) share_pid: bool,
}

/// Which groups a `cgroup` mount shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CgroupView {
    /// One directory per name, on v1.
    V1(Vec<(String, PathBuf)>),
    /// The unified hierarchy; where the container's own group is.
    V2(PathBuf),
}

/// What the maker may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MakerRights {
    /// All that root may.
    Root,
    /// Only what a user namespace of its own grants.
    Rootless,
}

/// How the root directory changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChangeRoot {
    /// `pivot_root`.
    Pivot,
    /// `MS_MOVE` and `chroot`, for a root on a ram disk.
    Move,
}

/// Whether the init gets a session keyring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keyring {
    /// `_ses.<id>`.
    New,
    /// The maker's.
    Inherited,
}

/// The namespaces of the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Namespaces {
    /// Made by `clone3`.
    pub(crate) new: CloneFlags,
    /// Joined, all at once, through the sandbox's pidfd.
    pub(crate) sandbox: CloneFlags,
    /// Joined by path.
    pub(crate) joined: Vec<(CloneFlags, PathBuf)>,
}

/// The plan of one container.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) namespaces: Namespaces,
    pub(crate) steps: Vec<Step>,
    /// What the configuration asks for and cannot be had, though it is no error.
    pub(crate) warnings: Vec<String>,
}

/// Why no plan can be made. The texts are those that callers of runc know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// A condition that runc checks too, in its words.
    #[error("{0}")]
    Invalid(String),
    /// A field that this engine leaves to another.
    #[error("config.json: {0} is not done by this engine")]
    Unsupported(String),
}

impl Plan {
    /// Decides.
    pub(crate) fn new(spec: &Spec, known: &Known<'_>) -> Result<Self, Error> {
        let _ = (spec, known);
        Err(Error::Unsupported("everything".to_owned()))
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.steps.iter().enumerate() {
            writeln!(out, "{index:3} {step}")?;
        }
        Ok(())
    }
}
