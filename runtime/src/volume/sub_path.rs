//! A part of a volume as a mount of its own, out of reach of the containers that write to the volume.
//!
//! The part is opened once, from a descriptor of the volume's root with `RESOLVE_IN_ROOT`: a symlink in the volume, also
//! one that a container swaps in meanwhile, can lead to another place of the same volume only. What was opened
//! is cloned (open_tree(2)) and attached below the pod's directory. The runtime is given that place as its
//! source, and whatever happens to names in the volume later, it mounts what was opened here.
//!
//! Directories that are missing are made with the mode of the volume's root, as the kubelet does, so that whoever may write
//! to the volume may write to its part.

use std::fs::DirBuilder;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags};

use super::{Failed, failed, up};

/// Binds `path` of the volume at `root` to `target`, anew if something is there.
pub(super) fn bind(root: &Path, path: &str, target: &Path) -> Result<(), Failed> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root_fd = rustix::fs::open(root, flags, Mode::empty()).map_err(failed("open", root))?;
    let part = open_or_make(root_fd.as_fd(), path).map_err(failed("open subPath", root.join(path)))?;
    let found = rustix::fs::fstat(&part).map_err(failed("stat", root.join(path)))?;
    place(target, FileType::from_raw_mode(found.st_mode) == FileType::Directory)?;
    let clone = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = rustix::mount::open_tree(&part, "", clone).map_err(failed("open_tree", root.join(path)))?;
    let here = rustix::fs::CWD;
    rustix::mount::move_mount(&tree, "", here, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(failed("move_mount", target))
}

fn open_in(root: BorrowedFd<'_>, path: &str) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let path = if path.is_empty() { "." } else { path };
    // EAGAIN: a rename went on meanwhile and the kernel could not tell that the path stayed inside.
    for _ in 0..16 {
        match rustix::fs::openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN) => {}
            done => return done,
        }
    }
    Err(Errno::AGAIN)
}

/// Opens a path below `root`; makes the directories that are missing.
fn open_or_make(root: BorrowedFd<'_>, path: &str) -> Result<OwnedFd, Errno> {
    match open_in(root, path) {
        Err(Errno::NOENT) => {}
        done => return done,
    }
    let mode = Mode::from_raw_mode(rustix::fs::fstat(root)?.st_mode & 0o7777);
    let mut prefix = String::new();
    for part in path.split('/').filter(|part| !matches!(*part, "" | ".")) {
        let parent = open_in(root, &prefix)?;
        if !prefix.is_empty() {
            prefix.push('/');
        }
        prefix.push_str(part);
        if matches!(open_in(root, &prefix), Err(Errno::NOENT)) {
            make(parent.as_fd(), part, mode)?;
        }
    }
    open_in(root, path)
}

/// Makes one directory with exactly this mode.
fn make(parent: BorrowedFd<'_>, name: &str, mode: Mode) -> Result<(), Errno> {
    match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
        // Somebody made it meanwhile: it is theirs.
        Err(Errno::EXIST) => return Ok(()),
        made => made?,
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    rustix::fs::fchmod(made, mode)
}

/// Makes the empty directory or file that the part is mounted on.
fn place(target: &Path, directory: bool) -> Result<(), Failed> {
    if let Some(parent) = target.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(failed("mkdir", parent))?;
    }
    // What an earlier try of the same instance left.
    while std::fs::symlink_metadata(target).is_ok()
        && up::is_mount_point(target).map_err(failed("open", target))?
    {
        rustix::mount::unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
            .map_err(failed("unmount", target))?;
    }
    hull_shim::tree::remove(target).map_err(failed("remove", target))?;
    if directory {
        DirBuilder::new().mode(0o700).create(target).map_err(failed("mkdir", target))
    } else {
        let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(target);
        made.map(drop).map_err(failed("create", target))
    }
}
