//! Signals (oci-runtime.md 2.2).

use serde_json::json;

use crate::bundle::is_peer;

/// Writes the name of each signal that it gets.
const TRAP: &str = "for one in USR1 USR2 HUP; do trap \"echo $one >> /tmp/out\" $one; done; trap 'echo RT >> /tmp/out' 37; \
     echo ready > /tmp/out; while :; do sleep 0.05; done";

#[test]
fn a_signal_has_a_name_with_and_without_prefix_and_a_number() {
    let mut bundle = bundle!();
    bundle.script(TRAP).up();
    bundle.shows("rootfs/tmp/out", "ready");
    for (signal, seen) in [("USR1", "USR1"), ("SIGUSR2", "USR2"), ("1", "HUP")] {
        bundle.oci(&["kill", &bundle.id, signal]).ok();
        bundle.shows("rootfs/tmp/out", seen);
    }
    if !is_peer() {
        // runc 1.1 knows real-time signals by number alone.
        bundle.oci(&["kill", &bundle.id, "SIGRTMIN+3"]).ok();
        bundle.shows("rootfs/tmp/out", "RT");
    }
    let told = bundle.oci(&["kill", &bundle.id, "NONESUCH"]).fails(1);
    assert!(told.contains("unknown signal") && told.contains("NONESUCH"), "{told}");
}

#[test]
fn without_a_signal_it_is_sigterm() {
    let mut bundle = bundle!();
    bundle.script("trap 'exit 0' TERM; echo ready > /tmp/out; while :; do sleep 0.05; done").up();
    bundle.shows("rootfs/tmp/out", "ready");
    bundle.oci(&["kill", &bundle.id]).ok();
    bundle.becomes("stopped");
}

#[test]
fn a_signal_without_a_name_is_sigterm_too() {
    let bundle = bundle!();
    bundle.create();
    bundle.oci(&["kill", &bundle.id, ""]).ok();
    bundle.becomes("stopped");
}

#[test]
fn a_stopped_container_is_not_running() {
    let mut bundle = bundle!();
    bundle.args(&["/bin/true"]).up();
    bundle.becomes("stopped");
    for signal in ["0", "TERM", "KILL"] {
        let told = bundle.oci(&["kill", &bundle.id, signal]).fails(1);
        // runc 1.1 says `process already finished` or this, by its version.
        assert!(
            told.contains("container not running") || told.contains("process already finished"),
            "{told}"
        );
    }
    bundle.oci(&["kill", "--all", &bundle.id, "KILL"]).ok();
    assert!(bundle.oci(&["kill", "nonesuch"]).fails(1).contains("does not exist"));
}

#[test]
fn a_created_container_can_be_killed() {
    let bundle = bundle!();
    bundle.create();
    bundle.oci(&["kill", &bundle.id, "KILL"]).ok();
    bundle.becomes("stopped");
}

#[test]
fn sigkill_takes_all_that_share_the_hosts_pid_namespace() {
    if is_peer() {
        // runc 1.1 asks for --all there.
        return;
    }
    let mut bundle = bundle!();
    bundle.script("sleep 1000 & sleep 1000").configure(|config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "pid");
        config["mounts"].as_array_mut().unwrap().retain(|one| one["destination"] != "/proc");
        config["linux"]["maskedPaths"] = json!([]);
        config["linux"]["readonlyPaths"] = json!([]);
    });
    bundle.up();
    let pids =
        || serde_json::from_str::<Vec<i32>>(&bundle.oci(&["ps", "-f", "json", &bundle.id]).ok()).unwrap();
    hull_tests::wait_until(std::time::Duration::from_secs(10), "two processes", || match pids() {
        pids if pids.len() >= 2 => Ok(()),
        pids => Err(format!("{pids:?}")),
    });
    bundle.oci(&["kill", &bundle.id, "KILL"]).ok();
    bundle.becomes("stopped");
    hull_tests::wait_until(std::time::Duration::from_secs(10), "end of all", || match pids() {
        pids if pids.is_empty() => Ok(()),
        pids => Err(format!("{pids:?}")),
    });
}

#[test]
fn a_container_that_waits_for_its_start_ends_by_sigterm() {
    let bundle = bundle!();
    bundle.create();
    bundle.oci(&["kill", &bundle.id, "TERM"]).ok();
    bundle.becomes("stopped");
}

#[test]
fn the_first_process_alone_gets_a_signal() {
    let mut bundle = bundle!();
    let trap = |name: &str| {
        format!("trap 'echo {name} >> /tmp/out' USR1; echo ready >> /tmp/out; while :; do sleep 0.05; done")
    };
    bundle.script(&format!("({}) & {}", trap("child"), trap("first"))).up();
    hull_tests::wait_until(std::time::Duration::from_secs(15), "both", || {
        let text = bundle.read("rootfs/tmp/out");
        if text.matches("ready").count() == 2 { Ok(()) } else { Err(text) }
    });
    bundle.oci(&["kill", &bundle.id, "USR1"]).ok();
    bundle.shows("rootfs/tmp/out", "first");
    bundle.oci(&["kill", &bundle.id, "KILL"]).ok();
    bundle.becomes("stopped");
    assert!(!bundle.read("rootfs/tmp/out").contains("child"));
    // The others go with it.
    assert!(bundle.groups().iter().all(|group| {
        std::fs::read_to_string(group.join("cgroup.procs")).is_ok_and(|pids| pids.is_empty())
    }));
}

#[test]
fn a_signal_that_there_is_not_is_refused() {
    let bundle = bundle!();
    bundle.up();
    for signal in ["SIGNONESUCH", "-1", "999", "USR1 "] {
        let output = bundle.oci(&["kill", &bundle.id, signal]);
        assert!(!output.status.success(), "{signal:?}: {output}");
    }
    assert_eq!(bundle.status(), "running");
}
