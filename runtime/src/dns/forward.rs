//! Queries for names that are not ours: sent to the host's resolvers, each under an id of its own. Datagrams share a
//! socket; by TCP each query has a connection.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::rand::{GetRandomFlags, getrandom};
use tokio::net::{TcpSocket, UdpSocket};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::answer::Transport;
use super::{read, stream};

/// How long one server has.
const PATIENCE: Duration = Duration::from_secs(2);
/// Longest reply that is taken; EDNS clients ask for no more.
const LONGEST: usize = 4096;

/// Where foreign names are asked for.
#[derive(Debug, Default)]
pub struct Upstream {
    /// The host's resolvers, asked in order.
    pub servers: Vec<SocketAddr>,
    /// A socket of the host's network namespace for IPv4 servers.
    pub v4: Option<std::net::UdpSocket>,
    /// The same for IPv6 ones.
    pub v6: Option<std::net::UdpSocket>,
    /// Who makes sockets there for TCP; without one all goes by datagrams.
    pub streams: Option<mpsc::Sender<StreamWanted>>,
}

/// A TCP socket of the host's network namespace is needed.
#[derive(Debug)]
pub struct StreamWanted {
    /// For an IPv6 server.
    pub v6: bool,
    /// Where it goes; dropped when there is none.
    pub socket: oneshot::Sender<OwnedFd>,
}

/// Asks upstream. One [`Forwarder::receive`] runs for as long as answers are wanted.
#[derive(Debug)]
pub(super) struct Forwarder {
    servers: Vec<SocketAddr>,
    v4: Option<UdpSocket>,
    v6: Option<UdpSocket>,
    streams: Option<mpsc::Sender<StreamWanted>>,
    waiting: Mutex<HashMap<u16, Waiting>>,
}

/// A query that was sent.
#[derive(Debug)]
struct Waiting {
    server: SocketAddr,
    question: Vec<u8>,
    reply: oneshot::Sender<Vec<u8>>,
}

/// Takes a query out of the table however its wait ends.
struct Place<'a> {
    forwarder: &'a Forwarder,
    id: u16,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.forwarder.waiting().remove(&self.id);
    }
}

impl Forwarder {
    pub(super) fn new(upstream: Upstream) -> io::Result<Self> {
        let adopt = |socket: Option<std::net::UdpSocket>| {
            let socket = socket.map(|socket| socket.set_nonblocking(true).map(|()| socket)).transpose()?;
            socket.map(UdpSocket::from_std).transpose()
        };
        Ok(Self {
            servers: upstream.servers,
            v4: adopt(upstream.v4)?,
            v6: adopt(upstream.v6)?,
            streams: upstream.streams,
            waiting: Mutex::default(),
        })
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u16, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The reply of the first server that has one, under the query's own id; a failure only if all fail.
    pub(super) async fn resolve(&self, query: &[u8], by: Transport) -> Option<Vec<u8>> {
        let mut failure = None;
        for server in &self.servers {
            let by_stream = match by {
                Transport::Tcp => timeout(PATIENCE, self.ask_by_stream(*server, query)).await.ok().flatten(),
                Transport::Udp => None,
            };
            let reply = match by_stream {
                Some(reply) => Some(reply),
                None => self.ask(*server, query).await,
            };
            let Some(mut reply) = reply else {
                continue;
            };
            reply[..2].copy_from_slice(query.get(..2)?);
            if read::reply_is_failure(&reply) == Some(false) {
                return Some(reply);
            }
            failure = Some(reply);
        }
        failure
    }

    /// The same, by TCP if a datagram does not hold all of it.
    pub(super) async fn resolve_whole(&self, query: &[u8]) -> Option<Vec<u8>> {
        let reply = self.resolve(query, Transport::Udp).await?;
        if !read::is_truncated(&reply) {
            return Some(reply);
        }
        self.resolve(query, Transport::Tcp).await.or(Some(reply))
    }

    async fn ask_by_stream(&self, server: SocketAddr, query: &[u8]) -> Option<Vec<u8>> {
        let (socket, given) = oneshot::channel();
        let wanted = StreamWanted { v6: server.is_ipv6(), socket };
        self.streams.as_ref()?.send(wanted).await.ok()?;
        let socket = std::net::TcpStream::from(given.await.ok()?);
        socket.set_nonblocking(true).ok()?;
        let mut stream = TcpSocket::from_std_stream(socket).connect(server).await.ok()?;
        let (_, question) = read::id_and_question(query)?;
        let id = random_id()?;
        let mut packet = query.to_vec();
        packet[..2].copy_from_slice(&id.to_be_bytes());
        stream::send(&mut stream, &packet).await.ok()?;
        let reply = stream::receive(&mut stream).await.ok()?;
        let is_reply = read::reply_is_failure(&reply).is_some();
        (is_reply && read::id_and_question(&reply)? == (id, question)).then_some(reply)
    }

    async fn ask(&self, server: SocketAddr, query: &[u8]) -> Option<Vec<u8>> {
        let socket = if server.is_ipv4() { &self.v4 } else { &self.v6 }.as_ref()?;
        let (_, question) = read::id_and_question(query)?;
        let (sender, receiver) = oneshot::channel();
        let place = self.register(Waiting { server, question, reply: sender })?;
        let mut packet = query.to_vec();
        packet[..2].copy_from_slice(&place.id.to_be_bytes());
        let answer = async {
            socket.send_to(&packet, server).await.ok()?;
            receiver.await.ok()
        };
        timeout(PATIENCE, answer).await.ok().flatten()
    }

    /// Takes a free id that nobody can guess.
    fn register(&self, waiting: Waiting) -> Option<Place<'_>> {
        let mut table = self.waiting();
        // Far fewer than half of all ids are ever taken, so a few tries find one.
        for _ in 0..32 {
            let id = random_id()?;
            if let std::collections::hash_map::Entry::Vacant(free) = table.entry(id) {
                free.insert(waiting);
                return Some(Place { forwarder: self, id });
            }
        }
        None
    }

    /// Gives replies to those who wait for them, for ever.
    pub(super) async fn receive(&self) {
        tokio::join!(self.receive_from(self.v4.as_ref()), self.receive_from(self.v6.as_ref()));
    }

    async fn receive_from(&self, socket: Option<&UdpSocket>) {
        let Some(socket) = socket else {
            return std::future::pending().await;
        };
        // One byte more than is taken, to tell a longer reply from one that just fits.
        let mut buffer = vec![0; LONGEST + 1];
        loop {
            match socket.recv_from(&mut buffer).await {
                Ok((length, from)) if length <= LONGEST => self.deliver(&buffer[..length], from),
                Ok(_) => {}
                // Not known to happen; the wait keeps it from becoming a busy loop.
                Err(_) => tokio::time::sleep(PATIENCE).await,
            }
        }
    }

    /// Only a reply to this question, from the server that was asked, under the id that it was given, is
    /// taken.
    fn deliver(&self, reply: &[u8], from: SocketAddr) {
        if read::reply_is_failure(reply).is_none() {
            return;
        }
        let Some((id, question)) = read::id_and_question(reply) else {
            return;
        };
        let mut table = self.waiting();
        let fits = |waiting: &Waiting| waiting.server == from && waiting.question == question;
        if table.get(&id).is_some_and(fits)
            && let Some(waiting) = table.remove(&id)
            && waiting.reply.send(reply.to_vec()).is_err()
        {
            tracing::debug!(id, "a reply came after its query was given up");
        }
    }
}

/// An id that nobody can guess.
fn random_id() -> Option<u16> {
    let mut bytes = [0; 2];
    getrandom(&mut bytes, GetRandomFlags::empty()).ok()?;
    Some(u16::from_be_bytes(bytes))
}
