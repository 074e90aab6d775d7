//! User namespaces for id-mapped mounts: the container's own that is joined by path, or one made for its mapping
//! alone and held by nothing but the descriptor. Only the maker does this.

use std::ffi::CString;
use std::fmt::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::CloneFlags;
use nix::sys::stat::Mode;
use oci_spec::runtime::LinuxIdMapping;

use crate::container::engine::procfs;
use crate::sys::{pidfd, process};

/// What a mount's ids are mapped by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum IdMap {
    /// The namespace at this path.
    Joined(PathBuf),
    /// These mappings, as the kernel reads them.
    Made {
        /// For `uid_map`.
        users: String,
        /// For `gid_map`.
        groups: String,
    },
}

impl IdMap {
    /// A mapping by its parts.
    pub(super) fn made(users: &[LinuxIdMapping], groups: &[LinuxIdMapping]) -> Self {
        Self::Made { users: lines(users), groups: lines(groups) }
    }

    /// Reads crun's notation: `uids=0-1000-10#20-2000-10;gids=0-1000-10`, as inside, outside, count.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (mut users, mut groups) = (None, None);
        for part in text.split(';').filter(|part| !part.is_empty()) {
            let (key, ranges) = part.split_once('=')?;
            let map = ranges.split('#').map(range).collect::<Option<String>>()?;
            match key {
                "uids" => users = Some(map),
                "gids" => groups = Some(map),
                _ => return None,
            }
        }
        Some(Self::Made { users: users?, groups: groups? })
    }

    /// Opens the namespace.
    pub(super) fn open(&self) -> nix::Result<OwnedFd> {
        match self {
            Self::Joined(path) => {
                nix::fcntl::open(path.as_path(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
            }
            Self::Made { users, groups } => make(users, groups),
        }
    }
}

fn lines(mappings: &[LinuxIdMapping]) -> String {
    mappings.iter().fold(String::new(), |mut all, one| {
        // Writing to a String cannot fail.
        crate::harmless(writeln!(all, "{} {} {}", one.container_id(), one.host_id(), one.size()));
        all
    })
}

fn range(text: &str) -> Option<String> {
    let numbers: Vec<u32> = text.split('-').map(|number| number.parse().ok()).collect::<Option<_>>()?;
    match numbers[..] {
        [inside, outside, count] => Some(format!("{inside} {outside} {count}\n")),
        _ => None,
    }
}

/// A process that does nothing lends its new namespace, and ends.
fn make(users: &str, groups: &str) -> nix::Result<OwnedFd> {
    let child = process::spawn(CloneFlags::CLONE_NEWUSER, None, &(), |()| {
        loop {
            nix::unistd::pause();
        }
    })?;
    let opened = map(child.pid, users, groups);
    pidfd::signal(std::os::fd::AsFd::as_fd(&child.pidfd), libc::SIGKILL)?;
    nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(child.pid), None)?;
    opened
}

fn map(pid: i32, users: &str, groups: &str) -> nix::Result<OwnedFd> {
    let procfs = procfs::root()?;
    let file = |name: &str| CString::new(format!("{pid}/{name}")).map_err(|_| Errno::EINVAL);
    for (name, text) in [("uid_map", users), ("gid_map", groups)] {
        procfs::write(procfs.as_fd(), &file(name)?, text.as_bytes())?;
    }
    procfs::open_namespace(procfs.as_fd(), &file("ns/user")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_in_an_option_has_users_and_groups() {
        let map = IdMap::parse("uids=0-1000-1#5-2000-10;gids=0-7-1").unwrap();
        assert_eq!(
            map,
            IdMap::Made { users: "0 1000 1\n5 2000 10\n".to_owned(), groups: "0 7 1\n".to_owned() }
        );
        for wrong in ["", "uids=0-1000-1", "uids=0-1;gids=0-7-1", "x=0-1-1", "uids=a-b-c;gids=0-7-1"] {
            assert_eq!(IdMap::parse(wrong), None, "{wrong}");
        }
    }
}
