//! Probes for real: each handler against a real server, thresholds, gates, kills and their grace.

mod grpc;
mod http;

use std::time::Duration;

use hull_tests::pod::{container, text};
use hull_tests::{Host, host, wait_until};

const SOON: Duration = Duration::from_secs(20);

/// A pod `app` whose only container sleeps, with these further lines in it.
fn sleeper(lines: &str) -> String {
    with_command("[sleep, '1000']", lines)
}

fn with_command(command: &str, lines: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: app}}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers:\n  \
         - name: app\n    image: busybox\n    imagePullPolicy: IfNotPresent\n    command: {command}\n{lines}"
    )
}

/// The same with [`Host::shared_dir`] at `/out`.
fn shared(host: &Host, command: &str, lines: &str) -> String {
    let path = host.shared_dir();
    let mount = "    volumeMounts: [{name: out, mountPath: /out}]\n";
    let volume = format!("  volumes: [{{name: out, hostPath: {{path: {}}}}}]\n", path.display());
    with_command(command, &format!("{lines}{mount}{volume}"))
}

fn unhealthy(host: &Host) -> Vec<String> {
    host.event_lines("app").into_iter().filter(|line| line.starts_with("Unhealthy")).collect()
}

#[test]
fn a_tcp_probe_sees_a_port_open_and_close() {
    let host = host!();
    host.apply(&sleeper("    readinessProbe: {tcpSocket: {port: 8083}, periodSeconds: 1}\n"));
    let ip = wait_until(SOON, "an address", || {
        let ip = text(&host.pod("app")?["status"]["podIP"]).to_owned();
        if ip.is_empty() { Err("none".to_owned()) } else { Ok(ip) }
    });
    let text = format!("Readiness probe failed: dial tcp {ip}:8083: connect: connection refused");
    assert_eq!(host.wait_event("app", SOON, "Unhealthy", "Readiness")["message"], text);
    let server = host.serve_in_pod("app", 8083, drop);
    host.wait_row("app", SOON, "1/1", "Running");
    drop(server);
    host.wait_row("app", SOON, "0/1", "Running");
    host.end(&["app"]);
}

#[test]
fn a_failing_liveness_probe_kills_after_its_threshold_and_restarts_at_once() {
    let host = host!();
    host.apply(&with_command(
        "[sh, -c, \"trap 'exit 5' TERM; sleep 1000 & wait\"]",
        "    livenessProbe: {exec: {command: [sh, -c, 'echo out; echo err >&2; exit 1']}, periodSeconds: 1, failureThreshold: 3}\n",
    ));
    let killed = host.wait_event("app", SOON, "Killing", "liveness");
    assert_eq!(killed["message"], "Container app failed liveness probe, will be restarted");
    assert_eq!(killed["type"], "Normal");
    let pod = host.wait_pod("app", SOON, "a restart", |pod| container(pod, "app")["restartCount"] == 1);
    let ended = &container(&pod, "app")["lastState"]["terminated"];
    assert_eq!((&ended["exitCode"], &ended["reason"]), (&5.into(), &"Error".into()));
    let event = host.wait_event("app", SOON, "Unhealthy", "Liveness");
    assert_eq!(event["message"], "Liveness probe failed: out\nerr\n");
    assert!(event["count"].as_u64() >= Some(3), "{event}");
    host.end(&["app"]);
}

#[test]
fn a_liveness_probe_whose_program_is_missing_never_kills() {
    let host = host!();
    host.apply(&sleeper(
        "    livenessProbe: {exec: {command: [no-such-program]}, periodSeconds: 1, failureThreshold: 1}\n",
    ));
    let event = wait_until(SOON, "a third error", || {
        let event = host.wait_event(
            "app",
            SOON,
            "Unhealthy",
            "Liveness probe errored and resulted in unknown state: ",
        );
        if event["count"].as_u64() >= Some(3) { Ok(event) } else { Err(event.to_string()) }
    });
    let message = text(&event["message"]);
    assert!(
        message.ends_with(
            "OCI runtime exec failed: exec failed: unable to start container process: exec: \"no-such-program\": \
             executable file not found in $PATH"
        ),
        "{message}"
    );
    assert_eq!(container(&host.pod("app").unwrap(), "app")["restartCount"], 0);
    host.end(&["app"]);
}

#[test]
fn an_exec_probe_is_killed_with_its_children_at_its_time_limit() {
    let host = host!();
    host.apply(&sleeper(
        "    readinessProbe: {exec: {command: [sh, -c, 'sleep 777 & sleep 778']}, periodSeconds: 1, timeoutSeconds: 1}\n",
    ));
    let event = host.wait_event("app", SOON, "Unhealthy", "Readiness");
    assert_eq!(
        event["message"],
        "Readiness probe failed: command timed out: \"sh -c sleep 777 & sleep 778\" timed out after 1s"
    );
    wait_until(SOON, "a second time-out", || {
        let event = host.wait_event("app", SOON, "Unhealthy", "Readiness");
        if event["count"].as_u64() >= Some(2) { Ok(()) } else { Err(event.to_string()) }
    });
    let running = host.exec("app", &["sh", "-c", "ps | grep -c 'sleep 77[7]'"]);
    assert!(running.stdout.trim().parse::<u32>().unwrap() <= 1, "{running}");
    host.end(&["app"]);
}

#[test]
fn a_startup_probe_holds_the_others_back() {
    let host = host!();
    host.apply(&shared(
        &host,
        "[sleep, '1000']",
        "    startupProbe: {exec: {command: [sh, -c, 'echo startup >> /out/probes; test -e /out/go']}, periodSeconds: 1, failureThreshold: 30}\n    \
         readinessProbe: {exec: {command: [sh, -c, 'echo readiness >> /out/probes']}, periodSeconds: 1}\n    \
         livenessProbe: {exec: {command: [sh, -c, 'echo liveness >> /out/probes']}, periodSeconds: 1}\n",
    ));
    let probes = wait_until(SOON, "three startup probes", || {
        let probes = host.shared_lines("probes");
        if probes.len() >= 3 { Ok(probes) } else { Err(format!("{probes:?}")) }
    });
    assert!(probes.iter().all(|probe| probe == "startup"), "{probes:?}");
    let pod = host.pod("app").unwrap();
    assert_eq!(
        (&container(&pod, "app")["started"], &container(&pod, "app")["ready"]),
        (&false.into(), &false.into())
    );
    std::fs::write(host.shared_dir().join("go"), "").unwrap();
    host.wait_row("app", SOON, "1/1", "Running");
    assert_eq!(container(&host.pod("app").unwrap(), "app")["started"], true);
    wait_until(SOON, "the others", || {
        let probes = host.shared_lines("probes");
        let has = |name: &str| probes.iter().filter(|probe| *probe == name).count() >= 2;
        if has("readiness") && has("liveness") { Ok(()) } else { Err(format!("{probes:?}")) }
    });
    let probes = host.shared_lines("probes");
    let last_startup = probes.iter().rposition(|probe| probe == "startup").unwrap();
    assert!(probes[..last_startup].iter().all(|probe| probe == "startup"), "{probes:?}");
    host.end(&["app"]);
}

#[test]
fn a_failing_startup_probe_restarts_the_container() {
    let host = host!();
    host.apply(&sleeper(
        "    startupProbe: {exec: {command: ['false']}, periodSeconds: 1, failureThreshold: 2}\n",
    ));
    let event = host.wait_event("app", SOON, "Killing", "startup");
    assert_eq!(event["message"], "Container app failed startup probe, will be restarted");
    let pod = host.wait_pod("app", SOON, "a restart", |pod| container(pod, "app")["restartCount"] == 1);
    assert_eq!(container(&pod, "app")["lastState"]["terminated"]["exitCode"], 137);
    assert_eq!(unhealthy(&host)[0], "Unhealthy: Startup probe failed: ");
    host.end(&["app"]);
}

#[test]
fn readiness_takes_as_many_successes_in_a_row_as_it_asks_for() {
    let host = host!();
    // Succeeds once, fails, then succeeds for good.
    let script = "echo x >> /out/probes; test $(wc -l < /out/probes) -ne 2";
    host.apply(&shared(
        &host,
        "[sleep, '1000']",
        &format!(
            "    readinessProbe: {{exec: {{command: [sh, -c, '{script}']}}, periodSeconds: 1, successThreshold: 3}}\n"
        ),
    ));
    host.wait_row("app", SOON, "1/1", "Running");
    let count = host.shared_lines("probes").len();
    assert!((5..=6).contains(&count), "{count} probes");
    host.end(&["app"]);
}

#[test]
fn a_probe_kill_has_the_grace_period_of_the_probe() {
    let host = host!();
    let manifest = shared(
        &host,
        "[sh, -c, \"trap 'cat /proc/uptime >> /out/term' TERM; cat /proc/uptime >> /out/up; while :; do sleep 1; done\"]",
        "    livenessProbe: {exec: {command: ['false']}, periodSeconds: 1, failureThreshold: 1, initialDelaySeconds: 1, terminationGracePeriodSeconds: 3}\n",
    )
    .replace("terminationGracePeriodSeconds: 1\n", "terminationGracePeriodSeconds: 60\n");
    host.apply(&manifest);
    host.wait_pod("app", SOON, "a restart", |pod| container(pod, "app")["restartCount"] == 1);
    wait_until(SOON, "the second start", || {
        let ups = host.shared_lines("up");
        if ups.len() >= 2 { Ok(()) } else { Err(format!("{ups:?}")) }
    });
    let at = |file: &str, line: usize| -> f64 {
        host.shared_lines(file)[line].split(' ').next().unwrap().parse().unwrap()
    };
    // The script hears the signal within the second of its sleep.
    let waited = at("up", 1) - at("term", 0);
    assert!((1.8..5.0).contains(&waited), "{waited}");
    host.begin_end("app", &["--now"]);
    host.wait_gone("app", SOON);
}

#[test]
fn a_container_that_dies_while_it_is_probed_is_restarted_once() {
    let host = host!();
    host.apply(&shared(
        &host,
        "[sh, -c, 'echo up >> /out/up; if [ $(wc -l < /out/up) -ge 2 ]; then sleep 1000; fi; sleep 2; exit 4']",
        "    livenessProbe: {exec: {command: [sh, -c, 'echo x >> /out/probes; sleep 100']}, periodSeconds: 1, timeoutSeconds: 50, failureThreshold: 1}\n",
    ));
    let pod = host.wait_pod("app", SOON, "a restart", |pod| {
        let status = container(pod, "app");
        status["restartCount"] == 1 && status["state"]["running"].is_object()
    });
    assert_eq!(container(&pod, "app")["lastState"]["terminated"]["exitCode"], 4);
    // The second instance is probed: a verdict on the first would have done its harm by now.
    wait_until(SOON, "a second probe", || {
        let probes = host.shared_lines("probes");
        if probes.len() >= 2 { Ok(()) } else { Err(format!("{probes:?}")) }
    });
    let status = host.pod("app").unwrap();
    assert_eq!(container(&status, "app")["restartCount"], 1, "{:#?}", host.event_lines("app"));
    assert!(!host.event_lines("app").iter().any(|line| line.starts_with("Killing")));
    host.end(&["app"]);
}
