//! The init chain for real: what a failure of one of its containers does to the pod.

use std::time::Duration;

use hull_tests::host;
use hull_tests::pod::{condition, container};

/// A step that needs no waiting of its own.
const SOON: Duration = Duration::from_secs(15);
/// A step that waits for the first back-off of 10 s.
const AFTER_BACKOFF: Duration = Duration::from_secs(30);

#[test]
fn an_init_failure_under_never_fails_the_pod_before_its_containers() {
    let host = host!();
    host.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: init}
spec:
  restartPolicy: Never
  initContainers:
  - {name: first, image: busybox, imagePullPolicy: IfNotPresent, command: [sh, -c, "exit 1"]}
  - {name: second, image: busybox, imagePullPolicy: IfNotPresent, command: ["true"]}
  containers:
  - {name: app, image: busybox, imagePullPolicy: IfNotPresent, command: [sleep, "1000"]}
"#,
    );
    host.wait_row("init", SOON, "0/1", "Init:Error");
    let pod = host.wait_pod("init", SOON, "phase Failed", |pod| pod["status"]["phase"] == "Failed");
    assert_eq!(container(&pod, "app")["state"]["waiting"]["reason"], "PodInitializing");
    assert_eq!(container(&pod, "second")["state"]["waiting"]["reason"], "PodInitializing");
    assert_eq!(
        condition(&pod, "Initialized")["message"],
        "containers with incomplete status: [first second]"
    );
    let created = host.event_lines("init").iter().filter(|line| line.starts_with("Created")).count();
    assert_eq!(created, 1);
    host.end(&["init"]);
}

#[test]
fn a_failing_init_container_is_retried_until_it_succeeds() {
    let host = host!();
    let dir = host.shared_dir();
    host.apply(&format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: retry}}
spec:
  terminationGracePeriodSeconds: 1
  initContainers:
  - name: setup
    image: busybox
    imagePullPolicy: IfNotPresent
    command: [sh, -c, "echo run >> /out/runs; test $(wc -l < /out/runs) -ge 3"]
    volumeMounts: [{{name: out, mountPath: /out}}]
  containers:
  - {{name: app, image: busybox, imagePullPolicy: IfNotPresent, command: [sleep, "1000"]}}
  volumes:
  - {{name: out, hostPath: {{path: {}}}}}
"#,
        dir.display()
    ));
    let rows = host.follow_rows("retry");
    host.wait_row("retry", SOON, "0/1", "Init:CrashLoopBackOff");
    assert_eq!(host.columns("retry").unwrap()[3], "1");
    assert_eq!(host.pod("retry").unwrap()["status"]["phase"], "Pending");
    host.wait_row("retry", AFTER_BACKOFF, "1/1", "Running");
    assert_eq!(host.shared_lines("runs").len(), 3);
    assert_eq!(host.columns("retry").unwrap()[3], "0");
    rows.wait_statuses(SOON, &["Init:CrashLoopBackOff", "PodInitializing", "Running"]);
    drop(rows);
    host.end(&["retry"]);
}
