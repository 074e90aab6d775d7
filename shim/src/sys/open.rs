//! Marking descriptors close-on-exec one by one, where close_range(2) cannot: its flag for that is of Linux 5.11.
//!
//! Whoever marks may be in a container, whose procfs is not to be believed. So every process that is about to fork notes
//! its highest descriptor, and the child goes on from what it inherits. The kernel gives out the lowest free number:
//! whatever a process opened by itself lies without gaps above what was there, and a gap of [`GAP`] is the end.
//! Nothing here allocates.

use std::sync::atomic::{AtomicI64, Ordering};

use nix::errno::Errno;

use super::check;

/// What no process of ours closes in one go below something that it keeps.
const GAP: i64 = 4096;
/// Nobody has looked yet.
const UNKNOWN: i64 = -1;
static HIGHEST: AtomicI64 = AtomicI64::new(UNKNOWN);

/// Notes the highest descriptor of this process, for its children.
pub(super) fn note() {
    if let Some(found) = highest() {
        // Only ever more: a container's procfs must not talk a child out of what it inherited.
        HIGHEST.fetch_max(found, Ordering::Relaxed);
    }
}

/// Marks every descriptor from `first` on.
pub(super) fn mark_from(first: u32) -> nix::Result<()> {
    if HIGHEST.load(Ordering::Relaxed) == UNKNOWN {
        note();
    }
    let known = HIGHEST.load(Ordering::Relaxed);
    if known == UNKNOWN {
        // Without a procfs nobody knows where to end.
        return Err(Errno::ENOSYS);
    }
    let mut last_open = known.max(first.into());
    let mut number = i64::from(first);
    while number <= last_open.saturating_add(GAP) {
        if mark(number)? {
            last_open = last_open.max(number);
        }
        number += 1;
    }
    Ok(())
}

/// Whether it was open.
fn mark(number: i64) -> nix::Result<bool> {
    let Ok(number) = i32::try_from(number) else { return Ok(false) };
    // SAFETY: F_SETFD takes an integer; a number that is not open comes back as EBADF.
    match check(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) }.into()) {
        Ok(_) => Ok(true),
        Err(Errno::EBADF) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// The highest descriptor that procfs shows; none if there is no procfs.
fn highest() -> Option<i64> {
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
    // SAFETY: open reads a path that ends in a null byte.
    let directory = unsafe { libc::open(c"/proc/self/fd".as_ptr(), flags) };
    if directory < 0 {
        return None;
    }
    let found = if is_procfs(directory) { highest_entry(directory) } else { None };
    // SAFETY: opened above, and owned by nothing else.
    unsafe { libc::close(directory) };
    found
}

fn is_procfs(directory: i32) -> bool {
    // SAFETY: statfs is plain memory for which all zero is valid.
    let mut about: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: fstatfs fills one statfs, which outlives the call.
    let answer = unsafe { libc::fstatfs(directory, &raw mut about) };
    answer == 0 && about.f_type == libc::PROC_SUPER_MAGIC
}

fn highest_entry(directory: i32) -> Option<i64> {
    let mut buffer = [0_u8; 4096];
    let mut highest = None;
    loop {
        // SAFETY: the kernel writes at most as many bytes as the buffer has.
        let length =
            unsafe { libc::syscall(libc::SYS_getdents64, directory, buffer.as_mut_ptr(), buffer.len()) };
        match usize::try_from(length).ok()? {
            0 => return highest,
            length => highest = highest.max(highest_of(buffer.get(..length)?)),
        }
    }
}

/// The highest number among the names of `struct linux_dirent64`; getdents64(2).
fn highest_of(mut entries: &[u8]) -> Option<i64> {
    /// Where the length of an entry is, and where its name begins.
    const LENGTH: std::ops::Range<usize> = 16..18;
    const NAME: usize = 19;
    let mut highest = None;
    while let Some(length) = entries.get(LENGTH) {
        let length = usize::from(u16::from_ne_bytes([length[0], length[1]]));
        let Some(name) = entries.get(NAME..length) else { break };
        highest = highest.max(number(name));
        entries = entries.get(length..).unwrap_or_default();
    }
    highest
}

fn number(name: &[u8]) -> Option<i64> {
    let digits = name.split(|byte| *byte == 0).next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

    use super::*;

    #[test]
    fn the_highest_number_is_found_among_entries() {
        let entry = |name: &[u8]| {
            // Inode and offset, length, type, name.
            let mut entry = [&[0; 19][..], name].concat();
            entry.resize(24, 0);
            entry[16..18].copy_from_slice(&24_u16.to_ne_bytes());
            entry
        };
        let all = [entry(b"."), entry(b"12"), entry(b"9"), entry(b"..")].concat();
        assert_eq!(highest_of(&all), Some(12));
        assert_eq!(highest_of(&[]), None);
    }

    #[test]
    fn descriptors_are_marked_without_close_range_too() {
        let file = std::fs::File::open("/dev/null").unwrap();
        // SAFETY: F_DUPFD takes an integer, and makes a descriptor without close-on-exec.
        let number = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_DUPFD, 300) };
        // SAFETY: made for us just now, nobody else owns it.
        let far = unsafe { OwnedFd::from_raw_fd(number) };
        let is_marked = || {
            let flags = crate::sys::descriptor::flags(far.as_raw_fd()).unwrap();
            flags.contains(nix::fcntl::FdFlag::FD_CLOEXEC)
        };
        assert!(!is_marked());
        // From here on, since tests beside this one have descriptors that their children need.
        note();
        mark_from(far.as_raw_fd().cast_unsigned()).unwrap();
        assert!(is_marked());
    }
}
