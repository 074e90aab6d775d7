//! What this program does when a shim executes it as `hull`.

use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};

/// Names the socket on which the test waits for supervisors.
pub(crate) const SOCKET: &str = "HULL_SHIM_TEST_SOCKET";

/// Names the file to which each supervisor adds a letter, to end at once with 3.
pub(crate) const ATTEMPTS: &str = "HULL_SHIM_TEST_ATTEMPTS";

/// What the rotation of a log adds to its name, for a file with its pid.
pub(crate) const ROTATOR: &str = ".rotator";

/// As the first argument it makes this program the tracer in a container.
pub(crate) const HUNT: &str = "stand-in-hunt";

/// As the first argument it makes this program confine itself.
pub(crate) const CONFINED: &str = "stand-in-confined";

/// None when this is the test itself.
pub(crate) fn run(arguments: &[String]) -> Option<ExitCode> {
    if arguments.get(1).is_some_and(|one| one == HUNT) {
        return Some(hunt());
    }
    if arguments.get(1).is_some_and(|one| one == CONFINED) {
        return Some(confined());
    }
    if let Some(at) = arguments.iter().position(|one| one == "task") {
        return Some(task(arguments.get(at + 1).map_or("", String::as_str)));
    }
    arguments.iter().any(|one| one == "supervise").then(supervise)
}

/// Confines itself as a supervisor does, and tries what that must allow and what not.
fn confined() -> ExitCode {
    rustix::thread::set_no_new_privs(true).unwrap();
    hull_shim::confine::supervisor().unwrap();
    let refused = |what: &str, result: std::io::Result<()>| {
        let errno = result.map_err(|error| error.raw_os_error());
        assert!(matches!(errno, Err(Some(libc::EPERM | libc::ENOSYS))), "{what}: {errno:?}");
    };
    let path = std::env::temp_dir().join(format!("hull-confined-{}", std::process::id()));
    std::fs::write(&path, "x").unwrap();
    std::fs::remove_file(&path).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    assert_eq!(vec![1_u8; 10_000_000].len(), 10_000_000);
    refused("a process", std::process::Command::new("/bin/busybox").status().map(drop));
    refused("a thread", std::thread::Builder::new().spawn(|| ()).map(drop));
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    let raw = |family, kind| socket(family, kind, SockFlag::empty(), None).map(drop).map_err(Into::into);
    refused("netlink", raw(AddressFamily::Netlink, SockType::Raw));
    refused("packets", raw(AddressFamily::Packet, SockType::Raw));
    let flags = nix::sched::CloneFlags::CLONE_NEWUSER;
    refused("a namespace", nix::sched::unshare(flags).map_err(Into::into));
    let parent = nix::unistd::getppid();
    refused(
        "a signal",
        nix::sys::signal::kill(parent, nix::sys::signal::Signal::SIGCONT).map_err(Into::into),
    );
    let link = std::os::unix::fs::symlink("a", path);
    refused("a link", link);
    ExitCode::SUCCESS
}

/// Waits in a container for processes that it may write to and that can do more than itself.
fn hunt() -> ExitCode {
    let own = powers("self").unwrap_or_default();
    let mut newest = std::process::id();
    println!("hunting");
    loop {
        for pid in newest + 1..newest + 12 {
            // The right to write to its memory is the right to attach to it.
            let memory = File::options().read(true).write(true).open(format!("/proc/{pid}/mem"));
            let Some(its) = powers(&pid.to_string()) else { continue };
            if memory.is_ok() && its & !own != 0 {
                println!("caught a process with {its:x}");
            }
            newest = pid;
        }
    }
}

/// The permitted capabilities of a process.
fn powers(pid: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("CapPrm:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// Sends descriptor 3 to the test and ends when the test lets go.
fn supervise() -> ExitCode {
    use std::os::fd::AsRawFd;
    if let Some(attempts) = std::env::var_os(ATTEMPTS) {
        // One that cannot start.
        let written = File::options().append(true).create(true).open(attempts);
        return ExitCode::from(if written.and_then(|mut file| file.write_all(b"x")).is_ok() { 3 } else { 6 });
    }
    let Some(path) = std::env::var_os(SOCKET) else {
        return ExitCode::from(3);
    };
    let Ok(mut stream) = UnixStream::connect(path) else {
        return ExitCode::from(4);
    };
    let rights = [ControlMessage::ScmRights(&[hull_shim::wire::SUPERVISOR_FD])];
    let parts = [IoSlice::new(b"s")];
    let sent = sendmsg::<UnixAddr>(stream.as_raw_fd(), &parts, &rights, MsgFlags::empty(), None);
    if sent.is_err() {
        return ExitCode::from(5);
    }
    let mut byte = [0];
    // Ends with the test's end of the stream.
    drop(stream.read(&mut byte));
    ExitCode::SUCCESS
}

fn task(name: &str) -> ExitCode {
    let mut input = String::new();
    drop(std::io::stdin().read_to_string(&mut input));
    match name {
        "network-up" => {
            let own = std::fs::read_link("/proc/self/fd/3").map(|link| link.display().to_string());
            println!("{{\"namespace\":{:?},\"input\":{input}}}", own.unwrap_or_default());
        }
        "network-down" | "quiet" => {}
        "log-rotate" => rotate(&input),
        "echo" => print!("{input}"),
        "flood" => (0..200_000).for_each(|_| println!("0123456789")),
        _ => {
            eprintln!("no task {name}");
            return ExitCode::from(9);
        }
    }
    ExitCode::SUCCESS
}

/// Says beside the log who is at work on it, and never comes to an end.
fn rotate(input: &str) {
    let input: serde_json::Value = serde_json::from_str(input).unwrap();
    let said = format!("{}{ROTATOR}", input["log"].as_str().unwrap());
    std::fs::write(said, std::process::id().to_string()).unwrap();
    loop {
        std::thread::park();
    }
}
