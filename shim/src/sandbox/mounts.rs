//! Mounts below a pod's directory, from `/proc/self/mountinfo` (proc(5)): `/dev/shm`, and whatever is left
//! of volumes and root file systems at the end.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::tree;

/// Kubernetes' and docker's size of `/dev/shm`.
const SHM_OPTIONS: &str = "mode=1777,size=65536k";

/// Why a mount could not be made or removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The mount table is unreadable.
    #[error("read /proc/self/mountinfo")]
    Table(#[source] std::io::Error),
    /// The mount point could not be made.
    #[error("create {}", .0.display())]
    Point(PathBuf, #[source] std::io::Error),
    /// mount(2)
    #[error("mount tmpfs on {}", .0.display())]
    Mount(PathBuf, #[source] Errno),
    /// umount2(2)
    #[error("unmount {}", .0.display())]
    Unmount(PathBuf, #[source] Errno),
}

/// Mounts the pod's `/dev/shm`; one that is mounted already stays.
pub(crate) fn mount_shm(at: &Path) -> Result<(), Error> {
    let point = tree::real(at);
    if below(at)?.contains(&point) {
        return Ok(());
    }
    std::fs::create_dir_all(at).map_err(|source| Error::Point(at.to_owned(), source))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("shm"), at, Some("tmpfs"), flags, Some(SHM_OPTIONS))
        .map_err(|source| Error::Mount(at.to_owned(), source))
}

/// Detaches every mount at or below `directory`, the deepest and latest first.
pub(crate) fn unmount_below(directory: &Path) -> Result<(), Error> {
    for point in below(directory)?.iter().rev() {
        match umount2(point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            // EINVAL, ENOENT: it went with one that was detached before it.
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
            Err(source) => return Err(Error::Unmount(point.clone(), source)),
        }
    }
    Ok(())
}

/// The mount points at or below `directory`, in the order in which they were mounted.
pub(crate) fn below(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let table = std::fs::read("/proc/self/mountinfo").map_err(Error::Table)?;
    Ok(select(&table, &tree::real(directory)))
}

fn select(table: &[u8], directory: &Path) -> Vec<PathBuf> {
    let points =
        table.split(|byte| *byte == b'\n').filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
    let points = points.map(unescape_bytes);
    points.filter(|point| point.starts_with(directory)).collect()
}

/// Undoes the kernel's `\040` for blank, tab, newline and backslash.
pub(crate) fn unescape(field: &str) -> PathBuf {
    unescape_bytes(field.as_bytes())
}

fn unescape_bytes(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let octal = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok();
        match (first, tail.get(..3).and_then(octal)) {
            (b'\\', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_at_or_below_the_directory_are_selected() {
        let table = b"1 0 0:1 / / rw - ext4 x rw\n\
            2 1 0:2 / /run/p/a\\040b rw - tmpfs x rw\n\
            3 1 0:3 / /run/pp rw - tmpfs x rw\n\
            4 1 0:4 / /run/p rw - tmpfs x rw\n";
        let found = select(table, Path::new("/run/p"));
        assert_eq!(found, [Path::new("/run/p/a b"), Path::new("/run/p")]);
    }

    #[test]
    fn a_backslash_without_digits_stays() {
        assert_eq!(unescape("a\\134b\\0x"), Path::new("a\\b\\0x"));
    }
}
