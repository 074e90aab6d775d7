//! What the driver reads and makes below a root that belongs to a container.
//!
//! With [`super::Host::observe`] the only effects of this folder. Paths are resolved with `RESOLVE_IN_ROOT` of openat2(2): a
//! symlink of the image, or one that a container left in a volume, leads to a place below the root or nowhere.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Larger files are not read: `/etc/passwd` and its like are small, and memory is shared by all pods.
const MAX_BYTES: u64 = 1 << 20;

/// The text of a file below a root; bytes that are not UTF-8 are replaced.
///
/// # Errors
/// It is missing, is no regular file, or is larger than a mebibyte.
pub fn read(root: &Path, path: &str) -> io::Result<String> {
    // A FIFO in its place must not make us wait.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = open_in(open_root(root)?.as_fd(), path, flags)?;
    let found = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL.into());
    }
    let mut bytes = Vec::new();
    File::from(file).take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Errno::FBIG.into());
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Makes a directory below a root, and those above it, with mode 0755; what is there already stays as it is.
///
/// # Errors
/// Something else is in the way, or the file system refuses.
pub fn make_dir(root: &Path, path: &str) -> io::Result<()> {
    let root = open_root(root)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut prefix = String::from(".");
    for part in path.split('/').filter(|part| !matches!(*part, "" | ".")) {
        let parent = open_in(root.as_fd(), &prefix, flags)?;
        prefix = format!("{prefix}/{part}");
        match open_in(root.as_fd(), &prefix, flags) {
            Ok(_) => continue,
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        match rustix::fs::mkdirat(parent, part, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    open_in(root.as_fd(), &prefix, flags).map(drop).map_err(io::Error::from)
}

fn open_root(root: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn open_in(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    rustix::fs::openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_do_not_leave_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::write(dir.path().join("passwd"), "outside").unwrap();
        std::fs::write(root.join("passwd"), "inside").unwrap();
        symlink("/passwd", root.join("etc/passwd")).unwrap();
        symlink("../../../../passwd", root.join("etc/group")).unwrap();
        assert_eq!(read(&root, "/etc/passwd").unwrap(), "inside");
        assert_eq!(read(&root, "etc/group").unwrap(), "inside");
        assert!(read(&root, "etc").is_err() && read(&root, "none").is_err());
        symlink("/", root.join("up")).unwrap();
        make_dir(&root, "/up/../a/b").unwrap();
        make_dir(&root, "/a/b").unwrap();
        assert!(root.join("a/b").is_dir() && !dir.path().join("a").exists());
        make_dir(&root, "/").unwrap();
        assert!(make_dir(&root, "/passwd/x").is_err());
    }

    #[test]
    fn a_huge_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f"), vec![b'x'; (1 << 20) + 1]).unwrap();
        assert!(read(dir.path(), "f").is_err());
    }
}
