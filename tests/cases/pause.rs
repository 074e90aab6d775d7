//! `hull-pause`: small, deaf to every signal but two, and a reaper of orphans.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hull_tests::{binaries, process, skip, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const SOON: Duration = Duration::from_secs(5);

fn start() -> Result<Child, String> {
    let mut child =
        Command::new(binaries::program("hull-pause")?).spawn().map_err(|error| error.to_string())?;
    let pid = pid(&child);
    // It blocks signals first, ignores SIGCHLD next, then sleeps in rt_sigtimedwait: bit 16 is SIGCHLD.
    let waiting = || {
        let ignored = signals(pid, "SigIgn").is_some_and(|set| set & (1 << 16) != 0);
        if ignored && process::state(pid) == Some('S') { Ok(()) } else { Err(process::file(pid, "status")) }
    };
    if child.try_wait().is_ok_and(|end| end.is_some()) {
        return Err("it ended at once".to_owned());
    }
    wait_until(SOON, "pause waiting", waiting);
    Ok(child)
}

fn pid(child: &Child) -> i32 {
    child.id().cast_signed()
}

fn signals(pid: i32, line: &str) -> Option<u64> {
    let status = process::file(pid, "status");
    let text = status.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':'))?;
    u64::from_str_radix(text.trim(), 16).ok()
}

fn end(mut child: Child, signal: Signal) -> Option<i32> {
    kill(Pid::from_raw(pid(&child)), signal).unwrap();
    wait_until(SOON, "end of pause", || match child.try_wait() {
        Ok(Some(status)) => Ok(status.code()),
        Ok(None) => Err("still there".to_owned()),
        Err(error) => Err(error.to_string()),
    })
}

#[test]
fn pause_is_at_most_1024_bytes() {
    let path = match binaries::program("hull-pause") {
        Ok(path) => path,
        Err(reason) => skip!("{reason}"),
    };
    let size = fs::metadata(path).unwrap().len();
    assert!(size <= 1024, "{size} bytes");
}

#[test]
fn pause_takes_at_most_16_kb_of_memory() {
    let child = match start() {
        Ok(child) => child,
        Err(reason) => skip!("{reason}"),
    };
    let resident = process::memory_kb(pid(&child), "Rss").unwrap();
    assert_eq!(end(child, Signal::SIGTERM), Some(0));
    assert!(resident <= 16, "{resident} kB");
}

#[test]
fn pause_ends_with_0_on_term_and_int() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let child = match start() {
            Ok(child) => child,
            Err(reason) => skip!("{reason}"),
        };
        assert_eq!(end(child, signal), Some(0), "{signal}");
    }
}

#[test]
fn pause_ignores_every_other_signal() {
    let child = match start() {
        Ok(child) => child,
        Err(reason) => skip!("{reason}"),
    };
    let deaf_to = Signal::iterator().filter(|signal| {
        !matches!(signal, Signal::SIGTERM | Signal::SIGINT | Signal::SIGKILL | Signal::SIGSTOP)
    });
    for signal in deaf_to {
        kill(Pid::from_raw(pid(&child)), signal).unwrap();
    }
    // It was stopped by none of them, and still answers the one that it listens to.
    assert!(process::is_alive(pid(&child)));
    assert_eq!(end(child, Signal::SIGTERM), Some(0));
}

#[test]
fn pause_tells_its_version() {
    let program = match binaries::program("hull-pause") {
        Ok(program) => program,
        Err(reason) => skip!("{reason}"),
    };
    // Every binary of hull takes --root, also this one, which keeps nothing.
    let output = Command::new(&program).args(["--root", "/tmp", "--version"]).output().unwrap();
    assert_eq!(output.stdout, concat!("hull-pause ", env!("CARGO_PKG_VERSION"), "\n").as_bytes());
    let output = Command::new(&program).arg("--version").output().unwrap();
    assert!(output.status.success());
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        format!("hull-pause {}\n", env!("CARGO_PKG_VERSION"))
    );
    // Where nobody can read the answer, it says so by its status.
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let status = Command::new(&program).arg("--version").stdout(full).status().unwrap();
    assert_eq!(status.code(), Some(1));
}

#[test]
fn pause_as_pid_1_reaps_orphans() {
    if !nix::unistd::geteuid().is_root() {
        skip!("needs root");
    }
    let program = match binaries::program("hull-pause") {
        Ok(program) => program,
        Err(reason) => skip!("{reason}"),
    };
    // The shell starts pause as PID 1 of a new PID namespace, and we put an orphan into it.
    let mut unshare = Command::new("unshare")
        .args(["--pid", "--fork", "--kill-child", "--"])
        .arg(program)
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let holder = pid(&unshare);
    let init = wait_until(SOON, "pause as PID 1", || {
        let children = process::file(holder, &format!("task/{holder}/children"));
        let child = children.trim().parse::<i32>().map_err(|_| format!("children: {children:?}"))?;
        let ignores = signals(child, "SigIgn").is_some_and(|set| set & (1 << 16) != 0);
        if process::state(child) == Some('S') && ignores { Ok(child) } else { Err("not yet".to_owned()) }
    });
    let inside = process::namespace(init, "pid").unwrap();
    let members = || -> Vec<i32> {
        let same = |one: &i32| process::namespace(*one, "pid").as_ref() == Some(&inside);
        process::all().into_iter().filter(same).collect()
    };
    let script = "(sleep 0.2 & sleep 0.1 &) ; exit 0";
    let enter = Command::new("nsenter")
        .arg(format!("--pid=/proc/{init}/ns/pid"))
        .args(["--", "sh", "-c", script])
        .status()
        .unwrap();
    assert!(enter.success());
    wait_until(SOON, "orphans gone, zombies too", || {
        let left = members();
        if left == [init] { Ok(()) } else { Err(format!("{left:?}")) }
    });
    assert!(process::is_alive(init));
    kill(Pid::from_raw(init), Signal::SIGTERM).unwrap();
    assert_eq!(unshare.wait().unwrap().code(), Some(0));
}
