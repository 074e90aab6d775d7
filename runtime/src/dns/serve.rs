//! The resolver's sockets: queries come in by UDP and TCP, and leave upstream when they are not ours.
//!
//! One future does it all; dropping it ends every query. The number of queries on their way upstream and of
//! TCP connections is bounded, each has a time limit, and an idle resolver has no timer.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::answer::{Answer, Transport, answer};
use super::forward::{Forwarder, Upstream};
use super::stream;
use super::write::serv_fail;
use super::zone::Zone;

/// Queries on their way upstream.
const IN_FLIGHT: usize = 128;
/// TCP connections.
const CONNECTIONS: usize = 32;
/// How long a TCP client may take for its next query.
const IDLE: Duration = Duration::from_secs(10);
/// Longest query by UDP.
const LONGEST: usize = 4096;

/// Why the resolver does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its address cannot be listened on.
    #[error("the resolver cannot listen on {listen} ({transport})")]
    Bind {
        /// The address.
        listen: SocketAddr,
        /// UDP or TCP.
        transport: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The upstream sockets cannot be used.
    #[error("the resolver cannot use its upstream socket")]
    Upstream(#[source] io::Error),
    /// Its socket broke.
    #[error("the resolver cannot receive queries")]
    Receive(#[source] io::Error),
}

/// The sockets that queries come to. Bound apart from serving, since port 53 needs a capability that serving
/// does not.
#[derive(Debug)]
pub struct Listeners {
    udp: Arc<UdpSocket>,
    tcp: TcpListener,
}

/// Binds and serves; see [`Listeners`].
///
/// # Errors
/// When the address cannot be bound, or the sockets break. It does not end otherwise.
pub async fn serve(
    listen: SocketAddr,
    zone: watch::Receiver<Arc<Zone>>,
    upstream: Upstream,
) -> Result<Infallible, Error> {
    Listeners::bind(listen).await?.serve(zone, upstream).await
}

struct Resolver {
    zone: watch::Receiver<Arc<Zone>>,
    forwarder: Forwarder,
}

impl Listeners {
    /// Listens by UDP and TCP.
    ///
    /// # Errors
    /// When the address is not there, is taken, or the port needs a capability.
    pub async fn bind(listen: SocketAddr) -> Result<Self, Error> {
        let fail = |transport| move |source| Error::Bind { listen, transport, source };
        let udp = UdpSocket::bind(listen).await.map_err(fail("UDP"))?;
        // Port 0 asks for any one; both are to be the same.
        let listen = udp.local_addr().map_err(fail("UDP"))?;
        let tcp = TcpListener::bind(listen).await.map_err(fail("TCP"))?;
        Ok(Self { udp: Arc::new(udp), tcp })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.udp.local_addr()
    }

    /// Answers queries until it is dropped.
    ///
    /// # Errors
    /// When the sockets break.
    pub async fn serve(
        self,
        zone: watch::Receiver<Arc<Zone>>,
        upstream: Upstream,
    ) -> Result<Infallible, Error> {
        let forwarder = Forwarder::new(upstream).map_err(Error::Upstream)?;
        let resolver = Arc::new(Resolver { zone, forwarder });
        // All three run for ever; the first to end ends the others.
        tokio::select! {
            ended = serve_udp(self.udp, resolver.clone()) => ended,
            never = serve_tcp(self.tcp, resolver.clone()) => match never {},
            () = resolver.forwarder.receive() => Err(Error::Receive(io::ErrorKind::UnexpectedEof.into())),
        }
    }
}

async fn serve_udp(socket: Arc<UdpSocket>, resolver: Arc<Resolver>) -> Result<Infallible, Error> {
    let mut queries = JoinSet::new();
    let mut buffer = vec![0; LONGEST];
    loop {
        // Both branches are cancel-safe.
        let (length, from) = tokio::select! {
            received = socket.recv_from(&mut buffer) => received.map_err(Error::Receive)?,
            Some(_ended) = queries.join_next() => continue,
        };
        let query = &buffer[..length];
        match resolver.answer(query, Transport::Udp) {
            Answer::Local(reply) => send(&socket, &reply, from).await,
            Answer::Ignore => {}
            Answer::Forward | Answer::Follow(_) if queries.len() >= IN_FLIGHT => {
                if let Some(reply) = serv_fail(query) {
                    send(&socket, &reply, from).await;
                }
            }
            upstream @ (Answer::Forward | Answer::Follow(_)) => {
                let (socket, resolver, query) = (socket.clone(), resolver.clone(), query.to_vec());
                queries.spawn(async move {
                    if let Some(reply) = resolver.carry_out(upstream, (&query, Transport::Udp)).await {
                        send(&socket, &reply, from).await;
                    }
                });
            }
        }
    }
}

/// A client that is gone asks again if it cares.
async fn send(socket: &UdpSocket, reply: &[u8], to: SocketAddr) {
    if let Err(error) = socket.send_to(reply, to).await {
        tracing::debug!(%to, %error, "a reply could not be sent");
    }
}

async fn serve_tcp(listener: TcpListener, resolver: Arc<Resolver>) -> Infallible {
    let mut clients = JoinSet::new();
    loop {
        // Both branches are cancel-safe.
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_ended) = clients.join_next() => continue,
        };
        match accepted {
            Ok((stream, _)) if clients.len() < CONNECTIONS => {
                clients.spawn(serve_client(stream, resolver.clone()));
            }
            // Closed by dropping it.
            Ok(_) => {}
            // No descriptor was free, say; the wait keeps it from becoming a busy loop.
            Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
}

async fn serve_client(mut client: TcpStream, resolver: Arc<Resolver>) {
    while let Ok(Ok(query)) = timeout(IDLE, stream::receive(&mut client)).await {
        let answer = resolver.answer(&query, Transport::Tcp);
        let Some(reply) = resolver.carry_out(answer, (&query, Transport::Tcp)).await else {
            return;
        };
        if !matches!(timeout(IDLE, stream::send(&mut client, &reply)).await, Ok(Ok(()))) {
            return;
        }
    }
}

impl Resolver {
    fn answer(&self, query: &[u8], transport: Transport) -> Answer {
        let zone = self.zone.borrow().clone();
        answer(&zone, query, transport)
    }

    /// The reply in the end; none if there is to be none.
    async fn carry_out(&self, answer: Answer, (query, by): (&[u8], Transport)) -> Option<Vec<u8>> {
        match answer {
            Answer::Local(reply) => Some(reply),
            Answer::Forward => match self.forwarder.resolve(query, by).await {
                Some(reply) => Some(reply),
                None => serv_fail(query),
            },
            Answer::Follow(follow) => {
                let upstream = self.forwarder.resolve_whole(&follow.query).await;
                Some(follow.finish(query, upstream.as_deref()))
            }
            Answer::Ignore => None,
        }
    }
}
