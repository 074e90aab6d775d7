//! Where pods can be reached, for headless Services: this pod says it of itself, and its resolver hears it of all.
//!
//! The files of other pods are looked at only while there is a Service whose name has the addresses of pods: many
//! pods that nobody asks for by name are no work for each other. A host with more pods than inotify instances looks every few seconds.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use hull_shim::layout::Layout;
use tokio::sync::watch;

use super::handle::View;
use super::hands::Hands;
use crate::dns::ServiceRecord;
use crate::manifest::raw::{Pod, Service};
use crate::store::endpoints::{Endpoints, PodEndpoint};
use crate::store::follow::{Watch, WatchFlags};
use crate::store::objects::service;

/// Between two looks where nothing tells of changes; answers of the resolver may be that old anyway.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// What one pod says and hears.
#[derive(Debug)]
pub struct Neighbours {
    files: Endpoints,
    /// Whether it was said since this supervisor started, and what.
    said: RefCell<Option<Option<PodEndpoint>>>,
    /// What all pods say, by uid, as long as somebody wants to know.
    all: RefCell<BTreeMap<OsString, PodEndpoint>>,
    wanted: watch::Sender<bool>,
    warned: Cell<bool>,
}

impl Neighbours {
    /// Nothing said and nothing heard yet.
    #[must_use]
    pub fn new(layout: &Layout) -> Self {
        Self {
            files: Endpoints::open(layout),
            said: RefCell::default(),
            all: RefCell::default(),
            wanted: watch::Sender::new(false),
            warned: Cell::new(false),
        }
    }

    /// Writes down where the pod is, if that is news.
    pub fn say(&self, uid: &str, pod: &Pod, view: &View) {
        let endpoint = PodEndpoint::of(pod, &view.status, view.deletion.is_some());
        if self.said.borrow().as_ref() == Some(&endpoint) {
            return;
        }
        let written = match &endpoint {
            Some(endpoint) => self.files.write(uid, endpoint),
            None => self.files.remove(uid),
        };
        match written {
            Ok(()) => drop(self.said.replace(Some(endpoint))),
            // The next view tries again.
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "other pods do not hear of this one"
                );
            }
        }
    }

    /// The pod is gone.
    pub fn say_farewell(&self, uid: &str) {
        if let Err(error) = self.files.remove(uid) {
            tracing::warn!(%error, "the shim will remove where the pod was");
        }
    }

    /// Services with the pods behind them.
    #[must_use]
    pub fn behind(&self, services: &[Service]) -> Vec<ServiceRecord> {
        self.want(services.iter().any(service::needs_endpoints));
        let all = self.all.borrow();
        services.iter().map(|service| service::record(service, all.values())).collect()
    }

    fn want(&self, wanted: bool) {
        let turned = self.wanted.send_if_modified(|before| std::mem::replace(before, wanted) != wanted);
        if turned {
            self.all.replace(if wanted { self.files.all() } else { BTreeMap::new() });
        }
    }

    /// Reads again what the pods of these uids say; without any, what all do.
    fn hear(&self, uids: Vec<OsString>) {
        if uids.is_empty() {
            self.all.replace(self.files.all());
        }
        let mut all = self.all.borrow_mut();
        for uid in uids {
            match self.files.read(&uid) {
                Some(endpoint) => drop(all.insert(uid, endpoint)),
                None => drop(all.remove(&uid)),
            }
        }
    }
}

/// Keeps the resolver's names up to date with what other pods say.
pub async fn watch(hands: Rc<Hands>) {
    let mut wanted = hands.neighbours().wanted.subscribe();
    while wanted.wait_for(|wanted| *wanted).await.is_ok() {
        tokio::select! {
            () = follow_somehow(&hands) => {}
            _ = wanted.wait_for(|wanted| !*wanted) => {}
        }
    }
}

async fn follow_somehow(hands: &Hands) {
    if let Err(error) = follow(hands).await {
        if !hands.neighbours().warned.replace(true) {
            tracing::warn!(%error, "other pods are not watched, but looked at now and then");
        }
        tokio::time::sleep(LOOK_AGAIN).await;
        hands.neighbours().hear(Vec::new());
        hands.renew_names();
    }
}

async fn follow(hands: &Hands) -> io::Result<()> {
    let watch = Watch::new()?;
    watch.add(&hands.neighbours().files.directory()?, WatchFlags::MOVED_TO | WatchFlags::DELETE)?;
    let mut changed = Vec::new();
    loop {
        hands.neighbours().hear(changed);
        hands.renew_names();
        changed = watch.changed().await?;
    }
}
