//! What the shim and `hull-oci` read.

use hull_shim::cgroup::systemd::{annotation, message::Message};
use hull_shim::oci::fuzz;
use hull_shim::wire::{Report, Request};

/// The targets by name.
pub(crate) const ALL: &[(&str, fn(&[u8]))] = &[
    ("command-line", fuzz::command_line),
    ("config", fuzz::config),
    ("options", fuzz::options),
    ("process", fuzz::process),
    ("state", fuzz::state),
    ("systemd", systemd),
    ("wire", wire),
];

fn wire(bytes: &[u8]) {
    if let Ok(request) = serde_json::from_slice::<Request>(bytes) {
        serde_json::to_vec(&request).expect("a request is JSON");
    }
    if let Ok(report) = serde_json::from_slice::<Report>(bytes) {
        serde_json::to_vec(&report).expect("a report is JSON");
    }
}

fn systemd(bytes: &[u8]) {
    if let Some(start) = bytes.first_chunk() {
        drop(Message::length(start));
    }
    if let Ok(message) = Message::from_bytes(bytes) {
        Message::from_bytes(&message.to_bytes()).expect("a message that was read is written as one");
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    drop(annotation::properties(&[("org.systemd.property.After".to_owned(), text.to_owned())].into()));
}
