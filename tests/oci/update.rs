//! `update`, flag by flag (oci-runtime.md 2.3).

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::bundle::{Bundle, is_peer};

const SOON: Duration = Duration::from_secs(15);

/// A container's file of a controller: the one of v1 where that has it, else the one of v2; none where neither is.
fn file(bundle: &Bundle, controller: &str, (v1, v2): (&str, &str)) -> Option<PathBuf> {
    let hierarchy = Path::new("/sys/fs/cgroup").join(controller);
    let old = bundle.groups().into_iter().find(|group| group.starts_with(&hierarchy));
    let file = match old {
        Some(group) => group.join(v1),
        None => Path::new("/sys/fs/cgroup").join(&bundle.id).join(v2),
    };
    file.exists().then_some(file)
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap().trim().to_owned()
}

/// A container with a little of everything.
fn limited() -> Result<Bundle, String> {
    let mut bundle = Bundle::new()?;
    bundle.configure(|config| {
        let resources = config["linux"]["resources"].as_object_mut().unwrap();
        resources.insert("memory".to_owned(), json!({"limit": 96 << 20}));
        resources.insert("cpu".to_owned(), json!({"shares": 512}));
    });
    bundle.up();
    Ok(bundle)
}

/// What stands in a file of v1, or in one of v2.
type There = (&'static str, &'static str);

/// Flags, the controller that they are for, its files, and what is to stand there then.
const ROWS: &[(&[&str], &str, There, There)] = &[
    (&["--cpu-quota", "20000"], "cpu", ("cpu.cfs_quota_us", "cpu.max"), ("20000", "20000 100000")),
    // The half that is not given stays as it is.
    (&["--cpu-period", "50000"], "cpu", ("cpu.cfs_period_us", "cpu.max"), ("50000", "20000 50000")),
    (&["--cpu-quota=-1"], "cpu", ("cpu.cfs_quota_us", "cpu.max"), ("-1", "max 50000")),
    (&["--cpu-share", "1024"], "cpu", ("cpu.shares", "cpu.weight"), ("1024", "100")),
    (&["--cpuset-cpus", "0"], "cpuset", ("cpuset.cpus", "cpuset.cpus"), ("0", "0")),
    (&["--cpuset-mems=0"], "cpuset", ("cpuset.mems", "cpuset.mems"), ("0", "0")),
    (&["--memory", "64m"], "memory", ("memory.limit_in_bytes", "memory.max"), ("67108864", "67108864")),
    (
        &["--memory-reservation", "32768k"],
        "memory",
        ("memory.soft_limit_in_bytes", "memory.low"),
        ("33554432", "33554432"),
    ),
    (
        &["--memory-swap", "134217728"],
        "memory",
        ("memory.memsw.limit_in_bytes", "memory.swap.max"),
        ("134217728", "67108864"),
    ),
    // Swap goes along.
    (
        &["--memory=-1"],
        "memory",
        ("memory.memsw.limit_in_bytes", "memory.swap.max"),
        ("9223372036854771712", "max"),
    ),
    (&["--pids-limit", "20"], "pids", ("pids.max", "pids.max"), ("20", "20")),
    (&["--pids-limit=-1"], "pids", ("pids.max", "pids.max"), ("max", "max")),
    (&["--blkio-weight", "500"], "blkio", ("blkio.bfq.weight", "io.bfq.weight"), ("500", "default 500")),
    // Deprecated, and nothing happens.
    (
        &["--kernel-memory", "1m", "--kernel-memory-tcp", "1m"],
        "pids",
        ("pids.max", "pids.max"),
        ("max", "max"),
    ),
];

/// Of runc 1.2 and later.
const LATER: &[(&[&str], &str, There, There)] = &[
    (
        &["--cpu-quota", "20000", "--cpu-burst", "10000"],
        "cpu",
        ("cpu.cfs_burst_us", "cpu.max.burst"),
        ("10000", "10000"),
    ),
    (&["--cpu-idle", "1"], "cpu", ("cpu.idle", "cpu.idle"), ("1", "1")),
    (&["--cpu-idle", "0"], "cpu", ("cpu.idle", "cpu.idle"), ("0", "0")),
];

#[test]
fn every_flag_changes_its_file() {
    let bundle = match limited() {
        Ok(bundle) => bundle,
        Err(reason) => hull_tests::skip!("{reason}"),
    };
    let later = if is_peer() { &[] } else { LATER };
    let mut wrong = Vec::new();
    for (flags, controller, files, wanted) in ROWS.iter().chain(later) {
        let Some(path) = file(&bundle, controller, *files) else {
            println!("left out: this kernel has no {files:?} for {flags:?}");
            continue;
        };
        bundle.oci(&[&["update"], *flags, &[&bundle.id]].concat()).ok();
        let there = text(&path);
        // Newer kernels have no soft limits on v1: the file is there, and takes anything.
        let is_deaf = path.ends_with("memory.soft_limit_in_bytes") && there == "9223372036854771712";
        if there != wanted.0 && there != wanted.1 && !is_deaf {
            wrong.push(format!("{flags:?}: {}: {there}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn time_for_real_time_is_given_where_the_kernel_shares_it_out() {
    let bundle = match limited() {
        Ok(bundle) => bundle,
        Err(reason) => hull_tests::skip!("{reason}"),
    };
    // Of v1 alone, and of few kernels.
    let Some(path) = file(&bundle, "cpu", ("cpu.rt_runtime_us", "none")) else {
        return println!("left out: this kernel shares no real-time out");
    };
    let flags = ["--cpu-rt-period", "500000", "--cpu-rt-runtime", "1000"];
    bundle.oci(&[&["update"], &flags[..], &[&bundle.id]].concat()).ok();
    assert_eq!(text(&path), "1000");
    assert_eq!(text(&path.with_file_name("cpu.rt_period_us")), "500000");
}

fn memory(bundle: &Bundle) -> String {
    text(&file(bundle, "memory", ("memory.limit_in_bytes", "memory.max")).unwrap())
}

#[test]
fn a_file_of_resources_counts_and_flags_beside_it_do_not() {
    let bundle = match limited() {
        Ok(bundle) => bundle,
        Err(reason) => hull_tests::skip!("{reason}"),
    };
    let resources = json!({"memory": {"limit": 40 << 20}}).to_string();
    std::fs::write(bundle.path("resources.json"), &resources).unwrap();
    for flag in ["-r", "--resources"] {
        bundle.oci(&["update", "--memory", "80m", &bundle.id]).ok();
        bundle.oci(&["update", flag, "resources.json", "--memory", "16m", &bundle.id]).ok();
        assert_eq!(memory(&bundle), (40 << 20).to_string());
    }
    let mut command = bundle.command(&["update", "-r", "-", &bundle.id]);
    let other = resources.replace("41943040", "50331648");
    hull_tests::command::run(&mut command, &other, SOON).ok();
    assert_eq!(memory(&bundle), (48 << 20).to_string());
    let told = bundle.oci(&["update", "-r", "nonesuch.json", &bundle.id]).fails(1);
    assert!(told.contains("nonesuch.json") && told.contains("no such file or directory"), "{told}");
    std::fs::write(bundle.path("resources.json"), "{\"memory\":").unwrap();
    bundle.oci(&["update", "-r", "resources.json", &bundle.id]).fails(1);
    assert_eq!(memory(&bundle), (48 << 20).to_string());
}

#[test]
fn what_the_kernel_refuses_leaves_the_old_limits() {
    let bundle = match limited() {
        Ok(bundle) => bundle,
        Err(reason) => hull_tests::skip!("{reason}"),
    };
    let before = memory(&bundle);
    bundle.oci(&["update", "--memory", "64m", "--cpuset-cpus", "9999", &bundle.id]).fails(1);
    assert_eq!(memory(&bundle), before);
    bundle.oci(&["update", "--pids-limit", "30", &bundle.id]).ok();
    // Nor does the next update know of it.
    assert_eq!(memory(&bundle), before);
}

#[test]
fn rules_of_devices_are_never_changed() {
    let mut bundle = bundle!();
    // The device that writes to the kernel's log.
    let node = bundle.path("rootfs/work/kmsg");
    let kind = nix::sys::stat::SFlag::S_IFCHR;
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o666);
    nix::sys::stat::mknod(&node, kind, mode, nix::sys::stat::makedev(1, 11)).unwrap();
    bundle.configure(|_| {}).up();
    let look = ["/bin/sh", "-c", ": </work/kmsg"];
    assert!(!bundle.exec(&look).status.success());
    let rules = json!({"devices": [{"allow": true, "access": "rwm"}]}).to_string();
    std::fs::write(bundle.path("rules.json"), rules).unwrap();
    bundle.oci(&["update", "-r", "rules.json", &bundle.id]).ok();
    assert!(!bundle.exec(&look).status.success());
}

#[test]
fn a_share_of_cache_is_refused_where_there_is_none() {
    let bundle = bundle!();
    bundle.up();
    if Path::new("/sys/fs/resctrl/schemata").exists() {
        return println!("left out: this host has Intel RDT");
    }
    for flag in ["--l3-cache-schema", "--mem-bw-schema"] {
        let told = bundle.oci(&["update", flag, "L3:0=f", &bundle.id]).fails(1);
        assert!(told.contains("Intel RDT"), "{told}");
    }
}

#[test]
fn a_limit_below_what_is_in_use_is_refused_where_that_is_asked_for() {
    let mut bundle = bundle!();
    // The shell stays: it is what is large.
    bundle.script("x=x; while test ${#x} -lt 8000000; do x=$x$x; done; echo grown; sleep 1000; :").configure(
        |config: &mut Value| {
            config["linux"]["resources"]["memory"] = json!({"limit": 64 << 20, "checkBeforeUpdate": true});
        },
    );
    bundle.up();
    bundle.shows("stdout", "grown");
    let before = memory(&bundle);
    if is_peer() {
        // Of runtime-spec 1.1.
        return;
    }
    bundle.oci(&["update", "--memory", "1m", &bundle.id]).fails(1);
    assert_eq!((memory(&bundle), bundle.status().as_str()), (before, "running"));
}
