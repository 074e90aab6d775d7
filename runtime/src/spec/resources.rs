//! Limits, weights and classes: reference `pod-lifecycle.md` 8.7 and 11.11, `pod-to-oci-and-cri.md` 1.1 and 1.7.

use std::collections::HashMap;

use hull_shim::wire;
use oci_spec::runtime::{LinuxCpu, LinuxDeviceCgroup, LinuxMemory, LinuxPids, LinuxResources};

use super::{CgroupMode, Host, Input};
use crate::manifest::pod::{Container, Pod, Resources, RestartPolicy};

const PERIOD: u64 = 100_000;
const GUARANTEED: &str = "Guaranteed";
const BURSTABLE: &str = "Burstable";
const BEST_EFFORT: &str = "BestEffort";

/// The pod's `qosClass`.
#[must_use]
pub fn qos(pod: &Pod) -> &'static str {
    let some = |value: Option<u64>| value.filter(|value| *value > 0);
    let equal = |request: Option<u64>, limit: Option<u64>| {
        some(limit).is_some_and(|limit| some(request).is_none_or(|request| request == limit))
    };
    let any = |resources: &Resources| {
        [resources.cpu_request, resources.cpu_limit, resources.memory_request, resources.memory_limit]
            .into_iter()
            .any(|value| some(value).is_some())
    };
    let full = |resources: &Resources| {
        equal(resources.cpu_request, resources.cpu_limit)
            && equal(resources.memory_request, resources.memory_limit)
    };
    if !pod.spec.all_containers().any(|container| any(&container.resources)) {
        return BEST_EFFORT;
    }
    if pod.spec.all_containers().all(|container| full(&container.resources)) { GUARANTEED } else { BURSTABLE }
}

/// `cpu.shares` for a request in milli-CPUs.
fn shares(milli: u64) -> u64 {
    (milli.saturating_mul(1024) / 1000).clamp(2, 262_144)
}

/// `cpu.cfs_quota_us` for a limit in milli-CPUs.
fn quota(milli: u64) -> i64 {
    i64::try_from(milli.saturating_mul(PERIOD / 1000)).unwrap_or(i64::MAX).max(1000)
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// What a container asks of the CPU: its request, else its limit.
fn cpu_request(resources: &Resources) -> u64 {
    resources.cpu_request.or(resources.cpu_limit).unwrap_or(0)
}

fn memory_request(resources: &Resources) -> u64 {
    resources.memory_request.or(resources.memory_limit).unwrap_or(0)
}

/// Limits of the pod's own cgroup: sums, and only those that every container has.
#[must_use]
pub fn pod_resources(pod: &Pod) -> wire::Resources {
    let limit =
        |of: fn(&Resources) -> Option<u64>| effective(pod, |resources| of(resources).filter(|v| *v > 0));
    let requests = effective(pod, |resources| Some(cpu_request(resources))).unwrap_or(0);
    let cpu = limit(|resources| resources.cpu_limit);
    wire::Resources {
        cpu_shares: Some(if qos(pod) == BEST_EFFORT { 2 } else { shares(requests) }),
        cpu_quota: cpu.map(quota),
        cpu_period: cpu.map(|_| PERIOD),
        memory_limit: limit(|resources| resources.memory_limit).map(signed),
        pids_limit: None,
    }
}

/// What the pod needs of one resource at most: main containers and sidecars together, or one plain init container
/// with the sidecars before it, whichever is more. None if a container that counts has none.
fn effective(pod: &Pod, of: impl Fn(&Resources) -> Option<u64>) -> Option<u64> {
    let (mut sidecars, mut peak) = (0_u64, 0_u64);
    for container in &pod.spec.init_containers {
        let value = of(&container.resources)?;
        if is_sidecar(container) {
            sidecars = sidecars.saturating_add(value);
            peak = peak.max(sidecars);
        } else {
            peak = peak.max(sidecars.saturating_add(value));
        }
    }
    let mut sum = sidecars;
    for container in &pod.spec.containers {
        sum = sum.saturating_add(of(&container.resources)?);
    }
    Some(sum.max(peak))
}

fn is_sidecar(container: &Container) -> bool {
    container.restart_policy == Some(RestartPolicy::Always)
}

/// How readily the kernel kills a container when memory is short.
#[must_use]
pub fn oom_score_adj(pod: &Pod, container: &Container, host_memory: u64) -> i32 {
    let burstable = |container: &Container| {
        let request = u128::from(memory_request(&container.resources));
        let share = request.saturating_mul(1000) / u128::from(host_memory.max(1));
        (1000 - i32::try_from(share).unwrap_or(1000)).clamp(3, 999)
    };
    match qos(pod) {
        GUARANTEED => -997,
        BEST_EFFORT => 1000,
        // A sidecar is not killed before the containers that it serves.
        _ if pod.spec.is_init(&container.name) && is_sidecar(container) => {
            let least = pod.spec.containers.iter().map(burstable).min().unwrap_or(999);
            burstable(container).min(least)
        }
        _ => burstable(container),
    }
}

/// `linux.resources` of a container.
pub(crate) fn of(input: &Input<'_>) -> LinuxResources {
    let resources = &input.container.resources;
    let mut out = LinuxResources::default();
    out.set_devices(Some(vec![device_rule(input.container)])).set_cpu(Some(cpu(resources)));
    out.set_memory(memory(resources, input.host));
    let mut pids = LinuxPids::default();
    if let Some(limit) = input.host.pids_limit {
        pids.set_limit(limit);
        out.set_pids(Some(pids));
    }
    if input.host.cgroup == CgroupMode::V2 {
        // The kernel takes the whole container rather than one process of it.
        out.set_unified(Some(HashMap::from([("memory.oom.group".to_owned(), "1".to_owned())])));
    }
    out
}

/// No device but the ones that every runtime allows besides; privileged containers may use all.
fn device_rule(container: &Container) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(container.security.privileged).set_access(Some("rwm".to_owned()));
    rule
}

fn cpu(resources: &Resources) -> LinuxCpu {
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(Some(shares(cpu_request(resources))));
    if let Some(limit) = resources.cpu_limit.filter(|limit| *limit > 0) {
        cpu.set_quota(Some(quota(limit))).set_period(Some(PERIOD));
    }
    cpu
}

fn memory(resources: &Resources, host: &Host) -> Option<LinuxMemory> {
    let limit = signed(resources.memory_limit.filter(|limit| *limit > 0)?);
    let mut memory = LinuxMemory::default();
    memory.set_limit(Some(limit));
    if host.swap_limits {
        // Memory and swap together: no swap at all.
        memory.set_swap(Some(limit));
    }
    Some(memory)
}

#[cfg(test)]
#[path = "resources_tests.rs"]
mod tests;
