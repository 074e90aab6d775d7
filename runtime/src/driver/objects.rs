//! Objects that change while the pod lives: a watch on their directories wakes the core (a missing
//! ConfigMap may have come) and renews the names that the pod's resolver knows.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use hull_shim::wire::{Answer, Command};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::net::unix::pipe;
use tokio::sync::watch;

use super::hands::Hands;
use super::unheard;
use crate::core::input::Input;
use crate::dns::{self, Zone};
use crate::spec::CLUSTER_DOMAIN;
use crate::store::file;
use crate::store::objects::Objects;

/// The kinds of objects, as their directories are called.
const KINDS: [&str; 3] = ["services", "configmaps", "secrets"];
/// Where the resolver listens.
const DNS_PORT: u16 = 53;

/// Tells the core whenever an object of the pod's namespace was applied or removed.
pub async fn watch(hands: Rc<Hands>) {
    let watched = follow(&hands, |hands| hands.tell(Input::ObjectsChanged)).await;
    if let Err(error) = watched {
        tracing::error!(%error, "objects are not watched; waiting for one ends only by its retry");
    }
}

/// Calls `changed` after each change in the namespace's object directories.
async fn follow(hands: &Hands, changed: impl Fn(&Hands)) -> io::Result<()> {
    let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    for kind in KINDS {
        let dir = directory(hands, kind)?;
        inotify::add_watch(
            &inotify,
            dir,
            WatchFlags::MOVED_TO | WatchFlags::DELETE | WatchFlags::CLOSE_WRITE,
        )?;
    }
    // Not a pipe, but read like one: tokio only waits for it to be readable and calls read(2).
    let events = pipe::Receiver::from_owned_fd_unchecked(OwnedFd::from(inotify))?;
    let mut buffer = [0; 4096];
    loop {
        events.readable().await?;
        match events.try_read(&mut buffer) {
            Ok(_) => changed(hands),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

fn directory(hands: &Hands, kind: &str) -> io::Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt;
    let dir = hands.layout().objects(kind, &hands.pod().meta.namespace);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
    Ok(dir)
}

/// Runs the pod's resolver on the address that its `resolv.conf` names, if it has one.
pub async fn serve_names(hands: Rc<Hands>) {
    let Some(address) = hands.resolver() else { return };
    let upstream = match upstream(&hands).await {
        Ok(upstream) => upstream,
        Err(message) => return tracing::error!(message, "the pod has no resolver"),
    };
    let (renew, names) = watch::channel(Arc::new(zone(&hands)));
    let server = dns::serve(SocketAddr::new(address, DNS_PORT), names, upstream);
    tokio::task::spawn_local(async move {
        let Err(error) = server.await;
        tracing::error!(error = &error as &dyn std::error::Error, "the pod's resolver ended");
    });
    tokio::task::spawn_local(async move {
        let followed = follow(&hands, |hands| unheard(renew.send(Arc::new(zone(hands))))).await;
        if let Err(error) = followed {
            tracing::error!(%error, "services are not watched; names of new ones do not resolve");
        }
    });
}

/// What the services of all namespaces are called; what cannot be read is left out and said.
fn zone(hands: &Hands) -> Zone {
    match Objects::open(hands.layout()).service_records() {
        Ok(services) => Zone::from_services(CLUSTER_DOMAIN, services),
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "services cannot be read");
            Zone::from_services(CLUSTER_DOMAIN, Vec::new())
        }
    }
}

/// The host's resolvers, through a socket of the host's network namespace.
async fn upstream(hands: &Hands) -> Result<dns::Upstream, String> {
    let text =
        file::read_if_there(std::path::Path::new("/etc/resolv.conf")).map_err(|error| error.to_string())?;
    let servers = dns::ResolvConf::parse(&text.unwrap_or_default()).nameservers;
    let answer = hands.shim().ask(Command::HostSocket { v6: false }, &[]).await;
    match answer.map_err(|failure| failure.to_string())? {
        (Answer::Socket, mut descriptors) => {
            let socket = descriptors.pop().ok_or("the shim sent no socket")?;
            let servers = servers.into_iter().filter(IpAddr::is_ipv4);
            let servers = servers.map(|server| SocketAddr::new(server, DNS_PORT)).collect();
            Ok(dns::Upstream { servers, v4: Some(socket.into()), v6: None })
        }
        (other, _) => Err(format!("the shim answered with {other:?}")),
    }
}
