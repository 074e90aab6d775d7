//! The loopback interface of the current network namespace; netdevice(7). Nothing here allocates.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::check;

/// Brings `lo` up.
pub(crate) fn raise_loopback() -> nix::Result<()> {
    // SAFETY: socket takes three integers.
    let number =
        check(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) }.into())?;
    // SAFETY: the kernel made this descriptor for us just now, nobody else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(number as i32) };
    // SAFETY: ifreq is plain memory for which all zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one ifreq that outlives the call; its name ends in a null byte.
    check(
        unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as libc::Ioctl, &raw const request) }
            .into(),
    )
    .map(drop)
}
