//! What callers parse (oci-runtime.md 1.3, 2.6), key by key.

use serde_json::{Value, json};

use crate::bundle::is_peer;

/// What is at a path of keys between dots; null where nothing is.
fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    value.pointer(&format!("/{}", path.replace('.', "/"))).unwrap_or(&Value::Null)
}

const NONE: Value = Value::Null;

#[test]
fn features_have_every_key() {
    let bundle = bundle!();
    let text = bundle.oci(&["features"]).ok();
    assert!(text.starts_with("{\n    \"") && text.ends_with("}\n"), "{text}");
    let features: Value = serde_json::from_str(&text).unwrap();
    let common = [
        "ociVersionMin",
        "ociVersionMax",
        "hooks",
        "mountOptions",
        "linux.namespaces",
        "linux.capabilities",
        "linux.cgroup.v1",
        "linux.cgroup.v2",
        "linux.cgroup.systemd",
        "linux.cgroup.systemdUser",
        "linux.seccomp.enabled",
        "linux.seccomp.actions",
        "linux.seccomp.operators",
        "linux.seccomp.archs",
        "linux.apparmor.enabled",
        "linux.selinux.enabled",
        "annotations",
    ];
    let later = [
        "linux.cgroup.rdma",
        "linux.seccomp.knownFlags",
        "linux.seccomp.supportedFlags",
        "linux.intelRdt.enabled",
        "linux.intelRdt.schemata",
        "linux.intelRdt.monitoring",
        "linux.memoryPolicy.modes",
        "linux.memoryPolicy.flags",
        "linux.mountExtensions.idmap.enabled",
        "linux.netDevices.enabled",
        "potentiallyUnsafeConfigAnnotations",
    ];
    // runc 1.1 has what runtime-spec 1.1 had.
    let later = if is_peer() { &[][..] } else { &later };
    let missing: Vec<&&str> =
        common.iter().chain(later).filter(|path| *at(&features, path) == NONE).collect();
    assert!(missing.is_empty(), "{missing:?} in {text}");
    let annotations = features["annotations"].as_object().unwrap();
    for name in ["org.opencontainers.runc.version", "org.opencontainers.runc.checkpoint.enabled"] {
        assert!(annotations.get(name).is_some_and(Value::is_string), "{name}");
    }
}

#[test]
fn statistics_have_every_key() {
    let mut bundle = bundle!();
    bundle.configure(|config| {
        config["linux"]["resources"]["memory"] = json!({"limit": 64 << 20});
        config["linux"]["resources"]["pids"] = json!({"limit": 50});
    });
    bundle.up();
    let text = bundle.oci(&["events", "--stats", &bundle.id]).ok();
    assert_eq!(text.lines().count(), 1, "{text}");
    let event: Value = serde_json::from_str(&text).unwrap();
    let data = &event["data"];
    let missing: Vec<&str> = [
        "cpu.usage.total",
        "cpu.usage.kernel",
        "cpu.usage.user",
        "cpu.throttling",
        "cpuset.cpus",
        "cpuset.mems",
        "cpuset.cpu_exclusive",
        "memory.usage.limit",
        "memory.usage.usage",
        "memory.usage.failcnt",
        "memory.swap.limit",
        "memory.kernel",
        "memory.kernelTCP",
        "memory.raw",
        "pids.current",
        "pids.limit",
        "blkio",
        "hugetlb",
        "intel_rdt",
    ]
    .into_iter()
    .filter(|path| *at(data, path) == NONE)
    .collect();
    assert!(missing.is_empty(), "{missing:?} in {text}");
    assert_eq!(at(data, "memory.usage.limit"), 64 << 20);
    assert_eq!(at(data, "pids.limit"), 50);
    assert!(data.as_object().unwrap().contains_key("network_interfaces"), "{text}");
}

#[test]
fn a_list_has_every_column_and_key() {
    let bundle = bundle!();
    bundle.create();
    let table = bundle.oci(&["list"]).ok();
    let header: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(header, ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    assert_eq!(bundle.oci(&["list", "--quiet"]).ok(), format!("{}\n", bundle.id));
    assert_eq!(bundle.oci(&["list", "--format", "table"]).ok(), table);
    let all: Value = serde_json::from_str(&bundle.oci(&["list", "-f", "json"]).ok()).unwrap();
    let state = bundle.state();
    for key in ["ociVersion", "id", "pid", "status", "bundle", "rootfs", "created"] {
        assert_eq!(all[0][key], state[key], "{key}");
    }
    let told = bundle.oci(&["list", "-f", "xml"]).fails(1);
    assert!(told.contains("invalid format option"), "{told}");
}

#[test]
fn without_a_root_directory_of_its_own_the_default_one_may_be_missing() {
    if is_peer() {
        // Its own may hold containers of others.
        return;
    }
    let bundle = bundle!();
    let mut command = std::process::Command::new(crate::bundle::runtime().unwrap());
    let list = command.args(["list", "-f", "json"]).current_dir(&bundle.directory);
    // tests/run gives every run a /run of its own.
    assert_eq!(hull_tests::command::run(list, "", std::time::Duration::from_secs(30)).ok().trim(), "null");
}

#[test]
fn the_version_has_the_prefixes_that_callers_look_for() {
    let bundle = bundle!();
    let text = bundle.oci(&["--version"]).ok();
    let mut lines = text.lines();
    let version = lines.next().and_then(|line| line.strip_prefix("runc version ")).unwrap();
    assert!(!version.is_empty() && !version.contains(' '), "{text}");
    assert!(lines.any(|line| line.starts_with("spec: 1.")), "{text}");
}
