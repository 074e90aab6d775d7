//! Namespaces of a configuration, and what lives in them (oci-runtime.md 4.4, 4.5, 4.9, 4.13).

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::bundle::{Bundle, is_peer};

/// Types of configurations, and what the kernel calls them.
const TYPES: [(&str, &str); 8] = [
    ("pid", "pid"),
    ("network", "net"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("mount", "mnt"),
    ("cgroup", "cgroup"),
    ("user", "user"),
    ("time", "time"),
];

/// As [`TYPES`], without what runc 1.1 does not know.
fn types() -> impl Iterator<Item = (&'static str, &'static str)> {
    TYPES.into_iter().filter(|(kind, _)| !(is_peer() && *kind == "time"))
}

/// What a namespace of a process is.
fn namespace(pid: &Value, name: &str) -> String {
    fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap().display().to_string()
}

fn own(name: &str) -> String {
    namespace(&json!(std::process::id()), name)
}

fn map() -> Value {
    json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}])
}

/// Replaces the namespaces of one type.
fn set(config: &mut Value, kind: &str, namespaces: &[Value]) {
    let list = config["linux"]["namespaces"].as_array_mut().unwrap();
    list.retain(|one| one["type"] != kind);
    list.extend_from_slice(namespaces);
    if kind == "user" && !namespaces.is_empty() {
        // For one with a path too, the same as its own: runc 1.1 wants them.
        config["linux"]["uidMappings"] = map();
        config["linux"]["gidMappings"] = map();
    }
}

#[test]
fn a_namespace_that_is_listed_is_new_and_one_that_is_not_the_callers() {
    let mut bundle = bundle!();
    bundle.configure(|config| {
        types().for_each(|(kind, _)| set(config, kind, &[json!({"type": kind})]));
    });
    bundle.up();
    let pid = bundle.state()["pid"].clone();
    for (kind, name) in types() {
        assert_ne!(namespace(&pid, name), own(name), "{kind}");
    }
    bundle.delete();
    // In a root without a procfs, as it is without mounts, runc 1.1 makes nothing.
    for (kind, name) in types().filter(|(kind, _)| !(is_peer() && *kind == "mount")) {
        let mut bundle = bundle!();
        bundle.configure(|config| {
            set(config, kind, &[]);
            if kind == "uts" {
                config["hostname"] = json!("");
            }
            if kind == "mount" {
                config["mounts"] = json!([]);
                config["linux"]["maskedPaths"] = json!([]);
                config["linux"]["readonlyPaths"] = json!([]);
            }
        });
        bundle.up();
        assert_eq!(namespace(&bundle.state()["pid"], name), own(name), "{kind}");
    }
}

#[test]
fn a_namespace_with_a_path_is_joined_and_so_it_is_by_exec() {
    let mut first = bundle!();
    first.configure(|config| {
        types().for_each(|(kind, _)| set(config, kind, &[json!({"type": kind})]));
    });
    first.up();
    let pid = first.state()["pid"].clone();
    let joined = types().filter(|(kind, _)| !["mount", "user"].contains(kind));
    for (kind, name) in joined {
        let mut second = bundle!();
        // The other namespaces belong to the user namespace of the first one.
        second.configure(|config| {
            for (kind, name) in [("user", "user"), (kind, name)] {
                set(config, kind, &[json!({"type": kind, "path": format!("/proc/{pid}/ns/{name}")})]);
            }
            if kind == "uts" {
                config["hostname"] = json!("");
            }
        });
        second.up();
        let own_pid = second.state()["pid"].clone();
        for name in [name, "user"] {
            assert_eq!(namespace(&own_pid, name), namespace(&pid, name), "{kind}");
        }
        let seen = second.exec(&["/bin/readlink", &format!("/proc/self/ns/{name}")]).ok();
        assert_eq!(seen.trim(), namespace(&pid, name), "{kind}");
    }
}

#[test]
fn a_path_that_leads_to_no_namespace_of_that_type_is_refused() {
    let mut bundle = bundle!();
    for path in ["/proc/self/ns/uts", "/etc/passwd", "/nonexistent"] {
        bundle.configure(|config| set(config, "network", &[json!({"type": "network", "path": path})]));
        bundle.detached(&["create", &bundle.id]).fails(1);
        bundle.assert_gone();
    }
}

#[test]
fn the_loopback_is_up_in_a_new_network_and_as_it_was_in_one_that_is_joined() {
    let mut bundle = bundle!();
    bundle.args(&["/bin/busybox", "ip", "link", "show", "lo"]);
    let up = bundle.oci(&["run", &bundle.id]).ok();
    assert!(up.contains("LOOPBACK,UP"), "{up}");
    let ip = |args: &[&str]| assert!(Command::new("ip").args(args).status().unwrap().success());
    ip(&["netns", "add", &bundle.id]);
    let path = format!("/run/netns/{}", bundle.id);
    bundle.configure(|config| set(config, "network", &[json!({"type": "network", "path": path})]));
    let joined = bundle.oci(&["run", &bundle.id]).ok();
    ip(&["netns", "del", &bundle.id]);
    assert!(joined.contains("LOOPBACK") && !joined.contains("UP"), "{joined}");
}

#[test]
fn a_user_namespace_has_every_line_of_its_maps() {
    let mut bundle = bundle!();
    bundle.script("cat /proc/self/uid_map /proc/self/gid_map; id -u").configure(|config| {
        set(config, "user", &[json!({"type": "user"})]);
        config["linux"]["uidMappings"] = json!([
            {"containerID": 0, "hostID": 100_000, "size": 10}, {"containerID": 10, "hostID": 200_000, "size": 5},
        ]);
        config["linux"]["gidMappings"] = json!([{"containerID": 0, "hostID": 300_000, "size": 10}]);
        config["process"]["user"] = json!({"uid": 12, "gid": 3});
        // Of a group that is not mapped.
        config["mounts"][2]["options"].as_array_mut().unwrap().retain(|option| option != "gid=5");
    });
    let seen = bundle.oci(&["run", &bundle.id]).ok();
    let words: Vec<&str> = seen.split_whitespace().collect();
    assert_eq!(words.join(" "), "0 100000 10 10 200000 5 0 300000 10 12");
}

#[test]
fn a_cgroup_namespace_begins_at_the_containers_group() {
    let mut bundle = bundle!();
    bundle.args(&["/bin/cat", "/proc/self/cgroup"]);
    let groups = |bundle: &Bundle| bundle.oci(&["run", &bundle.id]).ok();
    assert!(groups(&bundle).contains(&bundle.id));
    bundle.configure(|config| set(config, "cgroup", &[json!({"type": "cgroup"})]));
    let seen = groups(&bundle);
    assert!(!seen.contains(&bundle.id) && seen.contains(":/\n"), "{seen}");
}

#[test]
fn clocks_are_ahead_by_the_offsets() {
    if is_peer() {
        // Of runtime-spec 1.1; runc 1.1 does not know it.
        return;
    }
    let mut bundle = bundle!();
    bundle.script("cat /proc/uptime /proc/self/timens_offsets").configure(|config| {
        set(config, "time", &[json!({"type": "time"})]);
        config["linux"]["timeOffsets"] =
            json!({"monotonic": {"secs": 7, "nanosecs": 8}, "boottime": {"secs": 10_000_000}});
    });
    let seen = bundle.oci(&["run", &bundle.id]).ok();
    let uptime: f64 = seen.split_whitespace().next().unwrap().parse().unwrap();
    assert!(uptime > 10_000_000.0, "{seen}");
    let words: Vec<&str> = seen.split_whitespace().skip(2).collect();
    assert_eq!(words, ["monotonic", "7", "8", "boottime", "10000000", "0"]);
}

#[test]
fn names_of_the_host_and_its_domain_are_set() {
    let mut bundle = bundle!();
    bundle.script("/bin/busybox hostname; cat /proc/sys/kernel/domainname");
    bundle.configure(|config| config["domainname"] = json!("example.org"));
    let seen = bundle.oci(&["run", &bundle.id]).ok();
    // runc 1.1 does not know the second one.
    assert!(seen.starts_with("box\n") && (is_peer() || seen == "box\nexample.org\n"), "{seen}");
}

#[test]
fn settings_of_the_kernel_are_those_of_the_containers_namespaces() {
    let mut bundle = bundle!();
    let rows = [
        ("kernel.msgmax", "4001"),
        ("kernel.msgmnb", "4002"),
        ("kernel.msgmni", "403"),
        ("kernel.sem", "200\t25600\t100\t128"),
        ("kernel.shmall", "100000"),
        ("kernel.shmmax", "1000000"),
        ("kernel.shmmni", "404"),
        ("kernel.shm_rmid_forced", "1"),
        ("fs.mqueue.msg_max", "11"),
        ("net.core.somaxconn", "405"),
        ("net.ipv4.ip_forward", "1"),
        // Either character may stand between the words.
        ("net/ipv4/ip_unprivileged_port_start", "406"),
        ("net/ipv4/conf/lo/forwarding", "1"),
        ("kernel.domainname", "example.org"),
    ];
    let path = |name: &str| format!("/proc/sys/{}", name.replace('.', "/"));
    // Not every kernel has all of them, and runc 1.1 takes the dots alone.
    let is_known =
        |name: &str| !(is_peer() && name.contains('/')) && std::path::Path::new(&path(name)).exists();
    let rows: Vec<_> = rows.into_iter().filter(|(name, _)| is_known(name)).collect();
    assert!(rows.len() > 5, "{rows:?}");
    let host: Vec<String> =
        rows.iter().map(|(name, _)| fs::read_to_string(path(name)).unwrap_or_default()).collect();
    let script: Vec<String> = rows.iter().map(|(name, _)| format!("cat {}", path(name))).collect();
    bundle.script(&script.join(" && ")).configure(|config| {
        let all = rows.iter().map(|(name, value)| ((*name).to_owned(), json!(value)));
        config["linux"]["sysctl"] = Value::Object(all.collect());
    });
    let seen = bundle.oci(&["run", &bundle.id]).ok();
    let wanted: Vec<&str> = rows.iter().map(|(_, value)| *value).collect();
    assert_eq!(seen.lines().collect::<Vec<_>>(), wanted);
    for ((name, _), before) in rows.iter().zip(host) {
        assert_eq!(fs::read_to_string(path(name)).unwrap_or_default(), before, "{name} of the host");
    }
}

#[test]
fn counts_of_a_user_namespace_are_set_in_it() {
    if is_peer() {
        // runc 1.1 refuses them.
        return;
    }
    let mut bundle = bundle!();
    bundle.args(&["/bin/cat", "/proc/sys/user/max_net_namespaces"]).configure(|config| {
        set(config, "user", &[json!({"type": "user"})]);
        config["linux"]["sysctl"] = json!({"user.max_net_namespaces": "17"});
    });
    assert_eq!(bundle.oci(&["run", &bundle.id]).ok(), "17\n");
}

#[test]
fn a_setting_that_the_kernel_does_not_have_is_told() {
    let mut bundle = bundle!();
    bundle.configure(|config| config["linux"]["sysctl"] = json!({"net.ipv4.nonesuch": "1"}));
    let told = bundle.detached(&["create", &bundle.id]).fails(1);
    assert!(told.contains("nonesuch"), "{told}");
    bundle.assert_gone();
}

#[test]
fn the_kernel_shows_itself_as_the_domain_says() {
    if is_peer() || !cfg!(target_arch = "x86_64") {
        // runc 1.1 does not know it.
        return;
    }
    if hull_tests::criu::is_foreign_machine() {
        return println!("left out: User-mode Linux has no other machine to show");
    }
    let mut bundle = bundle!();
    bundle.args(&["/bin/busybox", "uname", "-m"]);
    for (domain, machine) in [("LINUX", "x86_64\n"), ("LINUX32", "i686\n")] {
        bundle.configure(|config| config["linux"]["personality"] = json!({"domain": domain}));
        assert_eq!(bundle.oci(&["run", &bundle.id]).ok(), machine, "{domain}");
    }
    bundle.args(&["/bin/sleep", "1000"]).up();
    assert_eq!(bundle.exec(&["/bin/busybox", "uname", "-m"]).ok(), "i686\n");
}

#[test]
fn memory_comes_from_the_nodes_that_the_policy_says() {
    if is_peer() {
        // Of runtime-spec 1.3; runc 1.1 does not know it.
        return;
    }
    if !std::path::Path::new("/proc/self/numa_maps").exists() {
        return println!("left out: this kernel has no memory policies");
    }
    let mut bundle = bundle!();
    bundle.args(&["/bin/cat", "/proc/self/numa_maps"]);
    let rows = [
        (json!({"mode": "MPOL_DEFAULT"}), " default"),
        (json!({"mode": "MPOL_BIND", "nodes": "0"}), " bind:0"),
        (json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}), " bind=static:0"),
        (json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_RELATIVE_NODES"]}), " bind=relative:0"),
        (json!({"mode": "MPOL_INTERLEAVE", "nodes": "0"}), " interleave:0"),
        (json!({"mode": "MPOL_WEIGHTED_INTERLEAVE", "nodes": "0"}), " weighted interleave:0"),
        (json!({"mode": "MPOL_PREFERRED", "nodes": "0"}), " prefer:0"),
        (json!({"mode": "MPOL_PREFERRED_MANY", "nodes": "0"}), " prefer (many):0"),
        (json!({"mode": "MPOL_LOCAL"}), " local"),
    ];
    for (policy, wanted) in rows {
        bundle.configure(|config| config["linux"]["memoryPolicy"] = policy.clone());
        let seen = bundle.oci(&["run", &bundle.id]).ok();
        assert!(seen.contains(wanted), "{policy}: {seen}");
    }
}
