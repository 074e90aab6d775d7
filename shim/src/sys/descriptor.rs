//! Descriptors: moving them to fixed numbers, closing ranges, passing on ownership. Nothing allocates.

use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;

use nix::errno::Errno;

use super::{check, open};
use crate::guard::{self, Guard};

/// Puts a copy of `from` at the number `to`, open across `execve`.
pub(crate) fn place(from: BorrowedFd<'_>, to: RawFd) -> nix::Result<()> {
    place_raw(from.as_raw_fd(), to)
}

/// Standard input, output and error of this process.
pub(crate) fn standard() -> [BorrowedFd<'static>; 3] {
    // SAFETY: a process has them from its start, and nothing here closes one: they are only replaced, in one call.
    [0, 1, 2].map(|number| unsafe { BorrowedFd::borrow_raw(number) })
}

/// [`place`] by number, for a child that learned the number before it was forked.
pub(crate) fn place_raw(from: RawFd, to: RawFd) -> nix::Result<()> {
    if from == to {
        // SAFETY: F_SETFD takes an integer; a closed number comes back as EBADF.
        return check(unsafe { libc::fcntl(from, libc::F_SETFD, 0) }.into()).map(drop);
    }
    // SAFETY: dup2 takes two integers. `to` is 0, 1, 2 or 3 and is owned by no Rust value in the child
    // halves that call this, so no owner finds its descriptor replaced.
    check(unsafe { libc::dup2(from, to) }.into()).map(drop)
}

/// Marks every descriptor from `first` on close-on-exec.
pub(crate) fn close_on_exec_from(first: u32) -> nix::Result<()> {
    let first = if guard::is_off(Guard::Closed) { first.max(10) } else { first };
    match range(first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) {
        Err(Errno::EINVAL) => open::mark_from(first),
        result => result,
    }
}

/// Whether close_range(2) can mark descriptors, which it does from Linux 5.11 on. Asked once.
#[must_use]
pub(crate) fn can_mark_range() -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    // No process has this number.
    *CAN.get_or_init(|| range(u32::MAX, u32::MAX, libc::CLOSE_RANGE_CLOEXEC).is_ok())
}

/// To be called before a fork, for the child's [`close_on_exec_from`].
pub(super) fn note_open() {
    if !can_mark_range() {
        open::note();
    }
}

/// Closes every descriptor from 3 on that `keep` (in ascending order) does not name.
///
/// For a forked child that never returns to its parent's code: values that own a closed number must
/// not be dropped afterwards.
pub(crate) fn close_all_but(keep: &[RawFd]) -> nix::Result<()> {
    let mut first = if guard::is_off(Guard::Closed) { 10 } else { 3 };
    for kept in keep.iter().filter_map(|kept| u32::try_from(*kept).ok()) {
        if kept > first {
            range(first, kept - 1, 0)?;
        }
        first = first.max(kept + 1);
    }
    range(first, u32::MAX, 0)
}

/// Closes these (in ascending order), for the same child or for whoever owned them. Numbers that follow one another take
/// one call.
pub(crate) fn close_all(numbers: &[RawFd]) -> nix::Result<()> {
    let mut runs = numbers.chunk_by(|one, next| *next == *one + 1);
    runs.try_for_each(|run| match (run.first(), run.last()) {
        (Some(first), Some(last)) => range(*first as u32, *last as u32, 0),
        _ => Ok(()),
    })
}

/// A descriptor that may stay open when its owner is done with it, for a child that closes all together later.
#[derive(Debug)]
pub(crate) struct Loose {
    file: ManuallyDrop<OwnedFd>,
    stays: bool,
}

impl Loose {
    /// With `stays`, it is left open.
    pub(crate) fn new(file: OwnedFd, stays: bool) -> Self {
        Self { file: ManuallyDrop::new(file), stays }
    }
}

impl AsFd for Loose {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for Loose {
    fn drop(&mut self) {
        if !self.stays {
            // SAFETY: nothing else drops it, and nobody can use it after.
            unsafe { ManuallyDrop::drop(&mut self.file) }
        }
    }
}

/// Closes these. Numbers that follow one another take one call, as those do that were opened one after another.
pub(crate) fn close_together(files: impl Iterator<Item = OwnedFd>) {
    let mut numbers: Vec<RawFd> = files.map(OwnedFd::into_raw_fd).collect();
    numbers.sort_unstable();
    // No file here has anything to tell at its end.
    crate::harmless(close_all(&numbers));
}

fn range(first: u32, last: u32, flags: u32) -> nix::Result<()> {
    // SAFETY: close_range takes three integers. What it closes is owned by nothing that is used or
    // dropped later: see `close_all_but`; with CLOEXEC nothing is closed before `execve`.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) }).map(drop)
}

/// The flags of a descriptor by its number; EBADF for one that is not open.
pub(crate) fn flags(number: RawFd) -> nix::Result<nix::fcntl::FdFlag> {
    // SAFETY: F_GETFD takes no further argument; a number that is not open comes back as EBADF.
    let flags = check(unsafe { libc::fcntl(number, libc::F_GETFD) }.into())?;
    Ok(nix::fcntl::FdFlag::from_bits_truncate(flags as i32))
}

/// Takes ownership of a descriptor that this process inherited under a known number.
pub fn inherited(number: RawFd) -> nix::Result<OwnedFd> {
    // SAFETY: F_SETFD takes an integer; a number that is not open comes back as EBADF.
    check(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) }.into())?;
    // SAFETY: the line above proved it open; the command line named it as handed over to this process
    // alone, and this is called once for it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
