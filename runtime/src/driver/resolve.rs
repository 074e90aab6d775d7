//! The host's resolver, for the pod's own one and for hosts of probes and hooks that are names.
//!
//! What is asked leaves by sockets of the host's network namespace, which the shim makes. Nothing here may have a thread
//! look names up, as getaddrinfo(3) in tokio does: the supervisor must not make one (`hull_shim::confine`).

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use hull_shim::wire::{Answer, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::hands::Hands;
use super::shim::Shim;
use super::unheard;
use crate::dns::{self, ResolvConf};
use crate::probe::tcp::Addresses;
use crate::store::file;

/// Queries by TCP that wait for a socket.
const STREAMS_WAITING: usize = 16;

/// What `host` stands for, found within `limit`.
pub async fn addresses(hands: &Hands, host: &str, limit: Duration) -> Addresses {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    let found = match timeout(limit, look_up(hands, host)).await {
        Ok(found) => found,
        Err(_elapsed) => Err(dns::NotFound::Silence.to_string()),
    };
    found.map_err(|why| format!("lookup {host}: {why}"))
}

async fn look_up(hands: &Hands, host: &str) -> Addresses {
    let hosts = text("/etc/hosts")?;
    if let Some(known) = dns::known_addresses(host, &hosts) {
        return Ok(known);
    }
    let (conf, upstream) = upstream(hands).await?;
    dns::look_up(host, &conf, upstream).await.map_err(|error| error.to_string())
}

/// What the host's resolv.conf says, and its resolvers.
///
/// # Errors
/// The file cannot be read, or the shim makes no socket.
pub async fn upstream(hands: &Hands) -> Result<(ResolvConf, dns::Upstream), String> {
    let conf = ResolvConf::parse(&text("/etc/resolv.conf")?);
    let mut upstream = dns::Upstream {
        servers: conf.servers(),
        streams: Some(streams(hands.shim().clone())),
        ..dns::Upstream::default()
    };
    if upstream.servers.iter().any(SocketAddr::is_ipv4) {
        upstream.v4 = Some(host_socket(hands.shim(), Family::V4, Kind::Datagram).await?.into());
    }
    if upstream.servers.iter().any(SocketAddr::is_ipv6) {
        match host_socket(hands.shim(), Family::V6, Kind::Datagram).await {
            Ok(socket) => upstream.v6 = Some(socket.into()),
            // A kernel without IPv6; the other servers are asked.
            Err(message) => tracing::warn!(message, "resolvers with IPv6 addresses are left out"),
        }
    }
    Ok((conf, upstream))
}

/// Makes sockets for TCP for as long as somebody may want one.
fn streams(shim: Rc<Shim>) -> mpsc::Sender<dns::StreamWanted> {
    let (sender, mut wanted) = mpsc::channel::<dns::StreamWanted>(STREAMS_WAITING);
    tokio::task::spawn_local(async move {
        while let Some(dns::StreamWanted { v6, socket }) = wanted.recv().await {
            let family = if v6 { Family::V6 } else { Family::V4 };
            match host_socket(&shim, family, Kind::Stream).await {
                Ok(made) => unheard(socket.send(made)),
                Err(message) => tracing::debug!(message, "a query goes by datagrams"),
            }
        }
    });
    sender
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Datagram,
    Stream,
}

/// A socket of the host's network namespace.
async fn host_socket(shim: &Shim, family: Family, kind: Kind) -> Result<OwnedFd, String> {
    let command = Command::HostSocket { v6: family == Family::V6, stream: kind == Kind::Stream };
    match shim.ask(command, &[]).await.map_err(|failure| failure.to_string())? {
        (Answer::Socket, mut descriptors) => Ok(descriptors.pop().ok_or("the shim sent no socket")?),
        (other, _) => Err(format!("the shim answered with {other:?}")),
    }
}

fn text(path: &str) -> Result<String, String> {
    let text = file::read_lossy_if_there(Path::new(path)).map_err(|error| error.to_string())?;
    Ok(text.unwrap_or_default())
}
