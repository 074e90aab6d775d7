//! What an earlier boot left below a `--root` that outlives it: told apart by the kernel's boot id, and removed.
//!
//! `/run/hull` is empty after a boot. Another directory is not, and what is recorded there must not be believed:
//! a pid with its start time may name another process now, sockets have no listener, leases no holder, mounts are
//! gone. So the first command after a boot begins with nothing; images, profiles and logs stay.
//!
//! **Invariant:** nothing is removed through a mount: with one below the directory it is not of an earlier boot.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hull_shim::layout::{BOOT_ID, Layout};

use super::launch;
use crate::store::file::{FileError, read, write_whole};

/// Why the records of an earlier boot could not be put away.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// A file.
    #[error("cannot {operation} {}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// On which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The mark could not be written.
    #[error(transparent)]
    Mark(#[from] FileError),
    /// The directory is in use.
    #[error("{} is of another boot of this host, and yet {mount} is mounted there", run.display())]
    Mounted {
        /// hull's run directory.
        run: PathBuf,
        /// What is mounted below.
        mount: String,
    },
    /// The lock.
    #[error(transparent)]
    Lock(#[from] launch::Error),
}

/// Begins anew when the records are of an earlier boot; called before anything of them is read.
///
/// # Errors
/// A file cannot be read, written or removed, or something is mounted there.
pub(super) fn forget_earlier(layout: &Layout) -> Result<(), Error> {
    if layout.root().is_none() || !layout.run().exists() {
        return Ok(());
    }
    let now = fs::read_to_string(BOOT_ID).map_err(file("read", Path::new(BOOT_ID)))?;
    let mounts = "/proc/self/mountinfo";
    let table = || fs::read_to_string(mounts).map_err(file("read", Path::new(mounts)));
    forget(layout, &now, table)
}

fn forget(layout: &Layout, now: &str, table: impl Fn() -> Result<String, Error>) -> Result<(), Error> {
    let (run, mark) = (layout.run(), layout.boot());
    let recorded = || fs::read_to_string(&mark).ok().filter(|then| !then.trim().is_empty());
    if recorded().as_deref() == Some(now) {
        return Ok(());
    }
    let _lock = launch::lock(layout)?;
    // Another command may have been here while this one waited. No mark at all: a directory just made.
    if recorded().is_some_and(|then| then != now) {
        if let Some(mount) = mounted_below(&table()?, run) {
            return Err(Error::Mounted { run: run.to_owned(), mount });
        }
        clear(run)?;
    }
    Ok(write_whole(&mark, now.as_bytes(), 0o644)?)
}

/// Says of which boot the records are that are about to appear; called with the lock held.
pub(super) fn mark(layout: &Layout) -> Result<(), FileError> {
    if layout.root().is_none() || layout.boot().exists() {
        return Ok(());
    }
    write_whole(&layout.boot(), read(Path::new(BOOT_ID))?.as_bytes(), 0o644)
}

/// Removes everything but the lock that is held.
fn clear(run: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(run).map_err(file("read", run))?.flatten() {
        let path = entry.path();
        if path.ends_with(launch::LOCK) {
            continue;
        }
        hull_shim::tree::remove(&path).map_err(|error| file("remove", &path)(error.into()))?;
    }
    Ok(())
}

/// The first mount point below a directory, as mountinfo writes it.
fn mounted_below(table: &str, run: &Path) -> Option<String> {
    let mut points = table.lines().filter_map(|line| line.split(' ').nth(4));
    points.find(|point| Path::new(point) != run && Path::new(point).starts_with(run)).map(str::to_owned)
}

fn file(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { operation, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(name: &str) -> Layout {
        let root = std::env::temp_dir().join(format!("hull-boot-{name}-{}", std::process::id()));
        fs::create_dir_all(root.join("run/pods/u1")).unwrap();
        fs::create_dir_all(root.join("lib")).unwrap();
        Layout::new(Some(root))
    }

    fn pods(layout: &Layout) -> bool {
        layout.pod("u1").dir().exists()
    }

    #[test]
    fn records_of_an_earlier_boot_are_forgotten_and_those_of_this_one_are_kept() {
        let layout = layout("forget");
        let nothing = || Ok(String::new());
        forget(&layout, "one", nothing).unwrap();
        assert!(pods(&layout), "without a mark nobody knows better");
        forget(&layout, "one", nothing).unwrap();
        assert!(pods(&layout));
        forget(&layout, "two", nothing).unwrap();
        assert!(!pods(&layout));
        let root = layout.root().unwrap();
        assert!(root.join("lib").exists());
        assert_eq!(fs::read_to_string(layout.boot()).unwrap(), "two");
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn nothing_is_removed_through_a_mount() {
        let layout = layout("mounted");
        forget(&layout, "one", || Ok(String::new())).unwrap();
        let point = layout.pod("u1").dir().display().to_string();
        let table = || Ok(format!("50 31 0:38 / {point} rw - tmpfs tmpfs rw\n"));
        assert!(matches!(forget(&layout, "two", table), Err(Error::Mounted { mount, .. }) if mount == point));
        assert!(pods(&layout));
        fs::remove_dir_all(layout.root().unwrap()).unwrap();
    }
}
