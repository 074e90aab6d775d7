//! The kubelet's life of a pod, for real: phases, restarts and their back-off, init containers, sidecars, starts
//! that fail, the sandbox made anew.

use std::time::Duration;

use hull_tests::pod::{condition, container, text};
use hull_tests::{host, process, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

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

/// An init container, a sidecar with a startup probe, a second init container, a main container; each writes what
/// happens to it into the file `order`.
fn with_sidecar(dir: &std::path::Path) -> String {
    let script =
        "trap 'echo {0} TERM >> /out/order; exit 0' TERM; echo {0} up >> /out/order; sleep 1000 & wait";
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: car}}
spec:
  initContainers:
  - name: a
    image: busybox
    imagePullPolicy: IfNotPresent
    command: [sh, -c, "echo a >> /out/order"]
    volumeMounts: [{{name: out, mountPath: /out}}]
  - name: s
    image: busybox
    imagePullPolicy: IfNotPresent
    restartPolicy: Always
    command: [sh, -c, "{sidecar}"]
    startupProbe:
      exec: {{command: [sh, -c, "echo probed >> /out/order; test -e /out/go"]}}
      periodSeconds: 1
      failureThreshold: 60
    lifecycle: {{preStop: {{exec: {{command: [sh, -c, "echo s preStop >> /out/order"]}}}}}}
    volumeMounts: [{{name: out, mountPath: /out}}]
  - name: b
    image: busybox
    imagePullPolicy: IfNotPresent
    command: [sh, -c, "echo b >> /out/order"]
    volumeMounts: [{{name: out, mountPath: /out}}]
  containers:
  - name: m
    image: busybox
    imagePullPolicy: IfNotPresent
    command: [sh, -c, "{main}"]
    volumeMounts: [{{name: out, mountPath: /out}}]
  volumes:
  - {{name: out, hostPath: {{path: {path}}}}}
"#,
        sidecar = script.replace("{0}", "s"),
        main = "trap 'until grep -q preStop /out/order; do sleep 0.1; done; sleep 1; echo m TERM >> /out/order; exit 0' TERM; \
                echo m up >> /out/order; sleep 1000 & wait",
        path = dir.display()
    )
}

#[test]
fn a_sidecar_gates_what_follows_until_its_startup_probe_and_ends_after_the_main_container() {
    let host = host!();
    let dir = host.shared_dir();
    host.apply(&with_sidecar(&dir));
    wait_until(SOON, "two startup probes", || {
        let order = host.shared_lines("order");
        if order.iter().filter(|line| *line == "probed").count() >= 2 {
            Ok(())
        } else {
            Err(format!("{order:?}"))
        }
    });
    host.wait_row("car", SOON, "0/2", "Init:1/3");
    let pod = host.pod("car").unwrap();
    assert_eq!(container(&pod, "s")["started"], false);
    assert_eq!(pod["status"]["phase"], "Pending");
    std::fs::write(dir.join("go"), "").unwrap();
    host.wait_row("car", SOON, "2/2", "Running");
    let order = host.shared_lines("order");
    let without_probes: Vec<_> = order.iter().filter(|line| *line != "probed").cloned().collect();
    assert_eq!(without_probes, ["a", "s up", "b", "m up"]);

    host.begin_end("car", &[]);
    let killing = wait_until(SOON, "Killing events", || {
        let lines = host.event_lines("car");
        let killing: Vec<_> = lines.into_iter().filter(|line| line.starts_with("Killing")).collect();
        if killing.len() >= 2 { Ok(killing) } else { Err(format!("{killing:?}")) }
    });
    let mut killing = killing;
    killing.sort();
    assert_eq!(killing, ["Killing: Stopping container m", "Killing: Stopping container s"]);
    host.wait_gone("car", SOON);
    let order = host.shared_lines("order");
    assert_eq!(order[order.len() - 3..], ["s preStop", "m TERM", "s TERM"]);
    host.assert_clean();
}

#[test]
fn sidecars_stop_in_reverse_order_after_the_main_container() {
    let host = host!();
    let dir = host.shared_dir();
    let script = |name: &str| {
        format!(
            "trap 'sleep 0.3; echo {name} >> /out/order; exit 0' TERM; touch /out/{name}; sleep 1000 & wait"
        )
    };
    host.apply(&format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: cars}}
spec:
  initContainers:
  - name: s1
    image: busybox
    imagePullPolicy: IfNotPresent
    restartPolicy: Always
    command: [sh, -c, "{}"]
    volumeMounts: [{{name: out, mountPath: /out}}]
  - name: s2
    image: busybox
    imagePullPolicy: IfNotPresent
    restartPolicy: Always
    command: [sh, -c, "{}"]
    volumeMounts: [{{name: out, mountPath: /out}}]
  containers:
  - name: main
    image: busybox
    imagePullPolicy: IfNotPresent
    command: [sh, -c, "{}"]
    volumeMounts: [{{name: out, mountPath: /out}}]
  volumes:
  - {{name: out, hostPath: {{path: {}}}}}
"#,
        script("s1"),
        script("s2"),
        script("main"),
        dir.display()
    ));
    host.wait_row("cars", SOON, "3/3", "Running");
    for name in ["s1", "s2", "main"] {
        wait_until(SOON, name, || dir.join(name).exists().then_some(()).ok_or_else(String::new));
    }
    host.end(&["cars"]);
    assert_eq!(host.shared_lines("order"), ["main", "s2", "s1"]);
}

#[test]
fn a_sidecar_does_not_keep_a_pod_of_policy_never_and_its_exit_code_does_not_count() {
    let host = host!();
    host.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: done}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 5
  initContainers:
  - name: car
    image: busybox
    imagePullPolicy: IfNotPresent
    restartPolicy: Always
    command: [sh, -c, "trap 'exit 143' TERM; sleep 1000 & wait"]
  containers:
  - {name: app, image: busybox, imagePullPolicy: IfNotPresent, command: [sleep, "1"]}
"#,
    );
    let pod = host.wait_pod("done", SOON, "the end", |pod| pod["status"]["phase"] == "Succeeded");
    assert_eq!(container(&pod, "car")["state"]["terminated"]["exitCode"], 143);
    host.wait_row("done", SOON, "0/2", "Completed");
    host.end(&["done"]);
}

#[test]
fn a_crashed_sidecar_is_restarted_while_the_main_container_runs() {
    let host = host!();
    host.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: again}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  initContainers:
  - name: car
    image: busybox
    imagePullPolicy: IfNotPresent
    restartPolicy: Always
    command: [sleep, "1001"]
  containers:
  - {name: app, image: busybox, imagePullPolicy: IfNotPresent, command: [sleep, "1000"]}
"#,
    );
    host.wait_row("again", SOON, "2/2", "Running");
    let uid = text(&host.pod("again").unwrap()["metadata"]["uid"]).to_owned();
    let is_car = |pid: &i32| {
        process::command_line(*pid) == "sleep 1001" && process::file(*pid, "cgroup").contains(&uid)
    };
    let car = process::all().into_iter().find(is_car).unwrap();
    kill(Pid::from_raw(car), Signal::SIGKILL).unwrap();
    let pod = host.wait_pod("again", SOON, "a restart", |pod| container(pod, "car")["restartCount"] == 1);
    assert_eq!(container(&pod, "car")["lastState"]["terminated"]["exitCode"], 137);
    assert_eq!(container(&pod, "app")["restartCount"], 0);
    host.wait_row("again", SOON, "2/2", "Running");
    assert_eq!(host.columns("again").unwrap()[3], "1");
    host.end(&["again"]);
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
fn a_missing_command_is_a_start_error() {
    let host = host!();
    let manifest = |name: &str, policy: &str| {
        format!(
            r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  restartPolicy: {policy}
  containers:
  - {{name: app, image: busybox, imagePullPolicy: IfNotPresent, command: [no-such-command]}}
"#
        )
    };
    host.apply(&manifest("never", "Never"));
    host.wait_row("never", SOON, "0/1", "StartError");
    let pod = host.wait_pod("never", SOON, "phase Failed", |pod| pod["status"]["phase"] == "Failed");
    let ended = &container(&pod, "app")["state"]["terminated"];
    assert_eq!((&ended["reason"], &ended["exitCode"]), (&"StartError".into(), &128.into()));
    let message = text(&ended["message"]);
    assert!(message.contains("exec: \"no-such-command\": executable file not found in $PATH"), "{message}");
    host.wait_event("never", SOON, "Failed", "executable file not found in $PATH");

    host.apply(&manifest("always", "Always"));
    let rows = host.follow_rows("always");
    rows.wait_statuses(SOON, &["RunContainerError", "CrashLoopBackOff"]);
    let pod = host.pod("always").unwrap();
    let ended = &container(&pod, "app")["lastState"]["terminated"];
    assert_eq!((&ended["reason"], &ended["exitCode"]), (&"StartError".into(), &128.into()));
    drop(rows);
    host.end(&["never", "always"]);
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
fn a_container_waits_for_its_config_map_and_starts_when_it_comes() {
    let host = host!();
    host.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: needs}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: app
    image: busybox
    imagePullPolicy: IfNotPresent
    command: [sh, -c, "echo value=$KEY; exec sleep 1000"]
    env:
    - {name: KEY, valueFrom: {configMapKeyRef: {name: cm, key: key}}}
"#,
    );
    host.wait_row("needs", SOON, "0/1", "CreateContainerConfigError");
    let pod = host.pod("needs").unwrap();
    let waiting = &container(&pod, "app")["state"]["waiting"];
    assert_eq!(waiting["message"], "configmap \"cm\" not found");
    assert_eq!(pod["status"]["phase"], "Pending");
    host.wait_event("needs", SOON, "Failed", "Error: configmap \"cm\" not found");
    host.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: cm}\ndata: {key: here}\n");
    host.wait_row("needs", SOON, "1/1", "Running");
    let logs = wait_until(SOON, "the log", || {
        let logs = host.hull(&["logs", "needs"]).ok();
        if logs.is_empty() { Err("empty".to_owned()) } else { Ok(logs) }
    });
    assert_eq!(logs, "value=here\n");
    assert_eq!(container(&host.pod("needs").unwrap(), "app")["restartCount"], 0);
    host.end(&["needs"]);
}

#[test]
fn images_that_cannot_be_had_say_why() {
    let host = host!();
    let manifest = |name: &str, image: &str, policy: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  containers:\n  \
             - {{name: app, image: '{image}', imagePullPolicy: {policy}, command: [sleep, '1000']}}\n"
        )
    };
    host.apply(&manifest("pull", "example.com/none:1", "IfNotPresent"));
    host.apply(&manifest("never", "example.com/none:1", "Never"));
    host.apply(&manifest("name", "UPPER:case", "IfNotPresent"));
    let rows = host.follow_rows("pull");

    host.wait_row("never", SOON, "0/1", "ErrImageNeverPull");
    let text = "Container image \"example.com/none:1\" is not present with pull policy of Never";
    assert_eq!(host.wait_event("never", SOON, "ErrImageNeverPull", text)["type"], "Warning");
    host.wait_event("never", SOON, "Failed", "Error: ErrImageNeverPull");

    host.wait_row("name", SOON, "0/1", "InvalidImageName");
    let pod = host.pod("name").unwrap();
    let waiting = hull_tests::pod::text(&container(&pod, "app")["state"]["waiting"]["message"]).to_owned();
    assert!(waiting.starts_with("Failed to apply default image tag \"UPPER:case\": "), "{waiting}");
    host.wait_event("name", SOON, "InspectFailed", "Failed to apply default image tag \"UPPER:case\": ");

    host.wait_event("pull", SOON, "Pulling", "Pulling image \"example.com/none:1\"");
    host.wait_event("pull", SOON, "Failed", "Failed to pull image \"example.com/none:1\": ");
    host.wait_event("pull", SOON, "Failed", "Error: ErrImagePull");
    rows.wait_statuses(AFTER_BACKOFF, &["ErrImagePull", "ImagePullBackOff"]);
    host.wait_event("pull", SOON, "BackOff", "Back-off pulling image \"example.com/none:1\"");
    drop(rows);

    // Not one of them has a container to wait for.
    host.end(&["pull", "never", "name"]);
}

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
