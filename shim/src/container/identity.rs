//! Who a container's processes are: everything of `process` in `config.json` that its init and every
//! process exec'd in it share. Made once per container, kept by the shim.

use std::collections::HashSet;
use std::ffi::CString;
use std::io::Read;
use std::path::Path;
use std::rc::Rc;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use oci_spec::runtime::{
    Capability, LinuxCapabilities, LinuxNamespaceType, LinuxSeccompAction, LinuxSyscall, Mount, PosixRlimit,
    PosixRlimitType, Spec,
};

use super::label::Label;
use super::scheduling::Scheduling;
use super::seccomp::aside::KnownFilter;
use super::seccomp::{self, Cache, Filter};
use crate::guard::{self, Guard};
use crate::sys::capability::{self, Sets};

/// What most of them are smaller than, so that one read is enough.
const PASSWD_USUAL: usize = 4096;
/// Largest `/etc/passwd` that is read for a home directory.
const PASSWD_LIMIT: u64 = 1 << 20;

/// The kernel's number of `CAP_SYS_PTRACE`.
const SYS_PTRACE: u32 = 19;

/// Why `process` of a `config.json` cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A required object is missing.
    #[error("config.json: {0} is missing")]
    Missing(&'static str),
    /// Of an ordinary user, or where the user namespace denies setgroups(2); as runc has it.
    #[error("cannot set any additional groups in a rootless container")]
    RootlessGroups,
    /// A value that means nothing; runc's words.
    #[error("{0}")]
    Invalid(String),
    /// A string that the kernel cannot take.
    #[error("config.json: process.{field} has a null byte in {value:?}")]
    NullByte {
        /// Where.
        field: &'static str,
        /// The value.
        value: String,
    },
    /// A variable without a value.
    #[error("config.json: process.env has {0:?}, which lacks an equals sign")]
    Variable(String),
    /// The working directory is relative.
    #[error("config.json: process.cwd {0:?} is not absolute")]
    Relative(String),
    /// A limit is given twice.
    #[error("config.json: process.rlimits has {0} twice")]
    DuplicateLimit(PosixRlimitType),
    /// The seccomp profile cannot be compiled.
    #[error("config.json")]
    Seccomp(#[source] seccomp::Error),
    /// Somebody else would have to answer.
    #[error("config.json: linux.seccomp: SCMP_ACT_NOTIFY needs listenerPath")]
    Listener,
    /// The listener is handed over by that call, which would wait for who is to get it.
    #[error(
        "config.json: linux.seccomp: SCMP_ACT_NOTIFY cannot be used for sendmsg, by which the listener is sent"
    )]
    NotifySend,
    /// The kernel did not tell our own capabilities.
    #[error("read the capabilities of this process")]
    Capabilities(#[source] nix::Error),
}

/// One resource limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Limit {
    /// Its name, for messages.
    pub(crate) kind: PosixRlimitType,
    /// The kernel's number.
    pub(crate) resource: u32,
    /// Soft limit.
    pub(crate) soft: u64,
    /// Hard limit.
    pub(crate) hard: u64,
}

/// Everything that the processes of one container have in common.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) limits: Vec<Limit>,
    pub(crate) umask: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Groups,
    pub(crate) capabilities: Sets,
    pub(crate) no_new_privileges: bool,
    /// The compiled filter.
    pub(crate) filter: Option<Rc<Filter>>,
    pub(crate) directory: CString,
    /// `NAME=value`, one per name, with `HOME`.
    pub(crate) environment: Vec<String>,
    /// Written by every exec'd process for itself; none leaves the maker's.
    pub(crate) oom_score_adj: Option<i32>,
    pub(crate) scheduling: Scheduling,
    pub(crate) label: Label,
}

/// The supplementary groups of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Groups {
    /// These and no others.
    Listed(Vec<u32>),
    /// The maker's: the kernel lets nobody change them in a user namespace with an unprivileged map.
    Kept,
}

impl Identity {
    /// Reads it from a configuration whose root file system is mounted at `rootfs`.
    pub(crate) fn new(spec: &Spec, rootfs: &Path, oom_score_adj: Option<i32>) -> Result<Self, Error> {
        Self::cached(spec, rootfs, oom_score_adj, (&KnownFilter::Nothing, &mut Cache::new()))
    }

    /// The same where something is known of its filter, with those that are kept.
    pub(crate) fn cached(
        spec: &Spec,
        rootfs: &Path,
        oom_score_adj: Option<i32>,
        (known, filters): (&KnownFilter, &mut Cache),
    ) -> Result<Self, Error> {
        let filter = filters.filter(spec, known).map_err(Error::Seccomp)?;
        if let Some(filter) = &filter {
            check_listener(spec, filter)?;
        }
        let process = spec.process().as_ref().ok_or(Error::Missing("process"))?;
        let user = process.user();
        let directory = text("cwd", &process.cwd().to_string_lossy())?;
        if !process.cwd().is_absolute() {
            return Err(Error::Relative(process.cwd().display().to_string()));
        }
        Ok(Self {
            limits: limits(process.rlimits().as_deref().unwrap_or_default())?,
            umask: user.umask().unwrap_or(0o022),
            uid: user.uid(),
            gid: user.gid(),
            groups: Groups::Listed(user.additional_gids().clone().unwrap_or_default()),
            capabilities: sets(process.capabilities().as_ref(), available(spec)?),
            no_new_privileges: process.no_new_privileges().unwrap_or(false),
            filter,
            directory,
            environment: environment(spec, rootfs, user.uid())?,
            oom_score_adj,
            scheduling: Scheduling::new(spec)?,
            label: Label::new(process)?,
        })
    }

    /// For a maker that may not change supplementary groups.
    pub(crate) fn keep_groups(&mut self) -> Result<(), Error> {
        match std::mem::replace(&mut self.groups, Groups::Kept) {
            Groups::Listed(groups) if !groups.is_empty() => Err(Error::RootlessGroups),
            Groups::Listed(_) | Groups::Kept => Ok(()),
        }
    }

    /// Of a container whose configuration cannot be read: nothing is executed with it, and nothing is ruled out.
    pub(crate) fn unknown() -> Self {
        let none = Sets::default();
        Self {
            limits: Vec::new(),
            umask: 0o022,
            uid: 0,
            gid: 0,
            groups: Groups::Listed(Vec::new()),
            capabilities: Sets { bounding: u64::MAX, ..none },
            no_new_privileges: true,
            filter: None,
            directory: c"/".into(),
            environment: Vec::new(),
            oom_score_adj: None,
            scheduling: Scheduling::default(),
            label: Label::default(),
        }
    }

    /// Whether a process that becomes this writes to files of its own in procfs.
    pub(crate) fn writes_procfs(&self) -> bool {
        self.label.is_some() || self.oom_score_adj.is_some()
    }

    /// Whether its processes can come by `CAP_SYS_PTRACE`, with which they may look into every process
    /// that they see.
    pub(crate) fn may_trace(&self) -> bool {
        let Sets { bounding, effective, permitted, inheritable, ambient } = self.capabilities;
        (bounding | effective | permitted | inheritable | ambient) & 1 << SYS_PTRACE != 0
    }
}

/// A C string of `value`.
pub(crate) fn text(field: &'static str, value: &str) -> Result<CString, Error> {
    CString::new(value).map_err(|_| Error::NullByte { field, value: value.to_owned() })
}

/// What has to hold where somebody else answers; a filter without that may have come without its profile.
fn check_listener(spec: &Spec, filter: &Filter) -> Result<(), Error> {
    let Some(profile) = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref()) else {
        return Ok(());
    };
    let has_listener = profile.listener_path().as_ref().is_some_and(|path| !path.as_os_str().is_empty());
    if filter.needs_listener() && !has_listener {
        return Err(Error::Listener);
    }
    let notifies_send = |entry: &LinuxSyscall| {
        entry.action() == LinuxSeccompAction::ScmpActNotify
            && entry.names().iter().any(|name| name == "sendmsg")
    };
    if profile.syscalls().iter().flatten().any(notifies_send) {
        return Err(Error::NotifySend);
    }
    Ok(())
}

fn limits(listed: &[PosixRlimit]) -> Result<Vec<Limit>, Error> {
    let mut limits: Vec<Limit> = Vec::with_capacity(listed.len());
    for one in listed {
        if limits.iter().any(|limit| limit.kind == one.typ()) {
            return Err(Error::DuplicateLimit(one.typ()));
        }
        limits.push(Limit {
            kind: one.typ(),
            resource: resource(one.typ()),
            soft: one.soft(),
            hard: one.hard(),
        });
    }
    Ok(limits)
}

fn resource(kind: PosixRlimitType) -> u32 {
    match kind {
        PosixRlimitType::RlimitCpu => libc::RLIMIT_CPU,
        PosixRlimitType::RlimitFsize => libc::RLIMIT_FSIZE,
        PosixRlimitType::RlimitData => libc::RLIMIT_DATA,
        PosixRlimitType::RlimitStack => libc::RLIMIT_STACK,
        PosixRlimitType::RlimitCore => libc::RLIMIT_CORE,
        PosixRlimitType::RlimitRss => libc::RLIMIT_RSS,
        PosixRlimitType::RlimitNproc => libc::RLIMIT_NPROC,
        PosixRlimitType::RlimitNofile => libc::RLIMIT_NOFILE,
        PosixRlimitType::RlimitMemlock => libc::RLIMIT_MEMLOCK,
        PosixRlimitType::RlimitAs => libc::RLIMIT_AS,
        PosixRlimitType::RlimitLocks => libc::RLIMIT_LOCKS,
        PosixRlimitType::RlimitSigpending => libc::RLIMIT_SIGPENDING,
        PosixRlimitType::RlimitMsgqueue => libc::RLIMIT_MSGQUEUE,
        PosixRlimitType::RlimitNice => libc::RLIMIT_NICE,
        PosixRlimitType::RlimitRtprio => libc::RLIMIT_RTPRIO,
        PosixRlimitType::RlimitRttime => libc::RLIMIT_RTTIME,
    }
}

/// What is listed and can be granted: runtime-spec wants a warning, not an error, for a capability
/// that the host cannot give. An absent object grants nothing.
fn sets(listed: Option<&LinuxCapabilities>, available: u64) -> Sets {
    let Some(listed) = listed else {
        return Sets::default();
    };
    let bits = |set: &Option<HashSet<Capability>>| mask(set.iter().flatten()) & available;
    let permitted = bits(listed.permitted());
    let inheritable = if guard::is_off(Guard::Inheritable) { permitted } else { bits(listed.inheritable()) };
    Sets {
        bounding: bits(listed.bounding()),
        // The kernel refuses an effective or ambient bit that is not permitted (and inheritable).
        effective: bits(listed.effective()) & permitted,
        permitted,
        inheritable,
        ambient: bits(listed.ambient()) & permitted & inheritable,
    }
}

/// What can be granted: our own capabilities, and in another user namespace all that the kernel has.
fn available(spec: &Spec) -> Result<u64, Error> {
    let linux = spec.linux().as_ref();
    let namespaces = linux.and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
    if !namespaces.iter().any(|one| one.typ() == LinuxNamespaceType::User) {
        return capability::permitted().map_err(Error::Capabilities);
    }
    let last = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap");
    let last = last.ok().and_then(|text| text.trim().parse::<u32>().ok()).filter(|last| *last < 63);
    Ok(last.map_or(u64::MAX, |last| (1 << (last + 1)) - 1))
}

fn mask<'a>(listed: impl Iterator<Item = &'a Capability>) -> u64 {
    listed.filter_map(|one| super::capability::number(*one)).fold(0, |mask, number| mask | 1 << number)
}

fn environment(spec: &Spec, rootfs: &Path, uid: u32) -> Result<Vec<String>, Error> {
    let listed = spec.process().as_ref().and_then(|process| process.env().as_deref());
    let mut environment = merge(listed.unwrap_or_default(), &[])?;
    let has_home = environment.iter().any(|one| one.starts_with("HOME=") && one.len() > "HOME=".len());
    if !has_home {
        environment.retain(|one| !one.starts_with("HOME="));
        environment.push(format!("HOME={}", home(spec, rootfs, uid).unwrap_or_else(|| "/".to_owned())));
    }
    Ok(environment)
}

/// The variables of both lists; of several with one name the last counts, at the place of the first.
pub(crate) fn merge(base: &[String], more: &[String]) -> Result<Vec<String>, Error> {
    let mut merged: Vec<String> = Vec::with_capacity(base.len() + more.len());
    for one in base.iter().chain(more) {
        let (name, _) = one.split_once('=').ok_or_else(|| Error::Variable(one.clone()))?;
        let same = |known: &&mut String| known.split_once('=').is_some_and(|(known, _)| known == name);
        match merged.iter_mut().find(same) {
            Some(known) => known.clone_from(one),
            None => merged.push(one.clone()),
        }
    }
    Ok(merged)
}

/// The home directory of `uid` in the container's own `/etc/passwd`: asking the C library would load
/// code of the image into this process.
fn home(spec: &Spec, rootfs: &Path, uid: u32) -> Option<String> {
    let file = passwd(spec, rootfs)?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut passwd = Vec::with_capacity(PASSWD_USUAL);
    file.take(PASSWD_LIMIT).read_to_end(&mut passwd).ok()?;
    find_home(&String::from_utf8_lossy(&passwd), uid)
}

/// The file as the container is to have it: what is mounted last over it or its directory counts.
fn passwd(spec: &Spec, rootfs: &Path) -> Option<std::fs::File> {
    let (directory, whole) = (Path::new("/etc"), Path::new("/etc/passwd"));
    let covers = |mount: &&Mount| [directory, whole].contains(&mount.destination().as_path());
    let Some(mount) = spec.mounts().iter().flatten().rfind(covers) else {
        return open_inside(rootfs, "etc/passwd");
    };
    let is_bind = |option: &String| matches!(option.as_str(), "bind" | "rbind");
    let binds = mount.typ().as_deref() == Some("bind") || mount.options().iter().flatten().any(is_bind);
    let source = mount.source().as_deref().filter(|source| binds && source.is_absolute())?;
    if mount.destination() == whole {
        // As the mount itself takes it: whatever is there.
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        return Some(nix::fcntl::open(source, flags, nix::sys::stat::Mode::empty()).ok()?.into());
    }
    open_inside(source, "passwd")
}

/// Opens a file below a directory, out of which no symbolic link leads.
fn open_inside(root: &Path, path: &str) -> Option<std::fs::File> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_PATH | OFlag::O_CLOEXEC;
    let root = nix::fcntl::open(root, flags, nix::sys::stat::Mode::empty()).ok()?;
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    Some(openat2(&root, path, how).ok()?.into())
}

fn find_home(passwd: &str, uid: u32) -> Option<String> {
    passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.get(2).and_then(|field| field.parse().ok()) == Some(uid))
        .and_then(|fields| fields.get(5).map(|home| (*home).to_owned()))
        .filter(|home| home.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|one| (*one).to_owned()).collect()
    }

    #[test]
    fn the_last_variable_of_a_name_counts() {
        let merged = merge(&strings(&["A=1", "B=2", "A=3"]), &strings(&["B=", "C=4"])).unwrap();
        assert_eq!(merged, ["A=3", "B=", "C=4"]);
        assert!(matches!(merge(&strings(&["A"]), &[]), Err(Error::Variable(_))));
    }

    #[test]
    fn home_comes_from_the_containers_passwd() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nnobody:x:99:99::/:/bin/false\nbroken\n";
        assert_eq!(find_home(passwd, 0).as_deref(), Some("/root"));
        assert_eq!(find_home(passwd, 99).as_deref(), Some("/"));
        assert_eq!(find_home(passwd, 7), None);
    }

    #[test]
    fn every_known_capability_has_its_kernel_number() {
        assert_eq!(super::super::capability::number(Capability::Chown), Some(0));
        assert_eq!(super::super::capability::number(Capability::SysAdmin), Some(21));
        assert_eq!(super::super::capability::number(Capability::CheckpointRestore), Some(40));
        assert_eq!(super::super::capability::number(Capability::Bpf), Some(39));
    }

    #[test]
    fn no_capabilities_object_grants_nothing() {
        assert_eq!(sets(None, u64::MAX), Sets::default());
    }
}
