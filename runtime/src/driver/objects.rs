//! Objects that change while the pod lives: a ConfigMap that the core waits for may have come, and the
//! pod's resolver has to know new names.
//!
//! `hull apply` tells every pod (`PUT` on its socket). A watch on the directories tells it too, should that
//! process be killed in between; a host with more pods than inotify instances does without.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::watch;

use super::hands::Hands;
use super::resolve;
use crate::dns::{self, Zone};
use crate::spec::CLUSTER_DOMAIN;
use crate::store::follow::{Watch, WatchFlags};
use crate::store::objects::{Kind, Objects};

/// The kinds of objects that are watched.
const KINDS: [Kind; 3] = [Kind::Service, Kind::ConfigMap, Kind::Secret];

/// Looks again whenever an object of the pod's namespace was applied or removed.
pub async fn watch(hands: Rc<Hands>) {
    if let Err(error) = follow(&hands).await {
        tracing::warn!(%error, "objects are not watched; hull apply still tells of them");
    }
}

async fn follow(hands: &Hands) -> io::Result<()> {
    let watch = Watch::new()?;
    for kind in KINDS {
        let dir = directory(hands, kind)?;
        watch.add(&dir, WatchFlags::MOVED_TO | WatchFlags::DELETE)?;
    }
    loop {
        watch.changed().await?;
        hands.objects_changed();
    }
}

fn directory(hands: &Hands, kind: Kind) -> io::Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt;
    let dir = hands.layout().objects(kind.plural(), &hands.pod().meta.namespace);
    let mode = if kind == Kind::Secret { 0o700 } else { 0o755 };
    std::fs::DirBuilder::new().recursive(true).mode(mode).create(&dir)?;
    Ok(dir)
}

/// Runs the pod's resolver on the address that its `resolv.conf` names, if it has one.
pub async fn serve_names(hands: &Hands) {
    let Some(address) = hands.resolver() else { return };
    let upstream = match resolve::upstream(hands).await {
        Ok((_, upstream)) => upstream,
        Err(message) => return tracing::error!(message, "the pod has no resolver"),
    };
    let (renew, names) = watch::channel(Arc::new(zone(hands)));
    hands.follow_names(renew);
    let listeners = match dns::Listeners::bind(SocketAddr::new(address, dns::PORT)).await {
        Ok(listeners) => listeners,
        Err(error) => {
            return tracing::error!(error = &error as &dyn std::error::Error, "the pod has no resolver");
        }
    };
    let server = listeners.serve(names, upstream);
    tokio::task::spawn_local(async move {
        let Err(error) = server.await;
        tracing::error!(error = &error as &dyn std::error::Error, "the pod's resolver ended");
    });
}

/// What the services of all namespaces are called; what cannot be read is left out and said.
pub(super) fn zone(hands: &Hands) -> Zone {
    match Objects::open(hands.layout()).all_services() {
        Ok(services) => Zone::from_services(CLUSTER_DOMAIN, hands.neighbours().behind(&services)),
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "services cannot be read");
            Zone::from_services(CLUSTER_DOMAIN, Vec::new())
        }
    }
}
