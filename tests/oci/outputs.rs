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

/// What is in a list of `features`, and has to be for what is in the reference's tables.
const VALUES: &[(&str, &[&str])] = &[
    ("hooks", &["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]),
    ("linux.namespaces", &["cgroup", "ipc", "mount", "network", "pid", "user", "uts"]),
    (
        "linux.seccomp.actions",
        &[
            "SCMP_ACT_ALLOW",
            "SCMP_ACT_ERRNO",
            "SCMP_ACT_KILL",
            "SCMP_ACT_KILL_PROCESS",
            "SCMP_ACT_KILL_THREAD",
            "SCMP_ACT_LOG",
            "SCMP_ACT_NOTIFY",
            "SCMP_ACT_TRACE",
            "SCMP_ACT_TRAP",
        ],
    ),
    (
        "linux.seccomp.operators",
        &[
            "SCMP_CMP_EQ",
            "SCMP_CMP_GE",
            "SCMP_CMP_GT",
            "SCMP_CMP_LE",
            "SCMP_CMP_LT",
            "SCMP_CMP_MASKED_EQ",
            "SCMP_CMP_NE",
        ],
    ),
    ("linux.seccomp.archs", &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64"]),
    (
        "mountOptions",
        &[
            "async",
            "atime",
            "bind",
            "defaults",
            "dev",
            "diratime",
            "dirsync",
            "exec",
            "iversion",
            "lazytime",
            "loud",
            "mand",
            "noatime",
            "nodev",
            "nodiratime",
            "noexec",
            "noiversion",
            "nolazytime",
            "nomand",
            "norelatime",
            "nostrictatime",
            "nosuid",
            "nosymfollow",
            "private",
            "ratime",
            "rbind",
            "rdev",
            "rdiratime",
            "relatime",
            "remount",
            "rexec",
            "rnoatime",
            "rnodev",
            "rnodiratime",
            "rnoexec",
            "rnorelatime",
            "rnostrictatime",
            "rnosuid",
            "rnosymfollow",
            "ro",
            "rprivate",
            "rrelatime",
            "rro",
            "rrw",
            "rshared",
            "rslave",
            "rstrictatime",
            "rsuid",
            "rsymfollow",
            "runbindable",
            "rw",
            "shared",
            "silent",
            "slave",
            "strictatime",
            "suid",
            "symfollow",
            "sync",
            "tmpcopyup",
            "unbindable",
        ],
    ),
];

/// Of runc 1.2 and later.
const LATER: &[(&str, &[&str])] = &[
    ("mountOptions", &["idmap", "ridmap"]),
    ("linux.namespaces", &["time"]),
    (
        "linux.seccomp.knownFlags",
        &[
            "SECCOMP_FILTER_FLAG_LOG",
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
            "SECCOMP_FILTER_FLAG_TSYNC",
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
        ],
    ),
    (
        "linux.memoryPolicy.modes",
        &[
            "MPOL_DEFAULT",
            "MPOL_BIND",
            "MPOL_INTERLEAVE",
            "MPOL_WEIGHTED_INTERLEAVE",
            "MPOL_PREFERRED",
            "MPOL_PREFERRED_MANY",
            "MPOL_LOCAL",
        ],
    ),
    ("linux.memoryPolicy.flags", &["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"]),
    ("potentiallyUnsafeConfigAnnotations", &["bundle", "org.systemd.property.", "org.criu.config"]),
];

#[test]
fn features_name_all_that_the_tables_have() {
    let bundle = bundle!();
    let features: Value = serde_json::from_str(&bundle.oci(&["features"]).ok()).unwrap();
    let mut missing: Vec<&str> = Vec::new();
    for (path, wanted) in VALUES.iter().chain(if is_peer() { &[] } else { LATER }) {
        let list = at(&features, path).as_array().unwrap();
        missing.extend(wanted.iter().filter(|one| !list.iter().any(|other| other == *one)));
    }
    assert!(missing.is_empty(), "{missing:?}");
    assert_eq!(features["ociVersionMin"], "1.0.0");
    for path in ["linux.cgroup.v1", "linux.cgroup.v2", "linux.cgroup.systemd", "linux.seccomp.enabled"] {
        assert_eq!(at(&features, path), &json!(true), "{path}");
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
