//! What a pod writes, and where. Most cases are on a host without `--root`, whose `/run` is in memory and cannot be executed from.

use std::fs;
use std::path::Path;
use std::time::Duration;

use hull_tests::pod::busybox;
use hull_tests::{Host, PodFiles, host, skip, wait_until};
use nix::fcntl::{Flock, FlockArg};

const SOON: Duration = Duration::from_secs(20);

/// A [`Host`] where hull is in its usual places, or the end of the case where there cannot be one.
macro_rules! usual_host {
    () => {
        match Host::usual() {
            Ok(host) => host,
            Err(reason) => skip!("{reason}"),
        }
    };
}

fn pod(name: &str) -> String {
    busybox(
        &format!("name: {name}"),
        "    command: [sh, -c, 'echo begun; exec sleep 1000']
    volumeMounts: [{name: empty, mountPath: /empty}, {name: script, mountPath: /script}]
  volumes:
  - {name: empty, emptyDir: {}}
  - {name: script, configMap: {name: script, defaultMode: 0755}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: script}
data:
  run: |
    #!/bin/sh
    echo ran
",
    )
}

/// The names in a directory of the host.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Bytes that a directory's files take.
fn size(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let of = |entry: fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => size(&entry.path()),
        _ => entry.metadata().map_or(0, |data| data.len()),
    };
    entries.map(of).sum()
}

#[test]
fn what_a_container_writes_is_on_disk() {
    let host = usual_host!();
    host.apply_ready(&pod("writes"));
    let write =
        "for place in / /empty; do dd if=/dev/zero of=$place/big bs=64k count=128 2>&1 || exit 1; done";
    host.exec("writes", &["sh", "-c", write]).ok();
    let run = nix::sys::statvfs::statvfs(host.places().run.as_path()).unwrap();
    let used = (run.blocks() - run.blocks_free()) * run.fragment_size();
    assert!(used < 4 << 20, "{used} bytes of /run are used");
    assert!(size(&host.places().lib.join("pods")) >= 16 << 20);
    host.leave_nothing();
    assert_eq!(names(&host.places().lib.join("pods")), Vec::<String>::new());
}

#[test]
fn programs_in_volumes_are_executed_although_run_forbids_it() {
    let host = usual_host!();
    host.apply_ready(&pod("runs"));
    let copy = "cp /bin/busybox /empty/echo && /empty/echo copied && /script/run";
    assert_eq!(host.exec("runs", &["sh", "-c", copy]).ok(), "copied\nran\n");
    host.leave_nothing();
}

#[test]
fn what_a_reboot_left_of_pods_goes_with_the_next_one() {
    let host = usual_host!();
    host.apply_ready(&pod("before"));
    let places = host.places();
    let before = names(&places.lib.join("pods"));
    assert_eq!((before.len(), names(&places.logs).len()), (1, 1));
    // Of somebody else.
    let foreign = places.logs.join("default_other_0b0a6e4c-9a2e-4b5e-8f1c-1d2e3f4a5b6c");
    fs::create_dir_all(foreign.join("app")).unwrap();
    host.reboot();
    host.apply_ready(&pod("after"));
    let after = names(&places.lib.join("pods"));
    assert!(after.len() == 1 && after != before, "{before:?} {after:?}");
    assert!(!names(&places.logs).iter().any(|name| name.ends_with(&before[0])));
    assert!(foreign.exists());
    fs::remove_dir_all(foreign).unwrap();
    host.leave_nothing();
}

/// Prints more than a log may have, then waits, and prints a last line.
const LOUD: &str = "    command: [sh, -c, 'yes 0123456789abcdef0123456789abcdef | head -n 170000; while [ ! -e /go ]; do sleep 0.1; done; echo last; exec sleep 1000']
";

#[test]
fn a_large_log_is_rotated_and_followed() {
    let host = host!();
    host.apply_ready(&busybox("name: loud", LOUD));
    let follow = host.start(&["logs", "-f", "loud", "--tail=1"]);
    follow.wait_line(SOON, "output", |line| line.starts_with("0123456789abcdef"));
    let logs = names(&host.places().logs);
    let directory = host.places().logs.join(&logs[0]).join("main");
    let aside = wait_until(2 * SOON, "a rotated log", || {
        let mut names = names(&directory);
        names.sort_unstable();
        match &names[..] {
            [_, aside] => Ok(aside.clone()),
            names => Err(format!("{names:?}")),
        }
    });
    assert!(aside.starts_with("0.log.2") && aside.len() == "0.log.20240102-030405".len(), "{aside}");
    assert_eq!(host.hull(&["logs", "loud"]).ok(), "");
    host.exec("loud", &["touch", "/go"]).ok();
    follow.wait_line(SOON, "the last line", |line| line == "last");
    assert_eq!(host.hull(&["logs", "loud"]).ok(), "last\n");
    assert!(fs::metadata(directory.join(aside)).unwrap().len() > 10 << 20);
    host.leave_nothing();
}

const OTHER: &str = "{apiVersion: v1, kind: Pod, metadata: {name: other}, spec: {hostNetwork: true, \
    terminationGracePeriodSeconds: 0, containers: [{name: main, image: busybox, imagePullPolicy: IfNotPresent, \
    command: [sleep, '1000']}]}}";

#[test]
fn a_pod_of_another_run_is_not_taken_for_one_that_a_reboot_left() {
    let host = usual_host!();
    host.apply_ready(&pod("mine"));
    let files = PodFiles::find(&host, "mine").unwrap();
    let disk = host.places().lib.join("pods").join(files.uid());
    let look = || Flock::lock(fs::File::open(&disk).unwrap(), FlockArg::LockExclusiveNonblock);
    assert!(look().is_err());
    host.exec("mine", &["touch", "/empty/kept"]).ok();
    // Nobody holds it, and its containers run.
    files.kill_shim_for_good();
    assert!(look().is_ok());
    let script = "mount -t tmpfs tmpfs /run/hull && \"$0\" apply -f - && \"$0\" delete pods --all --now";
    let mut other = host.command("unshare");
    other.args(["--mount", "--", "sh", "-c", script]).arg(hull_tests::binaries::program("hull").unwrap());
    hull_tests::command::run(&mut other, OTHER, SOON).ok();
    assert_eq!(host.exec("mine", &["ls", "/empty"]).ok(), "kept\n");
    assert_eq!(names(&host.places().logs).len(), 1);
    host.leave_nothing();
}
