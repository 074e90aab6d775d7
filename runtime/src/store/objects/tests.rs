//! The store in a directory of its own.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;
use crate::manifest::{Identity, Loaded, accept_config_map, accept_secret, accept_service, load};
use crate::store::endpoints::{NamedPort, PodEndpoint};

struct Fixture {
    _directory: tempfile::TempDir,
    layout: Layout,
    objects: Objects,
}

fn fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::new(Some(directory.path().to_owned()));
    let objects = Objects::open(&layout);
    Fixture { _directory: directory, layout, objects }
}

fn identity(uid: &str) -> Identity {
    Identity { uid: uid.into(), created: jiff::Timestamp::UNIX_EPOCH }
}

fn object(text: &str) -> Loaded {
    load(&format!("apiVersion: v1\nmetadata: {{name: a}}\n{text}"), "x").remove(0).unwrap()
}

fn map(text: &str) -> ConfigMap {
    match object(&format!("kind: ConfigMap\n{text}")) {
        Loaded::ConfigMap(map) => accept_config_map(map, &identity("1")).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn secret(text: &str) -> Secret {
    match object(&format!("kind: Secret\n{text}")) {
        Loaded::Secret(secret) => accept_secret(secret, &identity("1")).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn service(spec: &str) -> Service {
    match object(&format!("kind: Service\nspec: {spec}")) {
        Loaded::Service(service) => accept_service(*service, &identity("1")).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn lease(key: &str) -> std::result::Result<IpAddr, io::Error> {
    assert_eq!(key, "default/a");
    Ok([10, 96, 0, 7].into())
}

fn no_lease(_: &str) -> std::result::Result<IpAddr, io::Error> {
    Err(io::ErrorKind::AddrNotAvailable.into())
}

#[test]
fn applying_says_what_it_did() {
    let Fixture { objects, _directory, .. } = &fixture();
    assert_eq!(objects.apply_config_map(map("data: {k: v}")).unwrap(), Applied::Created);
    assert_eq!(objects.apply_config_map(map("data: {k: v}")).unwrap(), Applied::Unchanged);
    assert_eq!(objects.apply_config_map(map("data: {k: w}")).unwrap(), Applied::Configured);
    let found = objects.config_map("default", "a").unwrap().unwrap();
    assert_eq!(found.values()["k"], b"w");
    assert!(objects.delete(Kind::ConfigMap, "default", "a").unwrap());
    assert!(!objects.delete(Kind::ConfigMap, "default", "a").unwrap());
    assert_eq!(objects.config_map("default", "a").unwrap(), None);
}

#[test]
fn an_object_keeps_its_identity() {
    let Fixture { objects, _directory, .. } = &fixture();
    objects.apply_config_map(map("data: {k: v}")).unwrap();
    let mut again = map("data: {k: w}");
    again.metadata.uid = Some("2".into());
    objects.apply_config_map(again).unwrap();
    let found = objects.config_map("default", "a").unwrap().unwrap();
    assert_eq!(found.metadata.uid.as_deref(), Some("1"));
}

#[test]
fn a_service_keeps_its_address() {
    let Fixture { objects, _directory, .. } = &fixture();
    let ports = "{ports: [{port: 80}]}";
    assert!(matches!(objects.apply_service(service(ports), no_lease), Err(Error::Address { .. })));
    assert_eq!(objects.apply_service(service(ports), lease).unwrap(), Applied::Created);
    assert_eq!(objects.apply_service(service(ports), no_lease).unwrap(), Applied::Unchanged);
    assert_eq!(
        objects.apply_service(service("{ports: [{port: 81}]}"), no_lease).unwrap(),
        Applied::Configured
    );
    let found = &objects.list_services("default").unwrap()[0];
    assert_eq!(found.address(), Some([10, 96, 0, 7].into()));
    let error = objects.apply_service(service("{clusterIP: None}"), no_lease).unwrap_err();
    assert_eq!(
        error.to_string(),
        "The Service \"a\" is invalid: spec.clusterIPs[0]: Invalid value: [\"None\"]: may not change once set"
    );
}

#[test]
fn headless_and_external_services_need_no_address() {
    let Fixture { objects, _directory, .. } = &fixture();
    assert_eq!(objects.apply_service(service("{clusterIP: None}"), no_lease).unwrap(), Applied::Created);
    objects.delete(Kind::Service, "default", "a").unwrap();
    let external = service("{type: ExternalName, externalName: example.com}");
    assert_eq!(objects.apply_service(external, no_lease).unwrap(), Applied::Created);
}

#[test]
fn an_immutable_object_is_not_changed() {
    let Fixture { objects, _directory, .. } = &fixture();
    objects.apply_secret(secret("stringData: {k: v}\nimmutable: true")).unwrap();
    let error = objects.apply_secret(secret("stringData: {k: w}\nimmutable: true")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "The Secret \"a\" is invalid: data: Forbidden: field is immutable when `immutable` is set"
    );
    assert!(objects.apply_secret(secret("stringData: {k: v}")).is_err());
    assert!(objects.apply_secret(secret("type: x\nstringData: {k: v}\nimmutable: true")).is_err());
}

#[test]
fn secrets_are_for_the_owner_alone() {
    let Fixture { objects, layout, _directory } = &fixture();
    objects.apply_secret(secret("data: {k: dg==}")).unwrap();
    objects.apply_config_map(map("")).unwrap();
    let directory = layout.objects("secrets", "default");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory.join("a")), 0o600);
    assert_eq!((mode(&directory), mode(directory.parent().unwrap())), (0o700, 0o700));
    assert_eq!(mode(&layout.objects("configmaps", "default").join("a")) & 0o600, 0o600);
}

#[test]
fn sources_hold_everything_of_a_namespace() {
    let Fixture { objects, _directory, .. } = &fixture();
    objects.apply_config_map(map("data: {k: v}\nbinaryData: {b: AAE=}")).unwrap();
    objects.apply_secret(secret("stringData: {p: w}")).unwrap();
    objects.apply_service(service("{ports: [{port: 80}]}"), lease).unwrap();
    let sources = objects.sources("default").unwrap();
    assert_eq!(sources.config_maps["a"], [("b".into(), vec![0, 1]), ("k".into(), b"v".to_vec())].into());
    assert_eq!(sources.secrets["a"], [("p".into(), b"w".to_vec())].into());
    assert_eq!(sources.services.len(), 1);
    assert_eq!(objects.sources("other").unwrap(), Sources::default());
    assert_eq!(objects.namespaces(Kind::Service).unwrap(), ["default"]);
}

#[test]
fn a_damaged_file_is_named() {
    let Fixture { objects, layout, _directory } = &fixture();
    objects.apply_config_map(map("")).unwrap();
    let path = layout.objects("configmaps", "default").join("a");
    std::fs::write(&path, "{\"kind\": 1").unwrap();
    let error = objects.config_map("default", "a").unwrap_err();
    assert!(matches!(&error, Error::Corrupt { path: found, .. } if *found == path));
    assert!(objects.sources("default").is_err());
    assert!(objects.delete(Kind::ConfigMap, "default", "a").unwrap());
}

#[test]
fn a_name_cannot_lead_elsewhere() {
    let Fixture { objects, _directory, .. } = &fixture();
    for name in ["", ".", "..", "../a", "a/b", ".new", "A"] {
        assert!(matches!(objects.secret("default", name), Err(Error::Name { .. })), "{name}");
        assert!(matches!(objects.list_services(name), Err(Error::Name { .. })), "{name}");
    }
}

fn db(app: &str) -> PodEndpoint {
    PodEndpoint {
        namespace: "default".into(),
        labels: [("app".to_owned(), app.to_owned())].into(),
        ips: vec![[10, 88, 0, 2].into()],
        hostname: Some("db-0".into()),
        subdomain: Some("a".into()),
        serving: true,
        ports: vec![NamedPort { name: "pg".into(), port: 5432, protocol: "TCP".into() }],
        ..PodEndpoint::default()
    }
}

#[test]
fn a_headless_service_has_the_ready_pods_that_it_selects() {
    let endpoints = |spec: &str, pod: &PodEndpoint| service::record(&service(spec), [pod]).endpoints;
    let headless = "{clusterIP: None, selector: {app: db}, ports: [{name: sql, port: 80, targetPort: pg}]}";
    let found = endpoints(headless, &db("db"));
    assert_eq!((found.len(), found[0].hostname.as_deref(), found[0].ports[0].port), (1, Some("db-0"), 5432));
    assert!(endpoints(headless, &db("web")).is_empty());
    assert!(endpoints(headless, &PodEndpoint { namespace: "other".into(), ..db("db") }).is_empty());
    assert!(endpoints("{clusterIP: None, ports: [{port: 80}]}", &db("db")).is_empty());
    assert!(endpoints("{selector: {app: db}, ports: [{port: 80}]}", &db("db")).is_empty());
    let elsewhere = PodEndpoint { subdomain: Some("b".into()), ..db("db") };
    assert_eq!(endpoints(headless, &elsewhere)[0].hostname, None);
    for not_ready in
        [PodEndpoint { serving: false, ..db("db") }, PodEndpoint { terminating: true, ..db("db") }]
    {
        assert!(endpoints(headless, &not_ready).is_empty());
        let all = headless.replace("{clusterIP", "{publishNotReadyAddresses: true, clusterIP");
        assert_eq!(endpoints(&all, &not_ready).len(), 1);
    }
}
