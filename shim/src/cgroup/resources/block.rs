//! Weights and limits of block devices.
//!
//! The weights of v1 come from the CFQ scheduler of old or from BFQ; those of v2 from BFQ, or from the kernel's own
//! cost model in a scale of its own.

use std::collections::BTreeMap;

use oci_spec::runtime::{LinuxBlockIo, LinuxResources, LinuxThrottleDevice};

use super::{Invalid, Steps, Version, Write};

pub(super) fn plan(resources: &LinuxResources, steps: &mut Steps) -> Result<(), Invalid> {
    let Some(block) = resources.block_io() else { return Ok(()) };
    let weights = block.weight_device().iter().flatten().flat_map(|one| [one.weight(), one.leaf_weight()]);
    let weights = weights.chain([block.weight(), block.leaf_weight()]);
    if let Some(weight) = weights.flatten().find(|weight| *weight != 0 && !(10..=1000).contains(weight)) {
        return Err(Invalid::Weight(weight));
    }
    match steps.version {
        Version::V1 => {
            v1(block, steps);
            Ok(())
        }
        Version::V2 => v2(block, steps),
    }
}

/// A weight that is set.
fn set(weight: Option<u16>) -> Option<u16> {
    weight.filter(|weight| *weight != 0)
}

type Throttles<'a> = [(&'static str, &'static str, &'a Option<Vec<LinuxThrottleDevice>>); 4];

/// The file of v1, the key of v2, and who has what limit.
fn throttles(block: &LinuxBlockIo) -> Throttles<'_> {
    [
        ("blkio.throttle.read_bps_device", "rbps", block.throttle_read_bps_device()),
        ("blkio.throttle.write_bps_device", "wbps", block.throttle_write_bps_device()),
        ("blkio.throttle.read_iops_device", "riops", block.throttle_read_iops_device()),
        ("blkio.throttle.write_iops_device", "wiops", block.throttle_write_iops_device()),
    ]
}

fn v1(block: &LinuxBlockIo, steps: &mut Steps) {
    if let Some(weight) = set(block.weight()) {
        steps.push(Write::new("blkio", "blkio.weight", weight).or("blkio.bfq.weight", weight));
    }
    if let Some(weight) = set(block.leaf_weight()) {
        steps.write("blkio", "blkio.leaf_weight", weight);
    }
    for device in block.weight_device().iter().flatten() {
        let line = |weight| format!("{}:{} {weight}", device.major(), device.minor());
        if let Some(weight) = set(device.weight()).map(line) {
            let write = Write::new("blkio", "blkio.weight_device", &weight);
            steps.push(write.or("blkio.bfq.weight_device", weight));
        }
        if let Some(weight) = set(device.leaf_weight()).map(line) {
            steps.write("blkio", "blkio.leaf_weight_device", weight);
        }
    }
    for (file, _, devices) in throttles(block) {
        for device in devices.iter().flatten() {
            steps.write("blkio", file, format!("{}:{} {}", device.major(), device.minor(), device.rate()));
        }
    }
}

fn v2(block: &LinuxBlockIo, steps: &mut Steps) -> Result<(), Invalid> {
    let mut leaves = block.weight_device().iter().flatten().map(|device| device.leaf_weight());
    if set(block.leaf_weight()).is_some() || leaves.any(|weight| set(weight).is_some()) {
        return Err(Invalid::LeafWeight);
    }
    if let Some(weight) = set(block.weight()) {
        steps.push(Write::new("io", "io.bfq.weight", weight).or("io.weight", cost_weight(weight)));
    }
    for device in block.weight_device().iter().flatten() {
        if let Some(weight) = set(device.weight()) {
            let line = |weight: u64| format!("{}:{} {weight}", device.major(), device.minor());
            let write = Write::new("io", "io.bfq.weight", line(weight.into()));
            steps.push(write.or("io.weight", line(cost_weight(weight))));
        }
    }
    let mut lines: BTreeMap<(i64, i64), String> = BTreeMap::new();
    for (_, key, devices) in throttles(block) {
        for device in devices.iter().flatten() {
            let line = lines.entry((device.major(), device.minor())).or_default();
            // v1 takes 0 for no limit.
            let rate = Some(device.rate()).filter(|rate| *rate != 0);
            let rate = rate.map_or("max".to_owned(), |rate| rate.to_string());
            line.push_str(&format!(" {key}={rate}"));
        }
    }
    for ((major, minor), line) in lines {
        steps.write("io", "io.max", format!("{major}:{minor}{line}"));
    }
    Ok(())
}

/// 10 to 1000 of BFQ as 1 to 10000 of the kernel's cost model.
fn cost_weight(weight: u16) -> u64 {
    1 + u64::from(weight.saturating_sub(10)) * 9999 / 990
}
