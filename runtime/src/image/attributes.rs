//! Owner, mode, extended attributes and times of a file in a layer.
//!
//! The order matters: chown clears `security.capability` and set-user-id bits, so the owner comes first,
//! then the attributes, then the mode, and the times last.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::tarball::Entry;

/// Attributes with a meaning to overlayfs. An image must not set them: they would redirect or hide.
const OVERLAY: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];
const XATTR_LIST_LIMIT: usize = 64 * 1024;

/// A failed step, for the message.
pub(super) type Failure = (&'static str, Errno);

/// What a file gets besides its content.
pub(super) struct Attributes {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mode: u32,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) modified: Timespec,
}

impl Attributes {
    /// Those of an archive's entry.
    pub(super) fn of_entry(entry: &Entry) -> Self {
        let (tv_sec, tv_nsec) = entry.modified;
        Self {
            uid: entry.uid,
            gid: entry.gid,
            mode: entry.mode,
            xattrs: entry.xattrs.iter().filter(|(name, _)| !is_overlay(name)).cloned().collect(),
            modified: Timespec { tv_sec, tv_nsec },
        }
    }

    /// Those of an existing file without its extended attributes.
    pub(super) fn of_stat(stat: &Stat) -> Self {
        Self {
            uid: stat.st_uid,
            gid: stat.st_gid,
            mode: stat.st_mode & 0o7777,
            xattrs: Vec::new(),
            modified: Timespec {
                tv_sec: stat.st_mtime,
                tv_nsec: i64::try_from(stat.st_mtime_nsec).unwrap_or(0),
            },
        }
    }

    /// Those of an open file, with its extended attributes.
    pub(super) fn of_file(file: BorrowedFd<'_>) -> Result<Self, Errno> {
        let mut attributes = Self::of_stat(&rustix::fs::fstat(file)?);
        let mut list = vec![0; XATTR_LIST_LIMIT];
        let length = match rustix::fs::flistxattr(file, &mut list[..]) {
            Err(Errno::OPNOTSUPP) => 0,
            result => result?,
        };
        for name in list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            if is_overlay(name) {
                continue;
            }
            let mut value = vec![0; XATTR_LIST_LIMIT];
            let length = rustix::fs::fgetxattr(file, name, &mut value[..])?;
            value.truncate(length);
            attributes.xattrs.push((name.to_vec(), value));
        }
        Ok(attributes)
    }

    /// Access and modification time, both the modification time.
    pub(super) fn times(&self) -> Timestamps {
        Timestamps { last_access: self.modified, last_modification: self.modified }
    }

    /// Applies all but the times to an open regular file or directory.
    pub(super) fn apply(&self, file: BorrowedFd<'_>) -> Result<(), Failure> {
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        rustix::fs::fchown(file, Some(uid), Some(gid)).map_err(|errno| ("set its owner", errno))?;
        for (name, value) in &self.xattrs {
            let result = rustix::fs::fsetxattr(file, name.as_slice(), value, XattrFlags::empty());
            tolerate(name, FileType::RegularFile, result)?;
        }
        rustix::fs::fchmod(file, Mode::from_raw_mode(self.mode)).map_err(|errno| ("set its mode", errno))
    }

    /// Applies everything to what was just made as `name` in `dir`, which is neither file nor directory.
    pub(super) fn apply_at(&self, dir: BorrowedFd<'_>, name: &[u8], kind: FileType) -> Result<(), Failure> {
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| ("set its owner", errno))?;
        let mut path = format!("/proc/self/fd/{}/", dir.as_fd().as_raw_fd()).into_bytes();
        path.extend(name);
        for (key, value) in &self.xattrs {
            let result = rustix::fs::lsetxattr(path.as_slice(), key.as_slice(), value, XattrFlags::empty());
            tolerate(key, kind, result)?;
        }
        if kind != FileType::Symlink {
            rustix::fs::chmodat(dir, name, Mode::from_raw_mode(self.mode), AtFlags::empty())
                .map_err(|errno| ("set its mode", errno))?;
        }
        rustix::fs::utimensat(dir, name, &self.times(), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| ("set its times", errno))
    }
}

/// A file system may lack extended attributes, and only files and directories have `user.*`. File
/// capabilities are never dropped silently: the program would run with fewer rights than its image says.
fn tolerate(name: &[u8], kind: FileType, result: Result<(), Errno>) -> Result<(), Failure> {
    let plain = matches!(kind, FileType::RegularFile | FileType::Directory);
    match result {
        Err(Errno::OPNOTSUPP) if name != b"security.capability" => Ok(()),
        Err(Errno::PERM) if name.starts_with(b"user.") && !plain => Ok(()),
        result => result.map_err(|errno| ("set an extended attribute", errno)),
    }
}

fn is_overlay(name: &[u8]) -> bool {
    OVERLAY.iter().any(|prefix| name.starts_with(prefix))
}
