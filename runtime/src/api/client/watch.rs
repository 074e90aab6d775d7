//! Following one pod, or all pods of a namespace as they come and go.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{Client, Error, PodRef, Reply, Result, query};
use crate::store::follow::{Watch, WatchFlags, changed};

/// JSON documents of a watch, one a line.
#[derive(Debug)]
pub struct Lines {
    reply: Reply,
    buffer: Vec<u8>,
}

impl Lines {
    pub(super) fn new(reply: Reply) -> Self {
        Self { reply, buffer: Vec::new() }
    }

    /// The next document; none when the server ended the watch.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn next(&mut self) -> Result<Option<Value>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                let value = serde_json::from_slice(&line);
                return value
                    .map(Some)
                    .map_err(|source| Error::NotJson { pod: self.reply.pod.clone(), source });
            }
            match self.reply.piece().await? {
                Some(piece) => self.buffer.extend_from_slice(&piece),
                None => return Ok(None),
            }
        }
    }
}

/// One document of a watch.
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    /// `ADDED`, `MODIFIED`, `DELETED`
    pub kind: String,
    /// The object.
    pub object: Value,
}

impl Update {
    /// Whether it looks like the end of its object. One that is no longer selected is `DELETED` too, and may come back; only if it is
    /// being deleted at the same time, the end of the watch alone tells.
    fn is_end(&self) -> bool {
        self.kind == "DELETED" && self.object["metadata"]["deletionTimestamp"].is_string()
    }
}

/// What is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Of one namespace, or of all.
    pub namespace: Option<String>,
    /// Of these pods; empty means all, also those to come.
    pub names: Vec<String>,
    /// `pods` or `events`
    pub resource: &'static str,
    /// `labelSelector` of the watch; empty for all.
    pub labels: String,
}

/// Follows pods or their events over restarts of supervisors.
#[derive(Debug)]
pub struct Follower {
    updates: mpsc::Receiver<Result<Update>>,
    _tasks: JoinSet<()>,
}

impl Follower {
    /// Starts following. Pods that are there come first, then changes in the order they happen.
    #[must_use]
    pub fn new(client: &Client, subject: Subject) -> Self {
        let (sender, updates) = mpsc::channel(16);
        let mut tasks = JoinSet::new();
        tasks.spawn(discover(client.clone(), subject, sender));
        Self { updates, _tasks: tasks }
    }

    /// Follows one pod, whose end ends this.
    #[must_use]
    pub fn of_pod(client: &Client, pod: &PodRef) -> Self {
        let (sender, updates) = mpsc::channel(16);
        let subject = Subject {
            namespace: Some(pod.namespace.clone()),
            names: vec![pod.name.clone()],
            resource: "pods",
            labels: String::new(),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(follow(client.clone(), pod.clone(), subject, sender));
        Self { updates, _tasks: tasks }
    }

    /// The next update; none when nothing more can come. Cancel-safe.
    ///
    /// # Errors
    /// A pod does not answer any more.
    pub async fn next(&mut self) -> Option<Result<Update>> {
        self.updates.recv().await
    }
}

type Sender = mpsc::Sender<Result<Update>>;

/// Follows each pod that there is or will be in a task of its own.
async fn discover(client: Client, subject: Subject, sender: Sender) {
    let watch = Watch::new().ok();
    let mut tasks = JoinSet::new();
    let mut known = BTreeMap::new();
    loop {
        if let Some(watch) = &watch {
            observe(watch, &client, &subject);
        }
        match client.list(subject.namespace.as_deref()) {
            Ok(pods) => {
                known.retain(|_, pod: &mut PodRef| pods.contains(pod));
                let wanted = |pod: &PodRef| subject.names.is_empty() || subject.names.contains(&pod.name);
                for pod in pods.into_iter().filter(wanted) {
                    if known.insert(pod.uid.clone(), pod.clone()).is_none() {
                        tasks.spawn(follow(client.clone(), pod, subject.clone(), sender.clone()));
                    }
                }
            }
            Err(error) => {
                if sender.send(Err(error)).await.is_err() {
                    return;
                }
            }
        }
        tokio::select! {
            () = changed(watch.as_ref()) => {}
            Some(_) = tasks.join_next() => {}
            () = sender.closed() => return,
        }
    }
}

/// Watches the directories in which name links come and go. Those that are missing yet are noticed in their
/// parents, which are watched first: whatever is made after a look that missed it wakes the watch.
fn observe(watch: &Watch, client: &Client, subject: &Subject) {
    let flags = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::DELETE | WatchFlags::ONLYDIR;
    let layout = client.layout();
    let names = layout.name_link("", "").components().as_path().to_owned();
    let mut directories = vec![layout.pods(), names.clone()];
    match &subject.namespace {
        Some(namespace) => directories.push(names.join(namespace)),
        None => {
            let entries = std::fs::read_dir(&names).into_iter().flatten();
            directories.extend(entries.filter_map(std::result::Result::ok).map(|entry| entry.path()));
        }
    }
    let missing = down_to(layout.run()).into_iter().map(|directory| (directory, flags | WatchFlags::ONESHOT));
    let ours = std::iter::once(layout.run()).chain(directories.iter().map(PathBuf::as_path));
    for (directory, flags) in missing.chain(ours.map(|directory| (directory, flags))) {
        if let Err(error) = watch.add(directory, flags) {
            tracing::debug!(%error, directory = %directory.display(), "not watched yet");
        }
    }
}

/// The parents of a directory that is missing, from the nearest that is there down; none if it is there. They
/// are not ours: one event of each is enough, and the next look may find that they matter no more.
fn down_to(directory: &Path) -> Vec<&Path> {
    let mut parents = Vec::new();
    for (child, parent) in directory.ancestors().zip(directory.ancestors().skip(1)) {
        if child.exists() {
            break;
        }
        parents.push(parent);
    }
    parents.reverse();
    parents
}

/// Sends what happens to one pod until it is gone. A watch that breaks off while the pod is still recorded is
/// taken up again, and what was known already is left out.
async fn follow(client: Client, pod: PodRef, subject: Subject, sender: Sender) {
    let mut progress = Progress::default();
    loop {
        match follow_once(&client, &pod, &subject, (&sender, &mut progress)).await {
            Ok(true) => return,
            Ok(false) | Err(Error::Broken { .. } | Error::NotJson { .. }) => {}
            Err(error) => {
                if !error.is_not_found() && sender.send(Err(error)).await.is_err() {
                    tracing::debug!("nobody follows any more");
                }
                return;
            }
        }
        if !client.layout().pod(&pod.uid).dir().exists() {
            return;
        }
    }
}

/// What was sent already.
#[derive(Default)]
struct Progress {
    /// The newest version of each object.
    versions: BTreeMap<String, u64>,
}

impl Progress {
    /// The update as a reader is to see it; none if it brings nothing new.
    fn note(&mut self, mut update: Update) -> Option<Update> {
        let text = |pointer| update.object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let version = text("/metadata/resourceVersion").parse().unwrap_or(0);
        let name = text("/metadata/name").to_owned();
        if update.kind == "DELETED" {
            self.versions.remove(&name);
            return Some(update);
        }
        match self.versions.insert(name, version) {
            Some(known) if version <= known => return None,
            Some(_) => "MODIFIED".clone_into(&mut update.kind),
            None => "ADDED".clone_into(&mut update.kind),
        }
        Some(update)
    }
}

/// One watch; true once nothing more can come.
async fn follow_once(
    client: &Client,
    pod: &PodRef,
    subject: &Subject,
    (sender, progress): (&Sender, &mut Progress),
) -> Result<bool> {
    let mut url = pod.collection(subject.resource);
    if !subject.labels.is_empty() {
        query::push(&mut url, "labelSelector", &subject.labels);
    }
    if let Some(version) = progress.versions.get(&pod.name).filter(|_| subject.resource == "pods") {
        query::push(&mut url, "resourceVersion", &version.to_string());
    }
    let mut lines = client.watch(pod, url).await?;
    let mut gone = false;
    loop {
        let mut line = match lines.next().await {
            Ok(Some(line)) => line,
            Ok(None) => return Ok(gone),
            Err(_) if gone => return Ok(true),
            Err(error) => return Err(error),
        };
        let update = Update {
            kind: line["type"].as_str().unwrap_or_default().to_owned(),
            object: line["object"].take(),
        };
        gone = subject.resource == "pods" && update.is_end();
        if let Some(update) = progress.note(update)
            && sender.send(Ok(update)).await.is_err()
        {
            return Ok(true);
        }
    }
}
