//! What `linux.resources` and `linux.cgroupsPath` become in cgroups, at `create` (oci-runtime.md 4.11, 4.12). `update` has
//! cases of its own.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::bundle::{Bundle, is_peer};
use crate::security::cgroups::Ground;

/// Resources, a controller, its file on v1 and on v2, and what is to stand there: the file, or a line of it.
type Row = (fn() -> Value, &'static str, (&'static str, &'static str), (&'static str, &'static str));

const ROWS: &[Row] = &[
    (|| json!({"cpu": {"shares": 512}}), "cpu", ("cpu.shares", "cpu.weight"), ("512", "59")),
    (|| json!({"cpu": {"shares": 2}}), "cpu", ("cpu.shares", "cpu.weight"), ("2", "1")),
    (|| json!({"cpu": {"shares": 262_144}}), "cpu", ("cpu.shares", "cpu.weight"), ("262144", "10000")),
    (|| json!({"cpu": {"quota": 30_000}}), "cpu", ("cpu.cfs_quota_us", "cpu.max"), ("30000", "30000 100000")),
    (|| json!({"cpu": {"period": 50_000}}), "cpu", ("cpu.cfs_period_us", "cpu.max"), ("50000", "max 50000")),
    (
        || json!({"cpu": {"quota": 20_000, "period": 10_000}}),
        "cpu",
        ("cpu.cfs_period_us", "cpu.max"),
        ("10000", "20000 10000"),
    ),
    (|| json!({"cpu": {"quota": -1}}), "cpu", ("cpu.cfs_quota_us", "cpu.max"), ("-1", "max 100000")),
    (|| json!({"cpu": {"cpus": "0", "mems": "0"}}), "cpuset", ("cpuset.cpus", "cpuset.cpus"), ("0", "0")),
    (|| json!({"cpu": {"cpus": "0", "mems": "0"}}), "cpuset", ("cpuset.mems", "cpuset.mems"), ("0", "0")),
    (
        || json!({"memory": {"limit": 64 << 20}}),
        "memory",
        ("memory.limit_in_bytes", "memory.max"),
        ("67108864", "67108864"),
    ),
    (
        || json!({"memory": {"limit": -1}}),
        "memory",
        ("memory.limit_in_bytes", "memory.max"),
        ("9223372036854771712", "max"),
    ),
    (
        || json!({"memory": {"limit": 64 << 20, "swap": 96 << 20}}),
        "memory",
        ("memory.memsw.limit_in_bytes", "memory.swap.max"),
        ("100663296", "33554432"),
    ),
    (
        || json!({"memory": {"limit": 64 << 20, "swap": 64 << 20}}),
        "memory",
        ("memory.memsw.limit_in_bytes", "memory.swap.max"),
        ("67108864", "0"),
    ),
    (
        || json!({"memory": {"limit": 64 << 20, "swap": -1}}),
        "memory",
        ("memory.memsw.limit_in_bytes", "memory.swap.max"),
        ("9223372036854771712", "max"),
    ),
    // Newer kernels have no soft limits on v1: the file takes anything, and keeps nothing.
    (
        || json!({"memory": {"reservation": 32 << 20}}),
        "memory",
        ("memory.soft_limit_in_bytes", "memory.low"),
        ("33554432|9223372036854771712", "33554432"),
    ),
    (|| json!({"memory": {"swappiness": 17}}), "memory", ("memory.swappiness", "none"), ("17", "")),
    (
        || json!({"memory": {"disableOOMKiller": true}}),
        "memory",
        ("memory.oom_control", "none"),
        ("oom_kill_disable 1", ""),
    ),
    // Deprecated, and nothing happens.
    (
        || json!({"memory": {"kernel": 1 << 20, "kernelTCP": 1 << 20, "useHierarchy": true}}),
        "memory",
        ("memory.limit_in_bytes", "memory.max"),
        ("9223372036854771712", "max"),
    ),
    (|| json!({"pids": {"limit": 33}}), "pids", ("pids.max", "pids.max"), ("33", "33")),
    (|| json!({"pids": {"limit": -1}}), "pids", ("pids.max", "pids.max"), ("max", "max")),
    (
        || json!({"blockIO": {"weight": 200}}),
        "blkio",
        ("blkio.bfq.weight", "io.bfq.weight"),
        ("200", "default 200"),
    ),
    (
        || json!({"blockIO": {"throttleReadBpsDevice": throttle(1000)}}),
        "blkio",
        ("blkio.throttle.read_bps_device", "io.max"),
        ("@ 1000", "@ rbps=1000 wbps=max riops=max wiops=max"),
    ),
    (
        || json!({"blockIO": {"throttleWriteBpsDevice": throttle(2000)}}),
        "blkio",
        ("blkio.throttle.write_bps_device", "io.max"),
        ("@ 2000", "@ rbps=max wbps=2000 riops=max wiops=max"),
    ),
    (
        || json!({"blockIO": {"throttleReadIOPSDevice": throttle(30)}}),
        "blkio",
        ("blkio.throttle.read_iops_device", "io.max"),
        ("@ 30", "@ rbps=max wbps=max riops=30 wiops=max"),
    ),
    (
        || json!({"blockIO": {"throttleWriteIOPSDevice": throttle(40)}}),
        "blkio",
        ("blkio.throttle.write_iops_device", "io.max"),
        ("@ 40", "@ rbps=max wbps=max riops=max wiops=40"),
    ),
    (
        || json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4 << 20}]}),
        "hugetlb",
        ("hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.max"),
        ("4194304", "4194304"),
    ),
    (
        || json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4 << 20}]}),
        "hugetlb",
        ("hugetlb.2MB.rsvd.limit_in_bytes", "hugetlb.2MB.rsvd.max"),
        ("4194304", "4194304"),
    ),
    (|| json!({"network": {"classID": 1_048_577}}), "net_cls", ("net_cls.classid", "none"), ("1048577", "")),
    (
        || json!({"network": {"priorities": [{"name": "lo", "priority": 7}]}}),
        "net_prio",
        ("net_prio.ifpriomap", "none"),
        ("lo 7", ""),
    ),
];

/// Of runc 1.2 and later.
const LATER: &[Row] = &[
    (
        || json!({"cpu": {"quota": 30_000, "burst": 10_000}}),
        "cpu",
        ("cpu.cfs_burst_us", "cpu.max.burst"),
        ("10000", "10000"),
    ),
    (|| json!({"cpu": {"idle": 1}}), "cpu", ("cpu.idle", "cpu.idle"), ("1", "1")),
];

/// A disk of this machine, as cgroups have it; none where there is none.
fn disk() -> Option<String> {
    let all = fs::read_dir("/sys/block").ok()?.flatten();
    let mut names = all.filter_map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_real = !["loop", "ram", "zram"].iter().any(|kind| name.starts_with(kind));
        is_real.then(|| fs::read_to_string(entry.path().join("dev")).ok())?
    });
    names.next().map(|number| number.trim().to_owned())
}

fn throttle(rate: u64) -> Value {
    let disk = disk().unwrap_or_else(|| "0:0".to_owned());
    let (major, minor) = disk.split_once(':').unwrap();
    json!([{"major": major.parse::<u32>().unwrap(), "minor": minor.parse::<u32>().unwrap(), "rate": rate}])
}

/// The container's group in the hierarchy of a controller: v1's where that is mounted, else v2's.
fn group(bundle: &Bundle, controller: &str) -> PathBuf {
    let hierarchy = Path::new("/sys/fs/cgroup").join(controller);
    let old = bundle.groups().into_iter().find(|group| group.starts_with(&hierarchy));
    old.unwrap_or_else(|| Path::new("/sys/fs/cgroup").join(&bundle.id))
}

fn give(bundle: &mut Bundle, resources: &Value) {
    bundle.configure(|config| {
        let old = config["linux"]["resources"]["devices"].clone();
        config["linux"]["resources"] = resources.clone();
        config["linux"]["resources"]["devices"] = old;
    });
}

#[test]
fn every_resource_is_in_its_file() {
    let mut wrong = Vec::new();
    let disk = disk().unwrap_or_default();
    let mut bundle = bundle!();
    for (resources, controller, files, wanted) in ROWS.iter().chain(if is_peer() { &[] } else { LATER }) {
        let resources = resources();
        // A group like the container's tells what this kernel has.
        bundle.up();
        let group = group(&bundle, controller);
        let file = [(files.0, wanted.0), (files.1, wanted.1)]
            .into_iter()
            .find(|(file, _)| group.join(file).exists());
        bundle.delete();
        let Some((file, wanted)) = file.filter(|_| !disk.is_empty() || resources["blockIO"].is_null()) else {
            println!("left out: this kernel has no {files:?}");
            continue;
        };
        give(&mut bundle, &resources);
        let output = bundle.detached(&["create", &bundle.id]);
        if !output.status.success() {
            wrong.push(format!("{resources}: {output}"));
            continue;
        }
        let there = fs::read_to_string(group.join(file)).unwrap();
        bundle.delete();
        give(&mut bundle, &json!({}));
        let wanted = wanted.replace('@', &disk);
        let is_there = |wanted: &str| there.trim() == wanted || there.lines().any(|line| line == wanted);
        if !wanted.split('|').any(is_there) {
            wrong.push(format!("{resources}: {file} has {there:?} instead of {wanted:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn time_for_real_time_is_given_at_the_creation() {
    let mut bundle = bundle!();
    if !Path::new("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").exists() {
        return println!("left out: this kernel shares no real-time out");
    }
    give(&mut bundle, &json!({"cpu": {"realtimePeriod": 500_000, "realtimeRuntime": 1000}}));
    bundle.create();
    let group = group(&bundle, "cpu");
    let file = |name: &str| fs::read_to_string(group.join(name)).unwrap();
    assert_eq!(
        (file("cpu.rt_period_us").as_str(), file("cpu.rt_runtime_us").as_str()),
        ("500000\n", "1000\n")
    );
}

#[test]
fn resources_that_cannot_be_are_refused_and_no_group_stays() {
    let mut bundle = bundle!();
    let v1 = !Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let rows = [
        (json!({"memory": {"limit": 64 << 20, "swap": 32 << 20}}), true),
        (json!({"memory": {"swap": 32 << 20}}), !v1),
        (json!({"memory": {"swappiness": 300}}), v1 && !is_peer()),
        (json!({"cpu": {"cpus": "9999"}}), true),
        (json!({"cpu": {"period": 1}}), true),
        (json!({"hugepageLimits": [{"pageSize": "3MB", "limit": 1}]}), !is_peer()),
        (json!({"blockIO": {"weight": 1}}), !is_peer()),
        (json!({"unified": {"memory.high": "1000000"}}), v1 && !is_peer()),
    ];
    let mut wrong = Vec::new();
    for (resources, _) in rows.iter().filter(|(_, is_error)| *is_error) {
        give(&mut bundle, resources);
        let output = bundle.detached(&["create", &bundle.id]);
        if output.status.success() || bundle.root().join(&bundle.id).exists() || !bundle.groups().is_empty() {
            wrong.push(format!("{resources}: {output}"));
        }
        bundle.delete();
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn files_of_v2_are_written_by_their_names() {
    let mut bundle = bundle!();
    if !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        return println!("left out: cgroup v1 has no such names");
    }
    give(&mut bundle, &json!({"unified": {"memory.high": "50331648", "pids.max": "44"}}));
    bundle.create();
    let group = group(&bundle, "memory");
    for (file, text) in [("memory.high", "50331648\n"), ("pids.max", "44\n")] {
        assert_eq!(fs::read_to_string(group.join(file)).unwrap(), text);
    }
    bundle.delete();
    for unified in [json!({"a/b": "1"}), json!({"nonesuch.max": "1"})] {
        give(&mut bundle, &json!({"unified": unified}));
        bundle.detached(&["create", &bundle.id]).fails(1);
        bundle.assert_gone();
    }
}

/// The path of the container's group in `/proc/<pid>/cgroup`, by controller; v2's where that has it.
fn path_of(bundle: &Bundle, controller: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{}/cgroup", bundle.state()["pid"])).unwrap();
    let of = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
        lines
            .find(|(controllers, _)| controllers.split(',').any(|one| one == name))
            .map(|(_, path)| path.to_owned())
    };
    of(controller).or_else(|| of("")).unwrap()
}

#[test]
fn a_path_names_groups_that_are_made_and_removed_with_the_container() {
    let mut bundle = bundle!();
    let outer = format!("/{}", bundle.id);
    let path = format!("{outer}/deep/box");
    bundle.configure(|config| config["linux"]["cgroupsPath"] = json!(path));
    bundle.up();
    assert_eq!(path_of(&bundle, "pids"), path);
    bundle.delete();
    let left: Vec<_> = bundle.groups().into_iter().filter(|group| group.join("deep/box").exists()).collect();
    assert_eq!(left, Vec::<PathBuf>::new());
    // What is between is not the container's own, and runc leaves it.
    for group in bundle.groups() {
        drop(fs::remove_dir(group.join("deep")));
        drop(fs::remove_dir(group));
    }
    bundle.assert_gone();
}

#[test]
fn a_path_that_is_relative_is_below_the_callers_group_on_v1() {
    let mut bundle = bundle!();
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        return println!("left out: cgroup v2 has it beside the caller's");
    }
    let name = bundle.id.clone();
    bundle.configure(|config| config["linux"]["cgroupsPath"] = json!(name));
    bundle.up();
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let own =
        own.lines().find_map(|line| line.split_once(":pids:")).unwrap().1.trim_end_matches('/').to_owned();
    assert_eq!(path_of(&bundle, "pids"), format!("{own}/{name}"));
    bundle.delete();
    bundle.assert_gone();
}

#[test]
fn without_a_path_a_container_has_a_group_of_its_own() {
    let mut bundle = bundle!();
    bundle.configure(|config| drop(config["linux"].as_object_mut().unwrap().remove("cgroupsPath")));
    bundle.up();
    let path = path_of(&bundle, "pids");
    assert!(path.ends_with(&format!("/{}", bundle.id)), "{path}");
    bundle.delete();
    bundle.assert_gone();
}

/// A container whose mount of cgroups has these options runs where v2 is all there is; what its user could do there.
fn in_own_group(options: &[&str], namespaces: &[&str]) -> String {
    let mut bundle = Bundle::new().unwrap();
    let Some(ground) = Ground::make(&bundle, "own") else { return String::new() };
    bundle.configure(|config| {
        config["linux"]["resources"] = json!({});
        let list = config["linux"]["namespaces"].as_array_mut().unwrap();
        list.extend(namespaces.iter().map(|kind| json!({"type": kind})));
        if namespaces.contains(&"user") {
            let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
            config["linux"]["uidMappings"] = map.clone();
            config["linux"]["gidMappings"] = map;
        }
        config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
        let mount = json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options});
        config["mounts"].as_array_mut().unwrap().push(mount);
    });
    bundle.script(
        "cd /sys/fs/cgroup; /bin/busybox stat -c %u . cgroup.procs cgroup.kill
         (/bin/busybox mkdir own && echo $$ > own/cgroup.procs) 2>/dev/null && echo moved; true",
    );
    ground.run(&bundle).ok()
}

#[test]
fn a_group_on_v2_is_the_containers_user_where_it_sees_no_other_and_may_write() {
    if is_peer() {
        // runc gives groups away with systemd alone.
        return;
    }
    let first = bundle!();
    if Ground::make(&first, "probe").is_none() {
        return println!("left out: no cgroup v2 is mounted, and v1 is given to nobody");
    }
    assert_eq!(in_own_group(&["rw"], &["cgroup", "user"]), "1000\n1000\n65534\nmoved\n");
    assert_eq!(in_own_group(&[], &["cgroup"]), "1000\n1000\n0\nmoved\n");
    assert_eq!(in_own_group(&["ro"], &["cgroup"]), "0\n0\n0\n");
}

#[test]
fn a_group_in_a_tree_of_threads_is_told() {
    if is_peer() {
        // runc makes it one of threads.
        return;
    }
    let mut bundle = bundle!();
    let Some(ground) = Ground::make(&bundle, "threads") else {
        return println!("left out: no cgroup v2 is mounted");
    };
    let threads = ground.0.join("odd/threads");
    fs::create_dir_all(&threads).unwrap();
    fs::write(threads.join("cgroup.type"), "threaded").unwrap();
    bundle.configure(|config| {
        config["linux"]["resources"] = json!({});
        config["linux"]["cgroupsPath"] = json!("/odd/box");
    });
    let told = ground.run(&bundle).fails(1);
    assert!(told.contains("tree of threads (cgroup.type; try another cgroupsPath)"), "{told}");
    assert!(!ground.0.join("odd/box").exists());
}
