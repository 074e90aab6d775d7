//! Sidecars for real: they gate what follows, outlive the main containers, and end in reverse order.

use std::time::Duration;

use hull_tests::pod::{container, text};
use hull_tests::{host, process, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A step that needs no waiting of its own.
const SOON: Duration = Duration::from_secs(15);

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
