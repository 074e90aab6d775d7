//! httpGet, with and without TLS.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use hull_tests::pod::{condition, container, read_request, respond, text};
use hull_tests::{host, skip, wait_until};

use super::{SOON, sleeper};

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
