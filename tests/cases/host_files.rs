//! What a pod and its supervisor take from files of the host, `/etc/hosts` and `/etc/resolv.conf`: also what the names
//! stand for that probes connect to.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use hull_tests::pod::{busybox, read_request, respond};
use hull_tests::{Host, PodFiles, binaries, command, host, wait_until};

const SOON: Duration = Duration::from_secs(20);

/// A pod that sleeps; `lines` are more of its container.
fn pod(lines: &str) -> String {
    busybox("name: app", &format!("{lines}    command: [sleep, '1000']\n  dnsPolicy: Default\n"))
}

/// Applies a pod whose host has these files.
fn apply(host: &Host, hosts: &[u8], resolv: &[u8], manifest: &str) {
    let (hosts_file, resolv_file) = (host.shared_dir().join("hosts"), host.shared_dir().join("resolv.conf"));
    std::fs::write(&hosts_file, hosts).unwrap();
    std::fs::write(&resolv_file, resolv).unwrap();
    let script = "mount --bind \"$1\" \"$(readlink -f /etc/hosts)\" && mount --bind \"$2\" \"$(readlink -f /etc/resolv.conf)\" && \
                  shift 2 && exec \"$@\"";
    let mut apply = host.command("unshare");
    apply.args(["--mount", "--", "sh", "-c", script, "sh"]).args([&hosts_file, &resolv_file]);
    apply.arg(binaries::program("hull").unwrap()).arg("--root").arg(host.root());
    apply.args(["apply", "-f", "-", "--wait", "--timeout=30s"]);
    command::run(&mut apply, manifest, Duration::from_secs(30)).ok();
    // It notes the pod, so that the host knows what is its own.
    host.hull(&["get", "pods"]).ok();
}

const HOSTS: &[u8] = b"127.0.0.1 localhost\n127.0.0.1 caf\xe9 checked.example\n";
const RESOLV: &[u8] =
    b"# caf\xe9\nnameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\nnameserver 192.0.2.4\n";

#[test]
fn files_in_another_encoding_stop_no_pod_and_what_is_left_out_of_them_is_told_once() {
    let host = host!();
    apply(&host, HOSTS, RESOLV, &pod(""));
    let kept = "nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n";
    assert_eq!(host.exec("app", &["cat", "/etc/resolv.conf"]).ok(), kept);
    let text = "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: \
                192.0.2.1 192.0.2.2 192.0.2.3";
    host.wait_event("app", SOON, "DNSConfigForming", text);
    PodFiles::wait(&host, "app", SOON).replace_supervisor();
    host.hull(&["wait", "pod/app", "--for=condition=Ready", "--timeout=20s"]).ok();
    let event = host.wait_event("app", SOON, "DNSConfigForming", text);
    assert_eq!(
        (&event["count"], &event["type"], &event["involvedObject"]["fieldPath"]),
        (&1.into(), &"Warning".into(), &serde_json::Value::Null)
    );
    host.end(&["app"]);
}

#[test]
fn a_pod_on_the_host_s_network_has_the_host_s_names() {
    let host = host!();
    apply(&host, HOSTS, RESOLV, &pod("").replace("  dnsPolicy: Default", "  hostNetwork: true"));
    let hosts = host.exec("app", &["cat", "/etc/hosts"]).ok();
    assert!(hosts.contains("127.0.0.1 caf\u{fffd} checked.example\n"), "{hosts}");
    host.end(&["app"]);
}

#[test]
fn a_probe_s_host_is_looked_up_in_the_hosts_file() {
    let host = host!();
    let probe = "    readinessProbe: {tcpSocket: {host: checked.example, port: 80}, periodSeconds: 1}\n";
    let pod = pod(probe).replace("[sleep, '1000']", "[httpd, -f, -p, '127.0.0.1:80']");
    apply(&host, HOSTS, RESOLV, &pod);
    host.wait_row("app", SOON, "1/1", "Running");
    host.end(&["app"]);
}

#[test]
fn a_host_may_be_a_name_also_for_the_next_supervisor() {
    let host = host!();
    let probes = "    readinessProbe: {tcpSocket: {host: localhost, port: 8096}, periodSeconds: 1}\n    \
                  livenessProbe: {httpGet: {host: localhost, port: 8096, path: /live}, periodSeconds: 1, failureThreshold: 100}\n";
    host.apply(&pod(probes));
    host.wait_event(
        "app",
        SOON,
        "Unhealthy",
        "Readiness probe failed: dial tcp 127.0.0.1:8096: connect: connection refused",
    );
    let asked = Arc::new(Mutex::new(String::new()));
    let heard = Arc::clone(&asked);
    let server = host.serve_in_pod("app", 8096, move |mut stream| {
        let request = read_request(&mut stream).to_lowercase();
        if !request.is_empty() {
            *heard.lock().unwrap() = request;
            respond(&mut stream, "200 OK", "", "ok");
        }
    });
    host.wait_row("app", SOON, "1/1", "Running");
    let is_asked = || {
        let request = asked.lock().unwrap().clone();
        if request.contains("\r\nhost: localhost:8096\r\n") { Ok(()) } else { Err(request) }
    };
    wait_until(SOON, "a request to the name", is_asked);
    let pod = PodFiles::wait(&host, "app", SOON);
    pod.replace_supervisor();
    asked.lock().unwrap().clear();
    wait_until(SOON, "a request of the next supervisor", is_asked);
    assert!(!pod.diagnostics().contains("several threads"), "{}", pod.diagnostics());
    drop(server);
    host.end(&["app"]);
}
