//! Plans for every field, on both versions.

use oci_spec::runtime::LinuxResources;
use serde_json::{Value, json};

use super::*;

fn resources(json: Value) -> LinuxResources {
    serde_json::from_value(json).unwrap()
}

fn lines_of(json: Value, version: Version, live: &Live) -> Result<Vec<String>, Invalid> {
    let plan = plan(&resources(json), version, Devices::Leave, live)?;
    Ok(plan.to_string().lines().map(str::to_owned).collect())
}

fn v1(json: Value) -> Vec<String> {
    lines_of(json, Version::V1, &Live::default()).unwrap()
}

fn v2(json: Value) -> Vec<String> {
    lines_of(json, Version::V2, &Live::default()).unwrap()
}

fn refused(json: Value, version: Version) -> String {
    lines_of(json, version, &Live::default()).unwrap_err().to_string()
}

#[test]
fn nothing_asked_for_is_nothing_written() {
    assert!(v1(json!({})).is_empty() && v2(json!({})).is_empty());
    let zeros = json!({
        "memory": { "limit": 0, "swap": 0, "reservation": 0, "kernel": 5, "kernelTCP": 5, "useHierarchy": true },
        "cpu": { "shares": 0, "quota": 0, "period": 0, "cpus": "", "mems": "" },
        "blockIO": { "weight": 0 }
    });
    assert!(v1(zeros.clone()).is_empty() && v2(zeros).is_empty());
}

#[test]
fn memory_of_a_new_group_is_limited_from_the_inside_out() {
    let memory = json!({ "memory": { "limit": 100, "swap": 150, "reservation": 50, "swappiness": 10, "disableOOMKiller": true } });
    let expected = [
        "memory.limit_in_bytes = 100",
        "memory.memsw.limit_in_bytes = 150",
        "memory.soft_limit_in_bytes = 50",
        "memory.oom_control = 1",
        "memory.swappiness = 10",
    ];
    assert_eq!(v1(memory.clone()), expected);
    assert_eq!(v2(memory), ["memory.swap.max = 50", "memory.max = 100", "memory.low = 50"]);
}

#[test]
fn what_grows_is_raised_from_the_outside_in() {
    let live = |limit| Live { memory_and_swap_limit: Some(limit), ..Live::default() };
    let memory = || json!({ "memory": { "limit": 100, "swap": 150 } });
    let raise = ["memory.memsw.limit_in_bytes = 150", "memory.limit_in_bytes = 100"];
    assert_eq!(lines_of(memory(), Version::V1, &live(149)).unwrap(), raise);
    let lower = ["memory.limit_in_bytes = 100", "memory.memsw.limit_in_bytes = 150"];
    assert_eq!(lines_of(memory(), Version::V1, &live(150)).unwrap(), lower);
    assert_eq!(v1(json!({ "memory": { "limit": 100, "swap": -1 } }))[0], "memory.memsw.limit_in_bytes = -1");
}

#[test]
fn unlimited_memory_unlimits_swap() {
    let memory = || json!({ "memory": { "limit": -1 } });
    let skip = "(where there is such a file)";
    let expected = [format!("memory.memsw.limit_in_bytes = -1 {skip}"), "memory.limit_in_bytes = -1".into()];
    assert_eq!(v1(memory()), expected);
    assert_eq!(v2(memory()), [format!("memory.swap.max = max {skip}"), "memory.max = max".into()]);
}

#[test]
fn swap_as_large_as_memory_is_no_swap() {
    let lines = v2(json!({ "memory": { "limit": 100, "swap": 100 } }));
    assert_eq!(lines, ["memory.swap.max = 0 (where there is such a file)", "memory.max = 100"]);
}

#[test]
fn memory_that_makes_no_sense_is_refused_in_known_words() {
    let below = json!({ "memory": { "limit": 100, "swap": 99 } });
    for version in [Version::V1, Version::V2] {
        assert_eq!(refused(below.clone(), version), "memory+swap limit should be >= memory limit");
        let negative = json!({ "memory": { "limit": -2 } });
        assert_eq!(refused(negative, version), "invalid memory value: -2");
    }
    let alone = json!({ "memory": { "swap": 99 } });
    assert_eq!(v1(alone.clone()), ["memory.memsw.limit_in_bytes = 99"]);
    assert_eq!(refused(alone, Version::V2), "unable to set swap limit without memory limit");
    let swappiness = json!({ "memory": { "swappiness": 101 } });
    let expected = "invalid memory swappiness value: 101 (valid range is 0-100)";
    assert_eq!(refused(swappiness, Version::V1), expected);
}

#[test]
fn a_limit_below_what_is_used_is_refused_where_that_is_asked_for() {
    let live = Live { memory_usage: Some(100), ..Live::default() };
    let memory = json!({ "memory": { "limit": 100, "checkBeforeUpdate": true } });
    let error = lines_of(memory, Version::V2, &live).unwrap_err().to_string();
    assert_eq!(error, "rejecting memory limit 100 <= usage 100");
    let unchecked = json!({ "memory": { "limit": 100 } });
    assert!(lines_of(unchecked, Version::V2, &live).is_ok());
}

#[test]
fn cpu_time_becomes_weights_and_a_pair() {
    let cpu = json!({ "cpu": { "shares": 1024, "quota": 50000, "period": 200_000, "burst": 10, "cpus": "0-1", "mems": "0" } });
    let expected = [
        "cpu.shares = 1024",
        "cpu.cfs_period_us = 200000",
        "cpu.cfs_burst_us = 10",
        "cpu.cfs_quota_us = 50000",
        "cpuset.cpus = 0-1",
        "cpuset.mems = 0",
    ];
    assert_eq!(v1(cpu.clone()), expected);
    let expected = [
        "cpu.weight = 100",
        "cpu.max.burst = 10",
        "cpu.max = 50000 200000",
        "cpuset.cpus = 0-1",
        "cpuset.mems = 0",
    ];
    assert_eq!(v2(cpu), expected);
    assert_eq!(v2(json!({ "cpu": { "quota": -1 } })), ["cpu.max = max 100000"]);
    assert_eq!(v2(json!({ "cpu": { "period": 5000 } })), ["cpu.max = max 5000"]);
}

#[test]
fn an_idle_group_has_no_weight() {
    let idle = json!({ "cpu": { "idle": 1, "shares": 1024 } });
    assert_eq!(v1(idle.clone()), ["cpu.idle = 1"]);
    assert_eq!(v2(idle), ["cpu.idle = 1"]);
    assert_eq!(v2(json!({ "cpu": { "idle": 0, "shares": 2 } })), ["cpu.idle = 0", "cpu.weight = 1"]);
    assert!(refused(json!({ "cpu": { "idle": 2 } }), Version::V2).contains("invalid cpu.idle value: 2"));
}

#[test]
fn realtime_is_for_v1_alone() {
    let cpu = json!({ "cpu": { "realtimeRuntime": 5, "realtimePeriod": 10 } });
    assert_eq!(v1(cpu.clone()), ["cpu.rt_period_us = 10", "cpu.rt_runtime_us = 5"]);
    assert!(refused(cpu, Version::V2).starts_with("cpu.realtimePeriod:"));
}

#[test]
fn shares_and_sets_are_checked() {
    let shares = |shares: u64| json!({ "cpu": { "shares": shares } });
    assert_eq!(refused(shares(1), Version::V1), "the minimum allowed cpu-shares is 2");
    assert_eq!(refused(shares(300_000), Version::V1), "the maximum allowed cpu-shares is 262144");
    assert_eq!(v2(shares(300_000)), ["cpu.weight = 10000"]);
    let set = json!({ "cpu": { "cpus": "0-" } });
    assert!(refused(set, Version::V1).contains("invalid cpu.cpus list \"0-\""));
}

#[test]
fn shares_become_weights_on_runcs_curve() {
    assert_eq!([1, 2, 1024, 262_144, u64::MAX].map(weight), [1, 1, 100, 10_000, 10_000]);
}

#[test]
fn pids_may_be_none_or_many() {
    for lines in [v1, v2] {
        assert_eq!(lines(json!({ "pids": { "limit": 0 } })), ["pids.max = 0"]);
        assert_eq!(lines(json!({ "pids": { "limit": -1 } })), ["pids.max = max"]);
    }
}

#[test]
fn block_devices_have_weights_and_limits() {
    let device = |rate: u64| json!([{ "major": 8, "minor": 0, "rate": rate }]);
    let block = json!({ "blockIO": {
        "weight": 1000,
        "weightDevice": [{ "major": 8, "minor": 0, "weight": 10 }],
        "throttleReadBpsDevice": device(1), "throttleWriteBpsDevice": device(2),
        "throttleReadIOPSDevice": device(3), "throttleWriteIOPSDevice": device(0)
    } });
    let expected = [
        "blkio.weight = 1000 (else blkio.bfq.weight = 1000)",
        "blkio.weight_device = 8:0 10 (else blkio.bfq.weight_device = 8:0 10)",
        "blkio.throttle.read_bps_device = 8:0 1",
        "blkio.throttle.write_bps_device = 8:0 2",
        "blkio.throttle.read_iops_device = 8:0 3",
        "blkio.throttle.write_iops_device = 8:0 0",
    ];
    assert_eq!(v1(block.clone()), expected);
    let expected = [
        "io.bfq.weight = 1000 (else io.weight = 10000)",
        "io.bfq.weight = 8:0 10 (else io.weight = 8:0 1)",
        "io.max = 8:0 rbps=1 wbps=2 riops=3 wiops=max",
    ];
    assert_eq!(v2(block), expected);
    let weight = json!({ "blockIO": { "weight": 5 } });
    assert!(refused(weight, Version::V1).contains("invalid blockIO weight 5"));
    assert!(refused(json!({ "blockIO": { "leafWeight": 50 } }), Version::V2).contains("leafWeight"));
}

#[test]
fn the_small_controllers_have_their_files() {
    let pages = json!({ "hugepageLimits": [{ "pageSize": "2MB", "limit": 4 }] });
    let skip = "(where there is such a file)";
    let expected =
        ["hugetlb.2MB.limit_in_bytes = 4".into(), format!("hugetlb.2MB.rsvd.limit_in_bytes = 4 {skip}")];
    assert_eq!(v1(pages.clone()), expected);
    assert_eq!(v2(pages), ["hugetlb.2MB.max = 4".into(), format!("hugetlb.2MB.rsvd.max = 4 {skip}")]);
    let bad = json!({ "hugepageLimits": [{ "pageSize": "../2MB", "limit": 4 }] });
    assert!(refused(bad, Version::V2).contains("pageSize \"../2MB\""));
    let rdma = json!({ "rdma": { "mlx5_1": { "hcaHandles": 3 }, "mlx4_0": { "hcaObjects": 5 } } });
    let expected =
        ["rdma.max = mlx4_0 hca_handle=max hca_object=5", "rdma.max = mlx5_1 hca_handle=3 hca_object=max"];
    assert_eq!(v2(rdma.clone()), expected);
    assert_eq!(v1(rdma), expected);
    let network = json!({ "network": { "classID": 7, "priorities": [{ "name": "eth0", "priority": 2 }] } });
    assert_eq!(v1(network.clone()), ["net_cls.classid = 7", "net_prio.ifpriomap = eth0 2"]);
    assert!(refused(network, Version::V2).starts_with("network.classID:"));
}

#[test]
fn unified_comes_last_and_on_v2_alone() {
    let unified = json!({ "unified": { "memory.high": "1", "cpu.weight": "50" }, "pids": { "limit": 3 } });
    assert_eq!(v2(unified.clone()), ["pids.max = 3", "cpu.weight = 50", "memory.high = 1"]);
    assert_eq!(refused(unified, Version::V1), "invalid configuration: cannot use unified on cgroup v1");
    let slash = json!({ "unified": { "../memory.high": "1" } });
    let expected = "unified resource \"../memory.high\" must be a file name (no slashes)";
    assert_eq!(refused(slash, Version::V2), expected);
    let plain = json!({ "unified": { "high": "1" } });
    assert!(refused(plain, Version::V2).ends_with("must be in the form CONTROLLER.PARAMETER"));
}

#[test]
fn devices_are_a_list_on_v1_and_one_filter_on_v2() {
    let rules = resources(json!({ "devices": [
        { "allow": false, "access": "rwm" },
        { "allow": true, "type": "c", "major": 4, "minor": 1, "access": "rw" }
    ] }));
    let lines = |version| plan(&rules, version, Devices::Restrict, &Live::default()).unwrap().to_string();
    let v1 = lines(Version::V1);
    assert!(v1.starts_with("devices.deny = a\ndevices.allow = b *:* m\n"), "{v1}");
    assert!(v1.contains("devices.allow = c 4:1 rw\n"), "{v1}");
    let v2 = lines(Version::V2);
    assert!(v2.starts_with("device filter: deny a *:* rwm, allow c 4:1 rw, allow c *:* m"), "{v2}");
    let letters = json!({ "devices": [{ "allow": true, "type": "c", "access": "rx" }] });
    let error = plan(&resources(letters), Version::V2, Devices::Restrict, &Live::default()).unwrap_err();
    assert!(error.to_string().contains("device access \"rx\""));
}
