//! `run`, whose container starts as soon as it is made: what others see of it meanwhile.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use hull_tests::{Running, wait_until};
use nix::fcntl::{Flock, FlockArg};
use nix::libc;
use serde_json::json;

use crate::bundle::is_peer;

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn a_program_is_on_disk_as_running_when_it_speaks() {
    let mut bundle = bundle!();
    bundle.script("echo ready; while :; do sleep 0.05; done");
    let mut run = Running::start(&mut bundle.command(&["run", &bundle.id]));
    run.wait_line(LIMIT, "ready", |line| line == "ready");
    assert_eq!(bundle.status(), "running");
    let pid = bundle.state()["pid"].as_i64().unwrap();
    let parent = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(parent.contains(&format!("\nPPid:\t{}\n", run.pid())), "{parent}");
    assert_eq!(bundle.exec(&["/bin/sh", "-c", "echo $PPID"]).ok(), "0\n");
    bundle.oci(&["kill", &bundle.id, "KILL"]).ok();
    assert_eq!(run.wait(LIMIT).code(), Some(137));
    bundle.assert_gone();
}

#[test]
fn whoever_waits_for_a_container_holds_nothing_of_it_open() {
    if is_peer() {
        // Go's runtime has descriptors of its own.
        return;
    }
    let mut bundle = bundle!();
    bundle.script("echo ready; while :; do sleep 0.05; done").configure(|config| {
        config["linux"]["maskedPaths"] = json!(["/proc/keys", "/proc/acpi"]);
        config["linux"]["sysctl"] = json!({"net.ipv4.ip_unprivileged_port_start": "7"});
        config["process"]["oomScoreAdj"] = json!(100);
    });
    let mut run = Running::start(&mut bundle.command(&["run", &bundle.id]));
    run.wait_line(LIMIT, "ready", |line| line == "ready");
    let open = format!("/proc/{}/fd", run.pid());
    let links = || -> Vec<String> {
        let all = fs::read_dir(&open).unwrap().flatten();
        all.filter_map(|link| fs::read_link(link.path()).ok()).map(|to| to.display().to_string()).collect()
    };
    let real = bundle.directory.canonicalize().unwrap().display().to_string();
    // A tree of mounts that is in no namespace is shown by its root alone.
    let is_theirs = |to: &String| to == "/" || [&real, "/proc", "/sys"].iter().any(|at| to.starts_with(*at));
    // It lets go of what was at the start; what it was called with is its caller's.
    wait_until(LIMIT, "what it needs and nothing else", || {
        let all = links();
        let own = ["anon_inode:[pidfd]", "anon_inode:[signalfd]"].map(|own| all.iter().any(|to| to == own));
        if own == [true; 2] && !all.iter().any(is_theirs) { Ok(()) } else { Err(all.join(" ")) }
    });
    bundle.oci(&["kill", &bundle.id, "KILL"]).ok();
    assert_eq!(run.wait(LIMIT).code(), Some(137));
}

#[test]
fn exec_waits_for_whoever_holds_the_container() {
    if is_peer() {
        // It has no such lock.
        return;
    }
    let bundle = bundle!();
    bundle.up();
    let lock = Flock::lock(fs::File::open(bundle.root().join(&bundle.id)).unwrap(), FlockArg::LockExclusive)
        .unwrap();
    let mut exec = bundle.command(&["exec", &bundle.id, "/bin/true"]).spawn().unwrap();
    let waiting = format!("{} ", libc::SYS_flock);
    wait_until(LIMIT, "the wait for the lock", || {
        let call = fs::read_to_string(format!("/proc/{}/syscall", exec.id())).unwrap_or_default();
        if call.starts_with(&waiting) { Ok(()) } else { Err(call) }
    });
    drop(lock);
    assert!(exec.wait().unwrap().success());
}

#[test]
fn a_plan_says_whether_it_starts_at_once() {
    if is_peer() {
        return;
    }
    let mut bundle = bundle!();
    let records = |verb, bundle: &crate::bundle::Bundle| {
        bundle.oci(&[verb, "--dry-run", &bundle.id]).ok().contains("record that it runs")
    };
    assert!(records("run", &bundle));
    assert!(!records("create", &bundle));
    bundle.configure(|config| config["hooks"] = json!({"createRuntime": [{"path": "/bin/true"}]}));
    assert!(!records("run", &bundle));
}

#[test]
fn a_run_that_is_killed_in_the_middle_leaves_what_delete_finds() {
    if is_peer() {
        // It has a record only once all is made.
        return;
    }
    let mut bundle = bundle!();
    bundle.script("while :; do sleep 0.05; done");
    let mut ran = false;
    // Until one was late enough, on a machine however slow.
    for microseconds in (0..1_000_000).step_by(250) {
        if ran && microseconds >= 6000 {
            break;
        }
        let mut run = bundle.command(&["run", &bundle.id]).spawn().unwrap();
        hull_tests::wait::pause(Duration::from_micros(microseconds));
        run.kill().unwrap();
        assert_eq!(run.wait().unwrap().signal(), Some(libc::SIGKILL));
        ran |= bundle.oci(&["state", &bundle.id]).stdout.contains("\"running\"");
        bundle.oci(&["delete", "--force", &bundle.id]).ok();
        bundle.assert_gone();
    }
    assert!(ran, "each was killed before its container ran");
}
