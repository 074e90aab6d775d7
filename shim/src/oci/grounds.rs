//! What a container stands on, whether its init is new or comes from a checkpoint: its bundle, its state directory, its
//! groups. Read and checked first; then each thing made is undone if a later one fails.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use oci_spec::runtime::{LinuxNamespaceType, Process, Spec};

use super::command::parse::Parsed;
use super::config;
use super::error::Error;
use super::global::Global;
use super::groups::{self, Membership, Rights};
use super::make::refuse;
use super::notify;
use super::store::{Held, Id, Place, Record};
use super::units::{self, Placeholder};
use crate::cgroup::systemd::Unit;
use crate::cgroup::{Entry, Group};
use crate::container::engine::plan::Keyring;
use crate::container::seccomp::aside::KnownFilter;
use crate::harmless;
use crate::resctrl;
use crate::sys::clock;

/// Everything that is known before anything is made.
pub(crate) struct Grounds {
    pub(crate) id: Id,
    pub(crate) spec: Box<Spec>,
    /// What is known of its seccomp filter.
    pub(crate) filter: KnownFilter,
    pub(crate) bundle: PathBuf,
    pub(crate) rootfs: PathBuf,
    pub(crate) group: Option<Group>,
    pub(crate) membership: Membership,
    pub(crate) rights: Rights,
    /// The configuration, until it is laid.
    bytes: Vec<u8>,
    unit: Option<Unit>,
    /// What of the groups was not there before, once they are being made.
    made: Membership,
    /// How many processes had been killed in the group for want of memory before.
    killed_before: u64,
}

/// The groups that were made.
pub(crate) struct Laid {
    /// The way into them.
    pub(crate) entry: Entry,
    /// Holds the unit until a process of the container is in it.
    pub(crate) _placeholder: Option<Placeholder>,
}

impl Grounds {
    /// Reads the bundle.
    pub(crate) fn read(global: &Global<'_>, id: &str, given: &Parsed) -> Result<Self, Error> {
        let id = Id::new(id)?;
        let given_bundle = Path::new(given.value("bundle").filter(|it| !it.is_empty()).unwrap_or("."));
        let bundle = real(given_bundle).map_err(Error::file("chdir to", given_bundle))?;
        let bytes = config::read(&bundle)?;
        let (spec, unknown, filter) = config::parse_for(global, &bytes)?;
        config::warn_of_unknown(global.log, &unknown);
        config::check_version(&spec)?;
        config::check(spec.process().as_ref())?;
        let rootfs = rootfs(&spec, &bundle)?;
        let (group, membership, unit) = groups::place(&spec, &id, global)?;
        let rights = if global.rootless { Rights::Delegated } else { Rights::All };
        let made = Membership::default();
        Ok(Self {
            id,
            spec,
            filter,
            bundle,
            rootfs,
            group,
            membership,
            rights,
            bytes,
            unit,
            made,
            killed_before: 0,
        })
    }

    /// Whether the process has a terminal.
    pub(crate) fn has_terminal(&self) -> bool {
        self.spec.process().as_ref().and_then(Process::terminal).unwrap_or(false)
    }

    /// Whether the container has a namespace of this kind that nobody had before.
    pub(crate) fn has_new(&self, kind: LinuxNamespaceType) -> bool {
        has_new(&self.spec, kind)
    }

    /// What is known of the container so far.
    pub(crate) fn record(&self, keyring: Keyring, owner: u32) -> Record {
        let own_pid_namespace = self.has_new(LinuxNamespaceType::Pid);
        Record {
            oci_version: self.spec.version().clone(),
            id: self.id.as_str().to_owned(),
            bundle: self.bundle.clone(),
            rootfs: self.rootfs.clone(),
            annotations: self.spec.annotations().clone().unwrap_or_default().into_iter().collect(),
            created: clock::timestamp(clock::wall()),
            owner,
            init: None,
            unfinished: true,
            at_once: false,
            own_pid_namespace,
            keeps_keyring: keyring == Keyring::Inherited,
            cgroup: self.membership.clone(),
            resctrl: None,
            descriptors: Vec::new(),
        }
    }

    /// Fills the state directory and makes the groups.
    pub(crate) fn lay(&mut self, place: &Place, held: &Held, record: &mut Record) -> Result<Laid, Error> {
        let there = self.group.as_ref().map_or(Ok(false), Group::check_unused)?;
        notify::prepare(place)?;
        place.lay_config(std::mem::take(&mut self.bytes), held)?;
        self.share((place, held), record)?;
        self.killed_before = self.group.as_ref().filter(|_| there).map_or(0, Group::killed_for_memory);
        // What is there is the caller's, and stays whatever comes.
        let placeholder = match self.unit.as_ref().zip(self.group.as_ref()) {
            Some((unit, group)) => {
                self.made = self.membership.missing();
                units::start(unit, group, &self.spec)?
            }
            None => None,
        };
        let mut made: Vec<PathBuf> = self.made.paths.values().cloned().collect();
        let entry = groups::make(&self.spec, self.group.as_ref(), self.rights, &mut made);
        if self.unit.is_none() {
            self.made = self.membership.within(&made);
        }
        Ok(Laid { entry: entry?, _placeholder: placeholder })
    }

    /// Takes away what was made. A failure came before, of which the caller hears; what stays is found by
    /// `delete --force`.
    pub(crate) fn clear(&self, place: &Place, record: &Record) {
        harmless(record.resctrl.as_ref().map_or(Ok(()), resctrl::Group::remove));
        harmless(self.made.remove().and_then(|()| place.remove()));
    }

    /// Whether the init, which was alone in the group, was killed there for want of memory.
    pub(crate) fn was_out_of_memory(&self) -> bool {
        self.group.as_ref().is_some_and(|group| group.killed_for_memory() > self.killed_before)
    }

    /// Writes the record, and makes its share of cache and memory bandwidth, where it asks for one: what is made is on disk
    /// before it is there.
    fn share(&self, (place, held): (&Place, &Held), record: &mut Record) -> Result<(), Error> {
        let asked = self.spec.linux().as_ref().and_then(|linux| linux.intel_rdt().as_ref());
        let (root, id) = (Path::new(resctrl::ROOT), self.id.as_str());
        let wanted = asked.map(|asked| resctrl::Wanted::new(asked, id)).transpose().map_err(refuse)?;
        let intended = wanted.as_ref().map(|wanted| wanted.intended(root, id));
        place.write(&Record { resctrl: intended.clone(), ..record.clone() }, held)?;
        record.resctrl = wanted.map(|wanted| wanted.make(root, id)).transpose().map_err(refuse)?;
        if record.resctrl == intended { Ok(()) } else { place.write(record, held) }
    }
}

/// The path of a directory without symbolic links. The kernel says it in one call, where `canonicalize` makes one for
/// each name.
fn real(path: &Path) -> std::io::Result<PathBuf> {
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    let directory = File::options().read(true).custom_flags(flags).open(path)?;
    std::fs::read_link(format!("/proc/self/fd/{}", directory.as_raw_fd()))
}

/// Whether a container with this configuration has a namespace of a kind that nobody had before.
pub(crate) fn has_new(spec: &Spec, kind: LinuxNamespaceType) -> bool {
    let mut all = spec.linux().iter().flat_map(|linux| linux.namespaces().iter().flatten());
    all.any(|one| one.typ() == kind && is_new(one.path().as_deref()))
}

/// A namespace whose path is absent, or empty, is new.
fn is_new(path: Option<&Path>) -> bool {
    path.is_none_or(|path| path.as_os_str().is_empty())
}

/// The root directory, which must be one, reached by no symbolic link.
fn rootfs(spec: &Spec, bundle: &Path) -> Result<PathBuf, Error> {
    let root =
        spec.root().as_ref().ok_or_else(|| Error::Refused("root property must not be empty".to_owned()))?;
    let path = bundle.join(root.path());
    let plain: PathBuf = path.components().collect();
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
    let found = openat2(AT_FDCWD, &path, how).map(drop);
    match found {
        Ok(()) if !plain.components().any(|part| part == Component::ParentDir) => Ok(plain),
        Ok(()) | Err(Errno::ELOOP) => {
            Err(Error::Refused("invalid rootfs: not an absolute path, or a symlink".to_owned()))
        }
        Err(errno) => Err(Error::file("invalid rootfs:", &path)(errno.into())),
    }
}
