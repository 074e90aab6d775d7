//! `hull port-forward`: ports of this host that lead into a pod.
//!
//! Each connection is a session of its own with the pod's supervisor, so none waits for another; a supervisor that is
//! replaced ends those that it carried, and the next one is carried by its successor. As with kubectl, a port of the pod
//! that cannot be connected to ends the command.

mod connection;
mod ports;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::context::Context;
use super::error::note;
use super::print::field;
use super::{Error, Exit, Result, describe, resource};
use crate::api::client::{Client, Follower, PodRef};
use connection::{Connection, Failure};
use ports::Pair;

/// What kubectl says at its end.
const LOST: &str = "lost connection to pod";

/// Arguments of `port-forward`.
#[derive(Debug, clap::Args)]
pub(super) struct PortForward {
    /// The pod: `web` or `pod/web`.
    #[arg(value_name = "POD")]
    pod: String,
    /// Ports: REMOTE, LOCAL:REMOTE, or :REMOTE for a local port that is free; REMOTE may be the name of a container's port.
    #[arg(required = true, value_name = "[LOCAL:]REMOTE")]
    ports: Vec<String>,
    /// Addresses to listen at.
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',', default_value = "localhost")]
    address: Vec<String>,
}

impl PortForward {
    pub(super) async fn act(self, context: &Context) -> Result {
        let addresses = self.addresses()?;
        let pod = context.pod(&resource::pod_name(&self.pod)?)?;
        let object = context.client.pod(&pod).await?;
        let phase = field::text(&object, "/status/phase");
        if phase != "Running" {
            return Err(Error::Usage(format!(
                "unable to forward port because pod is not running. Current status={phase}"
            )));
        }
        let pairs = self.ports.iter().map(|text| Pair::parse(text, &object)).collect::<Result<Vec<_>>>()?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Terminal)?;
        let doors = open(context, &pairs, &addresses).await?;
        tokio::select! {
            ended = forward(context, &pod, doors) => ended,
            ended = until_over(&context.client, &pod) => ended,
            _ = interrupt.recv() => Ok(Exit::Success),
        }
    }

    fn addresses(&self) -> Result<Vec<IpAddr>> {
        let mut addresses = Vec::new();
        for text in &self.address {
            match (text.as_str(), text.parse()) {
                ("localhost", _) => {
                    addresses.extend([IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()]);
                }
                (_, Ok(address)) => addresses.push(address),
                (text, Err(_)) => {
                    return Err(Error::Hinted {
                        message: format!("{text} is not a valid IP"),
                        hint: "--address takes IP addresses and localhost, separated by commas".to_owned(),
                    });
                }
            }
        }
        Ok(addresses)
    }
}

/// A listening socket and where it leads.
struct Door {
    listener: TcpListener,
    at: SocketAddr,
    pair: Pair,
}

/// Listens at all pairs; one that cannot be listened at is told, and fails the command only if it is the last.
async fn open(context: &Context, pairs: &[Pair], addresses: &[IpAddr]) -> Result<Vec<Door>> {
    let mut doors = Vec::new();
    for pair in pairs {
        let (opened, refused) = listen(*pair, addresses).await;
        for door in &opened {
            context.print(&format!("Forwarding from {} -> {}\n", door.at, pair.remote))?;
        }
        if opened.is_empty() {
            context.note(&format!(
                "Unable to listen on port {}: Listeners failed to create with the following errors: [{}]",
                pair.local,
                refused.join(" ")
            ));
        }
        doors.extend(opened);
    }
    if doors.is_empty() {
        let pairs: Vec<String> = pairs.iter().map(ToString::to_string).collect();
        let message = format!("unable to listen on any of the requested ports: [{}]", pairs.join(" "));
        return Err(Error::Usage(message));
    }
    Ok(doors)
}

/// Listens at one local port of all addresses: a free one that the first address gave is wanted of the others too.
async fn listen(mut pair: Pair, addresses: &[IpAddr]) -> (Vec<Door>, Vec<String>) {
    let (mut doors, mut refused) = (Vec::new(), Vec::new());
    for address in addresses {
        let at = SocketAddr::new(*address, pair.local);
        match TcpListener::bind(at).await.and_then(|listener| Ok((listener.local_addr()?, listener))) {
            Ok((at, listener)) => {
                pair.local = at.port();
                doors.push(Door { listener, at, pair });
            }
            Err(error) => {
                let family = if address.is_ipv4() { "tcp4" } else { "tcp6" };
                let error = error.to_string().to_lowercase();
                let why = error.split(" (os error").next().unwrap_or_default();
                refused.push(format!("unable to create listener: Error listen {family} {at}: bind: {why}"));
            }
        }
    }
    (doors, refused)
}

/// Takes connections until the command ends. One that the pod's side refuses ends it too, as it does kubectl.
async fn forward(context: &Context, pod: &PodRef, doors: Vec<Door>) -> Result {
    let (arrived, mut arrivals) = mpsc::channel(16);
    let mut tasks = JoinSet::new();
    for door in doors {
        tasks.spawn(accept(door, arrived.clone()));
    }
    let mut connections = JoinSet::new();
    loop {
        // Both branches are cancel-safe.
        let (stream, pair) = tokio::select! {
            arrival = arrivals.recv() => match arrival {
                Some(arrival) => arrival,
                None => return Ok(Exit::Success),
            },
            Some(ended) = connections.join_next() => match ended {
                Ok(Err(Failure::Refused(_))) => return Err(Error::Usage(LOST.to_owned())),
                Ok(Ok(()) | Err(Failure::Session(_))) | Err(_) => continue,
            },
        };
        context.print(&format!("Handling connection for {}\n", pair.local))?;
        let connection = Connection { client: context.client.clone(), pod: pod.clone(), pair };
        connections.spawn(async move {
            let ended = connection.run(stream).await;
            if let Err(error) = &ended {
                note(&format!("an error occurred forwarding {} -> {}: {error}", pair.local, pair.remote));
            }
            ended
        });
    }
}

/// Takes the connections of one door, for as long as somebody wants them.
async fn accept(Door { listener, pair, .. }: Door, arrived: mpsc::Sender<(TcpStream, Pair)>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if arrived.send((stream, pair)).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                note(&format!("Error accepting connection on port {}: {error}", pair.local));
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

/// Waits until nothing in the pod can be connected to any more.
async fn until_over(client: &Client, pod: &PodRef) -> Result {
    let mut follower = Follower::of_pod(client, pod);
    while let Some(update) = follower.next().await {
        let update = update?;
        if update.kind == "DELETED" || describe::is_over(&update.object) {
            break;
        }
    }
    Err(Error::Usage(LOST.to_owned()))
}
