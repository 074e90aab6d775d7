//! Copying what the image has in a directory into the tmpfs that now covers it (`tmpcopyup`), by descriptors and
//! without memory of its own.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fchmod, fchmodat, fstatat, mkdirat, mknodat};
use nix::unistd::{Gid, Uid, fchown, fchownat, symlinkat};

use crate::sys::mount;

/// Deeper trees are refused; each level takes a frame on the child's stack.
const DEEPEST: u32 = 64;
const BUFFER: usize = 2048;
const FILE_BUFFER: usize = 16 << 10;
/// Where a `linux_dirent64` has its length, and where its name begins.
const LENGTH_AT: usize = 16;
const NAME_AT: usize = 19;

/// Copies the entries of one directory into another.
pub(super) fn contents(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> nix::Result<()> {
    let from = openat(from, c".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    entries(from.as_fd(), to, DEEPEST)
}

fn entries(from: BorrowedFd<'_>, to: BorrowedFd<'_>, levels: u32) -> nix::Result<()> {
    let levels = levels.checked_sub(1).ok_or(Errno::ELOOP)?;
    let mut buffer = [0_u8; BUFFER];
    loop {
        let mut rest = match mount::read_entries(from, &mut buffer)? {
            0 => return Ok(()),
            length => &buffer[..length],
        };
        while let Some((name, further)) = first(rest) {
            if name != c"." && name != c".." {
                entry(from, to, name, levels)?;
            }
            rest = further;
        }
    }
}

/// The name of the first entry, and the entries after it.
fn first(entries: &[u8]) -> Option<(&CStr, &[u8])> {
    let length = entries.get(LENGTH_AT..LENGTH_AT + 2)?;
    let length = usize::from(u16::from_ne_bytes([length[0], length[1]]));
    let name = CStr::from_bytes_until_nul(entries.get(NAME_AT..length)?).ok()?;
    Some((name, entries.get(length..)?))
}

fn entry(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, levels: u32) -> nix::Result<()> {
    let status = fstatat(from, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    let mode = Mode::from_bits_truncate(status.st_mode & 0o7777);
    let owner = (Some(Uid::from_raw(status.st_uid)), Some(Gid::from_raw(status.st_gid)));
    match SFlag::from_bits_truncate(status.st_mode & libc::S_IFMT) {
        SFlag::S_IFDIR => {
            mkdirat(to, name, mode)?;
            let new = directory(to, name)?;
            fchown(&new, owner.0, owner.1)?;
            fchmod(&new, mode)?;
            entries(directory(from, name)?.as_fd(), new.as_fd(), levels)
        }
        SFlag::S_IFREG => {
            let new = file(from, to, name)?;
            // The owner first: changing it takes set-user-id bits away.
            fchown(&new, owner.0, owner.1)?;
            fchmod(&new, mode)
        }
        SFlag::S_IFLNK => {
            link(from, to, name)?;
            fchownat(to, name, owner.0, owner.1, AtFlags::AT_SYMLINK_NOFOLLOW)
        }
        kind => {
            mknodat(to, name, kind, mode, status.st_rdev)?;
            fchownat(to, name, owner.0, owner.1, AtFlags::AT_SYMLINK_NOFOLLOW)?;
            fchmodat(to, name, mode, nix::sys::stat::FchmodatFlags::FollowSymlink)
        }
    }
}

fn directory(at: BorrowedFd<'_>, name: &CStr) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(at, name, flags, Mode::empty())
}

fn file(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> nix::Result<OwnedFd> {
    // Not to wait for a writer, should the file have turned into a pipe.
    let read = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let old = openat(from, name, read, Mode::empty())?;
    let write = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let new = openat(to, name, write, Mode::from_bits_truncate(0o600))?;
    let mut buffer = [0_u8; FILE_BUFFER];
    loop {
        let mut rest = match nix::unistd::read(&old, &mut buffer)? {
            0 => return Ok(new),
            length => &buffer[..length],
        };
        while !rest.is_empty() {
            rest = rest.get(nix::unistd::write(&new, rest)?..).ok_or(Errno::EIO)?;
        }
    }
}

fn link(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> nix::Result<()> {
    let mut buffer = [0_u8; libc::PATH_MAX as usize];
    let room = buffer.len() - 1;
    let length = mount::read_link(from, name, &mut buffer[..room])?;
    let target = CStr::from_bytes_with_nul(&buffer[..=length]).map_err(|_| Errno::EINVAL)?;
    symlinkat(target, to, name)
}
