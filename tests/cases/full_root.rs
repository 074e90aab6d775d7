//! What needs every capability and cgroup v2 alone: run in the test machine (`make test-vm`), which sets `HULL_VM`.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use hull_tests::{Host, host};

/// Ends a case outside the test machine; elsewhere it is nothing that is missing.
macro_rules! machine {
    () => {
        if std::env::var_os("HULL_VM").is_none()
            || !std::path::Path::new("/sys/fs/cgroup/cgroup.procs").exists()
        {
            eprintln!("only in the test machine with cgroup v2: make test-vm");
            return;
        }
    };
}

/// With HULL_TEST_HOST_NETWORK on the machine's network: the kernel of a package cannot translate addresses.
fn pod(command: &str, container: &str) -> String {
    let on_host = std::env::var_os("HULL_TEST_HOST_NETWORK").is_some_and(|value| !value.is_empty());
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: full}}
spec:
  restartPolicy: Never
  hostNetwork: {on_host}
  terminationGracePeriodSeconds: 1
  containers:
  - {{name: main, image: busybox, imagePullPolicy: IfNotPresent, command: [sh, -c, '{command}'], {container}}}
"
    )
}

/// The group of the pod's only container, on v2.
fn group(host: &Host) -> PathBuf {
    let groups = host.cgroups();
    let leaf = groups.iter().find(|group| {
        let procs = fs::read_to_string(PathBuf::from(group).join("memory.events"));
        procs.is_ok() && group.contains("main")
    });
    leaf.unwrap_or_else(|| panic!("no group of the container: {groups:#?}")).into()
}

#[test]
fn a_guaranteed_pod_is_the_last_that_the_out_of_memory_killer_takes() {
    machine!();
    let host = host!();
    host.apply_ready(&pod("sleep 1000", "resources: {limits: {cpu: 100m, memory: 32Mi}}"));
    assert_eq!(host.exec("full", &["cat", "/proc/1/oom_score_adj"]).ok(), "-997\n");
    host.leave_nothing();
}

#[test]
fn a_container_with_sys_resource_raises_its_own_hard_limit() {
    machine!();
    let host = host!();
    host.apply_ready(&pod("sleep 1000", "securityContext: {capabilities: {add: [SYS_RESOURCE]}}"));
    let raise = "ulimit -n 1000 && ulimit -Hn 1040000 && ulimit -Hn";
    assert_eq!(host.exec("full", &["sh", "-c", raise]).ok(), "1040000\n");
    host.leave_nothing();
}

#[test]
fn out_of_memory_ends_the_whole_container_on_v2() {
    machine!();
    let host = host!();
    // The shell is small, and its child is what the killer chooses.
    let hog = "tail /dev/zero; sleep 1000";
    host.apply(&pod(hog, "resources: {limits: {memory: 24Mi}}"));
    let pod = host.wait_pod("full", Duration::from_secs(30), "end by the killer", |pod| {
        pod["status"]["containerStatuses"][0]["state"]["terminated"].is_object()
    });
    let end = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!((&end["reason"], &end["exitCode"]), (&"OOMKilled".into(), &137.into()));
    host.leave_nothing();
}

#[test]
fn a_container_may_not_open_a_device_that_it_was_not_given() {
    machine!();
    let host = host!();
    host.apply_ready(&pod("sleep 1000", "securityContext: {capabilities: {add: [MKNOD]}}"));
    let open = "mknod /tmp-null c 1 3 && echo >/tmp-null && echo null; mknod /tmp-mem c 1 1; : </tmp-mem";
    let said = host.exec("full", &["sh", "-c", open]);
    assert!(said.stdout.starts_with("null\n"), "{said}");
    assert!(said.stderr.contains("Operation not permitted"), "{said}");
    host.leave_nothing();
}

#[test]
fn a_containers_group_tells_its_pressure() {
    machine!();
    let host = host!();
    host.apply_ready(&pod("sleep 1000", "resources: {limits: {memory: 32Mi}}"));
    let group = group(&host);
    assert!(fs::read_to_string(group.join("cpu.pressure")).unwrap().starts_with("some avg10="));
    host.leave_nothing();
}

#[test]
fn a_containers_group_tells_its_memory_events_and_is_killed_as_one() {
    machine!();
    let host = host!();
    host.apply_ready(&pod("sleep 1000", "resources: {limits: {memory: 32Mi}}"));
    let group = group(&host);
    assert!(fs::read_to_string(group.join("memory.events")).unwrap().contains("oom_group_kill 0"));
    assert_eq!(fs::read_to_string(group.join("memory.oom.group")).unwrap(), "1\n");
    host.leave_nothing();
}

#[test]
fn a_tree_of_processes_that_ignores_signals_is_killed_whole() {
    machine!();
    let host = host!();
    let tree = "trap \"\" TERM; for i in 1 2 3 4 5 6 7 8; do setsid sh -c \"trap : TERM; while :; do sleep 1; done\" & done; wait";
    host.apply_ready(&pod(tree, "securityContext: {}"));
    host.leave_nothing();
}
