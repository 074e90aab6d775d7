//! Services, ConfigMaps and Secrets, good and bad.

use super::super::raw::{ConfigMap, Secret, Service};
use super::super::{Identity, Invalid, Loaded, load};
use super::*;

fn identity() -> Identity {
    Identity { uid: "1".into(), created: jiff::Timestamp::UNIX_EPOCH }
}

fn object(kind: &str, rest: &str) -> Loaded {
    let text = format!("apiVersion: v1\nkind: {kind}\nmetadata: {{name: a}}\n{rest}");
    load(&text, "x").remove(0).unwrap_or_else(|error| panic!("{error}"))
}

fn service(spec: &str) -> Result<Service, Invalid> {
    match object("Service", &format!("spec: {spec}")) {
        Loaded::Service(service) => accept_service(*service, &identity()),
        other => panic!("{other:?}"),
    }
}

fn config_map(rest: &str) -> Result<ConfigMap, Invalid> {
    match object("ConfigMap", rest) {
        Loaded::ConfigMap(map) => accept_config_map(map, &identity()),
        other => panic!("{other:?}"),
    }
}

fn secret(rest: &str) -> Result<Secret, Invalid> {
    match object("Secret", rest) {
        Loaded::Secret(secret) => accept_secret(secret, &identity()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_service_gets_its_defaults() {
    assert_eq!(
        service("{ports: [{port: 80}, {port: 81}]}").unwrap_err().errors.len(),
        2,
        "two ports need names"
    );
    let service = service("{ports: [{port: 80}], sessionAffinity: ClientIP}").unwrap();
    assert_eq!(
        serde_json::to_value(service.spec).unwrap(),
        serde_json::json!({
            "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
            "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}},
            "type": "ClusterIP",
        })
    );
}

#[test]
fn headless_and_external_services_are_accepted() {
    assert!(service("{clusterIP: None}").unwrap().is_headless());
    assert!(service("{type: ExternalName, externalName: example.com}").unwrap().is_external_name());
}

#[test]
fn bad_services_are_refused_in_kubectls_words() {
    for (spec, error) in [
        ("{}", "spec.ports: Required value"),
        ("{ports: [{}]}", "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive"),
        (
            "{ports: [{port: 1, targetPort: 0x10000}]}",
            "spec.ports[0].targetPort: Invalid value: 65536: must be between 1 and 65535, inclusive",
        ),
        ("{ports: [{port: 1, name: a}, {port: 2, name: a}]}", "spec.ports[1].name: Duplicate value: \"a\""),
        ("{ports: [{port: 1, name: a}, {port: 1, name: b}]}", "spec.ports[1]: Duplicate value: \"TCP/1\""),
        (
            "{ports: [{port: 1, protocol: HTTP}]}",
            "spec.ports[0].protocol: Unsupported value: \"HTTP\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
        ),
        (
            "{ports: [{port: 1}], type: NodePort}",
            "spec.type: not supported by hull: ports of the host are not mapped yet; use ClusterIP or ExternalName",
        ),
        (
            "{ports: [{port: 1}], type: Other}",
            "spec.type: Unsupported value: \"Other\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
        ),
        ("{type: ExternalName}", "spec.externalName: Required value"),
        (
            "{ports: [{port: 1}], clusterIP: x}",
            "spec.clusterIP: Invalid value: \"x\": must be empty, 'None', or a valid IP address",
        ),
        (
            "{ports: [{port: 1}], sessionAffinity: Yes}",
            "spec.sessionAffinity: Unsupported value: \"Yes\": supported values: \"ClientIP\", \"None\"",
        ),
        (
            "{ports: [{port: 1}], externalIPs: [10.0.0.1]}",
            "spec.externalIPs: not supported by hull: addresses of the host are not mapped",
        ),
    ] {
        let found = service(spec).unwrap_err().to_string();
        assert_eq!(found, format!("The Service \"a\" is invalid: {error}"), "{spec}");
    }
}

#[test]
fn the_name_of_a_service_is_narrower() {
    let mut raw = service("{clusterIP: None}").unwrap();
    raw.metadata.name = Some("1a".into());
    let found = accept_service(raw, &identity()).unwrap_err().to_string();
    assert!(found.starts_with(
        "The Service \"1a\" is invalid: metadata.name: Invalid value: \"1a\": a DNS-1035 label"
    ));
}

#[test]
fn bad_config_maps_are_refused() {
    for (rest, error) in [
        ("data: {..a: b}", "data[..a]: Invalid value: \"..a\": must not start with '..'"),
        (
            "data: {a: b}\nbinaryData: {a: AAE=}",
            "data[a]: Invalid value: \"a\": duplicate of key present in binaryData",
        ),
        (
            "binaryData: {a: x}",
            "binaryData[a]: Invalid value: \"<hidden>\": must be base64; plain text goes into stringData or data",
        ),
    ] {
        let found = config_map(rest).unwrap_err().to_string();
        assert_eq!(found, format!("The ConfigMap \"a\" is invalid: {error}"), "{rest}");
    }
    let large = config_map(&format!("data: {{a: '{}'}}", "x".repeat((1 << 20) + 1))).unwrap_err().to_string();
    assert_eq!(large, "The ConfigMap \"a\" is invalid: []: Too long: may not be more than 1048576 bytes");
}

#[test]
fn plain_texts_of_a_secret_are_merged_over_its_data() {
    let secret = secret("data:\n  a: b2xk\n  b: |\n    b2\n    xk\nstringData: {a: new}");
    let secret = secret.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(secret.secret_type.as_deref(), Some("Opaque"));
    assert!(secret.string_data.is_empty());
    assert_eq!((&secret.values()["a"][..], &secret.values()["b"][..]), (&b"new"[..], &b"old"[..]));
}

#[test]
fn a_typed_secret_needs_its_keys() {
    let found = secret("type: kubernetes.io/tls\nstringData: {tls.crt: a}").unwrap_err().to_string();
    assert_eq!(found, "The Secret \"a\" is invalid: data[tls.key]: Required value");
}
