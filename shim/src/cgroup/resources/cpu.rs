//! CPU time and the sets of CPUs and memory nodes.

use oci_spec::runtime::{LinuxCpu, LinuxResources};

use super::{Invalid, Steps, Version, Write};

/// Microseconds; the kernel's own default.
const DEFAULT_PERIOD: u64 = 100_000;

pub(super) fn plan(resources: &LinuxResources, steps: &mut Steps) -> Result<(), Invalid> {
    let Some(cpu) = resources.cpu() else { return Ok(()) };
    let idle = match cpu.idle() {
        None => None,
        Some(idle @ 0..=1) => Some(Write::new("cpu", "cpu.idle", idle)),
        Some(idle) => return Err(Invalid::Idle(idle)),
    };
    // An idle group takes no weight; one that ceases to be idle has to first.
    idle.into_iter().for_each(|idle| steps.push(idle));
    let shares = cpu.shares().filter(|shares| *shares != 0 && cpu.idle() != Some(1));
    match steps.version {
        // The kernel would take them and keep others.
        Version::V1 if shares.is_some_and(|shares| shares < 2) => Err(Invalid::SharesTooFew),
        Version::V1 if shares.is_some_and(|shares| shares > 262_144) => Err(Invalid::SharesTooMany),
        Version::V1 => {
            v1(cpu, shares, steps);
            Ok(())
        }
        Version::V2 => v2(cpu, shares, steps),
    }
}

fn v1(cpu: &LinuxCpu, shares: Option<u64>, steps: &mut Steps) {
    if let Some(shares) = shares {
        steps.write("cpu", "cpu.shares", shares);
    }
    // A period and a burst are checked against the quota of before: what is refused is tried again behind it.
    if let Some(period) = set(cpu.period()) {
        steps.push(Write::new("cpu", "cpu.cfs_period_us", period).or_again());
    }
    if let Some(burst) = cpu.burst() {
        steps.push(Write::new("cpu", "cpu.cfs_burst_us", burst).or_again());
    }
    if let Some(quota) = cpu.quota().filter(|quota| *quota != 0) {
        steps.write("cpu", "cpu.cfs_quota_us", quota);
    }
    if let Some(period) = set(cpu.realtime_period()) {
        steps.push(Write::new("cpu", "cpu.rt_period_us", period).or_again());
    }
    if let Some(runtime) = cpu.realtime_runtime().filter(|runtime| *runtime != 0) {
        steps.write("cpu", "cpu.rt_runtime_us", runtime);
    }
}

fn v2(cpu: &LinuxCpu, shares: Option<u64>, steps: &mut Steps) -> Result<(), Invalid> {
    if set(cpu.realtime_period()).is_some() {
        return Err(Invalid::Realtime("realtimePeriod"));
    }
    if cpu.realtime_runtime().is_some_and(|runtime| runtime != 0) {
        return Err(Invalid::Realtime("realtimeRuntime"));
    }
    if let Some(shares) = shares {
        steps.write("cpu", "cpu.weight", weight(shares));
    }
    if let Some(burst) = cpu.burst() {
        steps.push(Write::new("cpu", "cpu.max.burst", burst).or_again());
    }
    let (quota, period) = (cpu.quota().filter(|quota| *quota != 0), set(cpu.period()));
    if quota.is_some() || period.is_some() {
        let quota = super::or_max(quota.unwrap_or(-1));
        steps.write("cpu", "cpu.max", format!("{quota} {}", period.unwrap_or(DEFAULT_PERIOD)));
    }
    Ok(())
}

pub(super) fn sets(resources: &LinuxResources, steps: &mut Steps) -> Result<(), Invalid> {
    let Some(cpu) = resources.cpu() else { return Ok(()) };
    for (field, file, list) in [("cpus", "cpuset.cpus", cpu.cpus()), ("mems", "cpuset.mems", cpu.mems())] {
        let Some(list) = list.as_deref().map(str::trim).filter(|list| !list.is_empty()) else { continue };
        if ranges(list).is_none() {
            return Err(Invalid::Set { field, list: list.to_owned() });
        }
        steps.write("cpuset", file, list);
    }
    Ok(())
}

/// The ranges of a list like `0-3,7`, first and last number of each.
pub(in crate::cgroup) fn ranges(list: &str) -> Option<Vec<(u16, u16)>> {
    let range = |one: &str| {
        let (first, last) = one.split_once('-').unwrap_or((one, one));
        // cpuset(7): every nth group of so many, `0-31:1/2`, is left to the kernel.
        let last = last.split_once(':').map_or(last, |(last, _)| last);
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        (first <= last).then_some((first, last))
    };
    list.trim().split(',').filter(|one| !one.trim().is_empty()).map(range).collect()
}

fn set(value: Option<u64>) -> Option<u64> {
    value.filter(|value| *value != 0)
}

/// `cpu.shares` as a v2 weight, by the curve that runc uses: 2, 1024 and 262144 become 1, 100 and 10000.
pub(in crate::cgroup) fn weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        shares => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            (10_f64.powf(exponent).ceil() as u64).clamp(1, 10_000)
        }
    }
}
