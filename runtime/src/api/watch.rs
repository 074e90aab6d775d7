//! Lists and watches of the pod and of its events.
//!
//! A watch is a chunked response of JSON lines `{"type", "object"}`: `ADDED` for what there is, then each change.
//! A reader that is too slow misses steps in between, never the newest state.

use std::sync::Arc;

use hyper::Response;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;

use super::body::{self, Body, Sink};
use super::form::{Form, Kind};
use super::query::Query;
use super::selector::Selector;
use super::status::Status;
use super::{Facts, Server, object};
use crate::core::status::Event;
use crate::driver::handle::{Change, Handle, View};
use crate::store::journal::is_kept;

/// `GET …/pods`
pub(super) fn pods(
    server: &Server,
    namespace: Option<&str>,
    (query, form): (&Query, Form),
) -> Result<Response<Body>, Status> {
    let selector = Selector::of_query(query)?;
    let here = namespace.is_none_or(|namespace| namespace == server.pod.namespace);
    let (handle, pod) = (server.handle.clone(), Arc::clone(&server.pod));
    if query.flag("watch") {
        let known = query.number("resourceVersion")?.and_then(|version| u64::try_from(version).ok());
        return Ok(body::stream("application/json", async move |sink| {
            if here {
                let known = known.filter(|version| *version > 0);
                watch_pod(&handle, (&pod, &selector), known, (form, &sink)).await;
            } else {
                sink.closed().await;
            }
        }));
    }
    let view = &handle.snapshot().view;
    let items = Some(object::pod(view)).filter(|pod| here && selector.matches(pod)).into_iter().collect();
    Ok(body::json(&form.list(Kind::Pod, items, view.generation, (pod.clock)())))
}

/// `known` is the generation that the reader has seen already.
async fn watch_pod(
    handle: &Handle,
    (pod, selector): (&Facts, &Selector),
    known: Option<u64>,
    (form, sink): (Form, &Sink),
) {
    let (snapshot, mut changes) = handle.follow();
    let mut reader = Reader::new(selector, known, &snapshot.view);
    let mut change = Ok(Change::Pod(Arc::clone(&snapshot.view)));
    loop {
        let (line, is_end) = match change {
            Ok(Change::Pod(view)) => (reader.sees(view), false),
            Ok(Change::Gone(view)) => (reader.loses(&view), true),
            Ok(Change::Event(_)) => (None, false),
            Err(RecvError::Lagged(_)) => (reader.sees(Arc::clone(&handle.snapshot().view)), false),
            Err(RecvError::Closed) => return,
        };
        if let Some((kind, object)) = line
            && !send(sink, kind, &form.one(Kind::Pod, object, (pod.clock)())).await
        {
            return;
        }
        if is_end {
            return;
        }
        change = changes.recv().await;
    }
}

/// What a reader of a watch knows of the pod. One whose selector the pod does not match any more, or does only now, is told
/// that it goes or comes, as by the Kubernetes API.
struct Reader<'a> {
    selector: &'a Selector,
    /// The newest generation that was looked at.
    seen: u64,
    /// The pod as the reader has it; none while it is not selected.
    held: Option<Arc<View>>,
}

impl<'a> Reader<'a> {
    /// Whoever has seen an earlier generation may have had the pod selected then.
    fn new(selector: &'a Selector, known: Option<u64>, now: &Arc<View>) -> Self {
        let seen = known.unwrap_or_default();
        let may_hold = |_: &u64| seen < now.generation || selector.matches(&object::pod(now));
        let held = known.filter(may_hold).map(|_| Arc::clone(now));
        Self { selector, seen, held }
    }

    fn sees(&mut self, view: Arc<View>) -> Option<(&'static str, Value)> {
        // Subscribing comes before looking, so a change may have been seen in the snapshot.
        if view.generation <= self.seen {
            return None;
        }
        self.seen = view.generation;
        let object = object::pod(&view);
        let held = self.selector.matches(&object).then_some(view);
        match (std::mem::replace(&mut self.held, held), &self.held) {
            (None, Some(_)) => Some(("ADDED", object)),
            (Some(_), Some(_)) => Some(("MODIFIED", object)),
            // The pod as it was when it was selected, at the version of the change.
            (Some(before), None) => {
                Some(("DELETED", object::pod(&View { generation: self.seen, ..View::clone(&before) })))
            }
            (None, None) => None,
        }
    }

    fn loses(&mut self, view: &View) -> Option<(&'static str, Value)> {
        self.held.take().map(|_| ("DELETED", object::pod(view)))
    }
}

/// Writes a line; false when nobody reads any more.
async fn send(sink: &Sink, kind: &str, object: &Value) -> bool {
    let line = format!("{}\n", json!({"type": kind, "object": object}));
    sink.send(line.into()).await.is_ok()
}

/// `GET …/events`
pub(super) fn events(
    server: &Server,
    namespace: Option<&str>,
    (query, form): (&Query, Form),
) -> Result<Response<Body>, Status> {
    let selector = Selector::of_query(query)?;
    let here = namespace.is_none_or(|namespace| namespace == server.pod.namespace);
    let (handle, pod) = (server.handle.clone(), Arc::clone(&server.pod));
    if query.flag("watch") {
        // The reader has listed before: it wants only what comes now.
        let listed = query.number("resourceVersion")?.is_some_and(|version| version > 0);
        return Ok(body::stream("application/json", async move |sink| {
            if here {
                watch_events(&handle, (&pod, &selector), listed, (form, &sink)).await;
            } else {
                sink.closed().await;
            }
        }));
    }
    let snapshot = handle.snapshot();
    let now = (pod.clock)();
    let kept = snapshot.events.iter().filter(|event| is_kept(event, now));
    let events = kept.map(|event| object::event(&snapshot.view.object, event));
    let items = events.filter(|event| here && selector.matches(event)).collect();
    Ok(body::json(&form.list(Kind::Event, items, snapshot.view.generation, now)))
}

async fn watch_events(
    handle: &Handle,
    (pod, selector): (&Facts, &Selector),
    listed: bool,
    to: (Form, &Sink),
) {
    let (snapshot, mut changes) = handle.follow();
    // What events tell of their pod does not change.
    let whose = (pod, selector, &*snapshot.view.object);
    let mut shown = Shown::default();
    for event in &snapshot.events {
        let kind = shown.note(event);
        let is_news = !listed && is_kept(event, (whose.0.clock)());
        if is_news && !send_event(to, kind, whose, event).await {
            return;
        }
    }
    loop {
        let news = match changes.recv().await {
            Ok(Change::Event(event)) => vec![event],
            Ok(Change::Pod(_)) => continue,
            Err(RecvError::Lagged(_)) => handle.snapshot().events.clone(),
            Ok(Change::Gone(_)) | Err(RecvError::Closed) => return,
        };
        for event in news.iter().filter(|event| !shown.has(event)).cloned().collect::<Vec<_>>() {
            let kind = shown.note(&event);
            if !send_event(to, kind, whose, &event).await {
                return;
            }
        }
    }
}

async fn send_event(
    (form, sink): (Form, &Sink),
    kind: &str,
    (pod, selector, accepted): (&Facts, &Selector, &Value),
    event: &Event,
) -> bool {
    let object = object::event(accepted, event);
    !selector.matches(&object) || send(sink, kind, &form.one(Kind::Event, object, (pod.clock)())).await
}

/// Which count of each event was sent.
#[derive(Default)]
struct Shown(std::collections::HashMap<String, u32>);

impl Shown {
    fn has(&self, event: &Event) -> bool {
        self.0.get(&event.name).is_some_and(|count| *count >= event.count)
    }

    fn note(&mut self, event: &Event) -> &'static str {
        match self.0.insert(event.name.clone(), event.count) {
            None => "ADDED",
            Some(_) => "MODIFIED",
        }
    }
}
