//! A new user namespace: its maps are written by the maker, while the init waits; user_namespaces(7).

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::Command;

use nix::errno::Errno;
use nix::unistd::{Gid, Uid, setresgid, setresuid};
use oci_spec::runtime::LinuxIdMapping;

use super::plan::MakerRights;
use super::procfs;

/// The maps of a new user namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Maps {
    pub(crate) uids: Vec<Range>,
    pub(crate) gids: Vec<Range>,
}

/// One line of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    /// First id inside.
    pub(crate) inside: u32,
    /// First id outside.
    pub(crate) outside: u32,
    /// How many.
    pub(crate) size: u32,
}

/// Why maps could not be written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) what: String,
    pub(crate) errno: Option<Errno>,
}

impl Failure {
    fn of(what: String, errno: Errno) -> Self {
        Self { what, errno: Some(errno) }
    }
}

impl Maps {
    /// Reads them.
    pub(crate) fn new(uids: &[LinuxIdMapping], gids: &[LinuxIdMapping]) -> Self {
        let range = |one: &LinuxIdMapping| Range {
            inside: one.container_id(),
            outside: one.host_id(),
            size: one.size(),
        };
        Self { uids: uids.iter().map(range).collect(), gids: gids.iter().map(range).collect() }
    }

    /// Writes them for the child `pid`.
    pub(crate) fn write(&self, pid: i32, rights: MakerRights) -> Result<(), Failure> {
        let procfs = procfs::root().map_err(|errno| Failure::of("open /proc".to_owned(), errno))?;
        let write = |file: &str, value: &str| write(procfs.as_fd(), &format!("{pid}/{file}"), value);
        if rights != MakerRights::Rootless {
            write("gid_map", &text(&self.gids))?;
            return write("uid_map", &text(&self.uids));
        }
        if self.is_own(&self.gids) {
            // Without it an unprivileged process may map no group.
            write("setgroups", "deny")?;
            write("gid_map", &text(&self.gids))?;
        } else {
            help("newgidmap", pid, &self.gids)?;
        }
        if self.is_own(&self.uids) {
            write("uid_map", &text(&self.uids))
        } else {
            help("newuidmap", pid, &self.uids)
        }
    }

    fn is_own(&self, ranges: &[Range]) -> bool {
        let own = if std::ptr::eq(ranges, self.gids.as_slice()) {
            Gid::effective().as_raw()
        } else {
            Uid::effective().as_raw()
        };
        matches!(ranges, [one] if one.size == 1 && one.outside == own)
    }
}

/// Whether the kernel refuses `setgroups` inside.
pub(super) fn denies_groups(maps: &Maps, rights: MakerRights) -> bool {
    rights == MakerRights::Rootless && matches!(maps.gids.as_slice(), [one] if one.size == 1)
}

fn text(ranges: &[Range]) -> String {
    ranges.iter().map(|one| format!("{} {} {}\n", one.inside, one.outside, one.size)).collect()
}

fn write(procfs: BorrowedFd<'_>, file: &str, value: &str) -> Result<(), Failure> {
    let failed = |errno| Failure::of(format!("write {:?} to /proc/{file}", value.trim_end()), errno);
    let name = CString::new(file).map_err(|_| failed(Errno::EINVAL))?;
    procfs::write(procfs, &name, value.as_bytes()).map_err(failed)
}

/// Lets the setuid programs of shadow-utils write ranges that `/etc/subuid` grants.
fn help(program: &str, pid: i32, ranges: &[Range]) -> Result<(), Failure> {
    let numbers = ranges.iter().flat_map(|one| [one.inside, one.outside, one.size]);
    let output =
        Command::new(program).arg(pid.to_string()).args(numbers.map(|number| number.to_string())).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(Failure { what: format!("{program}: {said}"), errno: None })
        }
        Err(error) => {
            Err(Failure { what: format!("run {program}"), errno: error.raw_os_error().map(Errno::from_raw) })
        }
    }
}

/// Becomes root of the user namespace that this process is in. Allocates nothing.
pub(crate) fn become_root() -> nix::Result<()> {
    setresgid(Gid::from_raw(0), Gid::from_raw(0), Gid::from_raw(0))?;
    setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_written_as_the_kernel_reads_them() {
        let ranges =
            [Range { inside: 0, outside: 1000, size: 1 }, Range { inside: 1, outside: 100_000, size: 10 }];
        assert_eq!(text(&ranges), "0 1000 1\n1 100000 10\n");
    }
}
