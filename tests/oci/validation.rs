//! Configurations that cannot be had are refused before anything is made, in runc's words (oci-runtime.md 4.14).

use serde_json::{Value, json};

use crate::bundle::{Bundle, is_peer};

/// What is wrong, and what is told of it.
type Row = (fn(&mut Value), &'static str);

/// Takes namespaces of one kind away.
fn without(config: &mut Value, kind: &str) {
    let list = config["linux"]["namespaces"].as_array_mut().unwrap();
    list.retain(|namespace| namespace["type"] != kind);
}

fn with(config: &mut Value, namespace: Value) {
    config["linux"]["namespaces"].as_array_mut().unwrap().push(namespace);
}

fn sysctl(config: &mut Value, name: &str) {
    config["linux"]["sysctl"] = json!({name: "1"});
}

fn mount(config: &mut Value, mount: Value) {
    config["mounts"].as_array_mut().unwrap().push(mount);
}

fn map() -> Value {
    json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}])
}

const ROWS: &[Row] = &[
    (|config| without(config, "uts"), "unable to set hostname without a private UTS namespace"),
    (
        |config| {
            without(config, "uts");
            config["hostname"] = json!("");
            config["domainname"] = json!("x");
        },
        "unable to set domainname without a private UTS namespace",
    ),
    (
        |config| {
            without(config, "mount");
            config["mounts"] = json!([]);
        },
        "unable to restrict sys entries without a private MNT namespace",
    ),
    (
        |config| {
            without(config, "network");
            config["linux"]["netDevices"] = json!({"eth0": {}});
        },
        "unable to move network devices without a NET namespace",
    ),
    (|config| config["linux"]["netDevices"] = json!({"a/b": {}}), "invalid network device name \"a/b\""),
    (
        |config| config["process"]["selinuxLabel"] = json!("system_u:system_r:svirt_lxc_net_t:s0"),
        "selinux label is specified in config, but selinux is disabled or not supported",
    ),
    (
        |config| with(config, json!({"type": "user"})),
        "user namespaces enabled, but no namespace path to join nor mappings to apply specified",
    ),
    (
        |config| {
            config["linux"]["uidMappings"] = map();
            config["linux"]["gidMappings"] = map();
        },
        "user namespace mappings specified, but user namespace isn't enabled in the config",
    ),
    (
        |config| {
            with(config, json!({"type": "time", "path": "/proc/self/ns/time"}));
            config["linux"]["timeOffsets"] = json!({"monotonic": {"secs": 1}});
        },
        "time namespace enabled, but both namespace path and time offsets specified -- you may only provide one",
    ),
    (
        |config| config["linux"]["timeOffsets"] = json!({"monotonic": {"secs": 1}}),
        "time namespace offsets specified, but time namespace isn't enabled in the config",
    ),
    (
        |config| {
            without(config, "ipc");
            sysctl(config, "kernel.msgmax");
        },
        "sysctl \"kernel.msgmax\" is not allowed in the hosts ipc namespace",
    ),
    (
        |config| {
            without(config, "network");
            sysctl(config, "net.core.somaxconn");
        },
        "sysctl \"net.core.somaxconn\" not allowed in host network namespace",
    ),
    (
        |config| sysctl(config, "kernel.hostname"),
        "sysctl \"kernel.hostname\" is not allowed as it conflicts with the OCI \"hostname\" field",
    ),
    (
        |config| sysctl(config, "user.max_user_namespaces"),
        "setting ucounts without a user namespace not allowed: user.max_user_namespaces",
    ),
    (
        |config| sysctl(config, "vm.swappiness"),
        "sysctl \"vm.swappiness\" is not in a separate kernel namespace",
    ),
    (
        |config| config["linux"]["intelRdt"] = json!({"l3CacheSchema": "L3:0=f"}),
        "intelRdt is specified in config, but Intel RDT is not enabled",
    ),
    (
        |config| {
            mount(config, json!({"destination": "/work", "source": "/tmp", "options": ["bind", "size=1k"]}))
        },
        "bind mounts cannot have any filesystem-specific options applied",
    ),
    (
        |config| {
            let maps = json!({"destination": "/work", "type": "tmpfs", "source": "x", "options": [],
                "uidMappings": map(), "gidMappings": map()});
            mount(config, maps);
        },
        "id-mapped mounts are only supported for bind-mounts",
    ),
    (
        |config| {
            let maps =
                json!({"destination": "/work", "source": "/tmp", "options": ["bind"], "uidMappings": map()});
            mount(config, maps);
        },
        "id-mapped mounts must have both uid and gid mappings specified",
    ),
    (
        |config| config["process"]["scheduler"] = json!({"policy": "SCHED_OTHER", "nice": 20}),
        "invalid scheduler.nice: 20",
    ),
    (
        |config| config["process"]["scheduler"] = json!({"policy": "SCHED_OTHER", "priority": 3}),
        "scheduler.priority can only be specified for SchedFIFO or SchedRR policy",
    ),
    (
        |config| config["process"]["scheduler"] = json!({"policy": "SCHED_OTHER", "runtime": 3}),
        "scheduler runtime/deadline/period can only be specified for SchedDeadline policy",
    ),
    (
        |config| config["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 9}),
        "invalid ioPriority.Priority: 9",
    ),
    (
        |config| config["linux"]["memoryPolicy"] = json!({"mode": "MPOL_DEFAULT", "nodes": "0"}),
        "memory policy mode requires 0 nodes but got 1",
    ),
    (
        |config| config["linux"]["memoryPolicy"] = json!({"mode": "MPOL_BIND", "nodes": ""}),
        "memory policy mode requires at least one node but got 0",
    ),
    (|config| drop(config.as_object_mut().unwrap().remove("process")), "process property must not be empty"),
    (|config| config["process"]["cwd"] = json!(""), "Cwd property must not be empty"),
    (|config| config["process"]["cwd"] = json!("relative"), "Cwd must be an absolute path"),
    (
        |config| {
            without(config, "mount");
            config["mounts"] = json!([]);
            config["linux"]["maskedPaths"] = json!([]);
        },
        "unable to restrict sys entries without a private MNT namespace",
    ),
    (
        |config| config["linux"]["netDevices"] = json!({"eth0": {"name": "a name"}}),
        "invalid network device name \"a name\"",
    ),
    (
        |config| config["linux"]["mountLabel"] = json!("system_u:object_r:container_file_t:s0"),
        "selinux label is specified in config, but selinux is disabled or not supported",
    ),
    (
        |config| {
            without(config, "ipc");
            sysctl(config, "fs.mqueue.msg_max");
        },
        "sysctl \"fs.mqueue.msg_max\" is not allowed in the hosts ipc namespace",
    ),
    (
        |config| {
            without(config, "network");
            with(config, json!({"type": "network", "path": "/proc/self/ns/net"}));
            sysctl(config, "net.core.somaxconn");
        },
        "sysctl \"net.core.somaxconn\" not allowed in host network namespace",
    ),
    (
        |config| {
            without(config, "network");
            // The runtime's own all the same, by another name.
            let path = format!("/proc/{}/ns/net", std::process::id());
            with(config, json!({"type": "network", "path": path}));
            sysctl(config, "net.core.somaxconn");
        },
        "sysctl \"net.core.somaxconn\" not allowed in host network namespace",
    ),
    (
        |config| {
            without(config, "uts");
            config["hostname"] = json!("");
            sysctl(config, "kernel.domainname");
        },
        "sysctl \"kernel.domainname\" is not allowed",
    ),
    (|config| with(config, json!({"type": "uts"})), "duplicated ns"),
    (
        |config| {
            without(config, "uts");
            with(config, json!({"type": "uts", "path": "relative"}));
        },
        "namespace path relative is not absolute",
    ),
    (|config| config["process"]["scheduler"] = json!({"nice": 3}), "scheduler policy is required"),
    (
        |config| config["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": -21}),
        "invalid scheduler.nice: -21",
    ),
    (
        |config| config["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": -1}),
        "invalid ioPriority.Priority: -1",
    ),
    (
        |config| config["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_NONE", "priority": 4}),
        "invalid ioPriority.Class: \"IOPRIO_CLASS_NONE\"",
    ),
    (
        |config| config["linux"]["memoryPolicy"] = json!({"mode": "MPOL_LOCAL", "nodes": "0-1"}),
        "memory policy mode requires 0 nodes but got 2",
    ),
    (|config| config["linux"]["memoryPolicy"] = json!({"mode": "MPOL_NONE"}), "invalid memory policy mode"),
    (
        |config| config["linux"]["personality"] = json!({"domain": "LINUX", "flags": ["X"]}),
        "personality flags",
    ),
    (|config| config["root"]["path"] = json!("nonesuch"), "nonesuch"),
    (|config| config["ociVersion"] = json!("2.0.0"), "2.0.0"),
    (
        |config| config["process"]["rlimits"] = json!([{"type": "RLIMIT_NONE", "soft": 1, "hard": 1}]),
        "RLIMIT_NONE",
    ),
    (|config| config["process"]["env"] = json!(["NOVALUE"]), "NOVALUE"),
    (
        |config| {
            let mount_ = json!({"destination": "/", "type": "tmpfs", "source": "x"});
            mount(config, mount_);
        },
        "destination",
    ),
    (
        |config| config["linux"]["resources"]["memory"] = json!({"limit": 4_194_304, "swap": 1_048_576}),
        "memory+swap limit should be >= memory limit",
    ),
    // Of v2 alone, and there a name without a directory.
    (|config| config["linux"]["resources"]["unified"] = json!({"a/b": "1"}), "unified"),
    (|config| config["process"]["args"] = json!([]), "args must not be empty"),
    (
        |config| {
            let limit = json!({"type": "RLIMIT_NOFILE", "soft": 64, "hard": 64});
            config["process"]["rlimits"] = json!([limit, limit]);
        },
        "RLIMIT_NOFILE",
    ),
];

/// What is told instead of `text`, if that is so; the container is not made either way.
fn told_otherwise(bundle: &Bundle, text: &str) -> Option<String> {
    let told = bundle.detached(&["create", &bundle.id]).fails(1);
    bundle.assert_gone();
    // The text format of the log has quotes escaped.
    let told = told.replace("\\\"", "\"");
    (!told.contains(text)).then(|| format!("{text:?} was not told, but {told:?}"))
}

#[test]
fn what_is_impossible_is_refused_in_runcs_words() {
    if is_peer() {
        // runc 1.1 knows half of them; the texts are those of 1.5.
        return;
    }
    let mut wrong = Vec::new();
    // Where SELinux is on its labels are not refused: tests/oci/selinux.rs.
    let has_labels = std::path::Path::new("/sys/fs/selinux/enforce").exists();
    for (change, text) in ROWS.iter().filter(|(_, text)| !(has_labels && text.starts_with("selinux label"))) {
        let mut bundle = bundle!();
        bundle.configure(change);
        wrong.extend(told_otherwise(&bundle, text));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_root_that_is_a_symbolic_link_is_refused() {
    let mut bundle = bundle!();
    std::os::unix::fs::symlink("rootfs", bundle.path("link")).unwrap();
    bundle.configure(|config| config["root"]["path"] = json!("link"));
    let told = bundle.detached(&["create", &bundle.id]).fails(1);
    assert!(told.contains("not an absolute path, or a symlink"), "{told}");
}
