//! Sockets that are open when a container is written down: TCP connections, those that nobody took yet, and unix sockets
//! whose other end is outside.

use std::fs::File;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hull_tests::wait_until;
use serde_json::json;

use super::{LIMIT, checkpoint, counting, counts_beyond, restore, there_and_back, up};
use crate::bundle::{Bundle, is_peer};

/// TCP connections in a state, as the container sees them.
fn connections(bundle: &Bundle, state: &str) -> usize {
    let shown = bundle.exec(&["/bin/busybox", "netstat", "-tn"]).ok();
    shown.lines().filter(|line| line.contains(state)).count()
}

#[test]
fn a_connection_is_closed_on_request_and_its_program_learns_of_it() {
    if is_peer() {
        // Of crun, whose flag podman passes on to any runtime.
        return;
    }
    let mut bundle = counting!();
    bundle.script(
        "/bin/busybox nc -l -p 7000 -e /bin/cat & sleep 0.3
         (i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done) | /bin/busybox nc 127.0.0.1 7000 |
             while read -r i; do echo $i > /work/count; done
         echo over > /work/over; sleep 1000",
    );
    up(&bundle);
    counts_beyond(&bundle, 3);
    assert_eq!(connections(&bundle, "ESTABLISHED"), 2);
    checkpoint(&bundle, &["--tcp-established"]).ok();
    assert!(!bundle.path("rootfs/work/over").exists());
    restore(&bundle, &["--tcp-close"]).ok();
    bundle.shows("rootfs/work/over", "over");
    assert_eq!(connections(&bundle, "ESTABLISHED"), 0);
    assert_eq!(bundle.status(), "running");
}

/// A socket that listens on a free port of a network namespace.
fn listen_in(namespace: &str) -> TcpListener {
    let namespace = File::open(namespace).unwrap();
    let thread = std::thread::spawn(move || {
        nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        TcpListener::bind("127.0.0.1:7000").unwrap()
    });
    thread.join().unwrap()
}

#[test]
fn a_connection_that_nobody_took_is_left_out_on_request() {
    if is_peer() {
        // runc 1.1 has no such flag.
        return;
    }
    let mut bundle = counting!();
    let ip = |args: &[&str]| assert!(Command::new("ip").args(args).status().unwrap().success());
    ip(&["netns", "add", &bundle.id]);
    ip(&["-n", &bundle.id, "link", "set", "lo", "up"]);
    let path = format!("/run/netns/{}", bundle.id);
    bundle.configure(|config| config["linux"]["namespaces"][1] = json!({"type": "network", "path": path}));
    // A program in whose name somebody else listens, and who takes nobody.
    let run = bundle.command(&["run", "-d", "--preserve-fds", "1", &bundle.id]);
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec \"$@\" 3<&0 </dev/null", "sh"]).arg(run.get_program()).args(run.get_args());
    shell.current_dir(&bundle.directory).stdin(OwnedFd::from(listen_in(&path)));
    assert!(shell.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
    // It has the socket too.
    drop(shell);
    counts_beyond(&bundle, 3);
    bundle.exec(&["sh", "-c", "/bin/busybox timeout 1 /bin/busybox nc 127.0.0.1 7000 < /dev/null"]);
    let told = checkpoint(&bundle, &["--tcp-established"]).fails(1);
    assert!(told.contains("In-flight connection"), "{told}");
    assert_eq!(bundle.status(), "running");
    let at = counts_beyond(&bundle, super::count(&bundle).unwrap_or_default());
    checkpoint(&bundle, &["--tcp-established", "--tcp-skip-in-flight"]).ok();
    restore(&bundle, &["--tcp-established"]).ok();
    counts_beyond(&bundle, at);
    let shown = bundle.exec(&["/bin/busybox", "netstat", "-tln"]).ok();
    assert!(shown.contains(":7000"), "{shown}");
    bundle.delete();
    ip(&["netns", "del", &bundle.id]);
}

/// A log outside of the container, which remembers the number in the last message.
struct Log {
    last: Arc<AtomicU64>,
    done: Arc<AtomicBool>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Log {
    fn at(path: &std::path::Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let (last, done) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (seen, over) = (Arc::clone(&last), Arc::clone(&done));
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 256];
            while !over.load(Ordering::Relaxed) {
                let Ok(length) = socket.recv(&mut buffer) else { continue };
                let text = String::from_utf8_lossy(&buffer[..length]);
                let number = text.trim_end_matches(['\0', '\n']).rsplit(' ').next();
                seen.store(number.and_then(|it| it.parse().ok()).unwrap_or(u64::MAX), Ordering::Relaxed);
            }
        });
        Self { last, done, reader: Some(reader) }
    }

    #[track_caller]
    fn goes_beyond(&self, least: u64) -> u64 {
        wait_until(LIMIT, "the next message", || match self.last.load(Ordering::Relaxed) {
            number if number > least => Ok(number),
            number => Err(number.to_string()),
        })
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        assert!(self.reader.take().is_none_or(|reader| reader.join().is_ok()));
    }
}

#[test]
fn a_unix_socket_whose_other_end_is_outside_is_connected_again_on_request() {
    let mut bundle = counting!();
    let place = bundle.path("volume");
    std::fs::create_dir(&place).unwrap();
    let log = Log::at(&place.join("log"));
    // criu goes by the name that the other end was given, so it is there inside under the same one. Sockets of another
    // network namespace it does not see.
    let path = place.display().to_string();
    bundle.script(&format!(
        "/bin/busybox ln -s {path}/log /dev/log
         (i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done) | /bin/busybox logger"
    ));
    bundle.configure(|config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|one| one["type"] != "network");
        let mounts = config["mounts"].as_array_mut().unwrap();
        // A new sysfs needs a network namespace of its own.
        mounts.retain(|one| one["destination"] != "/sys");
        mounts.push(json!({"destination": path, "type": "bind", "source": path, "options": ["bind"]}));
    });
    up(&bundle);
    let at = log.goes_beyond(3);
    let told = checkpoint(&bundle, &[]).fails(1);
    assert!(is_peer() || told.contains("--ext-unix-sk"), "{told}");
    assert_eq!(bundle.status(), "running");
    let at = log.goes_beyond(at);
    // Who wants to connect anew finds no way.
    bundle.exec(&["/bin/busybox", "rm", "/dev/log"]).ok();
    checkpoint(&bundle, &["--ext-unix-sk"]).ok();
    let at = at.max(log.last.load(Ordering::Relaxed));
    restore(&bundle, &["--ext-unix-sk"]).ok();
    let now = log.goes_beyond(at);
    assert!(now < at + 1000, "it began anew");
}

#[test]
fn flags_for_what_a_container_does_not_have_change_nothing() {
    let bundle = counting!();
    up(&bundle);
    let flags =
        ["--shell-job", "--file-locks", "--ext-unix-sk", "--tcp-established", "--empty-ns", "network"];
    there_and_back(&bundle, &flags, || ());
}
