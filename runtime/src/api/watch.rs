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
    let selected = Selector::of_query(query)?.matches(&server.pod_object());
    let here = namespace.is_none_or(|namespace| namespace == server.pod.namespace);
    let (handle, pod) = (server.handle.clone(), Arc::clone(&server.pod));
    if query.flag("watch") {
        let known = query.number("resourceVersion")?.and_then(|version| u64::try_from(version).ok());
        return Ok(body::stream("application/json", async move |sink| {
            if here && selected {
                watch_pod(&handle, &pod, known.filter(|version| *version > 0), (form, &sink)).await;
            } else {
                sink.closed().await;
            }
        }));
    }
    let view = &handle.snapshot().view;
    let items = if here && selected { vec![object::pod(view)] } else { Vec::new() };
    Ok(body::json(&form.list(Kind::Pod, items, view.generation, (pod.clock)())))
}

/// `known` is the generation that the reader has seen already.
async fn watch_pod(handle: &Handle, pod: &Facts, known: Option<u64>, (form, sink): (Form, &Sink)) {
    let (snapshot, mut changes) = handle.follow();
    let mut shown = match known {
        Some(known) if known >= snapshot.view.generation => known,
        _ => {
            let kind = if known.is_some() { "MODIFIED" } else { "ADDED" };
            if !send_pod((form, sink), kind, pod, &snapshot.view).await {
                return;
            }
            snapshot.view.generation
        }
    };
    loop {
        let (kind, view) = match changes.recv().await {
            Ok(Change::Pod(view)) => ("MODIFIED", view),
            Ok(Change::Gone(view)) => ("DELETED", view),
            Ok(Change::Event(_)) => continue,
            Err(RecvError::Lagged(_)) => ("MODIFIED", Arc::clone(&handle.snapshot().view)),
            Err(RecvError::Closed) => return,
        };
        let gone = kind == "DELETED";
        // Subscribing comes before looking, so a change may have been seen in the snapshot.
        if !gone && view.generation <= shown {
            continue;
        }
        shown = view.generation;
        if !send_pod((form, sink), kind, pod, &view).await || gone {
            return;
        }
    }
}

async fn send_pod((form, sink): (Form, &Sink), kind: &str, pod: &Facts, view: &View) -> bool {
    let object = form.one(Kind::Pod, object::pod(view), (pod.clock)());
    send(sink, kind, &object).await
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
