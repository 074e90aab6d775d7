//! Connections to ports of the pod: `…/portforward` as kubectl and the kubelet speak it.
//!
//! The supervisor lives in the pod's network namespace: it connects to `localhost` there, so that servers that listen on
//! loopback alone are reached too. What cannot be connected is told to the client and ends that connection only.
//!
//! ```text
//!  client --- WebSocket --- channels or tunnel --- forward (one task a connection) --- localhost:port
//! ```

mod channels;
mod frame;
mod spdy;
mod tunnel;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

use super::body::Body;
use super::query::Query;
use super::status::Status;
use super::upgrade::Upgrade;
use super::{Server, order};
use crate::probe::tcp;
use frame::Frames;

/// The subprotocols, best first. The first is the second with messages that close a channel, in both directions, so that
/// one half of a connection can end before the other; the last is what kubectl tunnels since 1.30.
pub const PROTOCOLS: [&str; 3] = ["v5.channel.k8s.io", "v4.channel.k8s.io", TUNNEL];
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
/// Bytes that are read from a connection at once.
const PIECE: usize = 32 * 1024;
/// Messages that wait for a slow reader.
const WAITING: usize = 4;

/// `…/pods/NAME/portforward`
pub(super) fn answer(
    server: &Server,
    mut request: Request<Incoming>,
    query: &Query,
) -> Result<Response<Body>, Status> {
    order::check_alive(server)?;
    let ports = ports(query)?;
    let (upgrade, response) = Upgrade::accept(&mut request, &PROTOCOLS)?;
    let target = Target { uid: server.pod.uid.clone() };
    match upgrade.protocol {
        TUNNEL => server.keep(tunnel::run(upgrade, target)),
        _ if ports.is_empty() => {
            return Err(Status::bad_request("query parameter \"ports\" is required"));
        }
        protocol => {
            let closing = if protocol == PROTOCOLS[0] { Closing::Told } else { Closing::WithTheSession };
            server.keep(channels::run(upgrade, target, (ports, closing)));
        }
    }
    Ok(response)
}

/// The ports that the query names: `ports=80&ports=81` or `ports=80,81`.
fn ports(query: &Query) -> Result<Vec<u16>, Status> {
    let words = query.all("ports").flat_map(|list| list.split(','));
    let port = |word: &str| word.parse().ok().filter(|port| *port > 0);
    let ports: Option<Vec<u16>> = words.map(port).collect();
    ports.filter(|ports| ports.len() <= channels::MOST_PORTS).ok_or_else(|| {
        let most = channels::MOST_PORTS;
        Status::bad_request(format!("ports: give at most {most} numbers from 1 to 65535"))
    })
}

/// Whether the end of one direction can be told by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Closing {
    Told,
    WithTheSession,
}

/// The pod that is connected to.
#[derive(Debug, Clone)]
struct Target {
    uid: String,
}

impl Target {
    /// Connects, IPv4 first; the reason in the words of the kubelet.
    async fn dial(&self, port: u16) -> Result<TcpStream, String> {
        let to = |ip: IpAddr| tcp::dial(SocketAddr::new(ip, port));
        let four = match to(Ipv4Addr::LOCALHOST.into()).await {
            Ok(stream) => return Ok(stream),
            Err(error) => plain(&error),
        };
        to(Ipv6Addr::LOCALHOST.into()).await.map_err(|error| {
            format!(
                "error forwarding port {port} to pod {}, uid : failed to connect to localhost:{port} inside the pod, \
                 IPv4: dial tcp4 127.0.0.1:{port}: connect: {four} IPv6: dial tcp6 [::1]:{port}: connect: {}",
                self.uid,
                plain(&error)
            )
        })
    }
}

/// An error without its number: `connection refused`.
fn plain(error: &std::io::Error) -> String {
    let text = error.to_string().to_lowercase();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// One connection from its beginning to its end.
struct Connection {
    target: Target,
    port: u16,
    frames: Frames,
    /// What the client sends; its end is the end of that direction.
    input: mpsc::Receiver<Bytes>,
    /// What the client is to be sent.
    out: mpsc::Sender<Message>,
}

impl Connection {
    async fn run(self) {
        let Self { target, port, frames, input, out } = self;
        match target.dial(port).await {
            Ok(stream) => {
                let (reader, writer) = stream.into_split();
                let to_pod = to_pod(input, writer);
                let from_pod = from_pod(reader, &frames, &out);
                if frames.tell_closing() {
                    tokio::join!(to_pod, from_pod);
                } else {
                    // The client cannot be told that this direction alone has ended. Bytes on their way to a server
                    // that said its last word are of no use.
                    tokio::select! {
                        () = async { to_pod.await; std::future::pending().await } => {}
                        () = from_pod => {}
                    }
                }
            }
            Err(reason) => give(&out, frames.error(&reason)).await,
        }
        for last in frames.ends() {
            give(&out, last).await;
        }
    }
}

async fn to_pod(mut input: mpsc::Receiver<Bytes>, mut writer: OwnedWriteHalf) {
    while let Some(bytes) = input.recv().await {
        if let Err(error) = writer.write_all(&bytes).await {
            tracing::debug!(%error, "a forwarded connection takes no more");
            return;
        }
    }
    if let Err(error) = writer.shutdown().await {
        tracing::debug!(%error, "a forwarded connection was closed already");
    }
}

async fn from_pod(mut reader: OwnedReadHalf, frames: &Frames, out: &mpsc::Sender<Message>) {
    let mut buffer = vec![0; PIECE];
    loop {
        match reader.read(&mut buffer).await {
            Ok(0) => break,
            Ok(count) => give(out, frames.data(&buffer[..count])).await,
            Err(error) => {
                give(out, frames.error(&plain(&error))).await;
                break;
            }
        }
    }
    if let Some(last) = frames.end_of_data() {
        give(out, last).await;
    }
}

/// Hands a message to the session; without one nobody wants it any more.
async fn give(out: &mpsc::Sender<Message>, message: Vec<u8>) {
    if out.send(Message::binary(message)).await.is_err() {
        tracing::debug!("the session of a forwarded connection is over");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_numbers_in_one_list_or_several() {
        assert_eq!(ports(&Query::parse("ports=80&ports=81,82")).unwrap(), [80, 81, 82]);
        assert!(ports(&Query::default()).unwrap().is_empty());
        for wrong in ["ports=0", "ports=x", "ports=80,", "ports=65536"] {
            assert!(ports(&Query::parse(wrong)).is_err(), "{wrong}");
        }
    }
}
