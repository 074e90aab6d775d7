//! Terminals (oci-runtime.md 2.9).

use std::fs::{self, File};
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::json;

use crate::bundle::{Bundle, is_peer};

/// How long a terminal may show nothing, in milliseconds.
const PATIENCE: u16 = 15_000;

/// Takes one message with one descriptor.
pub(crate) fn receive(listener: &UnixListener) -> (String, OwnedFd) {
    let (stream, _) = listener.accept().unwrap();
    let mut buffer = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let length = recvmsg(&stream, &mut parts, &mut control, RecvFlags::empty()).unwrap().bytes;
    let mut found: Vec<OwnedFd> = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            found.extend(descriptors);
        }
    }
    assert!(found.len() == 1 && length > 0, "one descriptor and a name");
    (String::from_utf8_lossy(&buffer[..length]).into_owned(), found.remove(0))
}

/// A socket in the bundle, and its path.
pub(crate) fn listen(bundle: &Bundle, name: &str) -> (UnixListener, String) {
    let path = bundle.path(name);
    (UnixListener::bind(&path).unwrap(), path.display().to_string())
}

/// Reads what a terminal shows until `wanted` is there.
pub(crate) fn shows(terminal: &OwnedFd, wanted: &str) -> String {
    let mut file = std::fs::File::from(terminal.try_clone().unwrap());
    let mut text = String::new();
    let mut buffer = [0; 1024];
    while !text.contains(wanted) {
        let mut polled = [PollFd::new(terminal.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut polled, PATIENCE), Ok(1), "no {wanted:?} after {text:?}");
        match file.read(&mut buffer) {
            Ok(length) if length > 0 => text.push_str(&String::from_utf8_lossy(&buffer[..length])),
            other => panic!("{other:?} after {text:?}"),
        }
    }
    text
}

#[test]
fn the_console_socket_gets_a_working_terminal() {
    let mut bundle = bundle!();
    bundle.script(
        "stty size; test -t 0 && test -t 2 && echo all; ls -l /dev/console >/dev/null && echo console; read -r line; echo \"got $line\"; sleep 1000",
    );
    bundle.configure(|config| {
        config["process"]["terminal"] = json!(true);
        config["process"]["consoleSize"] = json!({"height": 33, "width": 77});
    });
    let (listener, path) = listen(&bundle, "console");
    bundle.detached(&["create", "--console-socket", &path, &bundle.id]).ok();
    let (_, master) = receive(&listener);
    bundle.oci(&["start", &bundle.id]).ok();
    let text = shows(&master, "console");
    assert!(text.contains("33 77") && text.contains("all"), "{text}");
    let mut writer = std::fs::File::from(master.try_clone().unwrap());
    writer.write_all(b"echo this\n").unwrap();
    // The terminal's own echo first. What ends a line may come later, on machines with several processors.
    let text = shows(&master, "got echo this");
    assert!(text.trim_start().starts_with("echo this"), "{text}");
}

#[test]
fn exec_has_a_terminal_of_its_own() {
    let bundle = bundle!();
    bundle.up();
    let (listener, path) = listen(&bundle, "console");
    let line = [
        "exec",
        "-t",
        "-d",
        "--console-socket",
        &path,
        &bundle.id,
        "/bin/sh",
        "-c",
        "test -t 0 && echo yes; cat",
    ];
    bundle.detached(&line).ok();
    let (_, master) = receive(&listener);
    shows(&master, "yes");
}

#[test]
fn a_terminal_and_its_socket_belong_together() {
    let mut bundle = bundle!();
    let (_listener, path) = listen(&bundle, "console");
    let told = bundle.detached(&["create", "--console-socket", &path, &bundle.id]).fails(1);
    assert!(told.contains("cannot use console socket if runc will not detach or allocate tty"), "{told}");
    bundle.configure(|config| config["process"]["terminal"] = json!(true));
    let told = bundle.detached(&["create", &bundle.id]).fails(1);
    assert!(
        told.contains("cannot allocate tty if runc will detach without setting console socket"),
        "{told}"
    );
    bundle.assert_gone();
}

#[test]
fn the_pidfd_socket_gets_the_process() {
    if is_peer() {
        // runc 1.1 has no such flag.
        return;
    }
    let bundle = bundle!();
    let (listener, path) = listen(&bundle, "pidfd");
    bundle.detached(&["run", "-d", "--pidfd-socket", &path, &bundle.id]).ok();
    let (payload, pidfd) = receive(&listener);
    assert_eq!(payload, "standard");
    let about = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).unwrap();
    assert!(about.contains(&format!("Pid:\t{}", bundle.state()["pid"])), "{about}");
    bundle.detached(&["exec", "-d", "--pidfd-socket", &path, &bundle.id, "/bin/sleep", "100"]).ok();
    assert_eq!(receive(&listener).0, "setns");
}

#[test]
fn in_the_foreground_a_terminal_is_copied() {
    let mut bundle = bundle!();
    bundle.script("test -t 0 && test -t 1 && echo terminal; exit 5");
    bundle.configure(|config| config["process"]["terminal"] = json!(true));
    let limit = Duration::from_secs(30);
    let output = hull_tests::command::run(&mut bundle.command(&["run", &bundle.id]), "", limit);
    if is_peer() && output.stderr.contains("/dev/tty") {
        // runc wants its own standard input to be a terminal.
        return;
    }
    assert!(output.stdout.contains("terminal"), "{output}");
    output.fails(5);
}

#[test]
fn a_terminal_whose_program_does_not_read_shows_what_it_writes() {
    let mut bundle = bundle!();
    if is_peer() {
        // runc wants its own standard input to be a terminal.
        return;
    }
    let line = "x".repeat(100);
    bundle.script(&format!(
        "stty raw -echo; sleep 1; i=0; while [ $i -lt 5000 ]; do echo {line}; i=$((i+1)); done; exit 5"
    ));
    bundle.configure(|config| config["process"]["terminal"] = json!(true));
    let [input, output] = ["input", "output"].map(|name| bundle.path(name));
    fs::write(&input, "x".repeat(1 << 20)).unwrap();
    let mut run = bundle.command(&["run", &bundle.id]);
    let mut run =
        run.stdin(File::open(&input).unwrap()).stdout(File::create(&output).unwrap()).spawn().unwrap();
    let ended = hull_tests::wait_until(Duration::from_secs(60), "its end", || match run.try_wait() {
        Ok(Some(status)) => Ok(status),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(ended.code(), Some(5));
    assert!(fs::metadata(&output).unwrap().len() > 500_000);
}

#[test]
fn a_terminal_is_the_users_and_controls_the_session() {
    let mut bundle = bundle!();
    bundle.script("ls -ln /dev/console; : </dev/tty && echo controlled; test -t 1 && echo shown; cat");
    bundle.configure(|config| {
        config["process"]["terminal"] = json!(true);
        config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    });
    let (listener, path) = listen(&bundle, "console");
    bundle.detached(&["run", "-d", "--console-socket", &path, &bundle.id]).ok();
    let (_, master) = receive(&listener);
    let text = shows(&master, "shown");
    assert!(text.contains("controlled"), "{text}");
    let owner = text.split_whitespace().nth(2);
    assert_eq!(owner, Some("1000"), "{text}");
}

#[test]
fn a_window_size_without_a_terminal_is_ignored() {
    let mut bundle = bundle!();
    bundle.args(&["/bin/true"]).configure(|config| {
        config["process"]["consoleSize"] = json!({"height": 33, "width": 77});
    });
    bundle.oci(&["run", &bundle.id]).ok();
}

#[test]
fn run_and_exec_refuse_a_socket_that_nobody_needs() {
    let mut bundle = bundle!();
    let (_listener, path) = listen(&bundle, "console");
    let needless = "cannot use console socket if runc will not detach or allocate tty";
    let told = bundle.oci(&["run", "--console-socket", &path, &bundle.id]).fails(1);
    assert!(told.contains(needless), "{told}");
    bundle.configure(|config| config["process"]["terminal"] = json!(true));
    let told = bundle.oci(&["run", "--console-socket", &path, &bundle.id]).fails(1);
    assert!(told.contains(needless), "{told}");
    bundle.configure(|config| config["process"]["terminal"] = json!(false)).up();
    for flags in [&["-d"][..], &["-t"], &[]] {
        let line = [&["exec", "--console-socket", &path], flags, &[&bundle.id, "true"]].concat();
        let told = bundle.oci(&line).fails(255);
        assert!(told.contains(needless), "{flags:?}: {told}");
    }
    let told = bundle.oci(&["exec", "-d", "-t", &bundle.id, "true"]).fails(255);
    assert!(
        told.contains("cannot allocate tty if runc will detach without setting console socket"),
        "{told}"
    );
}

#[test]
fn a_socket_that_is_not_there_is_told_and_nothing_is_made() {
    let mut bundle = bundle!();
    bundle.configure(|config| config["process"]["terminal"] = json!(true));
    let told = bundle.detached(&["create", "--console-socket", "/nonexistent/socket", &bundle.id]).fails(1);
    assert!(told.contains("/nonexistent/socket"), "{told}");
    bundle.assert_gone();
}

#[test]
fn exec_in_the_foreground_has_the_callers_terminal() {
    let bundle = bundle!();
    bundle.up();
    let exec = bundle.command(&[
        "exec",
        "-t",
        &bundle.id,
        "/bin/sh",
        "-c",
        "test -t 0 && test -t 2 && echo all; exit 6",
    ]);
    let words = std::iter::once(exec.get_program()).chain(exec.get_args());
    let line = words.map(|word| format!("'{}'", word.to_string_lossy())).collect::<Vec<_>>().join(" ");
    let mut script = std::process::Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).current_dir(&bundle.directory);
    let mut running = hull_tests::Running::start(&mut script);
    assert_eq!(running.wait(Duration::from_secs(30)).code(), Some(6), "{:?}", running.lines());
    assert!(running.lines().iter().any(|line| line.trim() == "all"), "{:?}", running.lines());
}
