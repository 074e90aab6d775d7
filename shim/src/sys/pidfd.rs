//! Processes by descriptor; pidfd_open(2), pidfd_send_signal(2), `PIDFD_GET_INFO` of Linux 6.13.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::check;

const INFO_EXIT: u64 = 1 << 3;
/// `_IOWR(0xFF, 11, struct pidfd_info)` with the 64 bytes of its first version.
const GET_INFO: libc::Ioctl = 0xC040_FF0B_u32 as libc::Ioctl;

/// First version of the kernel's `struct pidfd_info`.
#[repr(C)]
#[derive(Default)]
struct Info {
    mask: u64,
    cgroup: u64,
    ids: [u32; 11],
    exit_code: i32,
}

/// A descriptor of the process `pid`. The caller makes sure that the pid still means that process.
pub(crate) fn open(pid: i32) -> nix::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two integers.
    let number = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: the kernel made this descriptor for us just now (close-on-exec), nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number as i32) })
}

/// Sends a signal. A process that ended already is no error.
pub(crate) fn signal(pidfd: BorrowedFd<'_>, signal: i32) -> nix::Result<()> {
    let null = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: without a siginfo the kernel fills one in itself; `pidfd` is open for the whole call.
    let sent =
        check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, null, 0) });
    match sent {
        Ok(_) | Err(nix::errno::Errno::ESRCH) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// A copy (close-on-exec) of the descriptor `number` of another process; pidfd_getfd(2). The caller needs the right to
/// trace that process.
pub(crate) fn descriptor(pidfd: BorrowedFd<'_>, number: i32) -> nix::Result<OwnedFd> {
    // SAFETY: pidfd_getfd takes three integers; `pidfd` is open for the whole call.
    let copy = check(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), number, 0) })?;
    // SAFETY: the kernel made this descriptor for us just now (close-on-exec), nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy as i32) })
}

/// The wait status of a process that ended and was reaped by somebody else (Linux 6.15).
#[must_use]
pub(crate) fn exit_status(pidfd: BorrowedFd<'_>) -> Option<i32> {
    let mut info = Info { mask: INFO_EXIT, ..Info::default() };
    // SAFETY: the request's number says 64 bytes, which is the size of `Info`, and it outlives the call.
    check(unsafe { libc::ioctl(pidfd.as_raw_fd(), GET_INFO, &raw mut info) }.into()).ok()?;
    (info.mask & INFO_EXIT != 0).then_some(info.exit_code)
}

const _: () = assert!(size_of::<Info>() == 64, "the ioctl's number names this size");
