//! The cgroups of a pod: `hull/pod<uid>`, below it one group per instance, and one per exec'd process.
//!
//! cgroups(7). On a host with v1 controllers (hybrid too, where v2 is mounted beside them) a group is a
//! directory in every v1 hierarchy; on v2 it is one directory. The difference stays in this folder:
//! [`v1`] and [`v2`] have the same functions, and [`Group`] calls one or the other.
//!
//! Plain file operations rather than `cgroups-rs`: version 0.5 links zbus and an async runtime with no
//! switch to leave them out, opens its files anew on each call, and its removal sleeps between attempts. The
//! shim must not sleep, joins through descriptors opened once, and needs a dozen files in all.
//! libcontainer's own `libcgroups` applies a container's limits from its `config.json`.

pub(crate) mod devices;
mod hierarchy;
mod v1;
mod v2;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

pub(crate) use hierarchy::Hierarchies;
use oci_spec::runtime::LinuxDeviceCgroup;

use crate::harmless;
use crate::sys::process;
use crate::wire::{Resources, Statistics};

/// A leaf that still forks after so many rounds of moving is left as it is.
const MOVE_ROUNDS: usize = 16;

/// Why an operation on a group failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The host has no cgroup file system.
    #[error("no cgroup file system is mounted")]
    NotMounted,
    /// A limit needs a controller that the host does not have.
    #[error("the cgroup controller {0} is not available, which this limit needs")]
    NoController(&'static str),
    /// The kernel refused the device program.
    #[error("{operation} the device program of {}", path.display())]
    Devices {
        /// What was done.
        operation: &'static str,
        /// For which group.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: nix::Error,
    },
    /// A file operation.
    #[error("{operation} {}", path.display())]
    File {
        /// What was done.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

/// Whether a group is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removal {
    /// It is.
    Gone,
    /// Processes that were killed have not left it yet: try again later.
    Busy,
}

/// One group, by its path below every hierarchy's root.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    hierarchies: Rc<Hierarchies>,
    path: PathBuf,
}

/// A way into a group, open for as long as it is needed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Entry {
    /// v2: the group's directory, for `CLONE_INTO_CGROUP`.
    directory: Option<Rc<OwnedFd>>,
    /// v1: `cgroup.procs` of every hierarchy.
    members: Vec<Rc<OwnedFd>>,
}

impl Entry {
    /// What clone3 needs; none on v1.
    pub(crate) fn directory(&self) -> Option<BorrowedFd<'_>> {
        self.directory.as_ref().map(|directory| directory.as_fd())
    }

    /// The descriptors that [`Entry::enter`] needs.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = RawFd> {
        self.members.iter().map(|members| members.as_raw_fd())
    }

    /// Moves the calling process in, on v1; on v2 clone3 did. Allocates nothing.
    pub(crate) fn enter(&self) -> nix::Result<()> {
        self.members.iter().try_for_each(|members| process::write_to(members.as_raw_fd(), b"0"))
    }
}

impl Group {
    /// The group of a pod.
    pub(crate) fn of_pod(hierarchies: &Rc<Hierarchies>, uid: &str) -> Self {
        Self { hierarchies: Rc::clone(hierarchies), path: Path::new("hull").join(format!("pod{uid}")) }
    }

    /// A group below this one.
    pub(crate) fn child(&self, name: &str) -> Self {
        Self { hierarchies: Rc::clone(&self.hierarchies), path: self.path.join(name) }
    }

    /// Its absolute path as `cgroupsPath` of a specification wants it.
    pub(crate) fn absolute(&self) -> PathBuf {
        Path::new("/").join(&self.path)
    }

    /// The group's directory in each v1 hierarchy, under every name that a container looks for it by;
    /// none on v2, where one mount shows all.
    pub(crate) fn shown(&self) -> Option<Vec<(String, PathBuf)>> {
        match &*self.hierarchies {
            Hierarchies::V1(all) => Some(v1::shown(all, &self.path)),
            Hierarchies::V2(_) => None,
        }
    }

    /// Makes the group and whatever is missing above it.
    pub(crate) fn create(&self) -> Result<(), Error> {
        match &*self.hierarchies {
            Hierarchies::V1(all) => v1::create(all, &self.path),
            Hierarchies::V2(root) => v2::create(root, &self.path),
        }
    }

    /// Sets limits.
    pub(crate) fn limit(&self, resources: &Resources) -> Result<(), Error> {
        match &*self.hierarchies {
            Hierarchies::V1(all) => v1::limit(all, &self.path, resources),
            Hierarchies::V2(root) => v2::limit(root, &self.path, resources),
        }
    }

    /// One out-of-memory kill takes the whole group, as Kubernetes has it on v2; v1 knows no such thing.
    pub(crate) fn kill_together(&self) -> Result<(), Error> {
        match &*self.hierarchies {
            Hierarchies::V1(_) => Ok(()),
            Hierarchies::V2(root) => v2::kill_together(root, &self.path),
        }
    }

    /// Limits which devices the group may use, on v2; on v1 libcontainer does.
    pub(crate) fn restrict_devices(&self, rules: &[LinuxDeviceCgroup]) -> Result<(), Error> {
        match &*self.hierarchies {
            Hierarchies::V1(_) => Ok(()),
            Hierarchies::V2(root) => v2::restrict_devices(root, &self.path, rules),
        }
    }

    /// Opens the way in.
    pub(crate) fn entry(&self) -> Result<Entry, Error> {
        match &*self.hierarchies {
            Hierarchies::V1(all) => v1::entry(all, &self.path),
            Hierarchies::V2(root) => v2::entry(root, &self.path),
        }
    }

    /// Makes the leaf `name` below this group, whose own entry is `entry`, to be killed apart. Its members
    /// count towards this group's limits. On v1 it exists in one hierarchy alone.
    pub(crate) fn leaf(&self, name: &str, entry: &Entry) -> Result<(Self, Entry), Error> {
        let leaf = self.child(name);
        match &*self.hierarchies {
            Hierarchies::V1(all) => {
                let (hierarchy, entry) = v1::leaf(all, &leaf.path, entry)?;
                let hierarchies = Rc::new(Hierarchies::V1(vec![hierarchy]));
                Ok((Self { hierarchies, ..leaf }, entry))
            }
            Hierarchies::V2(root) => v2::leaf(root, &leaf.path).map(|entry| (leaf, entry)),
        }
    }

    /// The leaves below this group whose names begin with `prefix`, whoever made them.
    pub(crate) fn leaves(&self, prefix: &str) -> Vec<Self> {
        let (hierarchies, root) = match &*self.hierarchies {
            Hierarchies::V1(all) => match v1::killing(all) {
                Some(one) => (Rc::new(Hierarchies::V1(vec![one.clone()])), &one.root),
                None => return Vec::new(),
            },
            Hierarchies::V2(root) => (Rc::clone(&self.hierarchies), root),
        };
        let names = subdirectories(&root.join(&self.path)).into_iter();
        let names = names.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()));
        let named = names.filter(|name| name.starts_with(prefix));
        named.map(|name| Self { hierarchies: Rc::clone(&hierarchies), path: self.path.join(name) }).collect()
    }

    /// Moves what is left in a leaf into the group above, so that the leaf can be removed without killing it.
    pub(crate) fn move_up(&self) -> Result<(), Error> {
        let (Some(above), Some(root)) = (self.path.parent(), self.hierarchies.roots().next()) else {
            return Ok(());
        };
        let to = root.join(above).join("cgroup.procs");
        // What forks meanwhile is found in the next round.
        for _ in 0..MOVE_ROUNDS {
            let found = pids(&root.join(&self.path));
            if found.is_empty() {
                break;
            }
            for pid in found {
                match write(to.clone(), &pid.to_string()) {
                    // It ended by itself.
                    Err(Error::File { source, .. }) if source.raw_os_error() == Some(libc::ESRCH) => {}
                    moved => moved?,
                }
            }
        }
        Ok(())
    }

    /// Sends SIGKILL to every process in the group and below. They end on their own time.
    pub(crate) fn kill(&self) -> Result<(), Error> {
        match &*self.hierarchies {
            Hierarchies::V1(all) => v1::kill(all, &self.path),
            Hierarchies::V2(root) => v2::kill(root, &self.path),
        }
    }

    /// Removes the group and everything below, as far as it is empty, and hull's own parent group when
    /// this was its last.
    pub(crate) fn remove(&self) -> Result<Removal, Error> {
        match &*self.hierarchies {
            Hierarchies::V1(all) => v1::remove(all, &self.path),
            Hierarchies::V2(root) => remove_tree(&root.join(&self.path)),
        }
    }

    /// Removes the parent `hull` if this pod's was its last group.
    pub(crate) fn remove_empty_parent(&self) {
        let Some(parent) = self.path.parent() else { return };
        match &*self.hierarchies {
            Hierarchies::V1(all) => {
                all.iter().for_each(|hierarchy| remove_if_empty(&hierarchy.root.join(parent)));
            }
            Hierarchies::V2(root) => remove_if_empty(&root.join(parent)),
        }
    }

    /// What the group uses.
    pub(crate) fn statistics(&self) -> Statistics {
        match &*self.hierarchies {
            Hierarchies::V1(all) => v1::statistics(all, &self.path),
            Hierarchies::V2(root) => v2::statistics(root, &self.path),
        }
    }

    /// Whether the out-of-memory killer took a process of the group since it was made.
    pub(crate) fn was_out_of_memory(&self) -> bool {
        let events = match &*self.hierarchies {
            Hierarchies::V1(all) => v1::file_of(all, "memory", &self.path, "memory.oom_control"),
            Hierarchies::V2(root) => Some(root.join(&self.path).join("memory.events")),
        };
        events.and_then(|events| keyed(&events, "oom_kill")).is_some_and(|kills| kills > 0)
    }
}

/// The number behind `key` in a file of `key number` lines.
fn keyed(path: &Path, key: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The number that a file holds.
fn number(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn write(path: PathBuf, value: &str) -> Result<(), Error> {
    // No O_CREAT: a file that the kernel does not offer is an error, not a new file.
    let written = std::fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes()));
    written.map_err(|source| Error::File { operation: "write", path, source })
}

/// Another pod's shim may remove the empty parent between two steps of ours: then it is made again.
fn make_directory(path: &Path) -> Result<(), Error> {
    const ATTEMPTS: usize = 16;
    let mut made = std::fs::create_dir_all(path);
    for _ in 0..ATTEMPTS {
        match &made {
            Err(error) if error.kind() == io::ErrorKind::NotFound => made = std::fs::create_dir_all(path),
            Ok(()) | Err(_) => break,
        }
    }
    made.map_err(|source| Error::File { operation: "create", path: path.to_owned(), source })
}

/// Every pid in the group at `directory` and below.
fn pids(directory: &Path) -> Vec<i32> {
    let mut found: Vec<i32> = std::fs::read_to_string(directory.join("cgroup.procs"))
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.parse().ok())
        // 0 stands for a process that this PID namespace does not see, and would signal our own group.
        .filter(|pid| *pid > 0)
        .collect();
    for below in subdirectories(directory) {
        found.extend(pids(&below));
    }
    found
}

fn subdirectories(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

fn remove_tree(directory: &Path) -> Result<Removal, Error> {
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

fn remove_directory(directory: &Path) -> Result<Removal, Error> {
    match std::fs::remove_dir(directory) {
        Ok(()) => Ok(Removal::Gone),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Removal::Gone),
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Ok(Removal::Busy),
        Err(source) => Err(Error::File { operation: "remove", path: directory.to_owned(), source }),
    }
}

fn remove_if_empty(directory: &Path) {
    // EBUSY: other pods live in it. ENOENT: another shim was faster.
    harmless(std::fs::remove_dir(directory));
}

fn open_directory(path: PathBuf) -> Result<OwnedFd, Error> {
    let flags = nix::fcntl::OFlag::O_DIRECTORY | nix::fcntl::OFlag::O_RDONLY | nix::fcntl::OFlag::O_CLOEXEC;
    nix::fcntl::open(&path, flags, nix::sys::stat::Mode::empty()).map_err(|source| Error::File {
        operation: "open",
        path,
        source: source.into(),
    })
}

fn open_members(path: PathBuf) -> Result<OwnedFd, Error> {
    let file = std::fs::OpenOptions::new().write(true).open(&path);
    file.map(OwnedFd::from).map_err(|source| Error::File { operation: "open", path, source })
}
