//! Port-forward: with hull's own command, with an unmodified kubectl, and from loopback inside the pod.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use hull_tests::pod::busybox;
use hull_tests::{Host, Running, host, process, skip};

use crate::api::{kubectl_command, relay, socket};

const SOON: Duration = Duration::from_secs(10);

/// A web server that listens on loopback alone, and one that counts what it is sent until its end.
fn pod(name: &str) -> String {
    busybox(
        &format!("name: {name}"),
        "    ports: [{name: http, containerPort: 8000}, {name: dns, containerPort: 53, protocol: UDP}]
    command: [sh, -c, 'mkdir /www; echo page >/www/index.html; httpd -p 127.0.0.1:8000 -h /www;
      exec nc -ll -p 7001 -e wc -c']
    readinessProbe: {periodSeconds: 1, exec: {command: [sh, -c,
      'cat /proc/net/tcp* >/tmp/sockets; for port in 1B59 1F40; do grep -q \":$port .* 0A \" /tmp/sockets || exit 1; done']}}
",
    )
}

/// The port that a forwarder took on 127.0.0.1 for this remote one.
fn local_port(forward: &Running, remote: u16) -> u16 {
    let wanted = |line: &str| {
        line.starts_with("Forwarding from 127.0.0.1:") && line.ends_with(&format!("-> {remote}"))
    };
    let line = forward.wait_line(SOON, "Forwarding from", wanted);
    let port = line.trim_start_matches("Forwarding from 127.0.0.1:").split(' ').next().unwrap();
    port.parse().unwrap()
}

/// A connection made in the host's network namespace.
fn connect(host: &Host, port: u16) -> TcpStream {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let stream = process::in_network_of(host.network_pid(), move || TcpStream::connect(address)).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

/// Sends a request, closes that half, and reads the answer to its end.
fn ask(host: &Host, port: u16, request: &[u8]) -> String {
    let mut stream = connect(host, port);
    stream.write_all(request).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// The only pod's supervisor, which lives in the pod's network namespace.
fn supervisor(host: &Host) -> u32 {
    let is_ours = |pid: &i32| {
        let line = process::command_line(*pid);
        line.contains(&*host.root().to_string_lossy()) && line.contains(" supervise ")
    };
    let found: Vec<i32> = process::all().into_iter().filter(is_ours).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].cast_unsigned()
}

/// Sends everything back that comes to this port of the pod's loopback.
fn echo(host: &Host, port: u16) {
    let listen = move || TcpListener::bind(("127.0.0.1", port)).unwrap();
    let listener = process::in_network_of(supervisor(host), listen);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let (mut reader, mut writer) = (stream.try_clone().unwrap(), stream);
                // A client that leaves ends it.
                drop(std::io::copy(&mut reader, &mut writer));
            });
        }
    });
}

const GET: &[u8] = b"GET / HTTP/1.0\r\n\r\n";

#[test]
fn ports_of_this_host_lead_into_the_pod() {
    let host = host!();
    host.apply_ready(&pod("web"));
    let mut forward = host.start(&["port-forward", "pod/web", "18080:http", ":7001"]);
    assert_eq!(local_port(&forward, 8000), 18080);
    forward.wait_line(SOON, "IPv6", |line| line == "Forwarding from [::1]:18080 -> 8000");
    let counting = local_port(&forward, 7001);
    assert_ne!(counting, 7001);
    assert!(ask(&host, 18080, GET).ends_with("page\n"));
    forward.wait_line(SOON, "Handling", |line| line == "Handling connection for 18080");
    // The server answers only after it has seen the end of what it is sent.
    assert_eq!(ask(&host, counting, &[b'x'; 100_000]).trim(), "100000");
    host.delete("web", &[]);
    assert_eq!(forward.wait(SOON).code(), Some(1));
    forward.wait_line(SOON, "the end", |line| line == "error: lost connection to pod");
    host.assert_clean();
}

#[test]
fn many_connections_are_carried_side_by_side() {
    let host = host!();
    host.apply_ready(&pod("web"));
    echo(&host, 7000);
    let forward = host.start(&["port-forward", "web", ":7000"]);
    let port = local_port(&forward, 7000);
    // Nobody reads this one: it is not to hold up the others.
    let mut stuck = connect(&host, port);
    stuck.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let _full = stuck.write_all(&vec![0; 64 << 20]).unwrap_err();
    let carry = |number: u8| {
        let mut stream = connect(&host, port);
        std::thread::spawn(move || {
            let sent = vec![number; 300_000];
            let mut back = vec![0; sent.len()];
            let mut writer = stream.try_clone().unwrap();
            let writing = std::thread::spawn(move || writer.write_all(&[number; 300_000]));
            stream.read_exact(&mut back).unwrap();
            writing.join().unwrap().unwrap();
            assert!(sent == back, "connection {number}");
        })
    };
    let all: Vec<_> = (0..30).map(carry).collect();
    let failed = all.into_iter().filter_map(|one| one.join().err()).count();
    assert_eq!(failed, 0, "{:#?}", forward.lines());
    drop((stuck, forward));
    host.leave_nothing();
}

#[test]
fn a_port_that_nobody_listens_at_ends_the_command() {
    let host = host!();
    host.apply_ready(&pod("web"));
    let mut forward = host.start(&["port-forward", "web", "18081:81", "18080:8000"]);
    local_port(&forward, 8000);
    assert!(ask(&host, 18080, GET).ends_with("page\n"));
    assert_eq!(ask(&host, 18081, b""), "");
    let said = forward
        .wait_line(SOON, "the error", |line| line.starts_with("an error occurred forwarding 18081 -> 81: "));
    assert!(said.contains("dial tcp4 127.0.0.1:81: connect: connection refused"), "{said}");
    forward.wait_line(SOON, "the end", |line| line == "error: lost connection to pod");
    assert_eq!(forward.wait(SOON).code(), Some(1));
    drop(forward);
    host.leave_nothing();
}

#[test]
fn what_cannot_be_forwarded_is_told() {
    let host = host!();
    host.apply_ready(&pod("web"));
    let forward = host.start(&["port-forward", "web", "18080:8000", "--address", "127.0.0.1"]);
    local_port(&forward, 8000);
    for (words, wanted) in [
        (&["web", "dns"][..], "error: UDP protocol is not supported for 53\n"),
        (&["web", "ftp"], "error: pod 'web' does not have a named port 'ftp'\n"),
        (&["x", "80"], "Error from server (NotFound): pods \"x\" not found\n"),
        (
            &["web", "18080:8000", "--address=127.0.0.1"],
            "Unable to listen on port 18080: Listeners failed to create with the following errors: [unable to create \
             listener: Error listen tcp4 127.0.0.1:18080: bind: address already in use]\n\
             error: unable to listen on any of the requested ports: [{18080 8000}]\n",
        ),
    ] {
        assert_eq!(host.hull(&[&["port-forward"], words].concat()).fails(1), wanted);
    }
    let mut interrupted = host.start(&["port-forward", "web", ":8000"]);
    local_port(&interrupted, 8000);
    let pid = nix::unistd::Pid::from_raw(interrupted.pid().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    assert_eq!(interrupted.wait(SOON).code(), Some(0));
    drop(forward);
    let ended = pod("ended").replace("mkdir /www;", "exit 0;");
    host.apply(&ended.replace("  terminationGrace", "  restartPolicy: Never\n  terminationGrace"));
    host.hull(&["wait", "pod/ended", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=20s"]).ok();
    let said = host.hull(&["port-forward", "ended", "80"]).fails(1);
    assert_eq!(said, "error: unable to forward port because pod is not running. Current status=Succeeded\n");
    host.leave_nothing();
}

#[test]
fn forwarding_goes_on_with_the_next_supervisor() {
    let host = host!();
    host.apply_ready(&pod("web"));
    let forward = host.start(&["port-forward", "web", "18080:8000"]);
    local_port(&forward, 8000);
    assert!(ask(&host, 18080, GET).ends_with("page\n"));
    let supervisor = supervisor(&host).cast_signed();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(supervisor), nix::sys::signal::Signal::SIGKILL)
        .unwrap();
    assert!(ask(&host, 18080, GET).ends_with("page\n"));
    drop(forward);
    host.leave_nothing();
}

#[test]
fn an_unmodified_kubectl_forwards_ports() {
    let host = host!();
    host.apply_ready(&pod("web"));
    let port = relay(&host, socket(&host));
    let Some(mut kubectl) = kubectl_command(&host, port) else { skip!("needs kubectl") };
    let forward =
        Running::start(kubectl.args(["port-forward", "pod/web", "18080:http", ":7001", "18081:81"]));
    assert_eq!(local_port(&forward, 8000), 18080);
    let counting = local_port(&forward, 7001);
    for _ in 0..3 {
        assert!(ask(&host, 18080, GET).ends_with("page\n"));
    }
    let mut stream = connect(&host, counting);
    stream.write_all(&[b'x'; 100_000]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer.trim(), "100000");
    // kubectl gives up after this, as hull does.
    drop(connect(&host, 18081));
    forward.wait_line(SOON, "the error", |line| {
        line.contains("an error occurred forwarding 18081 -> 81: ") && line.contains("connection refused")
    });
    drop(forward);
    host.leave_nothing();
}
