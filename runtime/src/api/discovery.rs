//! What clients such as kubectl ask before anything else: version and resources.

use serde_json::{Value, json};

use super::route::Discovery;

/// `/version`
pub(super) fn version() -> Value {
    let version = env!("CARGO_PKG_VERSION");
    json!({
        "major": "1", "minor": "36", "gitVersion": format!("v1.36.0+hull-{version}"),
        "platform": format!("linux/{}", std::env::consts::ARCH), "compiler": "rustc",
    })
}

/// One of the discovery documents.
pub(super) fn document(what: Discovery) -> Value {
    match what {
        Discovery::Versions => {
            json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
        }
        Discovery::Groups => json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": []}),
        Discovery::Resources => json!({
            "kind": "APIResourceList", "groupVersion": "v1",
            "resources": [
                resource("pods", "pod", "Pod", &["delete", "get", "list", "update", "watch"]),
                resource("pods/log", "", "Pod", &["get"]),
                resource("pods/exec", "", "PodExecOptions", &["create", "get"]),
                resource("pods/attach", "", "PodAttachOptions", &["create", "get"]),
                resource("pods/portforward", "", "PodPortForwardOptions", &["create", "get"]),
                resource("events", "event", "Event", &["list", "watch"]),
            ],
        }),
    }
}

fn resource(name: &str, singular: &str, kind: &str, verbs: &[&str]) -> Value {
    let short: &[&str] = if name == "pods" { &["po"] } else { &[] };
    json!({
        "name": name, "singularName": singular, "kind": kind, "namespaced": true,
        "verbs": verbs, "shortNames": short,
    })
}
