//! Services: their names resolve in pods, to an address that stays; other names go to the host's resolvers.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use hull_tests::{Host, PodFiles, host, process, wait_until};

const SOON: Duration = Duration::from_secs(10);

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: asks}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: main, image: tutum/dnsutils, imagePullPolicy: IfNotPresent, command: [sleep, '1000']}
";

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: mysvc}
spec: {ports: [{port: 80, targetPort: 9376}]}
";

/// The addresses of a name, by the search list, as `dig` prints them; the answer's status too.
fn dig(host: &Host, name: &str) -> (String, Vec<String>) {
    let text = host.exec("asks", &["dig", "+search", "+time=3", "+tries=1", name]).ok();
    let status = text.split("status: ").nth(1).and_then(|rest| rest.split(',').next()).unwrap_or("none");
    let answers = text.lines().filter(|line| !line.starts_with(';') && line.contains("\tA\t"));
    let addresses = answers.filter_map(|line| line.split_whitespace().last()).map(str::to_owned);
    (status.to_owned(), addresses.collect())
}

fn cluster_ip(host: &Host) -> String {
    host.hull(&["get", "svc", "mysvc", "-o", "jsonpath={.spec.clusterIP}"]).ok()
}

#[test]
fn a_name_resolves_whether_the_service_comes_before_or_after_the_pod() {
    let host = host!();
    host.apply_ready(POD);
    assert_eq!(dig(&host, "mysvc").1, Vec::<String>::new());
    assert_eq!(dig(&host, "mysvc.default.svc.cluster.local"), ("NXDOMAIN".to_owned(), Vec::new()));
    assert_eq!(host.apply(SERVICE), "service/mysvc created\n");
    let address = cluster_ip(&host);
    wait_until(SOON, "name", || {
        let (_, found) = dig(&host, "mysvc");
        if found == std::slice::from_ref(&address) { Ok(()) } else { Err(format!("{found:?}")) }
    });
    for name in ["mysvc.default", "mysvc.default.svc", "mysvc.default.svc.cluster.local"] {
        assert_eq!(dig(&host, name).1, std::slice::from_ref(&address), "{name}");
    }

    assert_eq!(host.apply(SERVICE), "service/mysvc unchanged\n");
    let more = SERVICE.replace("[{port: 80", "[{name: more, port: 81}, {name: web, port: 80");
    assert_eq!(host.apply(&more), "service/mysvc configured\n");
    assert_eq!(cluster_ip(&host), address);
    host.apply_ready(&POD.replace("name: asks", "name: later"));
    let text = host.exec("later", &["dig", "+short", "mysvc.default.svc.cluster.local"]).ok();
    assert_eq!(text.trim(), address);

    host.hull(&["delete", "svc", "mysvc"]).ok();
    wait_until(SOON, "name gone", || {
        let (status, found) = dig(&host, "mysvc.default.svc.cluster.local");
        if status == "NXDOMAIN" { Ok(()) } else { Err(format!("{status} {found:?}")) }
    });
    assert_eq!(dig(&host, "other.default.svc.cluster.local").0, "NXDOMAIN");
    host.leave_nothing();
}

/// Answers every question for an A record with 192.0.2.77.
fn play_resolver(socket: &UdpSocket) {
    let mut buffer = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        let name_end = buffer[12..length].iter().position(|byte| *byte == 0).unwrap_or(0) + 12;
        let mut answer = buffer[..name_end + 5].to_vec();
        answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 77]);
        if socket.send_to(&answer, from).is_err() {
            return;
        }
    }
}

#[test]
fn other_names_are_asked_of_the_resolvers_of_the_host() {
    let host = host!();
    // The host's own resolv.conf may name any resolver; the pod names the one that is played here.
    let address = Ipv4Addr::new(198, 51, 100, 53);
    let ip = format!("ip addr add {address}/32 dev lo");
    assert!(host.command("busybox").args(ip.split(' ')).status().unwrap().success());
    let socket = process::in_network_of(host.network_pid(), move || UdpSocket::bind((address, 53))).unwrap();
    std::thread::spawn(move || play_resolver(&socket));
    let resolv = host.root().join("resolv.conf");
    std::fs::write(&resolv, format!("nameserver {address}\n")).unwrap();
    let script = "mount --bind \"$1\" \"$(readlink -f /etc/resolv.conf)\" && shift && exec \"$@\"";
    let mut command = host.command("unshare");
    let hull = hull_tests::binaries::program("hull").unwrap();
    command
        .args(["--mount", "--", "sh", "-c", script, "sh"])
        .arg(&resolv)
        .arg(hull)
        .arg("--root")
        .arg(host.root());
    command.args(["apply", "-f", "-", "--wait", "--timeout=30s"]);
    hull_tests::command::run(&mut command, POD, Duration::from_secs(30)).ok();
    let text = host.exec("asks", &["dig", "+short", "+time=3", "+tries=1", "www.example.test"]).ok();
    assert_eq!(text.trim(), "192.0.2.77");
    host.leave_nothing();
}

const DB: &str = "
apiVersion: v1
kind: Pod
metadata: {name: db-0, labels: {app: db}}
spec:
  hostname: db-0
  subdomain: db
  terminationGracePeriodSeconds: 5
  containers:
  - name: main
    image: busybox
    imagePullPolicy: IfNotPresent
    command: [sh, -c, 'trap \"exit 0\" TERM; touch /ready; while :; do sleep 0.1; done']
    readinessProbe: {exec: {command: [test, -e, /ready]}, periodSeconds: 1, failureThreshold: 1}
";

/// Waits until a name has these addresses for the pod that asks.
#[track_caller]
fn wait_addresses(host: &Host, name: &str, wanted: &[&String]) {
    wait_until(SOON, &format!("{wanted:?} for {name}"), || {
        let (status, mut found) = dig(host, name);
        found.sort();
        let same = found.iter().eq(wanted.iter().copied());
        if same && (status == "NXDOMAIN") == wanted.is_empty() {
            Ok(())
        } else {
            Err(format!("{status} {found:?}"))
        }
    });
}

fn pod_ip(host: &Host, name: &str) -> String {
    host.hull(&["get", "pod", name, "-o", "jsonpath={.status.podIP}"]).ok()
}

#[test]
fn a_headless_service_names_the_pods_that_are_ready() {
    let host = host!();
    host.apply_ready(POD);
    host.apply_ready(DB);
    host.apply(
        "{apiVersion: v1, kind: Service, metadata: {name: db}, spec: {clusterIP: None, selector: {app: db}, ports: [{name: sql, port: 5432}]}}",
    );
    let first = pod_ip(&host, "db-0");
    wait_addresses(&host, "db.default.svc.cluster.local", &[&first]);
    wait_addresses(&host, "db-0.db", &[&first]);

    // Pods come, are not ready, and are ready again.
    host.apply_ready(&DB.replace("db-0", "db-1"));
    let second = pod_ip(&host, "db-1");
    let mut both = [&first, &second];
    both.sort();
    wait_addresses(&host, "db", &both);
    wait_addresses(&host, "db-1.db", &[&second]);
    let srv = host.exec("asks", &["dig", "+short", "_sql._tcp.db.default.svc.cluster.local", "SRV"]).ok();
    assert!(srv.contains(" 5432 db-0.db.default.svc.cluster.local."), "{srv}");
    host.exec("db-0", &["rm", "/ready"]).ok();
    wait_addresses(&host, "db", &[&second]);
    wait_addresses(&host, "db-0.db.default.svc.cluster.local", &[]);
    host.exec("db-0", &["touch", "/ready"]).ok();
    wait_addresses(&host, "db", &both);

    // One that is removed by force takes its name along, although its supervisor is dead.
    host.delete("db-0", &[]);
    wait_addresses(&host, "db", &[&second]);
    assert!(PodFiles::find(&host, "db-1").unwrap().kill_shim_for_good() > 0);
    host.delete("db-1", &["--force"]);
    wait_addresses(&host, "db.default.svc.cluster.local", &[]);
    host.leave_nothing();
}
