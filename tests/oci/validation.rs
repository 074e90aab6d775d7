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
    (|config| config["process"]["cwd"] = json!("relative"), "Cwd must be an absolute path"),
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
    for (change, text) in ROWS {
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
