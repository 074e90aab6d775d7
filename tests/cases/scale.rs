//! Many pods at once, and one pod for long.

use std::time::Duration;

use hull_tests::pod::busybox;
use hull_tests::{Host, Machine, PodFiles, host, process, wait_until};
use serde_json::Value;

const PODS: usize = 20;
const LONG: Duration = Duration::from_secs(90);
const SOON: Duration = Duration::from_secs(20);

fn pod(name: &str) -> String {
    let command = "trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done";
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: many}}}}
spec:
  terminationGracePeriodSeconds: 5
  containers:
  - {{name: one, image: busybox, command: [sh, -c, {command:?}]}}
  - {{name: two, image: busybox, command: [sh, -c, {command:?}]}}
"
    )
}

fn rows(host: &Host) -> Vec<String> {
    host.hull(&["get", "pods", "--no-headers"]).stdout.lines().map(str::to_owned).collect()
}

#[test]
fn twenty_pods_at_once_run_and_leave_nothing() {
    let host = host!();
    // The first pod brings what stays for the next one: directories, lock files, the bridge's counters.
    host.apply(&pod("before"));
    host.wait_row("before", SOON, "2/2", "Running");
    host.delete("before", &["--now"]);
    host.assert_clean();
    let before = Machine::look(&host);

    let names: Vec<String> = (0..PODS).map(|number| format!("pod-{number}")).collect();
    let mut applies: Vec<_> =
        names.iter().map(|name| host.start_debug(&["apply", "-f", "-"], &pod(name))).collect();
    for apply in &mut applies {
        assert!(apply.wait(LONG).success(), "{:?}", apply.lines());
    }
    wait_until(LONG, "twenty pods running", || {
        let rows = rows(&host);
        let running = rows.iter().filter(|row| row.contains("2/2") && row.contains("Running")).count();
        if running == PODS { Ok(()) } else { Err(rows.join("\n")) }
    });
    let list: Value = serde_json::from_str(&host.hull(&["get", "pods", "-o", "json"]).ok()).unwrap();
    let items = list["items"].as_array().unwrap();
    let mut addresses: Vec<&str> = items.iter().filter_map(|pod| pod["status"]["podIP"].as_str()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    assert_eq!(addresses.len(), PODS, "{addresses:?}");
    for pod in items {
        for status in pod["status"]["containerStatuses"].as_array().unwrap() {
            assert_eq!(status["restartCount"], 0, "{status:#}");
        }
    }
    let mut deletes: Vec<_> = names.iter().map(|name| host.start(&["delete", "pod", name])).collect();
    for delete in &mut deletes {
        assert!(delete.wait(LONG).success(), "{:?}", delete.lines());
    }
    host.assert_clean();
    assert_eq!(Machine::look(&host), before);
}

#[test]
fn one_delete_of_many_pods_ends_them_side_by_side() {
    let host = host!();
    let manifest: String = (0..6).map(|number| format!("---{}", pod(&format!("pod-{number}")))).collect();
    host.apply(&manifest);
    let output = host.hull(&["wait", "pod", "--all", "--for=condition=Ready", "--timeout=60s"]);
    assert!(output.status.success(), "{output}");
    let output = host.hull(&["delete", "pods", "--all"]);
    assert!(output.status.success(), "{output}");
    host.assert_clean();
}

#[test]
fn a_name_can_be_used_again_at_once() {
    let host = host!();
    for round in 0..30 {
        host.apply(&pod("again"));
        if round % 3 == 0 {
            host.wait_row("again", SOON, "2/2", "Running");
        }
        host.delete("again", if round % 2 == 0 { &["--now"] } else { &[] });
    }
    host.assert_clean();
}

/// Descriptors and memory (kB) of a process: all its anonymous pages, also those that it shares with a child at work.
fn footprint(pid: i32) -> (usize, u64) {
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    (descriptors, process::memory_kb(pid, "Anonymous").unwrap_or_default())
}

#[test]
fn execs_and_restarts_leave_shim_and_supervisor_as_small_as_before() {
    let host = host!();
    host.apply(&busybox(
        "name: a",
        "    command: [sh, -c, 'while :; do sleep 0.1; done']
    readinessProbe: {exec: {command: ['true']}, periodSeconds: 1}",
    ));
    host.wait_row("a", SOON, "1/1", "Running");
    let files = PodFiles::find(&host, "a").unwrap();
    let all = files.processes();
    let (shim, supervisor) = (all.shim.unwrap(), all.supervisor.unwrap());
    let execs = |count: usize| {
        for _ in 0..count {
            assert!(host.exec("a", &["true"]).status.success());
        }
    };
    // What is made once is made: allocator arenas, tables that grow.
    execs(50);
    let before = (footprint(shim), footprint(supervisor));
    execs(300);
    let settled = |pid: i32, before: (usize, u64)| {
        wait_until(SOON, &format!("{} as small as before", process::command_line(pid)), || {
            let after = footprint(pid);
            let same = after.0 <= before.0 + 1 && after.1 <= before.1 + 256;
            if same { Ok(()) } else { Err(format!("{before:?} became {after:?}")) }
        });
    };
    settled(shim, before.0);
    settled(supervisor, before.1);
    assert_eq!(files.processes().supervisor, Some(supervisor));
    host.delete("a", &["--now"]);
    host.assert_clean();
}

#[test]
fn fifty_instances_leave_shim_and_supervisor_as_small_as_before() {
    let host = host!();
    // One container that restarts fifty times would spend hours in back-off; a chain of fifty costs the same
    // creates, starts, exits and removals.
    let inits: String = (0..50)
        .map(|number| format!("  - {{name: init-{number}, image: busybox, command: ['true']}}\n"))
        .collect();
    host.apply(&format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: a}}
spec:
  terminationGracePeriodSeconds: 1
  initContainers:
{inits}
  containers:
  - {{name: main, image: busybox, command: [sh, -c, 'while :; do sleep 0.1; done']}}
"
    ));
    let files = PodFiles::find(&host, "a").unwrap();
    wait_until(LONG, "the fifth init container done", || {
        let pod = host.pod("a")?;
        let done = pod["status"]["initContainerStatuses"].as_array().into_iter().flatten();
        let done = done.filter(|each| each["state"]["terminated"].is_object()).count();
        if done >= 5 { Ok(()) } else { Err(done.to_string()) }
    });
    let all = files.processes();
    let (shim, supervisor) = (all.shim.unwrap(), all.supervisor.unwrap());
    let before = (footprint(shim), footprint(supervisor));
    host.wait_row("a", LONG, "1/1", "Running");
    for (pid, before) in [(shim, before.0), (supervisor, before.1)] {
        wait_until(SOON, &format!("{} as small as before", process::command_line(pid)), || {
            let after = footprint(pid);
            // What is known of fifty containers takes some room; a running one takes five descriptors and one for each
            // hierarchy of cgroup v1, and at the first look there may have been none.
            let same = after.0 <= before.0 + 20 && after.1 <= before.1 + 1024;
            if same { Ok(()) } else { Err(format!("{before:?} became {after:?}")) }
        });
    }
    host.delete("a", &["--now"]);
    host.assert_clean();
}
