//! The namespaces of a container: which are new, which are joined, and in what order; namespaces(7).
//!
//! New ones come with the one `clone3` that makes the init, but for two: a cgroup namespace, whose root is the group that
//! its process is in when it is made, and a time namespace, whose offsets are set before anybody is in it.
//!
//! Joined ones are those of the sandbox, all in one `setns` on the pidfd of pause, and those given by path. The PID
//! namespace is joined by pointing the maker's children there for the time of the `clone3`; or, given by path, last of all:
//! see [`Namespaces::joins_last`].
//!
//! Where a user namespace is joined, or a new one comes together with joined others, a go-between is made first: it
//! joins with the rights that each namespace demands and then makes the init as its own sibling.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::Mode;
use oci_spec::runtime::{LinuxNamespaceType as Kind, Spec};

use super::failed::{Doing, Failed};
use super::plan::{Error, Sandbox};
use crate::sys::namespace;

/// The namespaces of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Namespaces {
    /// Made for it.
    pub(crate) new: CloneFlags,
    /// Joined, all at once, through the sandbox's pidfd.
    pub(crate) sandbox: CloneFlags,
    /// Joined by path.
    pub(crate) joined: Vec<(CloneFlags, PathBuf)>,
    /// A new time namespace, which has no flag of this type.
    pub(crate) time: bool,
    /// The mount namespace is copied from the maker's trimmed one.
    pub(crate) trimmed: bool,
    /// The PID namespace is joined last. Whoever may trace in it could make a process of all rights do his bidding, and
    /// sees the host's files through it, however well it hides. So what makes the container stays in the maker's PID
    /// namespace, and the init is its sibling, made when it has no more rights and descriptors than the container.
    pub(crate) joins_last: bool,
    /// The maker may not return to its own PID namespace once its children are made in another: that takes the rights
    /// of the host's root.
    pub(crate) no_return: bool,
}

/// `CLONE_NEWTIME`, which nix does not name.
pub(crate) const TIME: CloneFlags = CloneFlags::from_bits_retain(libc::CLONE_NEWTIME);

/// What is shown for each kind.
const NAMES: [(CloneFlags, &str); 8] = [
    (CloneFlags::CLONE_NEWUSER, "user"),
    (CloneFlags::CLONE_NEWPID, "pid"),
    (CloneFlags::CLONE_NEWNET, "network"),
    (CloneFlags::CLONE_NEWIPC, "ipc"),
    (CloneFlags::CLONE_NEWUTS, "uts"),
    (CloneFlags::CLONE_NEWNS, "mount"),
    (CloneFlags::CLONE_NEWCGROUP, "cgroup"),
    (TIME, "time"),
];

/// The words for a set of namespaces.
pub(crate) fn names(flags: CloneFlags) -> String {
    let words: Vec<&str> =
        NAMES.iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, name)| *name).collect();
    words.join(", ")
}

impl Namespaces {
    /// Reads them from a configuration.
    pub(crate) fn new(spec: &Spec, sandbox: Option<Sandbox>) -> Result<Self, Error> {
        let mut found = Self {
            new: CloneFlags::empty(),
            sandbox: CloneFlags::empty(),
            joined: Vec::new(),
            time: false,
            trimmed: false,
            joins_last: false,
            no_return: false,
        };
        let listed = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_deref());
        for one in listed.unwrap_or_default() {
            let flag = flag(one.typ());
            if found.all().contains(flag) {
                return Err(Error::Invalid(format!("malformed spec file: duplicated ns {:?}", names(flag))));
            }
            match one.path() {
                Some(path) if !path.as_os_str().is_empty() => {
                    if !path.is_absolute() {
                        let text = format!("namespace path {} is not absolute", path.display());
                        return Err(Error::Invalid(text));
                    }
                    found.joined.push((flag, path.clone()));
                }
                Some(_) | None if sandbox.is_some_and(|sandbox| sandbox.has(one.typ())) => {
                    found.sandbox |= flag;
                }
                Some(_) | None if one.typ() == Kind::Time => found.time = true,
                Some(_) | None => found.new |= flag,
            }
        }
        Ok(found)
    }

    /// Every namespace that is not the maker's.
    pub(crate) fn all(&self) -> CloneFlags {
        let time = if self.time { TIME } else { CloneFlags::empty() };
        self.joined.iter().fold(self.new | self.sandbox | time, |all, (flag, _)| all | *flag)
    }

    /// Those joined by path.
    pub(crate) fn by_path(&self) -> CloneFlags {
        self.joined.iter().fold(CloneFlags::empty(), |all, (flag, _)| all | *flag)
    }

    /// What `clone3` makes.
    pub(crate) fn cloned(&self) -> CloneFlags {
        let later = if self.trimmed { CloneFlags::CLONE_NEWNS } else { CloneFlags::empty() };
        self.new - CloneFlags::CLONE_NEWCGROUP - later
    }

    /// Has the mount namespace copied from a trimmed one, where that is possible: joining it takes all rights of the host.
    pub(crate) fn trim(&mut self) {
        let all = self.all();
        self.trimmed = self.new.contains(CloneFlags::CLONE_NEWNS) && !all.contains(CloneFlags::CLONE_NEWUSER);
    }

    /// Whether a process between maker and init has to join before the init is made.
    pub(crate) fn needs_between(&self) -> bool {
        let joins = !self.sandbox.is_empty() || !self.joined.is_empty();
        self.by_path().contains(CloneFlags::CLONE_NEWUSER)
            || self.by_path().contains(CloneFlags::CLONE_NEWPID) && self.no_return && !self.joins_last
            || self.new.contains(CloneFlags::CLONE_NEWUSER) && joins
    }
}

impl Sandbox {
    fn has(self, kind: Kind) -> bool {
        match kind {
            Kind::Network | Kind::Ipc | Kind::Uts => true,
            Kind::Pid => self.share_pid,
            Kind::Mount | Kind::Cgroup | Kind::User | Kind::Time => false,
        }
    }
}

fn flag(kind: Kind) -> CloneFlags {
    match kind {
        Kind::Mount => CloneFlags::CLONE_NEWNS,
        Kind::Cgroup => CloneFlags::CLONE_NEWCGROUP,
        Kind::Uts => CloneFlags::CLONE_NEWUTS,
        Kind::Ipc => CloneFlags::CLONE_NEWIPC,
        Kind::User => CloneFlags::CLONE_NEWUSER,
        Kind::Pid => CloneFlags::CLONE_NEWPID,
        Kind::Network => CloneFlags::CLONE_NEWNET,
        Kind::Time => TIME,
    }
}

/// Opens a namespace by path; EINVAL when it is of another kind, or no namespace at all.
pub(crate) fn open_checked(path: &Path, flag: CloneFlags) -> nix::Result<OwnedFd> {
    // O_NONBLOCK: what is no namespace may be a FIFO.
    let file = open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK, Mode::empty())?;
    match namespace::kind(file.as_fd()) {
        Ok(kind) if kind == flag.bits() => Ok(file),
        Ok(_) | Err(Errno::ENOTTY) => Err(Errno::EINVAL),
        Err(errno) => Err(errno),
    }
}

/// What a child joins: numbers of descriptors, and what they are.
#[derive(Debug, Default)]
pub(crate) struct Joins {
    /// The sandbox's pidfd and what of it.
    pub(crate) sandbox: Option<(RawFd, CloneFlags)>,
    /// By path, without a PID namespace, which is joined around the clone.
    pub(crate) opened: Vec<(CloneFlags, OwnedFd)>,
}

impl Joins {
    /// The descriptors to keep.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = RawFd> {
        let opened = self.opened.iter().map(|(_, file)| file.as_raw_fd());
        opened.chain(self.sandbox.map(|(pidfd, _)| pidfd))
    }

    /// Joins them all, in an order that works for every combination: what the present rights allow, the user namespace,
    /// then the rest. Allocates nothing.
    pub(crate) fn join(&self) -> Result<(), Failed> {
        let failed = Doing::Namespace.failed();
        let user = |flag: CloneFlags| flag.contains(CloneFlags::CLONE_NEWUSER);
        let has_user = self.opened.iter().any(|(flag, _)| user(*flag));
        if let Some((pidfd, flags)) = self.sandbox {
            namespace::join(pidfd, flags.bits()).map_err(&failed)?;
        }
        let mut late = 0_u32;
        for (index, (flag, file)) in self.opened.iter().enumerate().filter(|(_, (flag, _))| !user(*flag)) {
            match setns(file, *flag) {
                Err(Errno::EPERM) if has_user => late |= 1 << index,
                result => result.map_err(&failed)?,
            }
        }
        for (_, file) in self.opened.iter().filter(|(flag, _)| user(*flag)) {
            setns(file, CloneFlags::CLONE_NEWUSER).map_err(&failed)?;
            super::user::become_root().map_err(&failed)?;
        }
        let again = |(index, _): &(usize, &(CloneFlags, OwnedFd))| late & 1 << index != 0;
        for (_, (flag, file)) in self.opened.iter().enumerate().filter(again) {
            setns(file, *flag).map_err(&failed)?;
        }
        Ok(())
    }
}

/// Puts this process, and only it, into a new time namespace with these offsets. Allocates nothing.
pub(crate) fn enter_new_time(procfs: BorrowedFd<'_>, offsets: &[u8]) -> Result<(), Failed> {
    nix::sched::unshare(TIME).map_err(Doing::Namespace.failed())?;
    if !offsets.is_empty() {
        let file = super::procfs::open_below(procfs, c"self/timens_offsets", OFlag::O_WRONLY)
            .map_err(Doing::Write.failed())?;
        nix::unistd::write(&file, offsets).map_err(Doing::Write.failed())?;
    }
    let own = super::procfs::open_namespace(procfs, c"self/ns/time_for_children")
        .map_err(Doing::Namespace.failed())?;
    setns(own, TIME).map_err(Doing::Namespace.failed())
}

/// Points the children of this process to a PID namespace for the time of `make`.
pub(crate) fn with_children_in<T>(
    there: BorrowedFd<'_>,
    make: impl FnOnce() -> nix::Result<T>,
) -> nix::Result<T> {
    let own = File::open("/proc/self/ns/pid")
        .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::ENOENT)))?;
    setns(there, CloneFlags::CLONE_NEWPID)?;
    let made = make();
    // Were this to fail, every further child would land in the container: better no maker than that.
    setns(own, CloneFlags::CLONE_NEWPID).expect("a process may always return to its own PID namespace");
    made
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::LinuxNamespaceBuilder;

    use super::*;

    fn spec(listed: &[(Kind, Option<&str>)]) -> Spec {
        let namespaces = listed.iter().map(|(kind, path)| {
            let builder = LinuxNamespaceBuilder::default().typ(*kind);
            let builder = match path {
                Some(path) => builder.path(path),
                None => builder,
            };
            builder.build().unwrap()
        });
        let mut spec = Spec::default();
        let namespaces = namespaces.collect();
        spec.linux_mut().as_mut().unwrap().set_namespaces(Some(namespaces));
        spec
    }

    #[test]
    fn a_maker_that_could_not_return_has_another_process_join() {
        let mut found =
            Namespaces::new(&spec(&[(Kind::Pid, Some("/x")), (Kind::Mount, None)]), None).unwrap();
        assert!(!found.needs_between());
        found.no_return = true;
        assert!(found.needs_between());
        let own = Namespaces::new(&spec(&[(Kind::Pid, None)]), None).unwrap();
        assert!(!Namespaces { no_return: true, ..own }.needs_between());
    }

    #[test]
    fn a_sandbox_takes_the_place_of_namespaces_without_a_path() {
        let spec =
            spec(&[(Kind::Network, None), (Kind::Pid, None), (Kind::Mount, None), (Kind::Ipc, Some("/x"))]);
        let found = Namespaces::new(&spec, Some(Sandbox { share_pid: false })).unwrap();
        assert_eq!(found.sandbox, CloneFlags::CLONE_NEWNET);
        assert_eq!(found.new, CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS);
        assert_eq!(found.joined, [(CloneFlags::CLONE_NEWIPC, PathBuf::from("/x"))]);
        let shared = Namespaces::new(&spec, Some(Sandbox { share_pid: true })).unwrap();
        assert_eq!(names(shared.sandbox), "pid, network");
    }

    #[test]
    fn a_namespace_listed_twice_is_refused() {
        assert!(Namespaces::new(&spec(&[(Kind::Uts, None), (Kind::Uts, Some("/x"))]), None).is_err());
        assert!(Namespaces::new(&spec(&[(Kind::Uts, Some("x"))]), None).is_err());
    }

    #[test]
    fn a_file_that_is_no_namespace_of_the_kind_is_refused() {
        let open = |path: &str, flag| open_checked(Path::new(path), flag).map(drop);
        assert_eq!(open("/proc/self/ns/net", CloneFlags::CLONE_NEWNET), Ok(()));
        assert_eq!(open("/proc/self/ns/net", CloneFlags::CLONE_NEWUTS), Err(Errno::EINVAL));
        assert_eq!(open("/dev/null", CloneFlags::CLONE_NEWUTS), Err(Errno::EINVAL));
    }
}
