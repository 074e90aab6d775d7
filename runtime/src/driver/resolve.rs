//! The host's resolver, for the pod's own one and for hosts of probes and hooks that are names.
//!
//! What is asked leaves by sockets of the host's network namespace, which the shim makes. Nothing here may have a thread
//! look names up, as getaddrinfo(3) in tokio does: the supervisor must not make one (`hull_shim::confine`).

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use hull_shim::wire::{Answer, Command};
use tokio::time::timeout;

use super::hands::Hands;
use crate::dns::{self, ResolvConf};
use crate::probe::tcp::Addresses;
use crate::store::file;

/// Where resolvers listen.
pub const DNS_PORT: u16 = 53;

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
    let answer = hands.shim().ask(Command::HostSocket { v6: false }, &[]).await;
    match answer.map_err(|failure| failure.to_string())? {
        (Answer::Socket, mut descriptors) => {
            let socket = descriptors.pop().ok_or("the shim sent no socket")?;
            let servers = conf.nameservers.iter().filter(|server| IpAddr::is_ipv4(server));
            let servers = servers.map(|server| SocketAddr::new(*server, DNS_PORT)).collect();
            Ok((conf, dns::Upstream { servers, v4: Some(socket.into()), v6: None }))
        }
        (other, _) => Err(format!("the shim answered with {other:?}")),
    }
}

fn text(path: &str) -> Result<String, String> {
    let text = file::read_lossy_if_there(Path::new(path)).map_err(|error| error.to_string())?;
    Ok(text.unwrap_or_default())
}
