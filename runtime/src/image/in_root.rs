//! Reading a file inside a container's root without leaving it.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::error::Error;
use super::tree;

/// Reads a text file such as `/etc/passwd` inside a mounted root. Symlinks are followed as a process with
/// this root would; bytes that are no UTF-8 are replaced. None when it does not exist.
///
/// # Errors
/// When it is larger than `limit` bytes, not a regular file, or cannot be read.
pub fn read_in_root(root: &Path, path: &str, limit: usize) -> Result<Option<String>, Error> {
    let directory = tree::open_dir(root)?;
    // A FIFO must not block us, and a terminal must not become ours.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let shown = root.join(path.trim_start_matches('/'));
    let file = match rustix::fs::openat2(&directory, path, flags, Mode::empty(), resolve) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        result => File::from(result.map_err(Error::io("open", &shown))?),
    };
    if !file.metadata().map_err(Error::io("look at", &shown))?.is_file() {
        return Err(Error::NotAFile {
            path: path.to_owned(),
        });
    }
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(Error::io("read", &shown))?;
    if bytes.len() > limit {
        return Err(Error::FileTooLarge {
            path: path.to_owned(),
            limit,
        });
    }
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_is_never_left() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::write(dir.path().join("secret"), "outside").unwrap();
        std::fs::write(root.join("secret"), "inside").unwrap();
        let link = |target: &str, name: &str| std::os::unix::fs::symlink(target, root.join(name)).unwrap();
        link("../../secret", "etc/up");
        link("/secret", "etc/absolute");
        link("/proc/self/root/secret", "etc/magic");
        for path in ["/etc/up", "etc/absolute", "/../secret"] {
            assert_eq!(
                read_in_root(&root, path, 100).unwrap().as_deref(),
                Some("inside"),
                "{path}"
            );
        }
        assert_eq!(read_in_root(&root, "/etc/magic", 100).unwrap(), None);
        assert_eq!(read_in_root(&root, "/missing/file", 100).unwrap(), None);
        assert!(matches!(
            read_in_root(&root, "/secret", 5),
            Err(Error::FileTooLarge { .. })
        ));
        assert!(matches!(
            read_in_root(&root, "/etc", 5),
            Err(Error::NotAFile { .. })
        ));
    }
}
