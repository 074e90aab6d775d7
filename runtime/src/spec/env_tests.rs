use std::net::IpAddr;

use super::*;
use crate::manifest::pod::{FieldRef, Protocol};
use crate::spec::fixture::{Case, container, literal};
use crate::spec::{ServicePort, plan};

fn config_map(case: &mut Case, name: &str, keys: &[(&str, &str)]) {
    let keys = keys.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect();
    case.sources.config_maps.insert(name.to_owned(), keys);
}

fn key_ref(key: &str, optional: bool) -> EnvValue {
    EnvValue::ConfigMap(KeyRef { name: "cm".to_owned(), key: key.to_owned(), optional })
}

fn environment(case: &Case) -> Vec<String> {
    plan(&case.input()).unwrap().env
}

#[test]
fn expansion_follows_the_table() {
    let lookup = |name: &str| (name == "A").then(|| "$(A)v".to_owned());
    let cases = [
        ("$(A)", "$(A)v"),
        ("$(B)", "$(B)"),
        ("$$", "$"),
        ("$$(A)", "$(A)"),
        ("$(A", "$(A"),
        ("$A $x $", "$A $x $"),
        ("$($(A))", "$($(A))"),
        ("$$$(A)", "$$(A)v"),
        ("a$(A)b$(A)", "a$(A)vb$(A)v"),
        ("$()", "$()"),
        ("ü$(A)ü", "ü$(A)vü"),
    ];
    for (text, expected) in cases {
        assert_eq!(expand(text, lookup), expected, "{text}");
    }
}

#[test]
fn a_literal_sees_earlier_variables_alone() {
    // Test vector 28.
    let mut app = container("app");
    app.env = vec![literal("A", "$(B)"), literal("B", "1"), literal("C", "$(B)-$$(B)-$(X)")];
    let env = environment(&Case::new(app));
    for expected in ["A=$(B)", "B=1", "C=1-$(B)-$(X)"] {
        assert!(env.contains(&expected.to_owned()), "{env:?}");
    }
}

#[test]
fn arguments_see_variables_of_a_config_map() {
    // Test vector 29.
    let mut app = container("app");
    app.env = vec![EnvVar { name: "A".to_owned(), value: key_ref("k", false) }];
    app.args = vec!["$(A)".to_owned(), "$(PATH)".to_owned()];
    let mut case = Case::new(app);
    config_map(&mut case, "cm", &[("k", "v")]);
    let plan = plan(&case.input()).unwrap();
    let args = plan.spec.process().as_ref().unwrap().args().as_deref().unwrap();
    assert_eq!(args, ["v", "$(PATH)"], "variables of the image and the runtime are not expanded");
}

#[test]
fn an_exec_probe_sees_literals_alone() {
    // Test vector 30.
    let mut app = container("app");
    app.env =
        vec![EnvVar { name: "P".to_owned(), value: EnvValue::Field(FieldRef::Name) }, literal("L", "$(P)")];
    let command = ["echo", "$(P)", "$(L)", "$(N)"].map(str::to_owned);
    assert_eq!(expand_probe(&command, &app), ["echo", "", "$(P)", "$(N)"]);
}

#[test]
fn the_order_of_the_environment_is_fixed() {
    let mut app = container("app");
    app.tty = true;
    app.env_from = vec![EnvFrom {
        prefix: "CM_".to_owned(),
        kind: ObjectKind::ConfigMap,
        name: "cm".to_owned(),
        optional: false,
    }];
    app.env = vec![literal("Z", "1"), literal("IMAGE", "pod"), literal("CM_a", "$(CM_a)!")];
    let mut case = Case::new(app);
    config_map(&mut case, "cm", &[("a", "x"), ("b", "y")]);
    case.image.env = vec!["IMAGE=image".to_owned(), "PATH=/bin".to_owned()];
    let expected =
        ["PATH=/bin", "HOSTNAME=web", "TERM=xterm", "IMAGE=pod", "CM_a=x!", "CM_b=y", "Z=1", "HOME=/root"];
    assert_eq!(environment(&case), expected);
}

#[test]
fn home_is_that_of_the_user_in_the_image() {
    let mut app = container("app");
    app.security.run_as_user = Some(33);
    let mut case = Case::new(app);
    assert!(environment(&case).contains(&"HOME=/srv".to_owned()));
    case.passwd.clear();
    assert!(environment(&case).contains(&"HOME=/".to_owned()));
    case.image.env = vec!["HOME=/mine".to_owned()];
    assert!(environment(&case).contains(&"HOME=/mine".to_owned()));
}

#[test]
fn missing_objects_and_keys_are_named_unless_optional() {
    let with = |value: EnvValue| {
        let mut app = container("app");
        app.env = vec![EnvVar { name: "A".to_owned(), value }];
        Case::new(app)
    };
    let error = plan(&with(key_ref("k", false)).input()).unwrap_err();
    assert_eq!(error.to_string(), "configmap \"cm\" not found");
    assert!(error.is_config());
    let mut case = with(key_ref("k", false));
    config_map(&mut case, "cm", &[]);
    let error = plan(&case.input()).unwrap_err();
    assert_eq!(error.to_string(), "couldn't find key k in ConfigMap default/cm");
    let secret = KeyRef { name: "s".to_owned(), key: "k".to_owned(), optional: false };
    let mut case = with(EnvValue::Secret(secret));
    assert_eq!(plan(&case.input()).unwrap_err().to_string(), "secret \"s\" not found");
    case.sources.secrets.insert("s".to_owned(), BTreeMap::new());
    let error = plan(&case.input()).unwrap_err();
    assert_eq!(error.to_string(), "couldn't find key k in Secret default/s");
    let mut case = with(key_ref("k", true));
    assert!(plan(&case.input()).is_ok());
    config_map(&mut case, "cm", &[]);
    assert!(plan(&case.input()).is_ok());
}

#[test]
fn services_give_their_variables() {
    let mut app = container("app");
    app.env = vec![literal("URL", "http://$(REDIS_MAIN_SERVICE_HOST)")];
    let mut case = Case::new(app);
    let port = |name: Option<&str>, port| ServicePort {
        name: name.map(str::to_owned),
        port,
        protocol: Protocol::Tcp,
    };
    let service = |name: &str, namespace: &str, ip: Option<IpAddr>| ServiceFacts {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        cluster_ip: ip,
        ports: vec![port(Some("client"), 6379), port(Some("tls"), 6380)],
    };
    let ip = Some(IpAddr::from([10, 0, 0, 11]));
    case.sources.services = vec![
        service("redis-main", "default", ip),
        service("headless", "default", None),
        service("x", "other", ip),
    ];
    let env = environment(&case);
    let expected = [
        "URL=http://10.0.0.11",
        "REDIS_MAIN_PORT=tcp://10.0.0.11:6379",
        "REDIS_MAIN_PORT_6379_TCP=tcp://10.0.0.11:6379",
        "REDIS_MAIN_PORT_6379_TCP_ADDR=10.0.0.11",
        "REDIS_MAIN_PORT_6379_TCP_PORT=6379",
        "REDIS_MAIN_PORT_6379_TCP_PROTO=tcp",
        "REDIS_MAIN_PORT_6380_TCP=tcp://10.0.0.11:6380",
        "REDIS_MAIN_PORT_6380_TCP_ADDR=10.0.0.11",
        "REDIS_MAIN_PORT_6380_TCP_PORT=6380",
        "REDIS_MAIN_PORT_6380_TCP_PROTO=tcp",
        "REDIS_MAIN_SERVICE_HOST=10.0.0.11",
        "REDIS_MAIN_SERVICE_PORT=6379",
        "REDIS_MAIN_SERVICE_PORT_CLIENT=6379",
        "REDIS_MAIN_SERVICE_PORT_TLS=6380",
        "HOME=/root",
    ];
    assert_eq!(env[2..], expected);
    case.pod.spec.enable_service_links = false;
    assert!(environment(&case).contains(&"URL=http://$(REDIS_MAIN_SERVICE_HOST)".to_owned()));
}

#[test]
fn a_file_of_variables_is_read_strictly() {
    let text = "# hello\n A='x y' # rest\nB=\nC='two\nlines'\n";
    let value = |key: &str| env_file_value(text, key).unwrap();
    assert_eq!(value("A").as_deref(), Some("x y"));
    assert_eq!(value("B").as_deref(), Some(""));
    assert_eq!(value("C").as_deref(), Some("two\nlines"));
    assert_eq!(value("D"), None);
    for broken in ["A=x\n", "A='x", "A ='x'", "A='x' y", "'A'='x'", "nothing"] {
        assert_eq!(env_file_value(broken, "A"), None, "{broken}");
    }
}

#[test]
fn a_missing_file_of_variables_is_an_error_unless_optional() {
    let mut app = container("app");
    let value = |optional| EnvValue::File {
        volume: "v".to_owned(),
        path: "env".to_owned(),
        key: "K".to_owned(),
        optional,
    };
    app.env = vec![EnvVar { name: "A".to_owned(), value: value(false) }];
    assert_eq!(files(&app), [("v".to_owned(), "env".to_owned())]);
    let mut case = Case::new(app.clone());
    assert_eq!(plan(&case.input()).unwrap_err(), Error::EnvFile);
    case.env_files.insert(("v".to_owned(), "env".to_owned()), "X='1'".to_owned());
    let error = plan(&case.input()).unwrap_err().to_string();
    assert_eq!(error, "environment variable key \"K\" not found in file \"env\"");
    app.env = vec![EnvVar { name: "A".to_owned(), value: value(true) }];
    assert!(plan(&Case::new(app).input()).is_ok());
}

#[test]
fn a_nul_cannot_be_passed_on() {
    let mut app = container("app");
    app.env = vec![literal("A", "x\0y")];
    assert!(matches!(plan(&Case::new(app).input()), Err(Error::Nul { .. })));
}

proptest::proptest! {
    #[test]
    fn any_text_can_be_expanded(text in "[$()A-Cx ü]{0,40}") {
        let none = expand(&text, |_| None);
        proptest::prop_assert!(none.len() <= text.len());
        if !text.contains("$$") {
            proptest::prop_assert_eq!(&none, &text);
        }
        let all = expand(&text, |_| Some(String::new()));
        proptest::prop_assert!(all.len() <= none.len());
    }

    #[test]
    fn any_file_of_variables_can_be_read(text in "[A-C='#\\n ]{0,40}") {
        let _found: Option<Option<String>> = env_file_value(&text, "A");
    }
}
