//! The supervisor's end of the wire: asks the shim, one answer per question, and hears its reports.
//!
//! One task ([`Shim::listen`]) reads; questions may be asked from many tasks at once, a packet is
//! atomic. When the shim is gone reports end, and so does the supervisor; an open question has no answer then,
//! and whoever asked must not take that for a failure of what was asked: the successor goes on with it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use hull_shim::wire::{Answer, Command, Failure, MAX_PACKET, Report, Request};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recv, recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::UnixDatagram;
use tokio::sync::{mpsc, oneshot};

/// At most so many descriptors travel beside one message.
const MAX_FDS: usize = 4;

/// What a question brought: its answer and the descriptors beside it.
pub type Reply = Result<(Answer, Vec<OwnedFd>), Failure>;

/// The connection; cheap to share among the tasks of one thread.
#[derive(Debug)]
pub struct Shim {
    /// A `SOCK_SEQPACKET` socket; tokio has no type of that name, and sends and receives are the same.
    socket: UnixDatagram,
    next: Cell<u64>,
    open: RefCell<HashMap<u64, oneshot::Sender<Reply>>>,
    gone: Cell<bool>,
}

impl Shim {
    /// Takes the socketpair's end that the shim left at descriptor 3.
    ///
    /// # Errors
    /// The descriptor cannot be made non-blocking or registered.
    pub fn new(socket: OwnedFd) -> io::Result<Rc<Self>> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Rc::new(Self {
            socket: UnixDatagram::from_std(socket.into())?,
            next: Cell::new(1),
            open: RefCell::default(),
            gone: Cell::new(false),
        }))
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// What the shim answers, or why it cannot be asked. There is no answer from one that is gone.
    pub async fn ask(&self, command: Command, descriptors: &[OwnedFd]) -> Reply {
        let id = self.next.replace(self.next.get() + 1);
        let (reply, answer) = oneshot::channel();
        self.open.borrow_mut().insert(id, reply);
        let packet = serde_json::to_vec(&Request { id, command }).expect("a request has only string keys");
        match self.send(&packet, descriptors).await {
            Ok(()) => {}
            Err(error) if is_gone(&error) => return std::future::pending().await,
            Err(error) => {
                self.open.borrow_mut().remove(&id);
                return Err(Failure::Other { message: format!("cannot ask the shim: {error}") });
            }
        }
        match answer.await {
            Ok(reply) => reply,
            Err(_) => std::future::pending().await,
        }
    }

    /// Asks for something that has nothing to tell but success.
    ///
    /// # Errors
    /// As [`Shim::ask`].
    pub async fn order(&self, command: Command) -> Result<(), Failure> {
        self.ask(command, &[]).await.map(drop)
    }

    /// Reads until the shim is gone: answers to their questions, everything else to `reports`.
    pub async fn listen(self: Rc<Self>, reports: mpsc::UnboundedSender<Report>) {
        loop {
            let received = self.socket.async_io(Interest::READABLE, || receive(self.socket.as_fd()));
            let Ok((bytes, descriptors)) = received.await else { break };
            if bytes.is_empty() {
                break;
            }
            match serde_json::from_slice(&bytes) {
                Ok(Report::Done { id, result }) => self.answered(id, result, descriptors),
                Ok(report) => {
                    if reports.send(report).is_err() {
                        break;
                    }
                }
                Err(error) => tracing::error!(%error, "a message of the shim cannot be read"),
            }
        }
        self.gone.set(true);
        self.open.borrow_mut().clear();
    }

    fn answered(&self, id: u64, result: Result<Answer, Failure>, descriptors: Vec<OwnedFd>) {
        // Whoever asked may have been given up meanwhile; then nobody wants the answer.
        if let Some(reply) = self.open.borrow_mut().remove(&id) {
            drop(reply.send(result.map(|answer| (answer, descriptors))));
        }
    }

    async fn send(&self, packet: &[u8], descriptors: &[OwnedFd]) -> io::Result<()> {
        if self.gone.get() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let borrowed: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
        self.socket
            .async_io(Interest::WRITABLE, || {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
                let mut ancillary = SendAncillaryBuffer::new(&mut space);
                if !borrowed.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&borrowed)) {
                    return Err(io::ErrorKind::InvalidInput.into());
                }
                sendmsg(&self.socket, &[IoSlice::new(packet)], &mut ancillary, SendFlags::NOSIGNAL)?;
                Ok(())
            })
            .await
    }
}

/// Nobody holds the other end any more.
fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected};
    matches!(error.kind(), BrokenPipe | ConnectionReset | NotConnected)
}

/// One packet and the descriptors beside it; an empty one is the end. It is looked at first, so that no memory is
/// kept for the largest that there may be.
fn receive(socket: BorrowedFd<'_>) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let (_, length) = recv(socket, &mut [0_u8; 0], RecvFlags::PEEK | RecvFlags::TRUNC)?;
    let mut buffer = vec![0; length.min(MAX_PACKET)];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let message =
        recvmsg(socket, &mut [IoSliceMut::new(&mut buffer)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let descriptors = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten()
        .collect();
    buffer.truncate(message.bytes);
    Ok((buffer, descriptors))
}
