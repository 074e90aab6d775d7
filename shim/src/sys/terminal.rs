//! Pseudoterminals; ioctl_tty(2), pts(4).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::sys::stat::{SFlag, fstat, major, minor};
use nix::sys::statfs::{FsType, fstatfs};

use super::check;

const DEVPTS: FsType = FsType(0x1cd1);

/// A new terminal of the devpts instance that `multiplexer` (its `ptmx`, open for reading and writing)
/// belongs to: it becomes the master, the slave is returned. Refuses what only looks like a `ptmx`
/// (CVE-2025-52565).
pub(crate) fn open_slave(multiplexer: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    let node = fstat(multiplexer)?;
    let is_device = node.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFCHR.bits();
    let is_multiplexer = (major(node.st_rdev), minor(node.st_rdev)) == (5, 2);
    if !is_device || !is_multiplexer || fstatfs(multiplexer)?.filesystem_type() != DEVPTS {
        return Err(nix::errno::Errno::ENXIO);
    }
    let unlocked: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int that outlives the call; the descriptor is a ptmx, checked above.
    check(unsafe { libc::ioctl(multiplexer.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked) }.into())?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes open flags as an integer.
    let slave = check(unsafe { libc::ioctl(multiplexer.as_raw_fd(), libc::TIOCGPTPEER, flags) }.into())?;
    // SAFETY: the kernel made this descriptor for us just now, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(slave as i32) })
}

/// Sets the window size: columns and rows.
pub(crate) fn resize(terminal: BorrowedFd<'_>, (columns, rows): (u16, u16)) -> nix::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one winsize that outlives the call.
    check(unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }.into())
        .map(drop)
}

/// The window size: columns and rows.
pub(crate) fn size(terminal: BorrowedFd<'_>) -> nix::Result<(u16, u16)> {
    // SAFETY: winsize is plain memory for which all zero is valid.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: TIOCGWINSZ writes one winsize that outlives the call.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) }.into())?;
    Ok((size.ws_col, size.ws_row))
}

/// Makes the terminal behind descriptor 0 the controlling one of this session. Allocates nothing.
pub(crate) fn control_standard_input() -> nix::Result<()> {
    // SAFETY: TIOCSCTTY takes an integer.
    check(unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) }.into()).map(drop)
}
