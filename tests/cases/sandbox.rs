//! The sandbox: what the containers of a pod share, and what a pod shares with the host when it asks for it.

use std::io::Write;
use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use hull_tests::pod::busybox;
use hull_tests::{Host, Running, host, process, wait_until};

const SOON: Duration = Duration::from_secs(10);

const PAIR: &str = "
apiVersion: v1
kind: Pod
metadata: {name: pair}
spec:
  hostname: left
  subdomain: right
  containers:
  - {name: a, image: busybox, imagePullPolicy: IfNotPresent, command: [sleep, '1000']}
  - {name: b, image: nginx, imagePullPolicy: IfNotPresent}
";

fn sh(host: &Host, pod: &str, container: &str, script: &str) -> String {
    host.hull(&["exec", pod, "-c", container, "--", "sh", "-c", script]).ok().trim().to_owned()
}

/// Waits for the page of nginx: without a readiness probe it counts as ready before it listens.
fn wait_page(host: &Host, pod: &str, url: &str) {
    wait_until(SOON, "page of nginx", || {
        let output = host.hull(&["exec", pod, "-c", "a", "--", "wget", "-q", "-O", "-", url]);
        if output.stdout.contains("Welcome to nginx!") { Ok(()) } else { Err(output.to_string()) }
    });
}

fn namespaces(host: &Host, pod: &str, container: &str) -> Vec<String> {
    let script = "for kind in net ipc uts pid mnt; do readlink /proc/self/ns/$kind; done";
    sh(host, pod, container, script).lines().map(str::to_owned).collect()
}

#[test]
fn containers_share_network_ipc_and_host_name_but_neither_processes_nor_files() {
    let host = host!();
    host.apply_ready(PAIR);
    let (a, b) = (namespaces(&host, "pair", "a"), namespaces(&host, "pair", "b"));
    assert_eq!(a[..3], b[..3]);
    assert_ne!(a[3], b[3]);
    assert_ne!(a[4], b[4]);

    assert_eq!(sh(&host, "pair", "b", "hostname"), "left");
    let address = host.pod("pair").unwrap()["status"]["podIP"].as_str().unwrap().to_owned();
    let hosts = sh(&host, "pair", "a", "cat /etc/hosts");
    let own = format!("{address}\tleft.right.default.svc.cluster.local\tleft");
    assert!(hosts.lines().any(|line| line == own), "{hosts}");
    assert!(hosts.starts_with("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n"), "{hosts}");
    let resolver = sh(&host, "pair", "b", "cat /etc/resolv.conf");
    let wanted = "search default.svc.cluster.local svc.cluster.local cluster.local";
    assert!(resolver.starts_with(wanted) && resolver.ends_with("options ndots:5"), "{resolver}");

    // Shared memory, a message queue and localhost; the name of the other container's process is not there.
    sh(&host, "pair", "a", "echo shared >/dev/shm/file && touch /dev/mqueue/queue && touch /private");
    assert_eq!(
        sh(&host, "pair", "b", "cat /dev/shm/file; ls /dev/mqueue; ls /private 2>&1 || true"),
        "shared\nqueue\nls: /private: No such file or directory"
    );
    wait_page(&host, "pair", "http://localhost");
    assert!(!sh(&host, "pair", "a", "ps").contains("nginx"));
    host.leave_nothing();
}

#[test]
fn nobody_has_to_be_root_for_a_low_port_or_a_ping() {
    let host = host!();
    host.apply_ready(&busybox(
        "name: low",
        "    securityContext: {runAsUser: 1000, capabilities: {drop: [ALL]}}
    command: [httpd, -f, -p, '80']
    readinessProbe: {tcpSocket: {port: 80}, periodSeconds: 1}
",
    ));
    assert_eq!(sh(&host, "low", "main", "cat /proc/sys/net/ipv4/ping_group_range"), "0\t2147483647");
    host.leave_nothing();
}

#[test]
fn a_shared_process_namespace_has_pause_as_its_init() {
    let host = host!();
    host.apply_ready(&PAIR.replace("  hostname: left", "  shareProcessNamespace: true\n  hostname: left"));
    let (a, b) = (namespaces(&host, "pair", "a"), namespaces(&host, "pair", "b"));
    assert_eq!(a[..4], b[..4]);
    let processes = sh(&host, "pair", "a", "ps");
    assert!(processes.contains("nginx: master"), "{processes}");
    assert_eq!(sh(&host, "pair", "b", "cat /proc/1/comm"), "hull-pause");
    // An orphan of either container is reaped by it.
    sh(&host, "pair", "a", "(sleep 0.1 &)");
    wait_until(SOON, "no zombie", || {
        let processes = sh(&host, "pair", "a", "ps -o stat,comm");
        if processes.lines().any(|line| line.starts_with('Z')) { Err(processes) } else { Ok(()) }
    });
    host.leave_nothing();
}

#[test]
fn a_pod_joins_the_host_where_it_asks_for_that() {
    let host = host!();
    let pod = "
apiVersion: v1
kind: Pod
metadata: {name: inside}
spec:
  hostNetwork: true
  hostIPC: true
  hostPID: true
  containers: [{name: a, image: busybox, imagePullPolicy: IfNotPresent, command: [sleep, '1000']}]
";
    host.apply_ready(pod);
    let inside = namespaces(&host, "inside", "a");
    let of_host = |kind: &str| process::namespace(std::process::id().cast_signed(), kind).unwrap();
    let network = process::namespace(host.network_pid().cast_signed(), "net").unwrap();
    assert_eq!(inside[0], network);
    assert_eq!(inside[1], of_host("ipc"));
    assert_eq!(inside[3], of_host("pid"));
    let object = host.pod("inside").unwrap();
    assert_eq!(object["status"]["podIP"], object["status"]["hostIP"], "{:#}", object["status"]);
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(sh(&host, "inside", "a", "hostname"), name.trim());
    host.leave_nothing();
}

/// A machine beside the host, connected by a link of its own that knows no way to the pods.
struct Neighbour {
    holder: Running,
}

const NEIGHBOUR: [&str; 2] = ["192.0.2.1", "192.0.2.2"];

impl Neighbour {
    fn of(host: &Host) -> Self {
        let mut command = host.command("unshare");
        let script = "busybox ip link set lo up && echo up && exec sleep 1000";
        let holder = Running::start(command.args(["--net", "--", "sh", "-c", script]));
        holder.wait_line(SOON, "neighbour", |line| line == "up");
        let pid = holder.pid().to_string();
        let ip = |words: &str| {
            let status = host.command("busybox").args(words.split(' ')).status().unwrap();
            assert!(status.success(), "{words}");
        };
        // busybox leaves the name of the other end to the kernel.
        ip("ip link add near type veth peer name far");
        ip(&format!("ip link set veth0 netns {pid}"));
        ip(&format!("ip addr add {}/24 dev near", NEIGHBOUR[0]));
        ip("ip link set near up");
        let neighbour = Self { holder };
        for words in [format!("ip addr add {}/24 dev veth0", NEIGHBOUR[1]), "ip link set veth0 up".to_owned()]
        {
            assert!(neighbour.command("busybox").args(words.split(' ')).status().unwrap().success());
        }
        neighbour
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.holder.pid())).arg("--").arg(program);
        command
    }
}

#[test]
fn pods_reach_each_other_the_host_and_through_masquerading_the_world() {
    let host = host!();
    let neighbour = Neighbour::of(&host);
    let pod = |name: &str| {
        PAIR.replace("name: pair", &format!("name: {name}"))
            .replace("  hostname: left\n  subdomain: right\n", "")
    };
    host.apply_ready(&format!("{}---{}", pod("one"), pod("two")));
    let address = |name: &str| host.pod(name).unwrap()["status"]["podIP"].as_str().unwrap().to_owned();
    let (one, two) = (address("one"), address("two"));
    assert_ne!(one, two);

    wait_page(&host, "one", &format!("http://{two}"));
    let gateway = sh(&host, "one", "a", "ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p'");
    sh(&host, "one", "a", &format!("ping -c 1 -W 5 {gateway}"));
    let from_host =
        host.command("busybox").args(["wget", "-q", "-O", "-", &format!("http://{two}")]).output();
    assert!(String::from_utf8_lossy(&from_host.unwrap().stdout).contains("Welcome"));

    // The neighbour has no route to a pod: what answers it is the host's address.
    let listener = process::in_network_of(neighbour.holder.pid(), || TcpListener::bind((NEIGHBOUR[1], 0)));
    let listener = listener.unwrap();
    let port = listener.local_addr().unwrap().port();
    let greeter = std::thread::spawn(move || {
        let (mut caller, from) = listener.accept().unwrap();
        caller.write_all(b"hello\n").unwrap();
        from.ip().to_string()
    });
    let greeting = sh(&host, "one", "a", &format!("nc -w 5 {} {port} </dev/null", NEIGHBOUR[1]));
    assert_eq!(greeting, "hello");
    assert_eq!(greeter.join().unwrap(), NEIGHBOUR[0]);

    // Between pods the addresses stay what they are.
    let log = sh(&host, "two", "b", "true") + &host.hull(&["logs", "two", "-c", "b"]).ok();
    assert!(log.lines().any(|line| line.starts_with(&format!("{one} "))), "{log}");
    host.hull(&["delete", "pods", "--all", "--now"]).ok();
    assert!(host.command("busybox").args(["ip", "link", "del", "near"]).status().unwrap().success());
    host.assert_clean();
}

#[test]
fn a_pod_without_a_network_has_loopback_only_and_ranges_can_be_chosen() {
    let host = host!();
    let alone = PAIR.replace("name: pair", "name: alone");
    host.hull_with_input(&["apply", "-f", "-", "--wait", "--network", "loopback"], &alone).ok();
    let links = sh(&host, "alone", "a", "ls /sys/class/net");
    assert_eq!(links, "lo");
    wait_page(&host, "alone", "http://127.0.0.1");

    let flags = ["apply", "-f", "-", "--wait", "--pod-cidr", "10.200.7.0/28", "--bridge", "other0"];
    host.hull_with_input(&flags, PAIR).ok();
    let pod = host.pod("pair").unwrap();
    assert!(pod["status"]["podIP"].as_str().unwrap().starts_with("10.200.7."), "{:#}", pod["status"]);
    let wrong = host.hull_with_input(&["apply", "-f", "-", "--pod-cidr", "10.0.0.0/99"], PAIR).fails(1);
    assert!(wrong.contains("--pod-cidr"), "{wrong}");
    host.leave_nothing();
}
