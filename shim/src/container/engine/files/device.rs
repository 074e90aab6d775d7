//! Device nodes and links. All of one directory are made relative to its descriptor, which was opened inside the
//! root: an image whose `/dev` is a symbolic link leads nowhere else (CVE-2026-41579).

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{Mode, SFlag, fstatat, mknodat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, symlinkat, unlinkat};

use super::Opened;
use super::bind::Tree;
use super::guard::{self, Guard};
use super::place::{Kind, Links, new_file, split};
use super::root::Root;
use crate::container::engine::failed::{Doing, Failed};
use crate::sys::mount::{self, Reach};

/// Nodes and links of one directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Nodes {
    /// Inside the root, absolute.
    pub(super) directory: CString,
    pub(super) nodes: Vec<Node>,
    /// Name and target.
    pub(super) links: Vec<(CString, CString)>,
    pub(super) how: How,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    /// In the directory.
    pub(super) name: CString,
    /// The whole path, which is the host's too.
    pub(super) path: CString,
    pub(super) kind: SFlag,
    pub(super) device: u64,
    pub(super) mode: u32,
    pub(super) owner: (u32, u32),
}

/// Where a node comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// mknod(2).
    Made,
    /// The host's own, bound by the maker: in a user namespace no device can be made.
    Bound,
    /// The same, by the child.
    BoundByChild,
}

impl Nodes {
    pub(super) fn open(&self) -> Result<Opened, Failed> {
        match self.how {
            How::Made | How::BoundByChild => Ok(Opened::default()),
            How::Bound => {
                let trees = self.nodes.iter().map(Node::host).collect::<Result<_, _>>()?;
                Ok(Opened { trees, ..Opened::default() })
            }
        }
    }

    pub(super) fn perform(&self, opened: &Opened, root: &Root) -> Result<(), Failed> {
        let directory = root.place(&self.directory, Kind::Directory, Links::Followed)?;
        for (index, node) in self.nodes.iter().enumerate() {
            match self.how {
                How::Made => node.make(directory.as_fd())?,
                How::Bound => {
                    let tree = opened.trees.get(index).ok_or(Doing::Source.failed()(Errno::EBADF))?;
                    node.bind(directory.as_fd(), tree)?;
                }
                How::BoundByChild => node.bind(directory.as_fd(), &node.host()?)?,
            }
        }
        self.links.iter().try_for_each(|(name, target)| link(directory.as_fd(), name, target))
    }
}

impl Node {
    fn make(&self, directory: BorrowedFd<'_>) -> Result<(), Failed> {
        let mode = Mode::from_bits_truncate(self.mode);
        match mknodat(directory, self.name.as_c_str(), self.kind, mode, self.device) {
            Ok(()) => {}
            // The image's own node will do, but only if it is the same one.
            Err(Errno::EEXIST) => self.verify(directory)?,
            Err(errno) => return Err(Doing::Make.failed()(errno)),
        }
        if self.owner == (0, 0) {
            return Ok(());
        }
        let (uid, gid) = (Uid::from_raw(self.owner.0), Gid::from_raw(self.owner.1));
        fchownat(directory, self.name.as_c_str(), Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
            .map_err(Doing::Own.failed())
    }

    fn verify(&self, directory: BorrowedFd<'_>) -> Result<(), Failed> {
        let status = fstatat(directory, self.name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW)
            .map_err(Doing::Verify.failed())?;
        self.judge(&status)
    }

    fn judge(&self, status: &libc::stat) -> Result<(), Failed> {
        let same = status.st_mode & libc::S_IFMT == self.kind.bits()
            && (self.kind == SFlag::S_IFIFO || status.st_rdev == self.device);
        if same || guard::is_off(Guard::Null) { Ok(()) } else { Err(Doing::Verify.failed()(Errno::EEXIST)) }
    }

    /// The host's node of the same path.
    fn host(&self) -> Result<Tree, Failed> {
        let mount = mount::copy(&self.path, Reach::One).map_err(Doing::Source.failed())?;
        let status = nix::sys::stat::fstat(&mount).map_err(Doing::Source.failed())?;
        self.judge(&status)?;
        Ok(Tree { mount, kind: Kind::File })
    }

    fn bind(&self, directory: BorrowedFd<'_>, tree: &Tree) -> Result<(), Failed> {
        match new_file(directory, &self.name) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(Doing::Make.failed()(errno)),
        }
        // Through the directory that is open; a symbolic link under the name is not followed, and so refused.
        let flags = libc::O_PATH | libc::O_NOFOLLOW;
        let place = mount::open_below(directory, &self.name, flags, libc::RESOLVE_BENEATH)
            .map_err(Doing::Place.failed())?;
        mount::attach(tree.mount.as_fd(), place.as_fd()).map_err(Doing::Attach.failed())
    }
}

/// Makes a symbolic link at `path`, with the directories above it.
pub(super) fn make_link(root: &Root, path: &CStr, target: &CStr) -> Result<(), Failed> {
    let mut parent = super::text::Text::<{ libc::PATH_MAX as usize }>::new();
    let (above, name) = split(path);
    let failed = Doing::Place.failed();
    parent.push(above).map_err(&failed)?;
    let parent = parent.as_c_str().map_err(&failed)?;
    let directory = root.place(parent, Kind::Directory, Links::Followed)?;
    link(directory.as_fd(), name, target)
}

/// Makes a symbolic link, in the place of a file of that name.
fn link(directory: BorrowedFd<'_>, name: &CStr, target: &CStr) -> Result<(), Failed> {
    let failed = Doing::Make.failed();
    match symlinkat(target, directory, name) {
        Err(Errno::EEXIST) => {}
        answer => return answer.map_err(failed),
    }
    let mut buffer = [0_u8; 256];
    let present = mount::read_link(directory, name, &mut buffer);
    if present.is_ok_and(|length| buffer.get(..length) == Some(target.to_bytes())) {
        return Ok(());
    }
    unlinkat(directory, name, UnlinkatFlags::NoRemoveDir).map_err(&failed)?;
    symlinkat(target, directory, name).map_err(failed)
}
