//! Groups on the real kernel: the v1 hierarchies that are mounted, and v2 as far as it is. A test that cannot run
//! says why.

mod members;

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, poll};
use oci_spec::runtime::LinuxResources;
use serde_json::{Value, json};

use super::freezer::Freezer;
use super::memory_events::Happened;
use super::resources::{Devices, plan};
use super::*;

const LIMIT: Duration = Duration::from_secs(10);

/// A group of the test's own, removed with whatever is in it.
struct Scratch(Group);

impl Drop for Scratch {
    fn drop(&mut self) {
        self.0.remove_within(LIMIT).unwrap();
        if let Hierarchies::V1(all) = &*self.0.hierarchies {
            all.iter().for_each(|one| assert!(!one.root.join(&self.0.path).exists()));
        }
    }
}

fn name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("hull-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn skip<T>(why: &str) -> Option<T> {
    eprintln!("skipped: {why}");
    None
}

/// A fresh group in every v1 hierarchy.
fn v1_group() -> Option<Scratch> {
    let group = Group::from_oci_path(Some(&Path::new("/").join(name())), "").unwrap();
    if group.version() != Version::V1 {
        return skip("this host has no v1 hierarchies");
    }
    match group.create() {
        Ok(()) => Some(Scratch(group)),
        Err(error) => skip(&error.to_string()),
    }
}

/// A fresh group on v2, also where it is mounted beside v1.
fn v2_group() -> Option<Scratch> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let root = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
    let Some(root) = root.and_then(|line| line.split(' ').nth(1)) else {
        return skip("no cgroup v2 is mounted");
    };
    let hierarchies = Rc::new(Hierarchies::V2(root.into()));
    let group = Group::new(hierarchies, name().into());
    match group.create() {
        Ok(()) => Some(Scratch(group)),
        Err(error) => skip(&error.to_string()),
    }
}

fn both() -> impl Iterator<Item = Scratch> {
    [v1_group(), v2_group()].into_iter().flatten()
}

fn resources(json: Value) -> LinuxResources {
    serde_json::from_value(json).unwrap()
}

fn apply(group: &Group, json: Value) -> Result<(), Error> {
    let plan = plan(&resources(json), group.version(), Devices::Leave, &group.live())?;
    group.apply(&plan)
}

fn read(group: &Group, controller: &str, file: &str) -> String {
    std::fs::read_to_string(group.file(controller, file).unwrap()).unwrap().trim().to_owned()
}

/// A shell in the group, at `script`.
fn run(group: &Group, script: &str) -> Child {
    let mut files: Vec<_> = match &*group.hierarchies {
        Hierarchies::V1(all) => all.iter().map(|one| one.root.join(&group.path).join("tasks")).collect(),
        Hierarchies::V2(root) => vec![root.join(&group.path).join("cgroup.procs")],
    };
    files.sort();
    joined(files, script)
}

/// A shell that first writes itself into these files.
fn joined(files: Vec<PathBuf>, script: &str) -> Child {
    let joins: String = files.iter().map(|file| format!("echo 0 > '{}' && ", file.display())).collect();
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &format!("{joins} {{ {script}; }}")]);
    shell.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
}

fn wait_for(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..1000 {
        if condition() {
            return;
        }
        poll(&mut [], 10_u16).unwrap();
    }
    panic!("{what} did not come true");
}

/// A process of the group that does nothing.
fn idle(group: &Group) -> Child {
    let child = run(group, "exec sleep 1000");
    wait_for("the process in its group", || group.processes(Depth::Own).contains(&(child.id() as i32)));
    child
}

#[test]
fn limits_reach_the_kernel() {
    let Some(Scratch(group)) = &v1_group() else { return };
    let device = std::fs::read_to_string("/proc/partitions").unwrap();
    let device = device.lines().skip(2).find_map(|line| {
        let mut words = line.split_whitespace();
        Some((words.next()?.parse::<u64>().ok()?, words.next()?.parse::<u64>().ok()?))
    });
    let all = json!({
        "memory": { "limit": 64 << 20, "swap": 128 << 20, "reservation": 32 << 20, "swappiness": 10 },
        "cpu": { "shares": 512, "quota": 50000, "period": 200_000, "burst": 10000, "cpus": "0", "mems": "0" },
        "pids": { "limit": 77 },
    });
    apply(group, all).unwrap();
    let expected = [
        ("memory", "memory.limit_in_bytes", "67108864"),
        ("memory", "memory.memsw.limit_in_bytes", "134217728"),
        ("memory", "memory.soft_limit_in_bytes", "33554432"),
        ("memory", "memory.swappiness", "10"),
        ("cpu", "cpu.shares", "512"),
        ("cpu", "cpu.cfs_quota_us", "50000"),
        ("cpu", "cpu.cfs_period_us", "200000"),
        ("cpu", "cpu.cfs_burst_us", "10000"),
        ("cpuset", "cpuset.cpus", "0"),
        ("pids", "pids.max", "77"),
    ];
    for (controller, file, value) in expected {
        let there = read(group, controller, file);
        // Newer kernels have no soft limits on v1: the file is there, and takes anything.
        let is_deaf = file == "memory.soft_limit_in_bytes" && there == "9223372036854771712";
        assert!(there == value || is_deaf, "{file}: {there} is not {value}");
    }
    if let Some((major, minor)) = device {
        let rate = json!([{ "major": major, "minor": minor, "rate": 1_048_576 }]);
        apply(group, json!({ "blockIO": { "weight": 200, "throttleReadBpsDevice": rate } })).unwrap();
        let expected = format!("{major}:{minor} 1048576");
        assert_eq!(read(group, "blkio", "blkio.throttle.read_bps_device"), expected);
        assert!(read(group, "blkio", "blkio.bfq.weight").contains("200"));
    }
}

#[test]
fn a_limit_without_its_controller_names_it() {
    let Some(Scratch(group)) = &v1_group() else { return };
    if group.file("net_cls", "").is_some() {
        return skip("this host has net_cls").unwrap_or_default();
    }
    let error = apply(group, json!({ "network": { "classID": 7 } })).unwrap_err();
    assert!(matches!(&error, Error::NoController(name) if name == "net_cls"), "{error}");
}

#[test]
fn a_refused_value_names_its_file_and_a_missing_controller_of_v2_itself() {
    let Some(Scratch(group)) = &v2_group() else { return };
    if !group.has_controller("memory") {
        let error = apply(group, json!({ "memory": { "limit": 1 << 20 } })).unwrap_err();
        assert!(matches!(&error, Error::NoController(name) if name == "memory"), "{error}");
    }
    let error = apply(group, json!({ "unified": { "cgroup.freeze": "7" } })).unwrap_err();
    assert_eq!(error.errno(), Some(nix::errno::Errno::ERANGE));
    assert!(error.to_string().ends_with("/cgroup.freeze"), "{error}");
    apply(group, json!({ "unified": { "cgroup.max.depth": "5", "cgroup.max.descendants": "6\n" } })).unwrap();
    assert_eq!(read(group, "cgroup", "cgroup.max.depth"), "5");
}

#[test]
fn huge_pages_are_limited_on_v2() {
    let Some(Scratch(group)) = &v2_group() else { return };
    if !group.has_controller("hugetlb") {
        return skip("no hugetlb on v2").unwrap_or_default();
    }
    apply(group, json!({ "hugepageLimits": [{ "pageSize": "2MB", "limit": 4 << 20 }] })).unwrap();
    assert_eq!(read(group, "hugetlb", "hugetlb.2MB.max"), (4 << 20).to_string());
    assert_eq!(read(group, "hugetlb", "hugetlb.2MB.rsvd.max"), (4 << 20).to_string());
    assert!(group.full_statistics(None).hugetlb.contains_key("2MB"));
}

/// Updates a group; answers what holds then.
fn update(group: &Group, stored: &LinuxResources, change: &LinuxResources) -> Result<LinuxResources, Error> {
    let mut holds = None;
    group.update(
        stored,
        change,
        |_| Ok(()),
        |merged| {
            holds = Some(merged);
            Ok::<(), Error>(())
        },
    )?;
    Ok(holds.unwrap())
}

#[test]
fn an_update_keeps_what_it_does_not_name() {
    let Some(Scratch(group)) = &v1_group() else { return };
    let stored =
        json!({ "cpu": { "quota": 50000, "period": 100_000, "shares": 512 }, "pids": { "limit": 5 } });
    apply(group, stored.clone()).unwrap();
    let merged =
        update(group, &resources(stored), &resources(json!({ "cpu": { "period": 200_000 } }))).unwrap();
    assert_eq!(read(group, "cpu", "cpu.cfs_period_us"), "200000");
    assert_eq!(read(group, "cpu", "cpu.cfs_quota_us"), "50000");
    assert_eq!(read(group, "cpu", "cpu.shares"), "512");
    let expected =
        json!({ "cpu": { "quota": 50000, "period": 200_000, "shares": 512 }, "pids": { "limit": 5 } });
    assert_eq!(merged, resources(expected));
}

#[test]
fn memory_grows_and_shrinks_by_updates_and_loses_its_limit() {
    let Some(Scratch(group)) = &v1_group() else { return };
    let memory = |limit: i64, swap: i64| resources(json!({ "memory": { "limit": limit, "swap": swap } }));
    let limits =
        || ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"].map(|file| read(group, "memory", file));
    let mut stored = LinuxResources::default();
    for (limit, swap) in [(32 << 20, 64 << 20), (128 << 20, 256 << 20), (16 << 20, 16 << 20)] {
        stored = update(group, &stored, &memory(limit, swap)).unwrap();
        assert_eq!(limits(), [limit, swap].map(|value| value.to_string()));
    }
    stored = update(group, &stored, &resources(json!({ "memory": { "limit": -1 } }))).unwrap();
    assert!(limits().iter().all(|limit| limit.parse::<u64>().unwrap() > 1 << 60));
    assert_eq!(stored.memory().unwrap().swap(), Some(-1));
}

#[test]
fn an_update_that_fails_puts_back_what_was() {
    let Some(Scratch(group)) = &v1_group() else { return };
    let stored = json!({ "pids": { "limit": 5 }, "memory": { "limit": 32 << 20, "swap": 64 << 20 }, "cpu": { "shares": 512 } });
    apply(group, stored.clone()).unwrap();
    let change = json!({
        "pids": { "limit": 6 }, "memory": { "limit": 128 << 20, "swap": 256 << 20 },
        "cpu": { "shares": 1024, "cpus": "60000" }
    });
    let error = update(group, &resources(stored), &resources(change)).unwrap_err();
    assert!(error.to_string().ends_with("cpuset.cpus"), "{error}");
    assert_eq!(read(group, "pids", "pids.max"), "5");
    assert_eq!(read(group, "cpu", "cpu.shares"), "512");
    assert_eq!(read(group, "memory", "memory.limit_in_bytes"), (32 << 20).to_string());
    assert_eq!(read(group, "memory", "memory.memsw.limit_in_bytes"), (64 << 20).to_string());
}

#[test]
fn what_somebody_who_is_told_writes_does_not_stand() {
    let Some(Scratch(group)) = &v1_group() else { return };
    let stored = json!({ "cpu": { "quota": 23456, "period": 100_000 } });
    apply(group, stored.clone()).unwrap();
    let (stored, change) = (resources(stored), resources(json!({ "cpu": { "quota": 12345 } })));
    // As systemd does, which counts in hundredths of a processor.
    let announce = |limits: &LinuxResources| {
        let quota = limits.cpu().as_ref().and_then(oci_spec::runtime::LinuxCpu::quota).unwrap();
        let file = group.file("cpu", "cpu.cfs_quota_us").unwrap();
        std::fs::write(file, (quota / 1000 * 1000).to_string()).unwrap();
        Ok(())
    };
    let quota = || read(group, "cpu", "cpu.cfs_quota_us");
    group.update(&stored, &change, announce, |_| Ok::<(), Error>(())).unwrap();
    assert_eq!(quota(), "12345");
    apply(group, json!({ "cpu": { "quota": 23456, "period": 100_000 } })).unwrap();
    let full = Error::NoController("disk".to_owned());
    group.update(&stored, &change, announce, |_| Err(full)).unwrap_err();
    assert_eq!(quota(), "23456");
}

#[test]
fn an_update_that_cannot_be_kept_puts_back_what_was() {
    let Some(Scratch(group)) = &v1_group() else { return };
    apply(group, json!({ "cpu": { "shares": 512 } })).unwrap();
    // Not stored, as if nobody had ever asked for it.
    let change = resources(json!({ "pids": { "limit": 6 }, "cpu": { "shares": 1024 } }));
    let full = Error::NoController("disk".to_owned());
    let told = group.update(&LinuxResources::default(), &change, |_| Ok(()), |_| Err(full)).unwrap_err();
    assert!(told.to_string().contains("disk"), "{told}");
    assert_eq!(read(group, "pids", "pids.max"), "max");
    assert_eq!(read(group, "cpu", "cpu.shares"), "512");
}

#[test]
fn a_short_period_waits_for_its_quota() {
    let Some(Scratch(group)) = &v1_group() else { return };
    let child = group.child("below");
    child.create().unwrap();
    apply(group, json!({ "cpu": { "quota": 50_000, "period": 100_000 } })).unwrap();
    let stored = json!({ "cpu": { "quota": 50_000, "period": 100_000 } });
    apply(&child, stored.clone()).unwrap();
    // With the old quota this period would be more than the group above has.
    let change = resources(json!({ "cpu": { "quota": 5_000, "period": 10_000 } }));
    update(&child, &resources(stored), &change).unwrap();
    assert_eq!(read(&child, "cpu", "cpu.cfs_period_us"), "10000");
    assert_eq!(read(&child, "cpu", "cpu.cfs_quota_us"), "5000");
}

#[test]
fn a_frozen_group_stands_still_and_can_be_killed() {
    for Scratch(group) in &both().collect::<Vec<_>>() {
        let mut child = idle(group);
        assert_eq!(group.freezer(), Freezer::Thawed);
        group.freeze(LIMIT).unwrap();
        assert!(group.is_frozen());
        group.thaw().unwrap();
        wait_for("thawed", || group.freezer() == Freezer::Thawed);
        group.freeze(LIMIT).unwrap();
        group.kill().unwrap();
        child.wait().unwrap();
        // On v2 it stays frozen, without anybody in it.
        group.thaw().unwrap();
    }
}

#[test]
fn a_frozen_process_of_v2_can_be_killed_where_there_is_no_file_for_it() {
    let Some(Scratch(group)) = &v2_group() else { return };
    let mut child = idle(group);
    group.freeze(LIMIT).unwrap();
    file::kill_members(&group.directory().unwrap());
    child.wait().unwrap();
    group.thaw().unwrap();
}

#[test]
fn a_group_below_one_with_processes_takes_processes_too() {
    let Some(Scratch(group)) = &v2_group() else { return };
    let mut child = idle(group);
    let below = group.child("below");
    below.create().unwrap();
    let kind = std::fs::read_to_string(below.file("", "cgroup.type").unwrap()).unwrap();
    assert_eq!(kind, "domain\n");
    assert!(run(&below, "true").wait().unwrap().success());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_group_in_use_or_frozen_is_not_for_a_new_container() {
    for Scratch(group) in &both().collect::<Vec<_>>() {
        group.check_unused().unwrap();
        let below = group.child("below");
        below.create().unwrap();
        let mut child = idle(&below);
        assert!(group.processes(Depth::Own).is_empty());
        assert_eq!(group.processes(Depth::Recursive), [child.id() as i32]);
        let error = group.check_unused().unwrap_err().to_string();
        assert_eq!(error, "container's cgroup is not empty: 1 process(es) found");
        group.kill().unwrap();
        child.wait().unwrap();
        group.freeze(LIMIT).unwrap();
        assert_eq!(group.check_unused().unwrap_err().to_string(), "container's cgroup unexpectedly frozen");
        group.thaw().unwrap();
    }
    let nowhere = Group::from_oci_path(Some(&Path::new("/").join(name())), "").unwrap();
    nowhere.check_unused().unwrap();
    assert!(!nowhere.exists());
}

#[test]
fn statistics_tell_what_happened() {
    let Some(Scratch(group)) = &v1_group() else { return };
    apply(
        group,
        json!({ "pids": { "limit": 9 }, "memory": { "limit": 64 << 20 }, "cpu": { "quota": 10_000 } }),
    )
    .unwrap();
    let busy = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; exec sleep 1000";
    let mut child = run(group, busy);
    wait_for("CPU time", || group.full_statistics(None).cpu.throttling.throttled_time > 0);
    let stats = group.full_statistics(Some(child.id() as i32));
    assert!(stats.cpu.usage.total > 0 && !stats.cpu.usage.percpu.is_empty());
    assert_eq!(stats.cpu.usage.percpu.len(), stats.cpu.usage.percpu_user.len());
    assert!(stats.cpu.throttling.periods >= stats.cpu.throttling.throttled_periods);
    assert!(!stats.cpuset.cpus.is_empty() && !stats.cpuset.mems.is_empty());
    assert_eq!(stats.memory.usage.limit, 64 << 20);
    assert!(stats.memory.usage.usage > 0 && stats.memory.raw.contains_key("rss"));
    assert_eq!((stats.pids.current, stats.pids.limit), (1, 9));
    assert!(stats.network_interfaces.is_some());
    group.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn pressure_is_told_on_v2() {
    let Some(Scratch(group)) = &v2_group() else { return };
    let mut child = run(group, "while :; do :; done");
    let stats = group.full_statistics(None);
    assert!(stats.cpu.psi.is_some() && stats.memory.psi.is_some() && stats.blkio.psi.is_some());
    // A kernel may count in ticks.
    wait_for("processor time", || group.full_statistics(None).cpu.usage.total > 0);
    group.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn running_out_of_memory_is_told() {
    let Some(Scratch(group)) = &v1_group() else { return };
    apply(group, json!({ "memory": { "limit": 8 << 20, "swap": 8 << 20 } })).unwrap();
    let mut watch = group.watch_out_of_memory().unwrap();
    assert_eq!(watch.read(), None);
    let mut child = run(group, "exec dd if=/dev/zero of=/dev/null bs=64M count=1 2>/dev/null");
    let ready = poll(&mut [PollFd::new(watch.as_fd(), PollFlags::POLLIN)], 10_000_u16).unwrap();
    assert_eq!(ready, 1, "nothing was told");
    child.wait().unwrap();
    let mut killed = 0;
    wait_for("the kill in the count", || group.was_out_of_memory());
    while let Some(Happened::Kills(kills)) = watch.read() {
        killed += kills;
    }
    assert!(killed <= 1);
}

#[test]
fn device_rules_hold_on_v1() {
    let Some(Scratch(group)) = &v1_group() else { return };
    let rules = resources(json!({ "devices": [{ "allow": false, "access": "rwm" }] }));
    let plan = plan(&rules, Version::V1, Devices::Restrict, &Live::default()).unwrap();
    group.apply(&plan).unwrap();
    let list = read(group, "devices", "devices.list");
    assert!(list.contains("c 1:3 rwm") && list.contains("b *:* m") && !list.contains("a *:*"), "{list}");
    let status = run(group, "true < /dev/null && ! true < /dev/kmsg").wait().unwrap();
    assert!(status.success());
}

#[test]
fn a_group_is_given_to_a_user_on_v2() {
    use std::os::unix::fs::MetadataExt;

    let Some(Scratch(group)) = &v2_group() else { return };
    group.delegate(12345).unwrap();
    for file in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
        assert_eq!(group.file("cgroup", file).unwrap().metadata().unwrap().uid(), 12345, "{file}");
    }
    assert_eq!(group.file("cgroup", "cgroup.kill").unwrap().metadata().unwrap().uid(), 0);
}

#[test]
fn a_process_enters_every_hierarchy_through_its_own_thread() {
    let Some(Scratch(group)) = &v1_group() else { return };
    let Hierarchies::V1(all) = &*group.hierarchies else { return };
    let mut child = idle(group);
    let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", child.id())).unwrap();
    let path = format!(":/{}", group.path.display());
    assert_eq!(groups.lines().filter(|line| line.ends_with(&path)).count(), all.len());
    let found: BTreeMap<_, _> = group.paths();
    assert_eq!(Group::from_paths(&found).unwrap().processes(Depth::Own), [child.id() as i32]);
    group.kill().unwrap();
    child.wait().unwrap();
}
