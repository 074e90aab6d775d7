//! Lists and watches of the pod and of its events.
//!
//! A watch is a chunked response of JSON lines `{"type", "object"}`: `ADDED` for what there is, then each change.
//! A reader that is too slow misses steps in between, never the newest state.

use std::sync::Arc;

use hyper::Response;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;

use super::body::{self, Body, Sink};
use super::query::Query;
use super::selector::Selector;
use super::status::Status;
use super::{Facts, Server, object};
use crate::core::status::Event;
use crate::driver::handle::{Change, Handle, View};

/// `GET …/pods`
pub(super) fn pods(
    server: &Server,
    namespace: Option<&str>,
    query: &Query,
) -> Result<Response<Body>, Status> {
    let selected = Selector::of_query(query)?.matches(&server.pod_object());
    let here = namespace.is_none_or(|namespace| namespace == server.pod.meta("namespace"));
    let (handle, pod) = (server.handle.clone(), Arc::clone(&server.pod));
    if query.flag("watch") {
        let known = query.number("resourceVersion")?.and_then(|version| u64::try_from(version).ok());
        return Ok(body::stream("application/json", async move |sink| {
            if here && selected {
                watch_pod(&handle, &pod, known.filter(|version| *version > 0), &sink).await;
            } else {
                sink.closed().await;
            }
        }));
    }
    let view = &handle.snapshot().view;
    let items = if here && selected { vec![object::pod(&pod.object, view)] } else { Vec::new() };
    Ok(body::json(&object::list("Pod", items, view.generation)))
}

/// `known` is the generation that the reader has seen already.
async fn watch_pod(handle: &Handle, pod: &Facts, known: Option<u64>, sink: &Sink) {
    let (snapshot, mut changes) = handle.follow();
    let mut shown = match known {
        Some(known) if known >= snapshot.view.generation => known,
        _ => {
            let kind = if known.is_some() { "MODIFIED" } else { "ADDED" };
            if !send_pod(sink, kind, pod, &snapshot.view).await {
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
        if !send_pod(sink, kind, pod, &view).await || gone {
            return;
        }
    }
}

async fn send_pod(sink: &Sink, kind: &str, pod: &Facts, view: &View) -> bool {
    send(sink, kind, &object::pod(&pod.object, view)).await
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
    query: &Query,
) -> Result<Response<Body>, Status> {
    let selector = Selector::of_query(query)?;
    let here = namespace.is_none_or(|namespace| namespace == server.pod.meta("namespace"));
    let (handle, pod) = (server.handle.clone(), Arc::clone(&server.pod));
    if query.flag("watch") {
        // The reader has listed before: it wants only what comes now.
        let listed = query.number("resourceVersion")?.is_some_and(|version| version > 0);
        return Ok(body::stream("application/json", async move |sink| {
            if here {
                watch_events(&handle, &pod, &selector, (listed, &sink)).await;
            } else {
                sink.closed().await;
            }
        }));
    }
    let snapshot = handle.snapshot();
    let events = snapshot.events.iter().map(|event| object::event(&pod.object, event));
    let items = events.filter(|event| here && selector.matches(event)).collect();
    Ok(body::json(&object::list("Event", items, snapshot.view.generation)))
}

async fn watch_events(handle: &Handle, pod: &Facts, selector: &Selector, (listed, sink): (bool, &Sink)) {
    let (snapshot, mut changes) = handle.follow();
    let mut shown = Shown::default();
    for event in &snapshot.events {
        let kind = shown.note(event);
        if !listed && !send_event(sink, kind, (pod, selector), event).await {
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
            if !send_event(sink, kind, (pod, selector), &event).await {
                return;
            }
        }
    }
}

async fn send_event(sink: &Sink, kind: &str, (pod, selector): (&Facts, &Selector), event: &Event) -> bool {
    let object = object::event(&pod.object, event);
    !selector.matches(&object) || send(sink, kind, &object).await
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
