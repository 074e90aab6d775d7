//! API objects made from what the driver shows.

use serde_json::{Value, json};

use crate::core::status::Event;
use crate::driver::handle::View;

/// The Pod object: as it was accepted, with what is known of it now.
#[must_use]
pub fn pod(view: &View) -> Value {
    let mut pod = Value::clone(&view.object);
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    let meta = &mut pod["metadata"];
    meta["resourceVersion"] = json!(view.generation.to_string());
    if let Some(deletion) = view.deletion {
        meta["deletionTimestamp"] = json!(deletion.timestamp);
        meta["deletionGracePeriodSeconds"] = json!(deletion.grace_seconds);
    }
    pod["status"] = serde_json::to_value(&view.status).expect("a status has string keys and serialises");
    pod
}

/// The Event object of a recorded event of this pod.
#[must_use]
pub fn event(accepted: &Value, event: &Event) -> Value {
    let meta = &accepted["metadata"];
    let mut involved = json!({
        "kind": "Pod", "apiVersion": "v1",
        "namespace": meta["namespace"], "name": meta["name"], "uid": meta["uid"],
    });
    if !event.field_path.is_empty() {
        involved["fieldPath"] = json!(event.field_path);
    }
    let mut source = json!({"component": event.source});
    if let Some(node) = accepted.pointer("/spec/nodeName").and_then(Value::as_str) {
        source["host"] = json!(node);
    }
    json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {
            "name": event.name, "namespace": meta["namespace"],
            "creationTimestamp": event.first_timestamp, "resourceVersion": event.count.to_string(),
        },
        "involvedObject": involved, "source": source,
        "type": event.kind, "reason": event.reason, "message": event.message, "count": event.count,
        "firstTimestamp": event.first_timestamp, "lastTimestamp": event.last_timestamp,
        "eventTime": null, "reportingComponent": event.source, "reportingInstance": "",
    })
}

/// A list of objects of one kind.
#[must_use]
pub fn list(kind: &str, items: Vec<Value>, generation: u64) -> Value {
    json!({
        "apiVersion": "v1", "kind": format!("{kind}List"),
        "metadata": {"resourceVersion": generation.to_string()}, "items": items,
    })
}
