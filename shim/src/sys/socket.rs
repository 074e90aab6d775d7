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

/// Receives one message of at most `limit` bytes. It is looked at first, so that nobody keeps memory for the
/// largest that there may be.
pub(crate) fn receive(socket: BorrowedFd<'_>, limit: usize) -> nix::Result<Packet> {
    let length = recv(socket.as_raw_fd(), &mut [], MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC)?;
    let mut buffer = vec![0; length.min(limit)];
    let mut space = nix::cmsg_space!([RawFd; MOST]);
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let message =
        recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let truncated = message.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC);
    let mut descriptors = Vec::new();
    for control in message.cmsgs().map_err(|_| Errno::EMSGSIZE)? {
        if let ControlMessageOwned::ScmRights(numbers) = control {
            // SAFETY: the kernel made these descriptors for us with this message; nobody else owns them.
            descriptors.extend(numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }));
        }
    }
    Ok(match message.bytes {
        _ if truncated => Packet::Truncated,
        0 if descriptors.is_empty() => Packet::Closed,
        _ => Packet::Message(buffer, descriptors),
    })
}
