//! A container ends in one place and goes on in another.

use serde_json::json;

use super::{LIMIT, assert_unknown, checkpoint, count, counting, counts_beyond, restore, up};
use crate::bundle::is_peer;

#[test]
fn a_container_goes_on_where_it_was() {
    let mut bundle = counting!();
    let script = format!("sleep 1000 & echo $! > /work/child; {}", super::COUNTER);
    bundle.script(&script).configure(|config| {
        config["linux"]["resources"]["memory"] = json!({"limit": 90_000_000});
        config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]});
    });
    up(&bundle);
    let before = counts_beyond(&bundle, 5);
    let confined = ["/bin/grep", "-E", "^(Cap|NoNew|Seccomp:|Uid)", "/proc/1/status"];
    let rights = bundle.exec(&confined).ok();
    let child = bundle.read("rootfs/work/child");
    checkpoint(&bundle, &[]).ok();
    assert_unknown(&bundle);
    assert!(bundle.path("checkpoint/inventory.img").exists() && bundle.path("checkpoint/dump.log").exists());
    // It may have been dumped while it wrote.
    let at = count(&bundle).unwrap_or(before);
    assert!(at >= before);
    restore(&bundle, &["--pid-file", "pid"]).ok();
    assert_eq!(bundle.status(), "running");
    assert_eq!(bundle.state()["pid"].to_string(), bundle.read("pid"));
    let now = counts_beyond(&bundle, at);
    assert!(now < at + 1000, "it began anew");
    assert_eq!(bundle.exec(&confined).ok(), rights);
    assert!(rights.contains("Seccomp:\t2") && rights.contains("NoNewPrivs:\t1"), "{rights}");
    let program = bundle.exec(&["/bin/cat", &format!("/proc/{}/cmdline", child.trim())]).ok();
    assert_eq!(program, "sleep\x001000\0");
    assert!(bundle.groups().iter().any(|group| {
        let limits =
            ["memory.limit_in_bytes", "memory.max"].map(|file| std::fs::read_to_string(group.join(file)));
        let limit = limits.into_iter().find_map(Result::ok).unwrap_or_default();
        limit.trim().parse::<u64>().is_ok_and(|limit| limit <= 90_000_000 && limit > 80_000_000)
    }));
    // As any other container.
    assert!(bundle.oci(&["ps", &bundle.id]).ok().contains("sleep 1000"));
    bundle.oci(&["pause", &bundle.id]).ok();
    assert_eq!(bundle.status(), "paused");
    bundle.oci(&["resume", &bundle.id]).ok();
    bundle.oci(&["kill", &bundle.id, "KILL"]).ok();
    bundle.becomes("stopped");
    bundle.oci(&["delete", &bundle.id]).ok();
    assert_unknown(&bundle);
}

#[test]
fn a_container_that_is_to_run_on_does_and_its_past_can_be_restored() {
    let mut bundle = counting!();
    // In a file system of its own: criu refuses files that were written since.
    bundle.script("i=0; while :; do i=$((i+1)); echo $i > /dev/shm/new; /bin/busybox mv /dev/shm/new /dev/shm/count; sleep 0.05; done");
    up(&bundle);
    let count =
        || bundle.exec(&["/bin/cat", "/dev/shm/count"]).stdout.trim().parse::<u64>().unwrap_or_default();
    let beyond = |least| {
        hull_tests::wait_until(LIMIT, "the next count", || match count() {
            count if count > least => Ok(count),
            count => Err(count.to_string()),
        })
    };
    beyond(5);
    let pid = bundle.state()["pid"].clone();
    checkpoint(&bundle, &["--leave-running", "--image-path", "past", "--work-path", "logs"]).ok();
    assert_eq!((bundle.status(), bundle.state()["pid"].clone()), ("running".to_owned(), pid));
    assert!(bundle.path("logs/dump.log").exists() && !bundle.path("past/dump.log").exists());
    let later = beyond(count() + 60);
    bundle.delete();
    restore(&bundle, &["--image-path", "past", "--work-path", "logs"]).ok();
    let again = beyond(5);
    assert!(again < later, "{again} is not of the past, which ended before {later}");
}

#[test]
fn a_container_is_restored_many_times() {
    let bundle = counting!();
    up(&bundle);
    let mut at = counts_beyond(&bundle, 3);
    for round in 0..3 {
        let images = format!("round{round}");
        checkpoint(&bundle, &["--image-path", &images]).ok();
        restore(&bundle, &["--image-path", &images]).ok();
        at = counts_beyond(&bundle, at);
    }
    assert_eq!(bundle.exec(&["/bin/echo", "in"]).ok(), "in\n");
}

#[test]
fn a_container_comes_back_under_another_name_in_another_group() {
    let mut bundle = counting!();
    up(&bundle);
    let at = counts_beyond(&bundle, 3);
    checkpoint(&bundle, &[]).ok();
    let groups_before = bundle.groups();
    bundle.id.push_str("-b");
    let group = format!("/{}", bundle.id);
    bundle.configure(|config| {
        config["linux"]["cgroupsPath"] = json!(group);
        config["linux"]["resources"]["pids"] = json!({"limit": 44});
    });
    restore(&bundle, &[]).ok();
    counts_beyond(&bundle, at);
    let limit = |group: &std::path::PathBuf| std::fs::read_to_string(group.join("pids.max")).ok();
    assert!(bundle.groups().iter().filter_map(limit).any(|limit| limit == "44\n"), "{:?}", bundle.groups());
    let shown = bundle.exec(&["/bin/cat", "/proc/1/cgroup"]).ok();
    assert!(shown.contains(&group), "{shown}");
    assert_eq!(groups_before, Vec::<std::path::PathBuf>::new());
    bundle.delete();
    assert_unknown(&bundle);
}

#[test]
fn a_paused_container_is_dumped_and_comes_back_running() {
    let bundle = counting!();
    up(&bundle);
    counts_beyond(&bundle, 3);
    bundle.oci(&["pause", &bundle.id]).ok();
    let at = count(&bundle).unwrap_or_default();
    checkpoint(&bundle, &["--leave-running", "--image-path", "first"]).ok();
    assert_eq!(bundle.status(), "paused");
    checkpoint(&bundle, &[]).ok();
    assert_unknown(&bundle);
    restore(&bundle, &[]).ok();
    assert_eq!(bundle.status(), "running");
    counts_beyond(&bundle, at);
}

#[test]
fn hooks_of_the_runtime_run_at_a_restore_as_runc_has_them() {
    let mut bundle = counting!();
    let hook = |bundle: &crate::bundle::Bundle, kind: &str| {
        let file = bundle.path("hooks").display().to_string();
        let script = format!(
            "read -r state; status=${{state#*'\"status\":\"'}}; echo {kind} ${{status%%'\"'*}} >> {file}"
        );
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}])
    };
    let hooks = json!({
        "prestart": hook(&bundle, "prestart"), "createRuntime": hook(&bundle, "createRuntime"),
        "poststart": hook(&bundle, "poststart"), "poststop": hook(&bundle, "poststop"),
    });
    bundle.configure(|config| config["hooks"] = hooks);
    up(&bundle);
    let at = counts_beyond(&bundle, 3);
    std::fs::remove_file(bundle.path("hooks")).unwrap();
    checkpoint(&bundle, &[]).ok();
    assert_eq!(bundle.read("hooks"), "poststop stopped\n");
    restore(&bundle, &[]).ok();
    counts_beyond(&bundle, at);
    // runc 1.1 tells another status.
    let status = if is_peer() { "" } else { "creating" };
    let told = bundle.read("hooks");
    let lines: Vec<_> = told.lines().skip(1).collect();
    assert_eq!(lines.len(), 2, "{told}");
    assert!(lines[0].starts_with(&format!("prestart {status}")), "{told}");
    assert!(lines[1].starts_with(&format!("createRuntime {status}")), "{told}");
}

#[test]
fn in_the_foreground_the_status_of_the_program_is_told() {
    let mut bundle = counting!();
    bundle.script(
        "touch() { :> $1; }; touch /work/ready; while ! test -e /work/end; do sleep 0.05; done; exit 7",
    );
    up(&bundle);
    hull_tests::wait_until(LIMIT, "its start", || {
        if bundle.path("rootfs/work/ready").exists() { Ok(()) } else { Err("not yet".to_owned()) }
    });
    checkpoint(&bundle, &[]).ok();
    std::fs::write(bundle.path("rootfs/work/end"), "").unwrap();
    bundle.oci(&["restore", &bundle.id]).fails(7);
    assert_unknown(&bundle);
}

#[test]
fn a_container_with_a_read_only_root_comes_back() {
    let mut bundle = counting!();
    bundle.configure(|config| {
        config["root"]["readonly"] = json!(true);
        let mount = json!({"destination": "/work", "type": "tmpfs", "source": "tmpfs"});
        config["mounts"].as_array_mut().unwrap().push(mount);
    });
    up(&bundle);
    let count = || bundle.exec(&["/bin/cat", "/work/count"]).stdout.trim().parse::<u64>().unwrap_or_default();
    let beyond = |least| {
        hull_tests::wait_until(LIMIT, "the next count", || match count() {
            count if count > least => Ok(count),
            count => Err(count.to_string()),
        })
    };
    let at = beyond(3);
    checkpoint(&bundle, &[]).ok();
    restore(&bundle, &[]).ok();
    beyond(at);
    bundle.exec(&["/bin/sh", "-c", "echo > /new"]).fails(1);
}
