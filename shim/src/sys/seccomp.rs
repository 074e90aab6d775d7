//! Installing a seccomp filter; seccomp(2), seccomp_unotify(2). Nothing here allocates.

use std::os::fd::{FromRawFd, OwnedFd};

use nix::errno::Errno;

use super::check;
use crate::container::seccomp::{Filter, Instruction, flag};

/// Installs `filter` for this process and whatever it executes. A filter that notifies is refused: its descriptor
/// would be lost, and every notified call hang.
pub(crate) fn install(filter: &Filter) -> nix::Result<()> {
    if filter.needs_listener() {
        return Err(Errno::EINVAL);
    }
    match set(filter)? {
        0 => Ok(()),
        // With TSYNC: the thread that could not be given the filter.
        _ => Err(Errno::ESRCH),
    }
}

/// Installs a filter that notifies, and returns the descriptor that notifications are read from (close-on-exec).
/// From then on the calls that the filter notifies of wait for an answer.
pub(crate) fn install_with_listener(filter: &Filter) -> nix::Result<OwnedFd> {
    if !filter.needs_listener() {
        return Err(Errno::EINVAL);
    }
    let number = i32::try_from(set(filter)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel made this descriptor for us just now, nobody else owns it. With a listener the result is
    // never a thread, as `compile` asks for TSYNC together with TSYNC_ESRCH only.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

fn set(filter: &Filter) -> nix::Result<libc::c_long> {
    let length = u16::try_from(filter.program.len()).map_err(|_| Errno::EINVAL)?;
    let program = libc::sock_fprog { len: length, filter: filter.program.as_ptr().cast_mut().cast() };
    // SAFETY: `Instruction` is laid out as sock_filter, `len` is the slice's length, and the kernel copies
    // the program before it returns; it never writes to it.
    check(unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, filter.flags, &raw const program)
    })
}

/// Whether the kernel knows all of `flags` for a filter ([`flag`]).
#[must_use]
pub(crate) fn knows(flags: u32) -> bool {
    // Flags that are valid together only with another one.
    let needed = if flags & flag::WAIT_KILLABLE_RECV != 0 { flag::NEW_LISTENER } else { 0 };
    let none = std::ptr::null::<libc::sock_fprog>();
    // SAFETY: a null program is refused with EFAULT after the flags were looked at, so nothing is installed.
    let asked = check(unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags | needed, none)
    });
    asked == Err(Errno::EFAULT)
}

const _: () = assert!(size_of::<Instruction>() == size_of::<libc::sock_filter>());
