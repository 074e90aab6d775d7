//! The few requests of rtnetlink(7) that moving an interface takes, written by hand: a socket belongs to the network
//! namespace in which it was opened, whoever uses it later.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

/// Length of `nlmsghdr`.
const HEADER: usize = 16;
/// The kernel's answers are cut at this length at most.
const LONGEST: usize = 64 * 1024;

/// A socket in the network namespace of the caller. Allocates nothing.
pub(super) fn open() -> nix::Result<OwnedFd> {
    socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)
}

/// A socket in the network namespace of another process.
pub(super) fn open_beside(process: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    let own = std::fs::File::open("/proc/self/ns/net")
        .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::ENOENT)))?;
    setns(process, CloneFlags::CLONE_NEWNET)?;
    let opened = open();
    // Were this to fail, the host's interfaces would be out of reach: better no maker than that.
    setns(own, CloneFlags::CLONE_NEWNET).expect("a process may always return to its own network namespace");
    opened
}

/// A request in the making.
pub(super) struct Request(Vec<u8>);

impl Request {
    /// One of this kind, with its fixed part.
    pub(super) fn new(kind: u16, flags: i32, fixed: &[u8]) -> Self {
        let flags = (libc::NLM_F_REQUEST | flags) as u16;
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(fixed);
        Self(bytes)
    }

    /// With an attribute.
    pub(super) fn with(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Sends it, and hands each message of the answer to `take`, without its header.
    pub(super) fn send(mut self, to: BorrowedFd<'_>, mut take: impl FnMut(&[u8])) -> nix::Result<()> {
        let length = u32::try_from(self.0.len()).map_err(|_| Errno::EMSGSIZE)?;
        self.0.splice(..4, length.to_ne_bytes());
        send(to.as_raw_fd(), &self.0, MsgFlags::empty())?;
        let mut buffer = vec![0; LONGEST];
        loop {
            let length = recv(to.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            let mut rest = buffer.get(..length).unwrap_or_default();
            while let Some((kind, body, next)) = split(rest) {
                match i32::from(kind) {
                    libc::NLMSG_DONE => return Ok(()),
                    libc::NLMSG_ERROR => {
                        return match number(body, 0) {
                            0 => Ok(()),
                            errno => Err(Errno::from_raw((errno as i32).wrapping_neg())),
                        };
                    }
                    _ => take(body),
                }
                rest = next;
            }
        }
    }
}

/// The first message: its kind, its body, and what follows.
fn split(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = number(bytes.get(..HEADER)?, 0) as usize;
    let kind = short(bytes, 4);
    let body = bytes.get(HEADER..length)?;
    Some((kind, body, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// The attributes after a fixed part.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(short(bytes.get(..4)?, 0));
        let value = bytes.get(4..length)?;
        let kind = short(bytes, 2);
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The 32 bits at a place; 0 beyond the end.
pub(super) fn number(bytes: &[u8], at: usize) -> u32 {
    let four = bytes.get(at..).and_then(|rest| rest.first_chunk());
    four.map_or(0, |four| u32::from_ne_bytes(*four))
}

fn short(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |two| u16::from_ne_bytes(*two))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_as_they_were_written() {
        let request = Request::new(1, 0, &[9; 4]).with(3, b"lo\0").with(5, &[]).with(6, &[1, 2, 3, 4]);
        let all: Vec<_> = attributes(request.0.get(HEADER + 4..).unwrap()).collect();
        assert_eq!(all, [(3, &b"lo\0"[..]), (5, &[]), (6, &[1, 2, 3, 4])]);
    }

    #[test]
    fn what_is_cut_short_is_no_message() {
        assert!(split(&[200, 0, 0, 0, 1, 0]).is_none());
        assert!(split(&[17, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).is_none());
        assert_eq!(attributes(&[3, 0, 1, 0]).count(), 0);
        assert_eq!(attributes(&[9, 0, 1, 0, 1]).count(), 0);
    }
}
