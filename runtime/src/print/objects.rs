//! Tables of Services, ConfigMaps and Secrets.

use jiff::Timestamp;
use serde_json::Value;

use super::table::Row;
use super::{age, field};

/// The columns of a Service.
#[must_use]
pub fn service_header(wide: bool) -> Vec<&'static str> {
    let mut header = vec!["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"];
    if wide {
        header.push("SELECTOR");
    }
    header
}

/// A Service's cells.
#[must_use]
pub fn service_row(service: &Value, wide: bool, now: Timestamp) -> Row {
    let kind = match field::text(service, "/spec/type") {
        "" => "ClusterIP",
        kind => kind,
    };
    let mut row = vec![
        name(service),
        kind.to_owned(),
        field::text_or_none(service, "/spec/clusterIP").to_owned(),
        external_ip(service),
        ports(service),
        created(service, now),
    ];
    if wide {
        let pairs = field::pairs(service, "/spec/selector");
        let selector: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}={value}")).collect();
        row.push(if selector.is_empty() { "<none>".to_owned() } else { selector.join(",") });
    }
    row
}

fn external_ip(service: &Value) -> String {
    let external = field::list(service, "/spec/externalIPs");
    let addresses: Vec<&str> = external.iter().filter_map(Value::as_str).collect();
    match field::text(service, "/spec/externalName") {
        "" if addresses.is_empty() => "<none>".to_owned(),
        "" => addresses.join(","),
        name => name.to_owned(),
    }
}

fn ports(service: &Value) -> String {
    let ports: Vec<String> = field::list(service, "/spec/ports").iter().map(port).collect();
    if ports.is_empty() { "<none>".to_owned() } else { ports.join(",") }
}

fn port(port: &Value) -> String {
    let number = field::number(port, "/port");
    let protocol = match field::text(port, "/protocol") {
        "" => "TCP",
        protocol => protocol,
    };
    match field::number(port, "/nodePort") {
        0 => format!("{number}/{protocol}"),
        node_port => format!("{number}:{node_port}/{protocol}"),
    }
}

/// The columns of a ConfigMap.
#[must_use]
pub fn config_map_header() -> Vec<&'static str> {
    vec!["NAME", "DATA", "AGE"]
}

/// A ConfigMap's cells.
#[must_use]
pub fn config_map_row(object: &Value, now: Timestamp) -> Row {
    let keys = keys(object, "/data") + keys(object, "/binaryData");
    vec![name(object), keys.to_string(), created(object, now)]
}

/// The columns of a Secret.
#[must_use]
pub fn secret_header() -> Vec<&'static str> {
    vec!["NAME", "TYPE", "DATA", "AGE"]
}

/// A Secret's cells.
#[must_use]
pub fn secret_row(object: &Value, now: Timestamp) -> Row {
    let kind = match field::text(object, "/type") {
        "" => "Opaque",
        kind => kind,
    };
    let keys = keys(object, "/data").max(keys(object, "/stringData"));
    vec![name(object), kind.to_owned(), keys.to_string(), created(object, now)]
}

fn keys(object: &Value, pointer: &str) -> usize {
    object.pointer(pointer).and_then(Value::as_object).map_or(0, serde_json::Map::len)
}

fn name(object: &Value) -> String {
    field::text(object, "/metadata/name").to_owned()
}

fn created(object: &Value, now: Timestamp) -> String {
    age::since(field::time(object, "/metadata/creationTimestamp"), now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_service_lists_its_ports() {
        let service = json!({
            "metadata": {"name": "mysvc", "creationTimestamp": "2024-01-02T03:04:00Z"},
            "spec": {"clusterIP": "10.96.0.2", "selector": {"app": "web"},
                     "ports": [{"port": 80}, {"port": 53, "protocol": "UDP", "nodePort": 30053}]},
        });
        let now = "2024-01-02T03:05:00Z".parse().unwrap();
        assert_eq!(
            service_row(&service, true, now),
            ["mysvc", "ClusterIP", "10.96.0.2", "<none>", "80/TCP,53:30053/UDP", "60s", "app=web"]
        );
    }

    #[test]
    fn objects_count_their_keys() {
        let now = "2024-01-02T03:05:00Z".parse().unwrap();
        let object = json!({"metadata": {"name": "c"}, "data": {"a": "", "b": ""}, "binaryData": {"c": ""}});
        assert_eq!(config_map_row(&object, now), ["c", "3", "<unknown>"]);
        assert_eq!(secret_row(&object, now), ["c", "Opaque", "2", "<unknown>"]);
    }
}
