//! A container's file systems: its root, mounts, devices, masked and read-only paths.
//!
//! ```text
//!  maker                                      child, in its new mount namespace
//!  plan           pure: three lists of steps
//!  Root::prepare  the root as a detached tree
//!  Step::open     a detached copy of each source
//!                                   clone3 ->  prepare: old root restricted, root attached, mounts, devices, links
//!                                              (hooks)
//!                                              enter:   pivot_root
//!                                              (terminal, sysctls)
//!                                              seal:    read-only mounts, root, paths; masked paths
//! ```
//!
//! **Invariant:** [`Step::perform`] allocates nothing. All that it needs of the host was opened before the child
//! was made, unless the maker lacks the privilege ([`Opener::Child`]).
//!
//! **Invariant:** a place inside the root is looked up once, by [`Root`], and what was opened is what is mounted over
//! (oci-runtime.md section 7: CVE-2021-30465 and its kin).

mod bind;
mod cgroup;
mod copy;
mod covers;
mod device;
mod enter;
mod entries;
mod guard;
mod id_map;
mod instance;
mod joined;
mod mounts;
mod options;
mod place;
mod plan;
mod root;
mod seal;
mod show;
#[cfg(test)]
mod tests;
mod text;

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

pub(crate) use covers::Covers;
pub(crate) use entries::{Entry, Origin, Restriction, devices, entries, restrictions, wanted};
pub(crate) use options::names as option_names;
pub(crate) use place::{Kind, Links, make_place};
pub(crate) use plan::plan;
pub(crate) use root::Root;

use super::failed::Failed;
use crate::sys::mount::{Propagation, Reach};
use bind::{Bind, Tree};
use device::Nodes;
use enter::{Attach, Leave};
use instance::Instance;
use joined::JoinedProcfs;

/// What is known of the world besides `config.json`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known<'a> {
    /// The root file system: absolute, a directory and no symbolic link.
    pub(crate) root: &'a Path,
    /// Relative sources of bind mounts start here.
    pub(crate) bundle: &'a Path,
    /// What a mount of type `cgroup` shows.
    pub(crate) groups: Groups<'a>,
    pub(crate) users: Users,
    pub(crate) rights: Rights,
    pub(crate) change: ChangeRoot,
    pub(crate) base: Base,
    /// The child is not in the container's PID namespace: it cannot mount that namespace's procfs.
    pub(crate) joins_last: bool,
    pub(crate) kernel: Abilities,
}

/// The container's own groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Groups<'a> {
    /// On v1: name of each hierarchy, as mounted, and the container's group in it.
    V1(&'a [(String, PathBuf)]),
    /// On v2: the container's group.
    V2(&'a Path),
}

/// The user namespace that the child is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Users {
    /// The maker's.
    Host,
    /// A new one, or one that is joined.
    Namespace,
}

/// What the maker may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rights {
    /// Copy mounts of its own mount namespace.
    Root,
    /// The same, but no device node: it is root of a user namespace.
    Inside,
    /// Nothing: the child does it, in its own user namespace.
    Rootless,
}

/// How the root directory changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChangeRoot {
    /// pivot_root(2).
    Pivot,
    /// `MS_MOVE` and chroot(2), for a root on a ram disk (`--no-pivot`).
    Move,
}

/// What a new mount namespace starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Base {
    /// The host's mounts; the root is attached on its own path.
    Host,
    /// Next to nothing, all of it private; the root is attached over the root directory, so no hook of the
    /// runtime's namespaces finds it by its path.
    Trimmed,
}

/// What the running kernel can do, as far as files are concerned. The newest call that is needed unconditionally is
/// openat2(2) of Linux 5.6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Abilities {
    /// mount_setattr(2) of 5.12: recursive attributes and id-mapped mounts depend on it. Without it attributes
    /// are set by mount(2) after attaching.
    pub(crate) set_attributes: bool,
    /// open_tree_attr(2) of 6.15: a copy of a mount and its attributes in one call.
    pub(crate) copy_with_attributes: bool,
    /// There is `/proc/kcore`, for a link in `/dev`.
    pub(crate) kcore: bool,
    /// procfs has the option `pidns`, of 6.18: it can be mounted for another PID namespace than one's own.
    pub(crate) procfs_by_namespace: bool,
}

impl Abilities {
    /// Looks.
    pub(crate) fn probe() -> Self {
        Self {
            set_attributes: crate::sys::mount::has_set_attributes(),
            copy_with_attributes: super::kernel::version() >= (6, 15),
            kcore: Path::new("/proc/kcore").exists(),
            procfs_by_namespace: super::kernel::version() >= (6, 18),
        }
    }
}

/// Who opens something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opener {
    /// The maker, before the child is made.
    Maker,
    /// The child.
    Child,
}

/// The steps, in their order. Hooks come before `enter`; the terminal, sysctls and the working directory
/// before `seal`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) prepare: Vec<Step>,
    pub(crate) enter: Vec<Step>,
    pub(crate) seal: Vec<Step>,
    kernel: Abilities,
    opener: Opener,
    /// SELinux's `mountLabel`.
    pub(crate) label: Option<CString>,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Keeps what happens to the old root's mounts from the host.
    RestrictOldRoot(Propagation),
    /// The same for its topmost mount only, where the rest is to be shared.
    RestrictOldRootAlone,
    /// Attaches the root.
    Root(Attach),
    /// Takes the root directory of a joined mount namespace.
    AdoptRoot,
    /// A bind mount.
    Bind(Bind),
    /// A new file system, or a remount.
    Mount(Instance),
    /// procfs of a PID namespace that is joined last.
    JoinedProcfs(JoinedProcfs),
    /// Device nodes and symbolic links of one directory.
    Nodes(Nodes),
    /// Leaves the old root.
    Leave(Leave),
    /// chroot(2), without a mount namespace.
    ChangeRoot(CString),
    /// How mounts of the new root travel.
    RootPropagation(Propagation, Reach),
    /// A mount that was writable until now.
    ReadOnlyMount(CString),
    /// The root.
    ReadOnlyRoot,
    /// A path that stays visible.
    ReadOnlyPath(CString),
    /// A path that does not.
    Mask(CString),
}

/// What the maker opened for a step.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    trees: Vec<Tree>,
    /// Mount points that `MS_MOVE` would leave behind.
    revealing: Vec<CString>,
}

/// Why there is no plan. The texts are runc's where it has one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Error(String);

impl Opened {
    /// All that is open.
    pub(crate) fn into_descriptors(self) -> impl Iterator<Item = OwnedFd> {
        self.trees.into_iter().map(|tree| tree.mount)
    }

    /// The descriptors that the child keeps until it has performed the step.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = RawFd> {
        self.trees.iter().map(|tree| tree.mount.as_raw_fd())
    }
}

impl Step {
    /// Opens, in the maker, what the child cannot.
    pub(crate) fn open(&self, pid_namespace: Option<BorrowedFd<'_>>) -> Result<Opened, Failed> {
        match self {
            Self::Bind(bind) => bind.open(),
            Self::JoinedProcfs(procfs) => procfs.open(pid_namespace),
            Self::Mount(instance) => instance.open(),
            Self::Nodes(nodes) => nodes.open(),
            Self::Leave(leave) => leave.open(),
            Self::RestrictOldRoot(_)
            | Self::RestrictOldRootAlone
            | Self::Root(_)
            | Self::AdoptRoot
            | Self::ChangeRoot(_)
            | Self::RootPropagation(..)
            | Self::ReadOnlyMount(_)
            | Self::ReadOnlyRoot
            | Self::ReadOnlyPath(_)
            | Self::Mask(_) => Ok(Opened::default()),
        }
    }

    /// Performs the step, in the child. Changes its working directory.
    pub(crate) fn perform(&self, opened: &Opened, root: &Root) -> Result<(), Failed> {
        match self {
            Self::RestrictOldRoot(propagation) => enter::restrict_old_root(*propagation),
            Self::RestrictOldRootAlone => enter::restrict_old_root_alone(),
            Self::Root(attach) => attach.perform(root),
            Self::AdoptRoot => root.adopt(),
            Self::Bind(bind) => bind.perform(opened, root),
            Self::JoinedProcfs(procfs) => procfs.perform(opened, root),
            Self::Mount(instance) => instance.perform(opened, root),
            Self::Nodes(nodes) => nodes.perform(opened, root),
            Self::Leave(leave) => leave.perform(opened, root),
            Self::ChangeRoot(path) => enter::change_root(path),
            Self::RootPropagation(propagation, reach) => enter::set_root(root, *propagation, *reach),
            Self::ReadOnlyMount(path) => seal::remount(root, path),
            Self::ReadOnlyRoot => seal::remount_root(root),
            Self::ReadOnlyPath(path) => seal::read_only(root, path),
            Self::Mask(path) => seal::mask(root, path),
        }
    }
}
