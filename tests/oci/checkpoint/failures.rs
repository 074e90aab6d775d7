//! What cannot be checkpointed or restored is told, and nothing of the attempt stays.

use std::fs;

use hull_tests::{criu, wait_until};

use super::{LIMIT, assert_unknown, checkpoint, counting, counts_beyond, restore, there_and_back, up};
use crate::bundle::is_peer;

#[test]
fn only_a_container_whose_program_runs_is_checkpointed() {
    let bundle = counting!();
    let refused = |state: &str| {
        let told = checkpoint(&bundle, &[]).fails(1);
        assert!(told.contains(&format!("Container cannot be checkpointed in {state} state")), "{told}");
    };
    assert!(checkpoint(&bundle, &[]).fails(1).contains("does not exist"));
    bundle.create();
    refused("created");
    bundle.oci(&["start", &bundle.id]).ok();
    bundle.oci(&["kill", &bundle.id, "KILL"]).ok();
    bundle.becomes("stopped");
    refused("stopped");
}

#[test]
fn a_dump_that_fails_leaves_the_container_running() {
    let mut bundle = counting!();
    // A socket that leads outside.
    bundle.script(&format!("/bin/busybox nc -l -p 7 </dev/null & {}", super::COUNTER));
    up(&bundle);
    let at = counts_beyond(&bundle, 3);
    fs::write(bundle.path("no-directory"), "").unwrap();
    let told = checkpoint(&bundle, &["--image-path", "no-directory"]).fails(1);
    if !is_peer() {
        assert!(
            told.contains("invalid directory to save checkpoint") && told.contains("no-directory"),
            "{told}"
        );
    }
    let told = checkpoint(&bundle, &["--work-path", "no-directory"]).fails(1);
    assert!(told.contains("no-directory") || is_peer(), "{told}");
    assert_eq!(bundle.status(), "running");
    counts_beyond(&bundle, at);
}

#[test]
fn a_criu_that_cannot_be_had_is_told() {
    if is_peer() {
        // runc 1.1 had --criu removed before, and other texts.
        return;
    }
    let mut bundle = counting!();
    up(&bundle);
    counts_beyond(&bundle, 3);
    bundle.look_in("/nonexistent".into());
    let told = checkpoint(&bundle, &[]).fails(1);
    assert!(told.contains("criu: executable file not found in $PATH"), "{told}");
    bundle.globals(&["--criu", "/nonexistent/criu"]);
    let told = checkpoint(&bundle, &[]).fails(1);
    assert!(told.contains("execute /nonexistent/criu: no such file or directory"), "{told}");
    bundle.globals(&["--criu", "/bin/true"]);
    let told = checkpoint(&bundle, &[]).fails(1);
    assert!(told.contains("criu ended without an answer: type VERSION"), "{told}");
    assert_eq!(bundle.status(), "running");
}

#[test]
fn the_callers_criu_is_used() {
    if is_peer() {
        return;
    }
    let mut bundle = counting!();
    let program: &'static str = criu::program().unwrap().display().to_string().leak();
    let globals: &'static [&'static str] = vec!["--criu", program].leak();
    bundle.globals(globals).look_in(std::env::var_os("PATH").unwrap());
    up(&bundle);
    there_and_back(&bundle, &[], || ());
}

#[test]
fn a_directory_without_a_checkpoint_restores_nothing() {
    let bundle = counting!();
    let told = restore(&bundle, &["--image-path", "nonesuch"]).fails(1);
    if !is_peer() {
        assert!(told.contains("invalid directory to restore checkpoint: open"), "{told}");
    }
    fs::create_dir_all(bundle.path("empty")).unwrap();
    let told = restore(&bundle, &["--image-path", "empty"]).fails(1);
    assert!(told.contains("descriptors.json: no such file or directory"), "{told}");
    fs::write(bundle.path("empty/descriptors.json"), r#"["/dev/null","/dev/null","/dev/null"]"#).unwrap();
    let told = restore(&bundle, &["--image-path", "empty"]).fails(1);
    assert!(told.contains("criu failed"), "{told}");
    if !is_peer() {
        assert!(told.contains("empty/restore.log"), "{told}");
    }
    assert_unknown(&bundle);
}

#[test]
fn a_name_that_is_taken_is_not_restored_over() {
    let bundle = counting!();
    up(&bundle);
    counts_beyond(&bundle, 3);
    checkpoint(&bundle, &["--leave-running"]).ok();
    let told = restore(&bundle, &[]).fails(1);
    assert!(told.contains("container with given ID already exists"), "{told}");
    assert_eq!(bundle.status(), "running");
}

#[test]
fn a_restore_that_fails_late_leaves_no_process() {
    let bundle = counting!();
    up(&bundle);
    counts_beyond(&bundle, 3);
    checkpoint(&bundle, &[]).ok();
    // All is restored when the pid file is written.
    let told = restore(&bundle, &["--pid-file", "nonesuch/pid"]).fails(1);
    assert!(told.contains("nonesuch"), "{told}");
    if is_peer() {
        // runc 1.1 leaves it running.
        return;
    }
    assert_unknown(&bundle);
    let lives = |pid: &i32| hull_tests::process::command_line(*pid).contains("/work/count");
    let all = hull_tests::process::all();
    assert!(all.iter().filter(|pid| lives(pid)).all(|pid| {
        let root = fs::read_link(format!("/proc/{pid}/root")).unwrap_or_default();
        root != bundle.path("rootfs")
    }));
    restore(&bundle, &[]).ok();
}

#[test]
fn a_runtime_that_is_killed_while_it_dumps_leaves_a_container_that_can_be_deleted() {
    let bundle = counting!();
    for moment in [5, 60, 150, 250, 400, 700] {
        up(&bundle);
        counts_beyond(&bundle, 0);
        let mut dump = bundle.command(&["checkpoint", &bundle.id]);
        let mut dump = dump.stderr(std::process::Stdio::null()).spawn().unwrap();
        hull_tests::wait::pause(std::time::Duration::from_millis(moment));
        dump.kill().unwrap();
        dump.wait().unwrap();
        bundle.delete();
        assert_unknown(&bundle);
    }
}

#[test]
fn a_runtime_that_is_killed_while_it_restores_leaves_a_container_that_can_be_deleted() {
    if is_peer() {
        // runc mounts the root on the host, and leaves that and the groups.
        return;
    }
    let bundle = counting!();
    up(&bundle);
    counts_beyond(&bundle, 3);
    checkpoint(&bundle, &[]).ok();
    for moment in [5, 30, 80, 120, 200, 300] {
        let mut restore = bundle.command(&["restore", "-d", &bundle.id]);
        let mut restore = restore.stderr(std::process::Stdio::null()).spawn().unwrap();
        hull_tests::wait::pause(std::time::Duration::from_millis(moment));
        restore.kill().unwrap();
        restore.wait().unwrap();
        wait_until(LIMIT, "the deletion", || {
            let output = bundle.oci(&["delete", "--force", &bundle.id]);
            if output.status.success() { Ok(()) } else { Err(output.to_string()) }
        });
        assert_unknown(&bundle);
        assert!(bundle.path("rootfs/bin/busybox").exists(), "the root file system was deleted too");
    }
}
