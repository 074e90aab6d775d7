//! `pause`, `resume`, `update`, `events`, `ps` (oci-runtime.md 2.2, 2.3, 2.6).

use std::path::Path;
use std::time::Duration;

use hull_tests::Running;
use serde_json::{Value, json};

use crate::bundle::{Bundle, is_peer};

const SOON: Duration = Duration::from_secs(15);

#[test]
fn a_container_is_paused_and_goes_on() {
    let bundle = bundle!();
    bundle.up();
    bundle.oci(&["pause", &bundle.id]).ok();
    assert_eq!(bundle.status(), "paused");
    bundle.oci(&["pause", &bundle.id]).fails(1);
    bundle.oci(&["resume", &bundle.id]).ok();
    assert_eq!(bundle.status(), "running");
    assert!(bundle.oci(&["resume", &bundle.id]).fails(1).contains("not paused"));
}

#[test]
fn a_paused_container_dies_of_sigkill() {
    let bundle = bundle!();
    bundle.up();
    bundle.oci(&["pause", &bundle.id]).ok();
    bundle.oci(&["kill", &bundle.id, "KILL"]).ok();
    bundle.becomes("stopped");
}

/// The first words of a limit's file, which cgroup v1 and v2 each have a name for.
fn value(bundle: &Bundle, controller: &str, v1: &str, v2: &str) -> String {
    let hierarchy = Path::new("/sys/fs/cgroup").join(controller);
    let old = bundle.groups().into_iter().find(|group| group.starts_with(&hierarchy));
    let file =
        old.map_or_else(|| Path::new("/sys/fs/cgroup").join(&bundle.id).join(v2), |group| group.join(v1));
    std::fs::read_to_string(&file)
        .unwrap_or_else(|error| panic!("{}: {error}", file.display()))
        .trim()
        .to_owned()
}

#[test]
fn limits_are_set_at_create_and_changed_by_update() {
    let mut bundle = bundle!();
    bundle.configure(|config| {
        config["linux"]["resources"]["memory"] = json!({"limit": 64 << 20});
        config["linux"]["resources"]["pids"] = json!({"limit": 50});
        config["linux"]["resources"]["cpu"] = json!({"shares": 512, "quota": 50_000, "period": 100_000});
    });
    bundle.up();
    let memory = || value(&bundle, "memory", "memory.limit_in_bytes", "memory.max");
    let pids = || value(&bundle, "pids", "pids.max", "pids.max");
    let shares = || value(&bundle, "cpu", "cpu.shares", "cpu.weight");
    let quota = || value(&bundle, "cpu", "cpu.cfs_quota_us", "cpu.max");
    assert_eq!((memory(), pids()), ((64 << 20).to_string(), "50".to_owned()));
    bundle.oci(&["update", "--memory", "32m", "--pids-limit=20", "--cpu-share", "1024", &bundle.id]).ok();
    assert_eq!((memory(), pids()), ((32 << 20).to_string(), "20".to_owned()));
    assert!(["1024", "100"].contains(&shares().as_str()), "{}", shares());
    let mut command = bundle.command(&["update", "--resources", "-", &bundle.id]);
    let resources = json!({"memory": {"limit": 48 << 20}, "cpu": {"quota": 25_000}}).to_string();
    hull_tests::command::run(&mut command, &resources, SOON).ok();
    assert_eq!(memory(), (48 << 20).to_string());
    assert!(["25000", "25000 100000"].contains(&quota().as_str()), "{}", quota());
}

#[test]
fn a_size_that_is_none_is_refused() {
    let bundle = bundle!();
    bundle.up();
    bundle.oci(&["update", "--memory", "much", &bundle.id]).fails(1);
}

#[test]
fn statistics_are_one_line_of_json() {
    let bundle = bundle!();
    bundle.up();
    let text = bundle.oci(&["events", "--stats", &bundle.id]).ok();
    let event: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&event["type"], &event["id"]), (&"stats".into(), &bundle.id.clone().into()));
    assert!(event["data"]["cpu"]["usage"]["total"].as_u64().is_some_and(|total| total > 0), "{text}");
    assert!(event["data"]["memory"]["usage"]["usage"].as_u64().is_some_and(|usage| usage > 0), "{text}");
    assert!(event["data"]["pids"]["current"].as_u64().is_some_and(|count| count > 0), "{text}");
    bundle.oci(&["kill", &bundle.id, "KILL"]).ok();
    bundle.becomes("stopped");
    let told = bundle.oci(&["events", "--stats", &bundle.id]).fails(1);
    assert!(told.contains(&format!("container with id {} is not running", bundle.id)), "{told}");
}

#[test]
fn events_come_at_an_interval_and_end_with_the_container() {
    let bundle = bundle!();
    bundle.up();
    let mut events = Running::start(&mut bundle.command(&["events", "--interval", "100ms", &bundle.id]));
    hull_tests::wait_until(SOON, "three lines", || match events.lines() {
        lines if lines.len() >= 3 => Ok(()),
        lines => Err(format!("{lines:?}")),
    });
    bundle.oci(&["delete", "-f", &bundle.id]).ok();
    assert!(events.wait(SOON).success());
}

#[test]
fn running_out_of_memory_is_an_event() {
    let mut bundle = bundle!();
    bundle.script("until test -e /tmp/go; do sleep 0.05; done; x=x; while :; do x=$x$x; done").configure(
        |config| {
            config["linux"]["resources"]["memory"] = json!({"limit": 16 << 20, "swap": 16 << 20});
        },
    );
    bundle.up();
    let events = Running::start(&mut bundle.command(&["events", "--interval", "50ms", &bundle.id]));
    events.wait_line(SOON, "statistics", |line| line.contains("stats"));
    std::fs::write(bundle.path("rootfs/tmp/go"), "").unwrap();
    events.wait_line(SOON, "oom", |line| line.contains("\"type\":\"oom\""));
}

#[test]
fn processes_are_listed_by_host_pid() {
    let bundle = bundle!();
    bundle.up();
    let pid = bundle.state()["pid"].as_i64().unwrap();
    let pids: Value =
        serde_json::from_str(&bundle.oci(&["ps", "--format", "json", &bundle.id]).ok()).unwrap();
    assert_eq!(pids, json!([pid]));
    if !std::process::Command::new("ps").arg("-ef").output().is_ok_and(|output| output.status.success()) {
        // procps finds no boot time in what User-mode Linux has in /proc/stat.
        return;
    }
    let table = bundle.oci(&["ps", &bundle.id]).ok();
    assert!(table.lines().count() == 2 && table.contains(&pid.to_string()), "{table}");
    let table = bundle.oci(&["ps", &bundle.id, "-e", "-o", "pid,comm"]).ok();
    assert!(table.contains("sleep"), "{table}");
    let told = bundle.oci(&["ps", &bundle.id, "-e", "-o", "comm"]).fails(1);
    assert!(told.contains("PID field"), "{told}");
}

#[test]
fn a_group_with_strangers_in_it_is_not_taken() {
    if is_peer() {
        // runc 1.1 only warns.
        return;
    }
    let bundle = bundle!();
    bundle.up();
    let other = format!("{}-2", bundle.id);
    let told = bundle.detached(&["create", &other]).fails(1);
    assert!(told.contains("container's cgroup is not empty"), "{told}");
    assert_eq!(bundle.status(), "running");
}

#[test]
fn an_interval_that_is_none_is_refused() {
    let bundle = bundle!();
    bundle.up();
    for interval in ["0s", "-1s", "soon"] {
        let output = bundle.oci(&["events", "--interval", interval, &bundle.id]);
        assert!(!output.status.success() && !output.stdout.contains("\"data\""), "{interval}: {output}");
    }
}

#[test]
fn a_table_of_processes_is_asked_for_by_name_too() {
    let bundle = bundle!();
    bundle.up();
    if !std::process::Command::new("ps").arg("-ef").output().is_ok_and(|output| output.status.success()) {
        // procps finds no boot time in what User-mode Linux has in /proc/stat.
        return;
    }
    let pid = bundle.state()["pid"].to_string();
    for flags in [&["-f", "table"][..], &["--format", "table"], &["--format=table"]] {
        let table = bundle.oci(&[&["ps"], flags, &[&bundle.id]].concat()).ok();
        assert!(table.starts_with("UID") && table.contains(&pid), "{table}");
    }
    assert!(!bundle.oci(&["ps", "-f", "xml", &bundle.id]).status.success());
}

#[test]
fn a_container_that_waits_for_its_start_has_limits_and_takes_commands() {
    let bundle = bundle!();
    bundle.create();
    bundle.oci(&["update", "--pids-limit", "44", &bundle.id]).ok();
    assert_eq!(value(&bundle, "pids", "pids.max", "pids.max"), "44");
    assert_eq!(bundle.exec(&["echo", "in"]).ok(), "in\n");
    assert!(bundle.oci(&["events", "--stats", &bundle.id]).ok().contains("\"limit\":44"));
    assert_eq!(bundle.status(), "created");
}
