//! A sandbox that died is made anew, and what a pod, its policy and its supervisor make of that.

use std::time::Duration;

use hull_tests::pod::{condition, container, text};
use hull_tests::{host, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A step that needs no waiting of its own.
const SOON: Duration = Duration::from_secs(15);
/// A step that waits for the first back-off of 10 s.
const AFTER_BACKOFF: Duration = Duration::from_secs(30);

/// Two init containers and a main one, each writing its name into `order`.
fn with_two_init(dir: &std::path::Path, policy: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: anchor}}
spec:
  restartPolicy: {policy}
  terminationGracePeriodSeconds: 2
  initContainers:
  - name: i1
    image: busybox
    imagePullPolicy: IfNotPresent
    command: [sh, -c, "echo i1 >> /out/order"]
    volumeMounts: [{{name: out, mountPath: /out}}]
  - name: i2
    image: busybox
    imagePullPolicy: IfNotPresent
    command: [sh, -c, "echo i2 >> /out/order"]
    volumeMounts: [{{name: out, mountPath: /out}}]
  containers:
  - name: app
    image: busybox
    imagePullPolicy: IfNotPresent
    command: [sh, -c, "trap 'exit 7' TERM; echo app >> /out/order; sleep 1000 & wait"]
    volumeMounts: [{{name: out, mountPath: /out}}]
  volumes:
  - {{name: out, hostPath: {{path: {}}}}}
"#,
        dir.display()
    )
}

#[test]
fn a_dead_sandbox_is_made_anew_and_the_pod_starts_over() {
    let host = host!();
    host.apply(&with_two_init(&host.shared_dir(), "Always"));
    host.wait_row("anchor", SOON, "1/1", "Running");
    let before = host.pod("anchor").unwrap();
    let pause = host.pause_pid("anchor").unwrap();
    kill(Pid::from_raw(pause), Signal::SIGKILL).unwrap();
    host.wait_pod("anchor", AFTER_BACKOFF, "a restart", |pod| {
        container(pod, "app")["restartCount"] == 1 && container(pod, "app")["ready"] == true
    });
    host.wait_row("anchor", SOON, "1/1", "Running");
    let after = host.pod("anchor").unwrap();
    assert_ne!(before["status"]["podIP"], after["status"]["podIP"]);
    assert_ne!(host.pause_pid("anchor").unwrap(), pause);
    wait_until(SOON, "the second start of app", || {
        let order = host.shared_lines("order");
        if order == ["i1", "i2", "app", "i1", "i2", "app"] { Ok(()) } else { Err(format!("{order:?}")) }
    });
    assert_eq!(container(&after, "i1")["restartCount"], 1);
    assert_eq!(condition(&after, "PodReadyToStartContainers")["status"], "True");
    let event = host.wait_event("anchor", SOON, "SandboxChanged", "Pod sandbox changed");
    assert_eq!(event["message"], "Pod sandbox changed, it will be killed and re-created.");
    // What is started now is reached by name and address of the new sandbox.
    let own = host.exec("anchor", &["hostname", "-i"]).ok();
    assert_eq!(own.trim(), text(&after["status"]["podIP"]));
    host.end(&["anchor"]);
}

#[test]
fn a_dead_sandbox_ends_a_pod_of_policy_never() {
    let host = host!();
    host.apply(&with_two_init(&host.shared_dir(), "Never"));
    host.wait_row("anchor", SOON, "1/1", "Running");
    kill(Pid::from_raw(host.pause_pid("anchor").unwrap()), Signal::SIGKILL).unwrap();
    let pod = host.wait_pod("anchor", SOON, "the end", |pod| pod["status"]["phase"] == "Failed");
    assert!(container(&pod, "app")["state"]["terminated"].is_object(), "{pod:#}");
    assert_eq!(container(&pod, "app")["restartCount"], 0);
    assert_eq!(host.shared_lines("order"), ["i1", "i2", "app"]);
    assert!(host.pause_pid("anchor").is_err());
    host.end(&["anchor"]);
}

#[test]
fn a_supervisor_that_dies_with_its_sandbox_goes_on_in_the_next() {
    let host = host!();
    host.apply(&with_two_init(&host.shared_dir(), "Always"));
    host.wait_row("anchor", SOON, "1/1", "Running");
    let pids = [host.supervisor_pid("anchor").unwrap(), host.pause_pid("anchor").unwrap()];
    for pid in pids {
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    }
    host.wait_pod("anchor", AFTER_BACKOFF, "a restart", |pod| {
        container(pod, "app")["restartCount"] == 1 && container(pod, "app")["ready"] == true
    });
    wait_until(SOON, "the second start of app", || {
        let order = host.shared_lines("order");
        if order == ["i1", "i2", "app", "i1", "i2", "app"] { Ok(()) } else { Err(format!("{order:?}")) }
    });
    host.end(&["anchor"]);
}

#[test]
fn a_supervisor_that_dies_while_the_sandbox_is_made_anew_goes_on() {
    let host = host!();
    host.apply(&with_two_init(&host.shared_dir(), "Always"));
    host.wait_row("anchor", SOON, "1/1", "Running");
    kill(Pid::from_raw(host.pause_pid("anchor").unwrap()), Signal::SIGKILL).unwrap();
    for _ in 0..3 {
        let pid = wait_until(SOON, "a supervisor", || host.supervisor_pid("anchor"));
        // It may be ending by itself, to go on in the new sandbox.
        if let Err(error) = kill(Pid::from_raw(pid), Signal::SIGKILL) {
            assert_eq!(error, nix::Error::ESRCH);
        }
    }
    host.wait_pod("anchor", AFTER_BACKOFF, "a restart", |pod| {
        container(pod, "app")["restartCount"] == 1 && container(pod, "app")["ready"] == true
    });
    let order = host.shared_lines("order");
    assert_eq!(order.iter().filter(|line| *line == "app").count(), 2, "{order:?}");
    host.end(&["anchor"]);
}

#[test]
fn a_dead_sandbox_does_not_keep_a_pod_that_is_being_deleted() {
    let host = host!();
    host.apply(&with_two_init(&host.shared_dir(), "Always"));
    host.wait_row("anchor", SOON, "1/1", "Running");
    let pause = host.pause_pid("anchor").unwrap();
    kill(Pid::from_raw(pause), Signal::SIGKILL).unwrap();
    host.begin_end("anchor", &[]);
    host.wait_gone("anchor", SOON);
    assert_eq!(host.shared_lines("order"), ["i1", "i2", "app"]);
}
