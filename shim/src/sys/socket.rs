//! Messages with descriptors over unix sockets; unix(7).

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recv, recvmsg, sendmsg};

/// Most descriptors that one message carries.
const MOST: usize = 4;

/// What one read of a packet socket brought.
#[derive(Debug)]
pub(crate) enum Packet {
    /// A whole message, with descriptors.
    Message(Vec<u8>, Vec<OwnedFd>),
    /// The message did not fit, or came with more descriptors than allowed.
    Truncated,
    /// Nobody holds the other end any more.
    Closed,
}

/// Sends one message; never raises SIGPIPE.
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[RawFd]) -> nix::Result<()> {
    send_some(socket, bytes, descriptors).map(drop)
}

/// Sends as much as a stream takes at once, and says how much; the descriptors go with the first byte.
pub(crate) fn send_some(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[RawFd]) -> nix::Result<usize> {
    let parts = [IoSlice::new(bytes)];
    let rights = [ControlMessage::ScmRights(descriptors)];
    let control = if descriptors.is_empty() { &rights[..0] } else { &rights[..] };
    sendmsg::<UnixAddr>(socket.as_raw_fd(), &parts, control, MsgFlags::MSG_NOSIGNAL, None)
}

/// Receives one message of at most `limit` bytes. Where that is much it is looked at first, so that nobody keeps memory for
/// the largest that there may be.
pub(crate) fn receive(socket: BorrowedFd<'_>, limit: usize) -> nix::Result<Packet> {
    receive_how(socket, limit, MsgFlags::empty())
}

/// [`receive`], without waiting for a message.
pub(crate) fn receive_now(socket: BorrowedFd<'_>, limit: usize) -> nix::Result<Packet> {
    receive_how(socket, limit, MsgFlags::MSG_DONTWAIT)
}

fn receive_how(socket: BorrowedFd<'_>, limit: usize, how: MsgFlags) -> nix::Result<Packet> {
    const MUCH: usize = 256;
    let length = match limit {
        ..=MUCH => limit,
        _ => recv(socket.as_raw_fd(), &mut [], how | MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC)?.min(limit),
    };
    let mut buffer = vec![0; length];
    let mut space = nix::cmsg_space!([RawFd; MOST]);
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let how = how | MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut parts, Some(&mut space), how)?;
    let truncated = message.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC);
    let mut descriptors = Vec::new();
    for control in message.cmsgs().map_err(|_| Errno::EMSGSIZE)? {
        if let ControlMessageOwned::ScmRights(numbers) = control {
            // SAFETY: the kernel made these descriptors for us with this message; nobody else owns them.
            descriptors.extend(numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }));
        }
    }
    let length = message.bytes;
    Ok(match length {
        _ if truncated => Packet::Truncated,
        0 if descriptors.is_empty() => Packet::Closed,
        _ => {
            buffer.truncate(length);
            Packet::Message(buffer, descriptors)
        }
    })
}

/// Room for one descriptor beside a packet, aligned as the kernel wants it.
#[repr(C, align(8))]
struct Control([u8; 24]);

/// Sends one packet of several parts, with a descriptor or none, by number; for forked children: allocates nothing.
pub(crate) fn tell(socket: RawFd, parts: &[IoSlice<'_>], descriptor: Option<RawFd>) -> nix::Result<()> {
    let mut control = Control([0; 24]);
    // SAFETY: msghdr is plain memory for which all zero is valid.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    // `IoSlice` is laid out as iovec; sendmsg does not write through it.
    header.msg_iov = parts.as_ptr().cast_mut().cast();
    header.msg_iovlen = parts.len() as _;
    if let Some(descriptor) = descriptor {
        let length = size_of::<libc::cmsghdr>() + size_of::<RawFd>();
        control.0[..8].copy_from_slice(&length.to_ne_bytes());
        control.0[8..12].copy_from_slice(&libc::SOL_SOCKET.to_ne_bytes());
        control.0[12..16].copy_from_slice(&libc::SCM_RIGHTS.to_ne_bytes());
        control.0[16..20].copy_from_slice(&descriptor.to_ne_bytes());
        header.msg_control = (&raw mut control).cast();
        header.msg_controllen = size_of::<Control>() as _;
    }
    // SAFETY: the header names `parts` and `control`, which outlive the call; the control message was laid out above
    // as cmsghdr is on 64-bit machines: length, level and type, then one descriptor.
    Errno::result(unsafe { libc::sendmsg(socket, &raw const header, libc::MSG_NOSIGNAL) }).map(drop)
}

const _: () = assert!(size_of::<libc::cmsghdr>() == 16, "the layout that `tell` writes");

/// Receives one packet, waiting for it; how long it was, 0 at the end. For forked children: allocates nothing, and makes no
/// other call than read(2).
pub(crate) fn hear(socket: RawFd, buffer: &mut [u8]) -> nix::Result<usize> {
    loop {
        // SAFETY: the kernel writes at most `len` bytes into a slice of that length.
        let length = unsafe { libc::read(socket, buffer.as_mut_ptr().cast(), buffer.len()) };
        match Errno::result(length) {
            Err(Errno::EINTR) => {}
            result => return result.map(|length| length as usize),
        }
    }
}
