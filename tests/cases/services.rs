//! Services: their names resolve in pods, to an address that stays; other names go to the host's resolvers.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
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

/// The answer to a question for an A record: 192.0.2.77, or that it does not fit into a datagram.
fn answer(question: &[u8], is_cut: bool) -> Vec<u8> {
    let name_end = question[12..].iter().position(|byte| *byte == 0).unwrap_or(0) + 12;
    let mut answer = question[..name_end + 5].to_vec();
    let (flags, count) = if is_cut { (0x83, 0) } else { (0x81, 1) };
    answer[2..12].copy_from_slice(&[flags, 0x80, 0, 1, 0, count, 0, 0, 0, 0]);
    if !is_cut {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 77]);
    }
    answer
}

/// Answers every question.
fn play_resolver(socket: &UdpSocket, is_cut: bool) {
    let mut buffer = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        if socket.send_to(&answer(&buffer[..length], is_cut), from).is_err() {
            return;
        }
    }
}

/// Answers one question of each connection.
fn play_tcp_resolver(listener: &TcpListener) {
    while let Ok((mut stream, _)) = listener.accept() {
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut question).unwrap();
        let answer = answer(&question, false);
        stream
            .write_all(&[&u16::try_from(answer.len()).unwrap().to_be_bytes()[..], &answer].concat())
            .unwrap();
    }
}

/// Gives the host this address, and a pod that finds a resolver there in the host's resolv.conf (the host's own may
/// name any).
fn apply_with_resolver(host: &Host, address: IpAddr, play: impl FnOnce()) {
    let ip = format!("ip addr add {address}/{} dev lo", if address.is_ipv4() { 32 } else { 128 });
    assert!(host.command("busybox").args(ip.split(' ')).status().unwrap().success());
    // The kernel puts an address of IPv6 in force a little later.
    wait_until(SOON, "its address", || {
        let bound = process::in_network_of(host.network_pid(), move || UdpSocket::bind((address, 0)));
        bound.map(drop).map_err(|error| error.to_string())
    });
    play();
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
}

fn datagrams(host: &Host, address: IpAddr) -> UdpSocket {
    process::in_network_of(host.network_pid(), move || UdpSocket::bind((address, 53))).unwrap()
}

#[test]
fn other_names_are_asked_of_the_resolvers_of_the_host() {
    let host = host!();
    let address = Ipv4Addr::new(198, 51, 100, 53).into();
    apply_with_resolver(&host, address, || {
        let socket = datagrams(&host, address);
        std::thread::spawn(move || play_resolver(&socket, false));
    });
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

#[test]
fn long_answers_come_by_tcp_and_a_resolver_may_have_an_ipv6_address() {
    let host = host!();
    let address: IpAddr = "fd00:53::53".parse().unwrap();
    apply_with_resolver(&host, address, || {
        let socket = datagrams(&host, address);
        std::thread::spawn(move || play_resolver(&socket, true));
        let listen = move || TcpListener::bind((address, 53));
        let listener = process::in_network_of(host.network_pid(), listen).unwrap();
        std::thread::spawn(move || play_tcp_resolver(&listener));
    });
    // The datagram says that it is not all, so dig asks the pod's resolver by TCP.
    let text = host.exec("asks", &["dig", "+short", "+time=5", "+tries=1", "www.example.test"]).ok();
    assert_eq!(text.trim(), "192.0.2.77");
    host.leave_nothing();
}
