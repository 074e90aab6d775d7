//! Small file operations on a hierarchy, whose errors name the file.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Error, Removal};
use crate::harmless;

/// The number behind `key` in a file of `key number` lines.
pub(super) fn keyed(path: &Path, key: &str) -> Option<u64> {
    keyed_in(&std::fs::read_to_string(path).ok()?, key)
}

/// The number behind `key` among `key number` lines.
pub(super) fn keyed_in(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The number that a file holds.
pub(super) fn number(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

pub(super) fn write(path: PathBuf, value: &str) -> Result<(), Error> {
    // No O_CREAT: a file that the kernel does not offer is an error, not a new file.
    let written = std::fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes()));
    written.map_err(|source| Error::File { operation: "write", path, source })
}

/// When a directory was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Made {
    /// By this call: its files hold what the kernel begins with.
    Now,
    /// Before.
    Before,
}

/// Makes a directory and what is missing above it.
///
/// Another pod's shim may remove the empty parent between two steps of ours: then it is made again.
pub(super) fn make_directory(path: &Path) -> Result<Made, Error> {
    const ATTEMPTS: usize = 16;
    let mut made = std::fs::create_dir(path);
    for _ in 0..ATTEMPTS {
        match (&made, path.parent()) {
            (Err(error), Some(parent)) if error.kind() == io::ErrorKind::NotFound => {
                made = std::fs::create_dir_all(parent).and_then(|()| std::fs::create_dir(path));
            }
            _ => break,
        }
    }
    match made {
        Ok(()) => Ok(Made::Now),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Made::Before),
        Err(source) => Err(Error::File { operation: "create", path: path.to_owned(), source }),
    }
}

/// What a file of one short line holds, read at once; nothing if there is none.
pub(super) fn short(path: &Path) -> String {
    let mut bytes = [0; 4096];
    let read = std::fs::File::open(path).and_then(|mut file| io::Read::read(&mut file, &mut bytes));
    String::from_utf8_lossy(bytes.get(..read.unwrap_or_default()).unwrap_or_default()).trim().to_owned()
}

/// Every pid in the group at `directory` itself.
pub(super) fn members(directory: &Path) -> Vec<i32> {
    std::fs::read_to_string(directory.join("cgroup.procs"))
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.parse().ok())
        // 0 stands for a process that this PID namespace does not see, and would signal our own group.
        .filter(|pid| *pid > 0)
        .collect()
}

/// Every pid in the group at `directory` and below.
pub(super) fn pids(directory: &Path) -> Vec<i32> {
    let mut found = members(directory);
    for below in subdirectories(directory) {
        found.extend(pids(&below));
    }
    found
}

/// Sends SIGKILL to every process of a frozen group and below.
pub(super) fn kill_members(directory: &Path) {
    // A group that still forks after so many rounds is killed again by the caller's next attempt.
    const ROUNDS: usize = 16;
    let mut killed: Vec<i32> = Vec::new();
    for _ in 0..ROUNDS {
        let fresh: Vec<i32> = pids(directory).into_iter().filter(|pid| !killed.contains(pid)).collect();
        if fresh.is_empty() {
            return;
        }
        for pid in &fresh {
            // ESRCH: it ended by itself. Frozen members cannot, so their pids are not reused.
            harmless(kill(Pid::from_raw(*pid), Signal::SIGKILL));
        }
        killed.extend(fresh);
    }
}

pub(super) fn subdirectories(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

pub(super) fn remove_tree(directory: &Path) -> Result<Removal, Error> {
    let removal = remove_directory(directory)?;
    let below = if removal == Removal::Busy { subdirectories(directory) } else { Vec::new() };
    if below.is_empty() {
        return Ok(removal);
    }
    for below in below {
        remove_tree(&below)?;
    }
    remove_directory(directory)
}

pub(super) fn remove_directory(directory: &Path) -> Result<Removal, Error> {
    match std::fs::remove_dir(directory) {
        Ok(()) => Ok(Removal::Gone),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Removal::Gone),
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Ok(Removal::Busy),
        Err(source) => Err(Error::File { operation: "remove", path: directory.to_owned(), source }),
    }
}

pub(super) fn remove_if_empty(directory: &Path) {
    // EBUSY: other pods live in it. ENOENT: another shim was faster.
    harmless(std::fs::remove_dir(directory));
}

pub(super) fn open_directory(path: PathBuf) -> Result<OwnedFd, Error> {
    let flags = nix::fcntl::OFlag::O_DIRECTORY | nix::fcntl::OFlag::O_RDONLY | nix::fcntl::OFlag::O_CLOEXEC;
    nix::fcntl::open(&path, flags, nix::sys::stat::Mode::empty()).map_err(|source| Error::File {
        operation: "open",
        path,
        source: source.into(),
    })
}

pub(super) fn open_members(path: PathBuf) -> Result<OwnedFd, Error> {
    let file = std::fs::OpenOptions::new().write(true).open(&path);
    file.map(OwnedFd::from).map_err(|source| Error::File { operation: "open", path, source })
}
