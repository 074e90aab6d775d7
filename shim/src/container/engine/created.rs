//! An init that waits at its gate, as its maker holds it: it lives on, or goes with its maker.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::devices::Away;
use super::failure::Failure;
use super::message::{Go, Message};
use crate::harmless;
use crate::sys::{pidfd, process, socket};

/// How long an init may take to read that it may live on, in milliseconds: only a starved one takes so long.
const RELEASE: u16 = 10_000;

/// An init at its gate. Dropped without [`Created::release`], it takes the init along, unless that outlives its maker.
pub(crate) struct Created {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    /// The master of its terminal.
    pub(crate) terminal: Option<OwnedFd>,
    /// Where it waits to be released; none for one that outlives its maker anyway.
    pub(super) socket: Option<Arc<OwnedFd>>,
    /// Interfaces that are the container's once it lives on.
    pub(super) away: Option<Away>,
}

impl Created {
    /// [`Created::release`] for a maker that ends soon after: the init must have read that it may live on, or it dies
    /// of its maker's end. It says so.
    pub(crate) fn release_for_good(self) -> Result<(i32, OwnedFd, Option<OwnedFd>), Failure> {
        let socket = self.socket.clone();
        let (pid, pidfd, terminal) = self.release();
        let Some(copy) = socket else { return Ok((pid, pidfd, terminal)) };
        await_readable(copy.as_fd());
        match socket::receive(copy.as_fd(), Message::LENGTH) {
            Ok(socket::Packet::Message(bytes, _))
                if Message::from_bytes(&bytes) == Some(Message::Released) =>
            {
                Ok((pid, pidfd, terminal))
            }
            // It is at its end, if it was not starved all that time.
            Ok(_) | Err(_) => {
                harmless(pidfd::signal(pidfd.as_fd(), libc::SIGKILL));
                await_readable(pidfd.as_fd());
                Err(Failure::ended(&process::Child { pid, pidfd }))
            }
        }
    }

    /// Lets the init outlive this process: its pid is on disk.
    pub(crate) fn release(self) -> (i32, OwnedFd, Option<OwnedFd>) {
        if let Some(socket) = &self.socket {
            // An init that is dead already is found so at its pidfd.
            harmless(socket::send(socket.as_fd(), &Go { pid: self.pid }.to_bytes(), &[]));
        }
        if let Some(away) = self.away {
            away.stay();
        }
        (self.pid, self.pidfd, self.terminal)
    }
}

/// Waits until there is something to read, for [`RELEASE`] at most.
fn await_readable(descriptor: BorrowedFd<'_>) {
    let mut polled = [PollFd::new(descriptor, PollFlags::POLLIN)];
    while poll(&mut polled, PollTimeout::from(RELEASE)) == Err(Errno::EINTR) {}
}
