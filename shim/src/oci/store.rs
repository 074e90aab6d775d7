//! The state of containers on disk: one directory each, `<root>/<id>/`.
//!
//! | file | what |
//! | --- | --- |
//! | `state.json` | [`Record`], written whole |
//! | `config.json` | the configuration that the container was made from: later changes of the bundle have no effect |
//! | `go`, `result` | the gate where its init waits (`container/engine/gate.rs`) |
//! | `notify/` | the socket behind `NOTIFY_SOCKET` |
//!
//! Whoever changes the container holds the directory itself, by flock(2), which NFS does not do for directories: no state is kept there.
//!
//! **Invariant:** the record is on disk before the container's first process runs, so that whatever a killed `create`
//! leaves is found by `delete --force`. Readers take no lock: what they read was written whole.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, OFlag, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};
use serde::{Deserialize, Serialize};

use super::error::Error;
use super::global::{Origin, Root};
use super::groups::Membership;
use crate::resctrl;

const STATE: &str = "state.json";
const CONFIG: &str = "config.json";

/// The name of a container: a file name, and no surprise in a shell or a cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Id(String);

impl Id {
    /// Checks it.
    pub(crate) fn new(text: &str) -> Result<Self, Error> {
        let plain = |letter: char| letter.is_ascii_alphanumeric() || "_+-.".contains(letter);
        if text.is_empty() || text == "." || text == ".." || !text.chars().all(plain) {
            return Err(Error::InvalidId(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }

    /// As text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// What names a process for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Init {
    /// In the host's PID namespace.
    pub(crate) pid: i32,
    /// In clock ticks since boot.
    pub(crate) start_time: u64,
}

/// What is known of a container besides what it does.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    /// Of its configuration.
    pub(crate) oci_version: String,
    /// Its name.
    pub(crate) id: String,
    /// Absolute.
    pub(crate) bundle: PathBuf,
    /// Absolute.
    pub(crate) rootfs: PathBuf,
    /// Of its configuration.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
    /// RFC 3339 with nanoseconds.
    pub(crate) created: String,
    /// Who made it.
    pub(crate) owner: u32,
    /// Its first process, once there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) init: Option<Init>,
    /// `create` has not come to its end.
    #[serde(default)]
    pub(crate) unfinished: bool,
    /// It was started as soon as it was made: until its maker lets go of it, its init may have that maker's memory.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) at_once: bool,
    /// It has a PID namespace of its own, which dies with its init.
    pub(crate) own_pid_namespace: bool,
    /// Its processes have no session keyring of their own.
    #[serde(default)]
    pub(crate) keeps_keyring: bool,
    /// What its standard streams were when it was made, for a checkpoint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) descriptors: Vec<String>,
    /// Its groups.
    pub(crate) cgroup: Membership,
    /// Its share of cache and memory bandwidth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) resctrl: Option<resctrl::Group>,
}

/// The directory of one container.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    directory: PathBuf,
    /// What the configuration is, once it was laid or read.
    config: OnceCell<Vec<u8>>,
}

/// The right to change a container, for as long as it is held.
#[derive(Debug)]
pub(crate) struct Held {
    /// Its directory, locked. Closed, it is given back: no child of ours has it by then.
    directory: File,
}

impl AsFd for Held {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// How long somebody else's lock is waited for.
#[derive(Debug, Clone, Copy)]
enum Wait {
    Long,
    No,
}

impl Place {
    /// Of the container `id`, there or not.
    pub(crate) fn new(root: &Root, id: &Id) -> Self {
        Self { directory: root.path.join(id.as_str()), config: OnceCell::new() }
    }

    /// Its directory.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Makes the directory, for one caller of several, and holds it.
    pub(crate) fn claim(&self, root: &Root) -> Result<Held, Error> {
        let make = || DirBuilder::new().mode(0o711).create(&self.directory);
        let made = match make() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => make_root(root).map(|()| make()),
            made => Ok(made),
        };
        match made? {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(Error::Exists),
            Err(error) => return Err(Error::file("create", &self.directory)(error)),
        }
        self.hold().inspect_err(|error| {
            // Where nobody can open it nobody else holds it; whoever took it is another matter.
            if matches!(error, Error::File { .. }) {
                crate::harmless(std::fs::remove_dir(&self.directory));
            }
        })
    }

    /// Waits for the right to change the container.
    pub(crate) fn hold(&self) -> Result<Held, Error> {
        self.lock(Wait::Long)?.ok_or(Error::StillRunning)
    }

    /// Takes the right to change the container, unless somebody has it.
    pub(crate) fn try_hold(&self) -> Result<Option<Held>, Error> {
        self.lock(Wait::No)
    }

    fn lock(&self, how: Wait) -> Result<Option<Held>, Error> {
        let path = &self.directory;
        let missing = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Error::Missing,
            _ => Error::file("open", path)(error),
        };
        let mut options = File::options();
        let directory = options.read(true).custom_flags(libc::O_DIRECTORY).open(path).map_err(missing)?;
        match how {
            Wait::Long => directory.lock(),
            Wait::No => match directory.try_lock() {
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => Err(error),
                Ok(()) => Ok(()),
            },
        }
        .map_err(Error::file("lock", path))?;
        // Whoever held it before may have deleted the container: then it has no name any more, whatever has come since.
        let is_there = directory.metadata().is_ok_and(|about| about.nlink() > 0);
        if is_there { Ok(Some(Held { directory })) } else { Err(Error::Missing) }
    }

    /// Reads the record.
    pub(crate) fn record(&self) -> Result<Record, Error> {
        let path = self.directory.join(STATE);
        let bytes = std::fs::read(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Error::Missing,
            _ => Error::file("read", &path)(error),
        })?;
        serde_json::from_slice(&bytes).map_err(|error| Error::Json(path.display().to_string(), error))
    }

    /// Writes the record; whoever calls holds the container. The root directory may be another one by then.
    pub(crate) fn write(&self, record: &Record, held: &Held) -> Result<(), Error> {
        let path = self.directory.join(STATE);
        let bytes =
            serde_json::to_vec(record).map_err(|error| Error::Json(path.display().to_string(), error))?;
        replace((held.as_fd(), Path::new(STATE)), &bytes, 0o600).map_err(Error::file("write", &path))
    }

    /// Keeps the configuration of a container that has no record yet, before which nobody reads it.
    pub(crate) fn lay_config(&self, bytes: Vec<u8>, _: &Held) -> Result<(), Error> {
        let path = self.directory.join(CONFIG);
        create((AT_FDCWD, &path), self.config.get_or_init(|| bytes), 0o600)
            .map_err(Error::file("write", &path))
    }

    /// Exchanges the configuration, for the commands that come later.
    pub(crate) fn keep_config(&self, bytes: &[u8], _: &Held) -> Result<(), Error> {
        write_whole(&self.directory.join(CONFIG), bytes, 0o600)
    }

    /// The configuration that the container was made from, read once.
    pub(crate) fn config(&self) -> Result<&[u8], Error> {
        if let Some(bytes) = self.config.get() {
            return Ok(bytes);
        }
        let path = self.directory.join(CONFIG);
        let bytes = std::fs::read(&path).map_err(Error::file("read", &path))?;
        Ok(self.config.get_or_init(|| bytes))
    }

    /// Removes everything, the record first: without it the container is gone.
    pub(crate) fn remove(&self) -> Result<(), Error> {
        // Nearly always there is nothing else.
        for name in [STATE, CONFIG] {
            crate::harmless(std::fs::remove_file(self.directory.join(name)));
        }
        let removed = match std::fs::remove_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                std::fs::remove_dir_all(&self.directory)
            }
            removed => removed,
        };
        match removed {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(Error::file("remove", &self.directory)(error)),
        }
    }
}

/// Every container below `root`, by name.
pub(crate) fn all(root: &Root) -> Result<Vec<(Place, Record)>, Error> {
    let entries = match std::fs::read_dir(&root.path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound && root.origin != Origin::Given => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(Error::file("open", &root.path)(error)),
    };
    let mut found: Vec<(Place, Record)> = entries
        .flatten()
        .filter_map(|entry| Id::new(entry.file_name().to_str()?).ok())
        .map(|id| Place::new(root, &id))
        // One that comes or goes just now is not there.
        .filter_map(|place| place.record().ok().map(|record| (place, record)))
        .collect();
    found.sort_by(|(_, one), (_, other)| one.id.cmp(&other.id));
    Ok(found)
}

fn make_root(root: &Root) -> Result<(), Error> {
    let mode = if root.origin == Origin::Runtime { 0o700 } else { 0o711 };
    let made = DirBuilder::new().recursive(true).mode(mode).create(&root.path);
    made.map_err(Error::file("create", &root.path))?;
    if root.origin == Origin::Runtime {
        // Old files without the sticky bit are cleaned from there (XDG Base Directory Specification).
        let sticky = Permissions::from_mode(0o1700);
        std::fs::set_permissions(&root.path, sticky).map_err(Error::file("chmod", &root.path))?;
    }
    Ok(())
}

/// Writes a file so that readers see the old or the new text, never a part. Not for the time after a power
/// failure: what is told here ends with the running system.
pub(crate) fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    replace((AT_FDCWD, path), bytes, mode).map_err(Error::file("write", path))
}

/// A path, and the directory that it starts at.
type At<'a> = (BorrowedFd<'a>, &'a Path);

fn replace((directory, path): At<'_>, bytes: &[u8], mode: u32) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}"));
    let remove = || crate::harmless(unlinkat(directory, &temporary, UnlinkatFlags::NoRemoveDir));
    let written = match create((directory, &temporary), bytes, mode) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // One that a killed writer left.
            remove();
            create((directory, &temporary), bytes, mode)
        }
        written => written,
    };
    let renamed = || renameat(directory, &temporary, directory, path).map_err(io::Error::from);
    written.and_then(|()| renamed()).inspect_err(|_| remove())
}

/// Writes a file that is not there yet.
fn create((directory, path): At<'_>, bytes: &[u8], mode: u32) -> io::Result<()> {
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = openat(directory, path, flags, Mode::from_bits_truncate(mode))?;
    File::from(file).write_all(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_plain_file_name() {
        for good in ["a", "A_1+b.c-d", "...", "-x"] {
            assert_eq!(Id::new(good).unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "a/b", "a b", "ä", "a\n", "a\0"] {
            let told = Id::new(bad).unwrap_err().to_string();
            assert!(told.starts_with("invalid container ID format"), "{told}");
        }
    }
}
