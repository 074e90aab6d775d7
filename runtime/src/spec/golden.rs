//! Whole specs, compared with `tests/golden/spec/*.json`. `HULL_BLESS=1` writes the files anew.

use std::path::PathBuf;

use serde_json::Value;

use super::fixture::{Case, container, literal};
use super::{CgroupMode, plan};
use crate::manifest::pod::{
    Container, Propagation, RecursiveReadOnly, Resources, Seccomp, SubPath, Volume, VolumeMount, VolumeSource,
};

/// The JSON with sets in order and without the long list of system calls, which has tests of its own.
fn normal(mut spec: Value) -> Value {
    if let Some(Value::Object(sets)) = spec.pointer_mut("/process/capabilities") {
        for set in sets.values_mut().filter_map(Value::as_array_mut) {
            set.sort_by_key(ToString::to_string);
        }
    }
    if let Some(rules) = spec.pointer_mut("/linux/seccomp/syscalls") {
        let count = rules.as_array().map_or(0, Vec::len);
        *rules = Value::from(format!("{count} rules"));
    }
    if let Some(architectures) = spec.pointer_mut("/linux/seccomp/architectures") {
        *architectures = Value::from("those of the machine");
    }
    spec
}

fn check(name: &str, case: &Case) {
    let plan = plan(&case.input()).unwrap();
    let made = serde_json::json!({
        "spec": normal(serde_json::to_value(&plan.spec).unwrap()),
        "oomScoreAdj": plan.oom_score_adj,
        "stopSignal": plan.stop_signal,
        "steps": plan.sub_paths.iter().map(ToString::to_string).collect::<Vec<_>>(),
    });
    let made = format!("{made:#}\n");
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../tests/golden/spec/{name}.json"));
    if std::env::var_os("HULL_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &made).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    assert_eq!(made, golden, "run again with HULL_BLESS=1 if the change of {} is meant", path.display());
}

#[test]
fn a_plain_pod() {
    let mut app = container("app");
    app.command = ["sleep", "60"].map(str::to_owned).to_vec();
    check("plain", &Case::new(app));
}

#[test]
fn a_web_server_with_limits_and_a_user() {
    let mut app = container("app");
    app.resources = Resources {
        cpu_request: Some(100),
        cpu_limit: Some(500),
        memory_request: Some(64 << 20),
        memory_limit: Some(128 << 20),
        ..Resources::default()
    };
    app.env = vec![literal("GREETING", "hello"), literal("TEXT", "$(GREETING) world")];
    app.args = vec!["$(TEXT)".to_owned()];
    app.security.run_as_user = Some(33);
    app.security.allow_privilege_escalation = false;
    app.security.read_only_root = true;
    app.security.drop_capabilities = vec!["ALL".to_owned()];
    app.security.add_capabilities = vec!["NET_BIND_SERVICE".to_owned()];
    let mut case = Case::new(app);
    case.image.entrypoint = vec!["/entry.sh".to_owned()];
    case.image.env = vec!["VERSION=1.2".to_owned()];
    case.image.working_dir = "/srv/www".to_owned();
    case.image.stop_signal = "SIGQUIT".to_owned();
    case.pod.spec.security.fs_group = Some(2000);
    case.host.swap_limits = true;
    check("web-server", &case);
}

#[test]
fn a_privileged_pod_in_the_hosts_namespaces() {
    let mut app = container("app");
    app.security.privileged = true;
    app.tty = true;
    let mut case = Case::new(app);
    case.pod.spec.host_network = true;
    case.pod.spec.host_pid = true;
    case.pod.spec.host_ipc = true;
    case.host.cgroup = CgroupMode::V2;
    case.host.cgroup_hierarchies.clear();
    check("privileged-host", &case);
}

#[test]
fn volumes_on_a_host_with_cgroup_v2() {
    let mount = |name: &str, path: &str| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        sub_path: SubPath::Whole,
        read_only: false,
        recursive_read_only: RecursiveReadOnly::Disabled,
        propagation: Propagation::Private,
    };
    let app = Container {
        mounts: vec![
            mount("data", "/var/lib/data"),
            VolumeMount { sub_path: SubPath::Path("logs".to_owned()), ..mount("data", "/logs") },
            mount("memory", "/dev/shm"),
            VolumeMount {
                propagation: Propagation::HostToContainer,
                read_only: true,
                ..mount("host", "/host")
            },
        ],
        ..container("app")
    };
    let mut case = Case::new(app);
    let volume = |name: &str, source| Volume { name: name.to_owned(), source };
    case.pod.spec.volumes = vec![
        volume("data", VolumeSource::EmptyDir { memory: false, size_limit: None }),
        volume("memory", VolumeSource::EmptyDir { memory: true, size_limit: Some(1 << 20) }),
        volume(
            "host",
            VolumeSource::HostPath {
                path: "/srv".to_owned(),
                kind: crate::manifest::pod::HostPathKind::Unset,
            },
        ),
    ];
    case.host.cgroup = CgroupMode::V2;
    case.host.cgroup_hierarchies.clear();
    check("volumes-v2", &case);
}

#[test]
fn a_profile_of_ones_own() {
    let mut app = container("app");
    app.security.seccomp = Seccomp::Localhost("mine.json".to_owned());
    let mut case = Case::new(app);
    assert_eq!(super::linux::localhost_profile(&case.pod.spec.containers[0]), Some("mine.json"));
    let error = plan(&case.input()).unwrap_err();
    assert!(!error.is_config() && error.to_string().contains("mine.json"));
    case.profile = Some("{".to_owned());
    assert!(plan(&case.input()).unwrap_err().to_string().contains("mine.json"));
    case.profile = Some(r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#.to_owned());
    check("localhost-profile", &case);
}

#[test]
fn nothing_to_run_is_an_error_of_creation() {
    let mut case = Case::new(container("app"));
    case.image.cmd.clear();
    let error = plan(&case.input()).unwrap_err();
    assert_eq!((error.to_string().as_str(), error.is_config()), ("no command specified", false));
}
