//! The kubelet's life of a pod, for real: phases, restarts and their back-off, deadlines, out of memory.

use std::time::Duration;

use hull_tests::host;
use hull_tests::pod::{condition, container, text};

/// A step that needs no waiting of its own.
const SOON: Duration = Duration::from_secs(15);
/// A step that waits for the first back-off of 10 s.
const AFTER_BACKOFF: Duration = Duration::from_secs(30);

#[test]
fn a_pod_that_ends_well_on_failure_policy_is_completed_and_not_restarted() {
    let host = host!();
    host.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: job}
spec:
  restartPolicy: OnFailure
  containers:
  - {name: app, image: busybox, imagePullPolicy: IfNotPresent, command: ["true"]}
"#,
    );
    host.wait_row("job", SOON, "0/1", "Completed");
    let pod = host.wait_pod("job", SOON, "phase Succeeded", |pod| pod["status"]["phase"] == "Succeeded");
    assert_eq!(container(&pod, "app")["restartCount"], 0);
    assert_eq!(condition(&pod, "Ready")["reason"], "PodCompleted");
    assert_eq!(host.columns("job").unwrap()[3], "0");
    host.end(&["job"]);
}

#[test]
fn a_pod_of_policy_never_fails_with_its_worst_container() {
    let host = host!();
    host.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: two}
spec:
  restartPolicy: Never
  containers:
  - {name: well, image: busybox, imagePullPolicy: IfNotPresent, command: ["true"]}
  - {name: ill, image: busybox, imagePullPolicy: IfNotPresent, command: [sh, -c, "exit 3"]}
"#,
    );
    host.wait_row("two", SOON, "0/2", "Error");
    let pod = host.wait_pod("two", SOON, "phase Failed", |pod| pod["status"]["phase"] == "Failed");
    assert_eq!(container(&pod, "ill")["state"]["terminated"]["exitCode"], 3);
    assert_eq!(container(&pod, "well")["state"]["terminated"]["reason"], "Completed");
    assert_eq!(condition(&pod, "Ready")["reason"], "PodFailed");
    host.end(&["two"]);
}

#[test]
fn processes_that_end_before_anyone_looks_are_all_seen_once() {
    let host = host!();
    let containers: String = (0..6)
        .map(|n| {
            format!(
                "  - {{name: c{n}, image: busybox, imagePullPolicy: IfNotPresent, command: [sh, -c, 'exit {n}']}}\n"
            )
        })
        .collect();
    host.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: quick}}\nspec:\n  restartPolicy: Never\n  containers:\n{containers}"
    ));
    let pod = host.wait_pod("quick", SOON, "the end", |pod| pod["status"]["phase"] == "Failed");
    for n in 0..6 {
        let status = container(&pod, &format!("c{n}"));
        assert_eq!(status["state"]["terminated"]["exitCode"], n, "{status:#}");
        assert_eq!(status["restartCount"], 0);
        assert!(status["state"]["terminated"]["startedAt"].is_string(), "{status:#}");
    }
    let started = host.event_lines("quick").iter().filter(|line| line.starts_with("Started")).count();
    assert_eq!(started, 6);
    host.end(&["quick"]);
}

#[test]
fn a_crash_loop_restarts_at_once_then_after_ten_seconds() {
    let host = host!();
    let dir = host.shared_dir();
    host.apply(&format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: crash}}
spec:
  containers:
  - name: app
    image: busybox
    imagePullPolicy: IfNotPresent
    command: [sh, -c, "cat /proc/uptime >> /out/starts; exit 1"]
    volumeMounts: [{{name: out, mountPath: /out}}]
  volumes:
  - {{name: out, hostPath: {{path: {}}}}}
"#,
        dir.display()
    ));
    host.wait_row("crash", SOON, "0/1", "CrashLoopBackOff");
    let pod = host.pod("crash").unwrap();
    let uid = text(&pod["metadata"]["uid"]).to_owned();
    let status = container(&pod, "app");
    assert_eq!(status["restartCount"], 1);
    assert_eq!(pod["status"]["phase"], "Running");
    assert_eq!(
        status["state"]["waiting"]["message"],
        format!("back-off 10s restarting failed container=app pod=crash_default({uid})")
    );
    assert_eq!(status["lastState"]["terminated"]["exitCode"], 1);
    let event = host.wait_event("crash", SOON, "BackOff", "Back-off restarting failed container app in pod");
    assert_eq!(
        event["message"],
        format!("Back-off restarting failed container app in pod crash_default({uid})")
    );
    assert_eq!(event["type"], "Warning");

    let pod = host.wait_pod("crash", AFTER_BACKOFF, "a second back-off", |pod| {
        let message = text(&container(pod, "app")["state"]["waiting"]["message"]);
        message.starts_with("back-off 20s ")
    });
    assert_eq!(container(&pod, "app")["restartCount"], 2);
    let starts: Vec<f64> = host
        .shared_lines("starts")
        .iter()
        .map(|line| line.split(' ').next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(starts.len(), 3);
    assert!(starts[1] - starts[0] < 5.0, "{starts:?}");
    assert!((10.0..14.0).contains(&(starts[2] - starts[1])), "{starts:?}");
    let columns = host.columns("crash").unwrap();
    assert_eq!(columns[3], "2");
    assert!(columns[4].starts_with('(') && columns[5] == "ago)", "{columns:?}");
    host.end(&["crash"]);
}

#[test]
fn a_pod_is_killed_at_its_active_deadline() {
    let host = host!();
    host.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: late}
spec:
  activeDeadlineSeconds: 2
  terminationGracePeriodSeconds: 1
  containers:
  - {name: app, image: busybox, imagePullPolicy: IfNotPresent, command: [sh, -c, "trap 'exit 0' TERM; sleep 1000 & wait"]}
"#,
    );
    let pod = host.wait_pod("late", SOON, "phase Failed", |pod| pod["status"]["phase"] == "Failed");
    let words = "Pod was active on the node longer than the specified deadline";
    assert_eq!(pod["status"]["reason"], "DeadlineExceeded");
    assert_eq!(pod["status"]["message"], words);
    assert_eq!(container(&pod, "app")["restartCount"], 0);
    assert_eq!(container(&pod, "app")["state"]["terminated"]["reason"], "Completed");
    // A container's own end comes before the pod's reason.
    host.wait_row("late", SOON, "0/1", "Completed");
    assert_eq!(host.wait_event("late", SOON, "DeadlineExceeded", words)["type"], "Normal");
    host.end(&["late"]);
}

#[test]
fn a_memory_hog_is_killed_by_its_limit_and_says_so() {
    let host = host!();
    host.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: hog}
spec:
  restartPolicy: Never
  containers:
  - name: app
    image: busybox
    imagePullPolicy: IfNotPresent
    command: [sh, -c, "exec tail /dev/zero"]
    resources: {limits: {memory: 24Mi}}
"#,
    );
    host.wait_row("hog", AFTER_BACKOFF, "0/1", "OOMKilled");
    let pod = host.wait_pod("hog", SOON, "phase Failed", |pod| pod["status"]["phase"] == "Failed");
    let ended = &container(&pod, "app")["state"]["terminated"];
    assert_eq!((&ended["reason"], &ended["exitCode"]), (&"OOMKilled".into(), &137.into()));
    host.end(&["hog"]);
}

#[test]
fn a_pod_with_one_container_completed_and_one_running_is_not_ready() {
    let host = host!();
    host.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: half}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
  - {name: a, image: busybox, imagePullPolicy: IfNotPresent, command: ["true"]}
  - {name: b, image: busybox, imagePullPolicy: IfNotPresent, command: [sleep, "1000"]}
"#,
    );
    host.wait_row("half", SOON, "1/2", "NotReady");
    let pod = host.pod("half").unwrap();
    assert_eq!(pod["status"]["phase"], "Running");
    assert_eq!(condition(&pod, "Ready")["message"], "containers with unready status: [a]");
    host.end(&["half"]);
}

#[test]
fn a_readiness_gate_without_its_condition_holds_the_pod_back() {
    let host = host!();
    host.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: gate}
spec:
  terminationGracePeriodSeconds: 1
  readinessGates: [{conditionType: example.com/ready}]
  containers:
  - {name: app, image: busybox, imagePullPolicy: IfNotPresent, command: [sleep, "1000"]}
"#,
    );
    host.wait_row("gate", SOON, "1/1", "Running");
    let pod = host.pod("gate").unwrap();
    assert_eq!(condition(&pod, "ContainersReady")["status"], "True");
    let ready = condition(&pod, "Ready");
    assert_eq!((text(&ready["status"]), text(&ready["reason"])), ("False", "ReadinessGatesNotReady"));
    assert_eq!(
        ready["message"],
        "corresponding condition of pod readiness gate \"example.com/ready\" does not exist."
    );
    host.end(&["gate"]);
}
