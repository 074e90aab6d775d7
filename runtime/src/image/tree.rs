//! Directories and files of the image store, by descriptor.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::error::Error;

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

/// Removes `path` and everything below; fine when it is gone already.
pub(super) fn remove(path: &Path) -> Result<(), Error> {
    hull_shim::tree::remove(path).map_err(Error::io("remove", path))
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
pub(super) fn write_whole(path: &Path, content: &[u8]) -> Result<(), Error> {
    crate::store::file::write_whole(path, content, 0o600).map_err(|error| Error::Io {
        action: error.verb,
        path: error.path,
        source: error.source,
    })
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
