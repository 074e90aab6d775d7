//! Bind mounts: a copy of the source, made and set up by the maker, attached by the child.
//!
//! So the child looks no path of the host up, and may live where the host's mounts are not. A maker without
//! privileges cannot copy mounts; then the child does, in the namespaces that grant it the right.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::stat::fstat;

use super::guard::{self, Guard};
use super::id_map::IdMap;
use super::place::{Kind, Links};
use super::root::{Root, Setting, set_all_by_descriptor};
use super::{Opened, Opener};
use crate::container::engine::failed::{Doing, Failed};
use crate::sys::mount::{self, Reach};

/// A bind mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bind {
    pub(super) source: Source,
    /// Inside the root, absolute, without `.` and `..`.
    pub(super) destination: CString,
    pub(super) links: Links,
    /// Made before it is attached where the kernel can, after it otherwise.
    pub(super) settings: Vec<Setting>,
}

/// What is bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    /// On the host, absolute.
    pub(super) path: CString,
    pub(super) reach: Reach,
    pub(super) opener: Opener,
    pub(super) nature: Nature,
    pub(super) id_map: Option<(Reach, IdMap)>,
    /// Whether `settings` can be made while the copy is in no namespace.
    pub(super) set_first: bool,
}

/// What a source has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nature {
    /// Anything.
    Any,
    /// A symbolic link is bound itself.
    LinkKept,
    /// A symbolic link is made anew in the container.
    LinkCopied,
    /// A proc file system.
    Procfs,
}

/// A copy of a source.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(super) mount: OwnedFd,
    pub(super) kind: Kind,
}

impl Bind {
    pub(super) fn open(&self) -> Result<Opened, Failed> {
        match self.source.opener {
            Opener::Maker => self.tree().map(|tree| Opened { trees: vec![tree], ..Opened::default() }),
            Opener::Child => Ok(Opened::default()),
        }
    }

    fn tree(&self) -> Result<Tree, Failed> {
        let tree = self.source.open()?;
        if self.source.set_first {
            set_all_by_descriptor(tree.mount.as_fd(), &self.settings).map_err(Doing::Attributes.failed())?;
        }
        Ok(tree)
    }

    pub(super) fn perform(&self, opened: &Opened, root: &Root) -> Result<(), Failed> {
        let own;
        let tree = match opened.trees.first() {
            Some(tree) => tree,
            None => {
                own = self.tree()?;
                &own
            }
        };
        if self.source.nature == Nature::LinkCopied && self.copy_link(tree.mount.as_fd(), root)? {
            return Ok(());
        }
        let place = root.place(&self.destination, tree.kind, self.links)?;
        mount::attach(tree.mount.as_fd(), place.as_fd()).map_err(Doing::Attach.failed())?;
        if !self.source.set_first {
            for setting in &self.settings {
                root.set(tree.mount.as_fd(), *setting).map_err(Doing::Attributes.failed())?;
            }
        }
        Ok(())
    }

    /// Makes the symbolic link that the source is, if it is one.
    fn copy_link(&self, source: BorrowedFd<'_>, root: &Root) -> Result<bool, Failed> {
        let status = fstat(source).map_err(Doing::Source.failed())?;
        if status.st_mode & libc::S_IFMT != libc::S_IFLNK {
            return Ok(false);
        }
        let mut buffer = [0_u8; libc::PATH_MAX as usize];
        let room = buffer.len() - 1;
        // An empty name means the link behind the descriptor.
        let length = mount::read_link(source, c"", &mut buffer[..room]).map_err(Doing::Source.failed())?;
        let target = std::ffi::CStr::from_bytes_with_nul(&buffer[..=length])
            .map_err(|_| Doing::Source.failed()(Errno::EINVAL))?;
        super::device::make_link(root, &self.destination, target)?;
        Ok(true)
    }
}

impl Source {
    /// Copies the mount.
    pub(super) fn open(&self) -> Result<Tree, Failed> {
        let copied = match self.nature {
            Nature::LinkKept | Nature::LinkCopied => mount::copy_unfollowed(&self.path, self.reach),
            Nature::Any | Nature::Procfs => mount::copy(&self.path, self.reach),
        };
        let mount = copied.map_err(Doing::Source.failed())?;
        let status = fstat(&mount).map_err(Doing::Source.failed())?;
        let is_directory = status.st_mode & libc::S_IFMT == libc::S_IFDIR;
        if self.nature == Nature::Procfs {
            verify_procfs(mount.as_fd()).map_err(Doing::Verify.failed())?;
        }
        if let Some((reach, map)) = &self.id_map {
            let users = map.open().map_err(Doing::Namespace.failed())?;
            mount::set_id_map(mount.as_fd(), *reach, users.as_fd()).map_err(Doing::Attributes.failed())?;
        }
        Ok(Tree { mount, kind: if is_directory { Kind::Directory } else { Kind::File } })
    }
}

fn verify_procfs(mount: BorrowedFd<'_>) -> nix::Result<()> {
    let kind = nix::sys::statfs::fstatfs(mount)?.filesystem_type();
    if kind == nix::sys::statfs::PROC_SUPER_MAGIC || guard::is_off(Guard::Procfs) {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}
