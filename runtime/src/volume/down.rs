//! The host task that takes volumes away again.

use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use hull_shim::layout::PodLayout;
use hull_shim::wire::InstanceId;
use rustix::mount::UnmountFlags;
use serde::{Deserialize, Serialize};

use super::{Error, Failed, failed};

/// More layers of mounts than a pod can have; beyond, something makes them as fast as they go.
const MAX_ROUNDS: usize = 64;

/// The input of `hull task volumes-down`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DownInput {
    /// Directories to be removed with all that is mounted below them; absolute.
    pub directories: Vec<PathBuf>,
}

/// Everything that [`super::up()`] made for a pod.
#[must_use]
pub fn all(layout: &PodLayout) -> DownInput {
    DownInput { directories: vec![layout.sub_paths(), layout.volumes()] }
}

/// What it made for one instance: the parts of volumes that it mounted.
#[must_use]
pub fn of_instance(layout: &PodLayout, instance: &InstanceId) -> DownInput {
    DownInput { directories: vec![layout.sub_paths().join(instance.to_string())] }
}

/// Unmounts and removes; what is gone already is no error.
///
/// # Errors
/// What could not be unmounted or removed.
pub fn down(input: &DownInput) -> Result<(), Error> {
    input.directories.iter().try_for_each(|directory| {
        unmount(directory)
            .and_then(|()| hull_shim::tree::remove(directory).map_err(failed("remove", directory)))
            .map_err(|error| Error::new("", error))
    })
}

/// Detaches every mount at or below a directory, newest first.
fn unmount(directory: &Path) -> Result<(), Failed> {
    let directory = hull_shim::tree::real(directory);
    let table = Path::new("/proc/self/mountinfo");
    for _ in 0..MAX_ROUNDS {
        let text = std::fs::read(table).map_err(failed("read", table))?;
        let mounts = below(&text, &directory);
        if mounts.is_empty() {
            return Ok(());
        }
        for mount in mounts.iter().rev() {
            match rustix::mount::unmount(mount, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
                // It went with the one that it was on.
                Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
                done => done.map_err(failed("unmount", mount))?,
            }
        }
    }
    Err(failed("unmount everything below", directory)(rustix::io::Errno::BUSY))
}

/// The mount points of a mount table at or below a directory, in its order.
fn below(table: &[u8], directory: &Path) -> Vec<PathBuf> {
    let point = |line: &[u8]| line.split(|byte| *byte == b' ').nth(4).map(unescape);
    table.split(|byte| *byte == b'\n').filter_map(point).filter(|path| path.starts_with(directory)).collect()
}

/// Space, tab, newline and backslash are written as `\` and three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let code = match (first, after) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..]) => {
                Some(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'))
            }
            _ => None,
        };
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &after[3..] } else { after };
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_table_is_understood() {
        let table = b"22 1 0:20 / /p rw - tmpfs t rw\n23 22 0:21 / /p/v/a\\040b rw - tmpfs t rw\n\
                      24 22 0:22 / /p/volumes rw - tmpfs t rw\n25 23 0:23 / /p/v rw - tmpfs t rw\nbroken\n";
        let found = below(table, Path::new("/p/v"));
        assert_eq!(found, [PathBuf::from("/p/v/a b"), PathBuf::from("/p/v")]);
        assert_eq!(unescape(b"a\\134\\0"), Path::new("a\\\\0"));
    }
}
