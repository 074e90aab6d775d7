//! What the supervisor and the command read.

use std::path::PathBuf;

use hull::api::query::Query;
use hull::api::selector::Selector;
use hull::cli::jsonpath::Template;
use hull::dns::{Answer, ServiceRecord, Transport, Zone, answer};
use hull::image::{Reference, Source, Store};
use hull::manifest::{Identity, Loaded, accept};
use hull_shim::layout::Layout;

/// The targets by name.
pub(crate) const ALL: &[(&str, fn(&[u8]))] = &[
    ("dns", dns),
    ("image", image),
    ("jsonpath", jsonpath),
    ("manifest", manifest),
    ("query", query),
    ("reference", reference),
];

fn manifest(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for loaded in hull::manifest::load(text, "fuzz.yaml").into_iter().flatten() {
        let Loaded::Pod(pod) = loaded else { continue };
        let Ok(accepted) = accept(*pod, identity()) else { continue };
        // What was accepted once is accepted again in the form in which it is kept.
        let json = serde_json::to_string(&accepted.object).expect("an object is JSON");
        hull::manifest::reload(&json).expect("an accepted pod is accepted again");
    }
}

fn dns(bytes: &[u8]) {
    // The first half asks, the rest is what a resolver of the host says.
    let (asked, said) = bytes.split_at(bytes.len() / 2);
    let zone = Zone::from_services("cluster.local", services());
    for (transport, packet) in [(Transport::Udp, bytes), (Transport::Tcp, bytes), (Transport::Udp, asked)] {
        let reply = match answer(&zone, packet, transport) {
            Answer::Local(reply) => reply,
            Answer::Follow(follow) => follow.finish(packet, Some(said)),
            Answer::Forward | Answer::Ignore => continue,
        };
        assert!(reply.len() >= 12, "a reply shorter than its header");
    }
}

fn image(bytes: &[u8]) {
    // In memory, and this process's own: an import is durable, which a disk would make slow.
    let root = PathBuf::from(format!("/dev/shm/hull-fuzz-{}", std::process::id()));
    let store = Store::open(&Layout::new(Some(root.clone())));
    let mut stream = bytes;
    // Which error it is does not matter, nor whether it is one.
    drop(store.import(Source::Stream(&mut stream), Some("fuzz")));
    std::fs::remove_dir_all(&root).ok();
}

fn reference(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(reference) = text.parse::<Reference>() {
        let again: Reference = reference.to_string().parse().expect("a printed reference parses");
        assert_eq!(again, reference);
    }
}

fn jsonpath(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let object = serde_json::json!({"a": [{"b": 1, "c": "x"}, {"b": null}], "d.e": {"f": [1, 2, 3]}});
    if let Ok(path) = Template::parse(text) {
        drop(path.render(&object));
        drop(path.values(&object));
    }
}

fn query(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let query = Query::parse(text);
    drop((query.number("tailLines"), query.flag("follow")));
    let object =
        serde_json::json!({"metadata": {"name": "a", "labels": {"x": "y"}}, "status": {"phase": "Running"}});
    let (labels, fields) = text.split_once('\n').unwrap_or((text, ""));
    if let Ok(selector) = Selector::parse(labels, fields) {
        std::hint::black_box(selector.matches(&object));
    }
}

fn identity() -> Identity {
    Identity {
        uid: "c0ffee00-0000-4000-8000-000000000001".to_owned(),
        created: "2025-01-02T03:04:05Z".parse().expect("a time"),
    }
}

/// Services of each kind.
fn services() -> Vec<ServiceRecord> {
    let plain = ServiceRecord {
        name: "mysvc".to_owned(),
        namespace: "default".to_owned(),
        cluster_ip: Some([10, 96, 0, 11].into()),
        headless: false,
        external_name: None,
        ports: Vec::new(),
        endpoints: Vec::new(),
    };
    let headless =
        ServiceRecord { name: "headless".to_owned(), cluster_ip: None, headless: true, ..plain.clone() };
    let alias = ServiceRecord {
        name: "alias".to_owned(),
        cluster_ip: None,
        external_name: Some("example.com".to_owned()),
        ..plain.clone()
    };
    vec![plain, headless, alias]
}
