//! Services: their names resolve in pods, to an address that stays; other names go to the host's resolvers.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use hull_tests::{Host, host, process, wait_until};

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
