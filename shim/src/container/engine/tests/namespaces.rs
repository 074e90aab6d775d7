//! Namespaces that are made, and those that are joined.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sched::{CloneFlags, unshare};
use serde_json::json;

use super::super::kernel;
use super::Bundle;

#[test]
fn a_user_namespace_has_its_maps_and_limits() {
    let script = "busybox cat /proc/self/uid_map; busybox id -u; ulimit -n; busybox cat /proc/self/setgroups";
    let Some(bundle) = Bundle::new(script) else { return };
    let bundle = bundle.with(|config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        let map = json!([{"containerID": 0, "hostID": 0, "size": 1000}]);
        config["linux"]["uidMappings"] = map.clone();
        config["linux"]["gidMappings"] = map;
        config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "hard": 99, "soft": 77}]);
    });
    let ran = match bundle.run() {
        // Where the host hides parts of its own /proc, no user namespace may have a fresh one.
        Err(error) if error.contains("operation not permitted") => {
            println!("skipped: {error}");
            return;
        }
        ran => ran.unwrap(),
    };
    let words: Vec<&str> = ran.output.split_whitespace().collect();
    assert_eq!(words, ["0", "0", "1000", "0", "77", "allow"]);
}

#[test]
fn a_time_namespace_has_its_offsets() {
    if !kernel::has_namespace("time") {
        return println!("skipped: no time namespaces");
    }
    let Some(bundle) = Bundle::new("busybox cat /proc/self/timens_offsets") else { return };
    let bundle = bundle.with(|config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "time"}));
        config["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1000, "nanosecs": 5}});
    });
    let output = bundle.run().unwrap().output;
    let words: Vec<&str> = output.split_whitespace().collect();
    assert_eq!(words, ["monotonic", "0", "0", "boottime", "1000", "5"]);
}

/// A network namespace that lives as long as its descriptor.
fn network() -> OwnedFd {
    let made = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        OwnedFd::from(File::open("/proc/thread-self/ns/net").unwrap())
    });
    made.join().unwrap()
}

#[test]
fn namespaces_are_joined_by_path_also_from_a_new_user_namespace() {
    for with_user in [false, true] {
        let Some(bundle) = Bundle::new("busybox readlink /proc/self/ns/net") else { return };
        let network = network();
        let path = format!("/proc/{}/fd/{}", std::process::id(), network.as_raw_fd());
        let expected = std::fs::read_link(&path).unwrap();
        let bundle = bundle.with(|config| {
            config["linux"].as_object_mut().unwrap().remove("sysctl");
            let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces[1] = json!({"type": "network", "path": path});
            if with_user {
                namespaces.push(json!({"type": "user"}));
                let map = json!([{"containerID": 0, "hostID": 0, "size": 1000}]);
                config["linux"]["uidMappings"] = map.clone();
                config["linux"]["gidMappings"] = map;
            }
        });
        match bundle.run() {
            Err(error) if with_user && error.contains("operation not permitted") => {
                println!("skipped: {error}");
            }
            ran => assert_eq!(ran.unwrap().output.trim(), expected.display().to_string()),
        }
    }
}

#[test]
fn a_path_to_another_kind_of_namespace_is_refused() {
    let Some(bundle) = Bundle::new("true") else { return };
    let bundle = bundle.with(|config| {
        config["linux"]["namespaces"][1] = json!({"type": "network", "path": "/proc/self/ns/uts"});
    });
    assert_eq!(bundle.run().unwrap_err(), "/proc/self/ns/uts is not a network namespace");
}
