//! Files of procfs, and what `/proc/<pid>/stat` tells about a process that is not our child; proc(5).

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::sys::pidfd;
use crate::wire::Exit;

/// One line of `/proc/<pid>/stat`, as far as it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    is_zombie: bool,
    start_time: u64,
    exit_code: i32,
}

fn stat(pid: i32) -> Option<Stat> {
    parse(&record(format!("/proc/{pid}/stat")).ok()?)
}

/// A file whose size is not known before it is read, as none of procfs is, in as few calls as that takes.
pub(crate) fn text(path: impl AsRef<Path>) -> io::Result<String> {
    read(path.as_ref(), |_| false)
}

/// The same for a file that the kernel writes as one record: `stat`, `status` and `cgroup` of a process, not what has a line
/// for each of something. What is less than was asked for is all of it (`seq_read_iter` in the kernel).
pub(crate) fn record(path: impl AsRef<Path>) -> io::Result<String> {
    read(path.as_ref(), |room| room > 0)
}

fn read(path: &Path, is_whole: impl Fn(usize) -> bool) -> io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let (mut bytes, mut length) = (vec![0; 4096], 0);
    loop {
        match file.read(bytes.get_mut(length..).unwrap_or_default())? {
            0 => break,
            read => length += read,
        }
        if is_whole(bytes.len() - length) {
            break;
        }
        if length == bytes.len() {
            bytes.resize(length * 2, 0);
        }
    }
    bytes.truncate(length);
    String::from_utf8(bytes).map_err(|_| io::ErrorKind::InvalidData.into())
}

fn parse(line: &str) -> Option<Stat> {
    // The name may hold blanks and parentheses: fields are counted from its end.
    let fields: Vec<&str> = line.rsplit_once(") ")?.1.split_whitespace().collect();
    Some(Stat {
        is_zombie: matches!(*fields.first()?, "Z" | "X"),
        start_time: fields.get(19)?.parse().ok()?,
        exit_code: fields.get(49)?.parse().ok()?,
    })
}

/// Whether the process that `pid` and `start_time` name exists and has not ended.
pub(crate) fn lives(pid: i32, start_time: u64) -> bool {
    stat(pid).is_some_and(|stat| !stat.is_zombie && stat.start_time == start_time)
}

/// When a process started, in clock ticks since boot: with its pid this names it for good.
pub(crate) fn start_time(pid: i32) -> Option<u64> {
    stat(pid).map(|stat| stat.start_time)
}

/// When this process started. `pid` is what its maker knows it as; none where `/proc` calls it something else.
pub(crate) fn own_start_time(pid: i32) -> Option<u64> {
    let line = record("/proc/self/stat").ok()?;
    let is_ours = line.split_once(' ').is_some_and(|(name, _)| name.parse() == Ok(pid));
    parse(&line).filter(|_| is_ours).map(|stat| stat.start_time)
}

/// A descriptor of the process that `pid` and `start_time` name, if it still exists, be it as a zombie.
pub(crate) fn open(pid: i32, start_time: u64) -> Option<OwnedFd> {
    let descriptor = pidfd::open(pid).ok()?;
    // Looked at after the descriptor was opened, so the pid cannot have changed hands between.
    (self::start_time(pid) == Some(start_time)).then_some(descriptor)
}

/// Whether the process ended.
pub(crate) fn has_ended(descriptor: &OwnedFd) -> bool {
    wait_end(descriptor, 0)
}

/// Waits for the process's end, for at most so many milliseconds; only before the loop begins.
pub(crate) fn wait_end(descriptor: &OwnedFd, milliseconds: u16) -> bool {
    let mut polled = [PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)];
    poll(&mut polled, PollTimeout::from(milliseconds)).is_ok_and(|count| count > 0)
}

/// How a process that ended but is no child of ours did so: from its zombie, else from what the kernel kept
/// for holders of its pidfd (Linux 6.15), else it is unknown.
pub(crate) fn exit_of(pid: i32, start_time: u64, descriptor: &OwnedFd) -> Exit {
    let zombie = stat(pid).filter(|stat| stat.is_zombie && stat.start_time == start_time);
    zombie
        .map(|stat| stat.exit_code)
        .or_else(|| pidfd::exit_status(descriptor.as_fd()))
        .map_or(Exit::Unknown, from_wait_status)
}

fn from_wait_status(status: i32) -> Exit {
    match status & 0x7f {
        0 => Exit::Code((status >> 8) as u8),
        signal => Exit::Signaled(signal as u8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_whole() {
        for file in ["limits", "cgroup"] {
            let path = format!("/proc/self/{file}");
            assert_eq!(record(&path).unwrap(), text(&path).unwrap(), "{file}");
        }
        if !nix::unistd::geteuid().is_root() {
            return println!("skipped: only root has as many groups as take some pages");
        }
        let groups: Vec<String> = (100_000..102_000).map(|group| group.to_string()).collect();
        let mut many = std::process::Command::new("setpriv");
        let mut many =
            many.arg(format!("--groups={}", groups.join(","))).args(["sleep", "60"]).spawn().unwrap();
        let status = || record(format!("/proc/{}/status", many.id())).unwrap();
        let mut told = status();
        while !told.contains(" 101999 ") {
            std::thread::yield_now();
            told = status();
        }
        many.kill().unwrap();
        many.wait().unwrap();
        assert!(told.len() > 8192 && told.contains("\nnonvoluntary_ctxt_switches:"), "{} bytes", told.len());
    }

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let mut line = String::from("7 (a) b) Z");
        for field in 4..=52 {
            line.push_str(&format!(" {field}"));
        }
        assert_eq!(parse(&line), Some(Stat { is_zombie: true, start_time: 22, exit_code: 52 }));
        assert_eq!(parse("garbage"), None);
    }

    #[test]
    fn wait_statuses_are_told_apart() {
        assert_eq!(from_wait_status(0x0300), Exit::Code(3));
        assert_eq!(from_wait_status(9), Exit::Signaled(9));
        assert_eq!(from_wait_status(0x8b), Exit::Signaled(11));
    }
}
