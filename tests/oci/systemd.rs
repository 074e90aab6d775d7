//! `--systemd-cgroup`: containers in units of systemd (oci-runtime.md 4.12). They need systemd as the first process, and
//! its own PID namespace, so they run in a machine of their own: `make test-vm-systemd`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use hull_tests::{command, wait_until};
use serde_json::json;

use crate::bundle::Bundle;

const SOON: Duration = Duration::from_secs(20);
const SLICE: &str = "hulltest-cases.slice";

/// A bundle whose container is a scope in [`SLICE`].
fn scope() -> Bundle {
    let mut bundle = Bundle::new().unwrap();
    let path = format!("{SLICE}:box:{}", bundle.id);
    bundle.globals(&["--systemd-cgroup"]).configure(|config| config["linux"]["cgroupsPath"] = json!(path));
    bundle
}

fn unit(bundle: &Bundle) -> String {
    format!("box-{}.scope", bundle.id)
}

/// Where its group is: the name of a slice says which slices that one is in.
fn group(bundle: &Bundle) -> PathBuf {
    Path::new("/sys/fs/cgroup/hulltest.slice").join(SLICE).join(unit(bundle))
}

fn file(bundle: &Bundle, name: &str) -> String {
    let path = group(bundle).join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.trim().to_owned()
}

#[track_caller]
fn systemctl(args: &[&str]) -> String {
    command::run(Command::new("systemctl").args(args), "", SOON).ok()
}

#[track_caller]
fn property(unit: &str, name: &str) -> String {
    systemctl(&["show", "-P", name, unit]).trim().to_owned()
}

/// Waits until systemd has forgotten the unit and its group is gone.
#[track_caller]
fn assert_forgotten(bundle: &Bundle) {
    wait_until(SOON, "the unit is gone", || match property(&unit(bundle), "LoadState").as_str() {
        "not-found" if !group(bundle).exists() => Ok(()),
        state => Err(format!("{state}, group: {}", group(bundle).exists())),
    });
}

#[test]
#[ignore = "needs systemd: make test-vm-systemd"]
fn a_container_is_a_delegated_scope_in_the_slice_that_its_path_names() {
    let bundle = scope();
    bundle.create();
    let unit = unit(&bundle);
    assert_eq!(property(&unit, "ActiveState"), "active");
    assert_eq!(property(&unit, "Slice"), SLICE);
    assert_eq!(property(&unit, "Delegate"), "yes");
    let pid = bundle.state()["pid"].as_i64().unwrap().to_string();
    // Whoever held the scope until the container came has left it.
    assert_eq!(file(&bundle, "cgroup.procs"), pid);
    bundle.oci(&["start", &bundle.id]).ok();
    let seen = bundle.exec(&["cat", "/proc/self/cgroup"]).ok();
    assert!(seen.trim().ends_with(&unit), "{seen}");
    assert_eq!(file(&bundle, "cgroup.procs"), pid);
    bundle.oci(&["kill", &bundle.id, "KILL"]).ok();
    bundle.becomes("stopped");
    bundle.oci(&["delete", &bundle.id]).ok();
    assert_forgotten(&bundle);
}

#[test]
#[ignore = "needs systemd: make test-vm-systemd"]
fn without_a_path_it_is_named_after_the_container_in_the_systems_slice() {
    let mut bundle = scope();
    bundle.configure(|config| {
        config["linux"].as_object_mut().unwrap().remove("cgroupsPath");
    });
    bundle.up();
    let unit = format!("hull-{}.scope", bundle.id);
    assert_eq!(property(&unit, "ControlGroup"), format!("/system.slice/{unit}"));
    bundle.delete();
    assert_eq!(property(&unit, "LoadState"), "not-found");
}

#[test]
#[ignore = "needs systemd: make test-vm-systemd"]
fn limits_are_properties_that_systemd_keeps() {
    let mut bundle = scope();
    bundle.configure(|config| {
        config["linux"]["resources"] = json!({
            "memory": {"limit": 64 << 20, "reservation": 32 << 20},
            "pids": {"limit": 50},
            "cpu": {"shares": 1024, "quota": 50_000, "period": 100_000, "cpus": "0"},
            "unified": {"memory.high": "50331648"},
        });
    });
    bundle.up();
    let unit = unit(&bundle);
    let all = || {
        ["MemoryMax", "MemoryLow", "MemoryHigh", "TasksMax", "CPUWeight", "CPUQuotaPerSecUSec", "AllowedCPUs"]
            .map(|name| property(&unit, name))
    };
    assert_eq!(all(), ["67108864", "33554432", "50331648", "50", "100", "500ms", "0"]);
    // What systemd counts coarser stays exact in the file.
    bundle.oci(&["update", "--cpu-quota", "12345", &bundle.id]).ok();
    assert_eq!(
        (property(&unit, "CPUQuotaPerSecUSec"), file(&bundle, "cpu.max")),
        ("130ms".into(), "12345 100000".into())
    );
    bundle.oci(&["update", "--memory", "96m", "--pids-limit=20", "--cpu-quota", "25000", &bundle.id]).ok();
    assert_eq!(all(), ["100663296", "33554432", "50331648", "20", "100", "250ms", "0"]);
    let files =
        || ["memory.max", "memory.low", "pids.max", "cpu.max", "cpuset.cpus"].map(|it| file(&bundle, it));
    let wanted = ["100663296", "33554432", "20", "25000 100000", "0"];
    assert_eq!(files(), wanted);
    // It writes what it knows once more.
    systemctl(&["daemon-reload"]);
    systemctl(&["set-property", "--runtime", &unit, "IOWeight=50"]);
    assert_eq!(files(), wanted);
}

#[test]
#[ignore = "needs systemd: make test-vm-systemd"]
fn annotations_are_properties() {
    let mut bundle = scope();
    bundle.configure(|config| {
        config["annotations"] = json!({
            "org.systemd.property.TimeoutStopUSec": "uint64 7000000",
            "org.systemd.property.Description": "'a box'",
        });
    });
    bundle.up();
    assert_eq!(property(&unit(&bundle), "TimeoutStopUSec"), "7s");
    assert_eq!(property(&unit(&bundle), "Description"), "a box");
}

#[test]
#[ignore = "needs systemd: make test-vm-systemd"]
fn a_container_that_systemd_stops_is_stopped() {
    let bundle = scope();
    bundle.up();
    // The first process of a PID namespace has no default action for SIGTERM.
    systemctl(&["kill", "-s", "KILL", &unit(&bundle)]);
    bundle.becomes("stopped");
    bundle.oci(&["delete", &bundle.id]).ok();
    assert_forgotten(&bundle);
}

#[test]
#[ignore = "needs systemd: make test-vm-systemd"]
fn a_container_that_ended_leaves_no_unit() {
    let mut bundle = scope();
    bundle.script("exit 3");
    assert_eq!(bundle.oci(&["run", &bundle.id]).status.code(), Some(3));
    assert_forgotten(&bundle);
    // The name is free again.
    bundle.args(&["/bin/sleep", "1000"]).up();
    bundle.delete();
    assert_forgotten(&bundle);
}

#[test]
#[ignore = "needs systemd: make test-vm-systemd"]
fn a_container_is_paused_and_goes_on_in_its_scope() {
    let bundle = scope();
    bundle.up();
    bundle.oci(&["pause", &bundle.id]).ok();
    assert_eq!((bundle.status().as_str(), file(&bundle, "cgroup.freeze").as_str()), ("paused", "1"));
    bundle.oci(&["resume", &bundle.id]).ok();
    assert_eq!(bundle.status(), "running");
    bundle.oci(&["pause", &bundle.id]).ok();
    bundle.delete();
    assert_forgotten(&bundle);
}

#[test]
#[ignore = "needs systemd: make test-vm-systemd"]
fn groups_that_a_container_makes_in_its_scope_stay_its_own() {
    let mut bundle = scope();
    bundle.configure(|config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.push(
            json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": []}),
        );
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "cgroup"}));
    });
    bundle.script(
        "cd /sys/fs/cgroup && /bin/busybox mkdir inner && echo 1 >inner/cgroup.procs && \
         echo +pids >cgroup.subtree_control && echo 9 >inner/pids.max && echo done; exec sleep 1000",
    );
    bundle.up();
    bundle.shows("stdout", "done");
    systemctl(&["daemon-reload"]);
    assert_eq!(file(&bundle, "inner/pids.max"), "9");
    bundle.delete();
    assert_forgotten(&bundle);
}

#[test]
#[ignore = "needs systemd: make test-vm-systemd"]
fn running_out_of_memory_ends_the_container_alone() {
    let mut bundle = scope();
    bundle.script("x=x; while :; do x=$x$x; done").configure(|config| {
        config["linux"]["resources"]["memory"] = json!({"limit": 16 << 20, "swap": 16 << 20});
    });
    assert_eq!(bundle.oci(&["run", &bundle.id]).status.code(), Some(137));
    assert_forgotten(&bundle);
}

#[test]
#[ignore = "needs systemd: make test-vm-systemd"]
fn devices_that_were_not_allowed_stay_shut() {
    let mut bundle = scope();
    bundle.configure(|config| {
        config["linux"]["resources"]["devices"] = json!([
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": 10, "minor": 237, "access": "rwm"},
        ]);
        let capabilities = json!(["CAP_MKNOD"]);
        for set in ["bounding", "effective", "permitted"] {
            config["process"]["capabilities"][set] = capabilities.clone();
        }
    });
    bundle.up();
    assert_eq!(property(&unit(&bundle), "DevicePolicy"), "strict");
    // Every node may be made, as with runc; it is opening it that is denied.
    for (name, major, minor) in [("allowed", "10", "237"), ("denied", "1", "11")] {
        bundle.exec(&["/bin/busybox", "mknod", &format!("/dev/{name}"), "c", major, minor]).ok();
    }
    let opened = |name: &str| bundle.exec(&["/bin/sh", "-c", &format!(": </dev/{name}")]);
    opened("allowed").ok();
    assert!(opened("denied").stderr.contains("not permitted"));
    systemctl(&["daemon-reload"]);
    assert!(opened("denied").stderr.contains("not permitted"));
}

#[test]
#[ignore = "needs systemd: make test-vm-systemd"]
fn a_taken_name_and_a_path_of_another_form_are_refused() {
    let bundle = scope();
    bundle.up();
    let mut second = scope();
    let path = format!("{SLICE}:box:{}", bundle.id);
    second.configure(|config| config["linux"]["cgroupsPath"] = json!(path));
    let told = second.detached(&["create", &second.id]).fails(1);
    assert!(told.contains("container's cgroup is not empty"), "{told}");
    assert_eq!(bundle.status(), "running");
    for path in ["/plain/path", "a.slice:b", "no-slice:b:c", "a/b.slice:c:d"] {
        second.configure(|config| config["linux"]["cgroupsPath"] = json!(path));
        second.detached(&["create", &second.id]).fails(1);
        assert!(!second.root().join(&second.id).exists(), "{path}");
    }
}

#[test]
#[ignore = "needs systemd: make test-vm-systemd"]
fn a_slice_that_is_there_gets_the_limits() {
    let name = format!("hulltest-there{}.slice", std::process::id());
    let mut bundle = Bundle::new().unwrap();
    let path = format!("hulltest.slice:box:{name}");
    bundle.globals(&["--systemd-cgroup"]).configure(|config| {
        config["linux"]["cgroupsPath"] = json!(path);
        config["linux"]["resources"]["pids"] = json!({"limit": 33});
    });
    systemctl(&["start", &name]);
    bundle.up();
    assert_eq!(property(&name, "TasksMax"), "33");
    bundle.delete();
}
