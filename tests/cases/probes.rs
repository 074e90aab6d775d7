//! Probes for real: each handler against a real server, thresholds, gates, kills and their grace.

use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hull_tests::pod::{condition, container, read_request, respond, text};
use hull_tests::{Host, host, skip, wait_until};

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
fn a_page_that_is_missing_keeps_a_pod_unready_until_it_is_there() {
    let host = host!();
    host.apply(&sleeper(
        "    ports: [{name: web, containerPort: 8080}]\n    readinessProbe: {httpGet: {port: web, path: /ready}, periodSeconds: 1}\n",
    ));
    let found = Arc::new(AtomicBool::new(false));
    let asked = Arc::new(Mutex::new(String::new()));
    let (found_there, asked_there) = (Arc::clone(&found), Arc::clone(&asked));
    let server = host.serve_in_pod("app", 8080, move |mut stream| {
        let request = read_request(&mut stream);
        *asked_there.lock().unwrap() = request;
        let status = if found_there.load(Ordering::Relaxed) { "200 OK" } else { "404 Not Found" };
        respond(&mut stream, status, "", "body");
    });
    let event = host.wait_event(
        "app",
        SOON,
        "Unhealthy",
        "Readiness probe failed: HTTP probe failed with statuscode: 404",
    );
    assert_eq!(event["message"], "Readiness probe failed: HTTP probe failed with statuscode: 404");
    assert_eq!(
        (&event["type"], &event["involvedObject"]["fieldPath"]),
        (&"Warning".into(), &"spec.containers{app}".into())
    );
    host.wait_row("app", SOON, "0/1", "Running");
    let pod = host.pod("app").unwrap();
    let ready = condition(&pod, "ContainersReady");
    assert_eq!(
        (text(&ready["reason"]), text(&ready["message"])),
        ("ContainersNotReady", "containers with unready status: [app]")
    );
    let request = asked.lock().unwrap().to_lowercase();
    let ip = text(&pod["status"]["podIP"]);
    for line in
        ["get /ready http/1.1", "user-agent: kube-probe/1.36", "accept: */*", &format!("host: {ip}:8080")]
    {
        assert!(request.lines().any(|is| is == line), "{line}\n{request}");
    }
    assert!(!request.contains("accept-encoding"), "{request}");
    found.store(true, Ordering::Relaxed);
    host.wait_row("app", SOON, "1/1", "Running");
    found.store(false, Ordering::Relaxed);
    host.wait_row("app", SOON, "0/1", "Running");
    assert_eq!(container(&host.pod("app").unwrap(), "app")["restartCount"], 0);
    drop(server);
    host.wait_event("app", SOON, "Unhealthy", &format!("Readiness probe failed: Get \"http://{ip}:8080/ready\": dial tcp {ip}:8080: connect: connection refused"));
    host.end(&["app"]);
}

#[test]
fn redirects_are_followed_on_the_same_host_and_warned_about_to_another() {
    let host = host!();
    host.apply(&sleeper(
        "    readinessProbe: {httpGet: {port: 8081, path: /a/start}, periodSeconds: 1}\n    \
         livenessProbe: {httpGet: {port: 8081, path: /away}, periodSeconds: 1, failureThreshold: 1}\n",
    ));
    let paths = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&paths);
    let server = host.serve_in_pod("app", 8081, move |mut stream| {
        let request = read_request(&mut stream);
        let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
        let to = |location: &str| format!("location: {location}\r\n");
        match path.as_str() {
            "/a/start" => respond(&mut stream, "302 Found", &to("next?x=1"), ""),
            "/a/next?x=1" => respond(&mut stream, "307 Temporary Redirect", &to("/last"), ""),
            "/last" => respond(&mut stream, "200 OK", "", "ok"),
            _ => respond(&mut stream, "301 Moved", &to("http://other.invalid/"), "gone away"),
        }
        seen.lock().unwrap().push(path);
    });
    host.wait_row("app", SOON, "1/1", "Running");
    let warned =
        host.wait_event("app", SOON, "ProbeWarning", "Liveness probe warning: Probe terminated redirects");
    assert_eq!(
        warned["message"],
        "Liveness probe warning: Probe terminated redirects, Response body: gone away"
    );
    let paths = paths.lock().unwrap().clone();
    for path in ["/a/start", "/a/next?x=1", "/last"] {
        assert!(paths.iter().any(|seen| seen == path), "{paths:?}");
    }
    assert_eq!(container(&host.pod("app").unwrap(), "app")["restartCount"], 0);
    drop(server);
    host.end(&["app"]);
}

#[test]
fn a_server_that_does_not_answer_in_time_fails_its_probe() {
    let host = host!();
    host.apply(&sleeper(
        "    readinessProbe: {httpGet: {port: 8082}, periodSeconds: 1, timeoutSeconds: 1}\n",
    ));
    let held = Mutex::new(Vec::new());
    let server = host.serve_in_pod("app", 8082, move |stream| held.lock().unwrap().push(stream));
    let ip = text(&host.pod("app").unwrap()["status"]["podIP"]).to_owned();
    host.wait_event("app", SOON, "Unhealthy", &format!(
        "Readiness probe failed: Get \"http://{ip}:8082/\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
    ));
    drop(server);
    host.end(&["app"]);
}

/// A self-signed certificate and its key in one directory; none without the openssl program.
fn certificate(dir: &Path) -> bool {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
        .args(["-days", "2", "-subj", "/CN=nobody.invalid", "-keyout", "tls.key", "-out", "tls.crt"])
        .current_dir(dir)
        .output();
    made.is_ok_and(|output| output.status.success())
}

#[test]
fn https_is_asked_for_without_trust_in_the_certificate() {
    let host = host!();
    let dir = host.shared_dir();
    if !certificate(&dir) {
        skip!("no openssl to make a certificate with");
    }
    std::fs::write(
        dir.join("nginx.conf"),
        "error_log stderr; pid /tmp/nginx.pid; events {}\nhttp { access_log off; server { listen 8443 ssl; \
         ssl_certificate /tls/tls.crt; ssl_certificate_key /tls/tls.key; location / { return 200 ok; } } }\n",
    )
    .unwrap();
    host.apply(&format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: tls}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: web
    image: nginx
    imagePullPolicy: IfNotPresent
    command: [nginx, -c, /tls/nginx.conf, -g, "daemon off;"]
    ports: [{{name: https, containerPort: 8443}}]
    readinessProbe: {{httpGet: {{scheme: HTTPS, port: https}}, periodSeconds: 1}}
    volumeMounts: [{{name: tls, mountPath: /tls}}]
  volumes: [{{name: tls, hostPath: {{path: {}}}}}]
"#,
        dir.display()
    ));
    host.wait_row("tls", SOON, "1/1", "Running");
    host.end(&["tls"]);
}

#[test]
fn a_port_name_that_no_port_has_is_an_error_and_no_failure() {
    let host = host!();
    host.apply(&sleeper(
        "    livenessProbe: {httpGet: {port: web}, periodSeconds: 1, failureThreshold: 1}\n",
    ));
    let event = host.wait_event("app", SOON, "Unhealthy", "Liveness probe errored");
    assert_eq!(
        event["message"],
        "Liveness probe errored and resulted in unknown state: strconv.Atoi: parsing \"web\": invalid syntax"
    );
    wait_until(SOON, "a second error", || {
        let event = host.wait_event("app", SOON, "Unhealthy", "Liveness probe errored");
        if event["count"].as_u64() >= Some(2) { Ok(()) } else { Err(event.to_string()) }
    });
    assert_eq!(container(&host.pod("app").unwrap(), "app")["restartCount"], 0);
    host.end(&["app"]);
}

#[test]
fn a_liveness_probe_of_a_page_without_an_end_never_kills() {
    let host = host!();
    host.apply(&sleeper(
        "    livenessProbe: {httpGet: {port: 8098, path: /events}, periodSeconds: 1, failureThreshold: 1}\n    \
         startupProbe: {tcpSocket: {port: 8098}, periodSeconds: 1, failureThreshold: 100}\n",
    ));
    let held = Mutex::new(Vec::new());
    let server = host.serve_in_pod("app", 8098, move |mut stream| {
        if !read_request(&mut stream).is_empty() {
            let begun =
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n");
            held.lock().unwrap().push((stream, begun));
        }
    });
    host.wait_event(
        "app",
        SOON,
        "Unhealthy",
        "Liveness probe errored and resulted in unknown state: context deadline exceeded \
         (Client.Timeout or context cancellation while reading body)",
    );
    host.wait_row("app", SOON, "1/1", "Running");
    assert_eq!(container(&host.pod("app").unwrap(), "app")["restartCount"], 0);
    drop(server);
    host.end(&["app"]);
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

/// Answers one `Health/Check` over HTTP/2 in plain text; `None` answers nothing.
fn health_server(mut stream: std::net::TcpStream, status: Option<u8>) {
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let frame = |kind: u8, flags: u8, stream_id: u8, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, stream_id], payload].concat()
    };
    let mut preface = [0; 24];
    if stream.read_exact(&mut preface).is_err() || stream.write_all(&frame(4, 0, 0, &[])).is_err() {
        return;
    }
    loop {
        let mut head = [0; 9];
        if stream.read_exact(&mut head).is_err() {
            return;
        }
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        if stream.read_exact(&mut payload).is_err() {
            return;
        }
        let mut answer = Vec::new();
        // Settings are acknowledged; the end of the request's data is answered.
        if head[3] == 4 && head[4] & 1 == 0 {
            answer = frame(4, 1, 0, &[]);
        } else if let (0, 1, Some(status)) = (head[3], head[4] & 1, status) {
            let literal = |name: &str, value: &str| {
                let lengths = [u8::try_from(name.len()).unwrap(), u8::try_from(value.len()).unwrap()];
                [&[0x10, lengths[0]], name.as_bytes(), &[lengths[1]], value.as_bytes()].concat()
            };
            // 0x88 is `:status: 200` of the static table (RFC 7541).
            let headers = [vec![0x88], literal("content-type", "application/grpc")].concat();
            answer.extend(frame(1, 4, head[8], &headers));
            answer.extend(frame(0, 0, head[8], &[0, 0, 0, 0, 2, 8, status]));
            answer.extend(frame(1, 5, head[8], &literal("grpc-status", "0")));
        }
        if stream.write_all(&answer).is_err() {
            return;
        }
    }
}

#[test]
fn a_grpc_probe_reads_the_health_of_a_service() {
    let host = host!();
    host.apply(&sleeper("    readinessProbe: {grpc: {port: 8084, service: db}, periodSeconds: 1}\n"));
    let ip = wait_until(SOON, "an address", || {
        let ip = text(&host.pod("app")?["status"]["podIP"]).to_owned();
        if ip.is_empty() { Err("none".to_owned()) } else { Ok(ip) }
    });
    let late =
        format!("timeout: failed to connect service \"{ip}:8084\" within 1s: context deadline exceeded");
    host.wait_event("app", SOON, "Unhealthy", &format!("Readiness probe failed: {late}"));
    // 1 is SERVING, 2 NOT_SERVING.
    let status = Arc::new(AtomicUsize::new(2));
    let now = Arc::clone(&status);
    let server = host.serve_in_pod("app", 8084, move |stream| {
        let status = u8::try_from(now.load(Ordering::Relaxed)).unwrap();
        health_server(stream, (status != 0).then_some(status));
    });
    host.wait_event(
        "app",
        SOON,
        "Unhealthy",
        "Readiness probe failed: service unhealthy (responded with \"NOT_SERVING\")",
    );
    status.store(1, Ordering::Relaxed);
    host.wait_row("app", SOON, "1/1", "Running");
    status.store(0, Ordering::Relaxed);
    host.wait_event(
        "app",
        SOON,
        "Unhealthy",
        "Readiness probe failed: timeout: health rpc did not complete within 1s",
    );
    drop(server);
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
