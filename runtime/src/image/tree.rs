//! Removing trees and replacing files, by descriptor.

use std::ffi::CString;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::error::Error;

/// Directories deeper than this are moved up first, so that neither stack nor descriptors run out.
const DEPTH_LIMIT: usize = 64;

/// Opens a directory for reading, following symlinks of the host's own path.
pub(super) fn open_dir(path: &Path) -> Result<OwnedFd, Error> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(Error::io("open", path))
}

/// Makes `path` and its parents, each new one private to root.
pub(super) fn create_private(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(Error::io("create", path))
}

/// Removes `path` and everything below; fine when it is gone already. Never follows a symlink and never
/// leaves the mount that `path`'s parent is on: a mount point inside is an error.
pub(super) fn remove(path: &Path) -> Result<(), Error> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::Io {
            action: "remove",
            path: path.to_owned(),
            source: io::ErrorKind::InvalidInput.into(),
        });
    };
    let parent =
        match rustix::fs::open(parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            result => result.map_err(Error::io("open", parent))?,
        };
    let name =
        CString::new(std::os::unix::ffi::OsStrExt::as_bytes(name)).map_err(Error::io("remove", path))?;
    remove_at(parent.as_fd(), &name).map_err(Error::io("remove", path))
}

/// As [`remove`], for `name` in the directory `parent`.
pub(super) fn remove_at(parent: BorrowedFd<'_>, name: &CString) -> Result<(), Errno> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error),
    }
    let mut removal = Removal { top: open_child(parent, name)?, moved: Vec::new(), next: 0 };
    removal.empty(&removal.top.try_clone().map_err(errno)?, 0)?;
    // What was too deep now lies at the top.
    while let Some(name) = removal.moved.pop() {
        let dir = open_child(removal.top.as_fd(), &name)?;
        removal.empty(&dir, 1)?;
        rustix::fs::unlinkat(&removal.top, &name, AtFlags::REMOVEDIR)?;
    }
    rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
}

struct Removal {
    top: OwnedFd,
    moved: Vec<CString>,
    next: u64,
}

impl Removal {
    fn empty(&mut self, dir: &OwnedFd, depth: usize) -> Result<(), Errno> {
        for (name, kind) in names(dir)? {
            if kind != FileType::Directory {
                match rustix::fs::unlinkat(dir, &name, AtFlags::empty()) {
                    Err(Errno::ISDIR) => {}
                    Ok(()) | Err(Errno::NOENT) => continue,
                    Err(error) => return Err(error),
                }
            }
            if depth >= DEPTH_LIMIT {
                self.move_up(dir, &name)?;
                continue;
            }
            let child = open_child(dir.as_fd(), &name)?;
            self.empty(&child, depth + 1)?;
            drop(child);
            rustix::fs::unlinkat(dir, &name, AtFlags::REMOVEDIR)?;
        }
        Ok(())
    }

    /// Moves a directory to the top, under a name that is free there: the tree may hold any name.
    fn move_up(&mut self, dir: &OwnedFd, name: &CString) -> Result<(), Errno> {
        loop {
            let moved = CString::new(format!(".removed-{}", self.next)).expect("digits contain no NUL");
            self.next += 1;
            match rustix::fs::statat(&self.top, &moved, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => {
                    rustix::fs::renameat(dir, name, &self.top, &moved)?;
                    self.moved.push(moved);
                    return Ok(());
                }
                Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Opens a child directory that is no symlink and no mount point.
fn open_child(parent: BorrowedFd<'_>, name: &CString) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    rustix::fs::openat2(parent, name, flags, Mode::empty(), resolve)
}

/// The entries of a directory without `.` and `..`, read whole, since removing while reading may skip some.
pub(super) fn names(dir: &OwnedFd) -> Result<Vec<(CString, FileType)>, Errno> {
    let mut found = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            found.push((entry.file_name().to_owned(), entry.file_type()));
        }
    }
    Ok(found)
}

/// Replaces `path` by `content`: a reader sees the old or the new file, whole, also after a crash.
/// `temporary` is on the same file system.
pub(super) fn write_whole(path: &Path, temporary: &Path, content: &[u8]) -> Result<(), Error> {
    let write = || -> io::Result<()> {
        let mut file = std::fs::File::create(temporary)?;
        file.write_all(content)?;
        file.sync_all()
    };
    write().map_err(Error::io("write", temporary))?;
    std::fs::rename(temporary, path).map_err(Error::io("replace", path))?;
    path.parent().map_or(Ok(()), sync_dir)
}

/// Makes the entries of a directory durable.
pub(super) fn sync_dir(path: &Path) -> Result<(), Error> {
    let dir = open_dir(path)?;
    rustix::fs::fsync(&dir).map_err(Error::io("sync", path))
}

/// Whether something is mounted on exactly this path.
pub(super) fn is_mount_point(path: &Path) -> Result<bool, Error> {
    use rustix::fs::{StatxAttributes, StatxFlags};
    match rustix::fs::statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS) {
        Ok(status) => Ok(status.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
        Err(error) => Err(Error::io("look at", path)(error)),
    }
}

fn errno(error: io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_deeper_than_any_path_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("top");
        std::fs::create_dir(&top).unwrap();
        let mut at = open_dir(&top).unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
            at = open_child(at.as_fd(), &CString::new("d").unwrap()).unwrap();
        }
        remove(&top).unwrap();
        assert!(!top.exists());
        remove(&top).unwrap();
        remove(&top.join("deeper")).unwrap();
    }

    #[test]
    fn removing_follows_no_symlink() {
        let dir = tempfile::tempdir().unwrap();
        let (kept, gone) = (dir.path().join("kept"), dir.path().join("gone"));
        std::fs::create_dir(&kept).unwrap();
        std::fs::write(kept.join("file"), "x").unwrap();
        std::fs::create_dir(&gone).unwrap();
        std::os::unix::fs::symlink(&kept, gone.join("link")).unwrap();
        remove(&gone).unwrap();
        assert!(kept.join("file").exists() && !gone.exists());
    }
}
