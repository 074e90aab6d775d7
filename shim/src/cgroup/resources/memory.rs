//! Memory and swap. The two limits bound each other, so the order counts.
//!
//! v1 has a limit for memory, and one for memory and swap that may never be below it: what grows is written from
//! the outside in, what shrinks from the inside out. v2 has a limit of its own for swap. Limits for the kernel's
//! memory and `useHierarchy` are deprecated and ignored, as by runc.

use oci_spec::runtime::{LinuxMemory, LinuxResources};

use super::{Invalid, Live, Steps, Version, Write, or_max};

const UNLIMITED: i64 = -1;

pub(super) fn plan(resources: &LinuxResources, live: &Live, steps: &mut Steps) -> Result<(), Invalid> {
    let Some(memory) = resources.memory() else { return Ok(()) };
    if memory.check_before_update().unwrap_or_default() {
        check_usage(memory, live)?;
    }
    check(memory)?;
    match steps.version {
        Version::V1 => v1(memory, live, steps),
        Version::V2 => v2(memory, steps),
    }
}

/// A value that is set.
fn set(value: Option<i64>) -> Option<i64> {
    value.filter(|value| *value != 0)
}

fn check(memory: &LinuxMemory) -> Result<(), Invalid> {
    let values = [memory.limit(), memory.reservation(), memory.swap()];
    if let Some(value) = values.into_iter().flatten().find(|value| *value < UNLIMITED) {
        return Err(Invalid::Memory(value));
    }
    match (set(memory.limit()), set(memory.swap())) {
        (Some(limit), Some(swap)) if swap > 0 && swap < limit => Err(Invalid::SwapBelowMemory),
        _ => Ok(()),
    }
}

fn check_usage(memory: &LinuxMemory, live: &Live) -> Result<(), Invalid> {
    let Some(usage) = live.memory_usage else { return Ok(()) };
    let below = |limit: Option<i64>| {
        limit.filter(|limit| *limit > 0 && u64::try_from(*limit).is_ok_and(|limit| limit <= usage))
    };
    match (below(memory.swap()), below(memory.limit())) {
        (Some(limit), _) => Err(Invalid::SwapInUse { limit, usage }),
        (None, Some(limit)) => Err(Invalid::MemoryInUse { limit, usage }),
        (None, None) => Ok(()),
    }
}

fn v1(memory: &LinuxMemory, live: &Live, steps: &mut Steps) -> Result<(), Invalid> {
    let limit = set(memory.limit()).map(|limit| Write::new("memory", "memory.limit_in_bytes", limit));
    let both = |value: i64| Write::new("memory", "memory.memsw.limit_in_bytes", value);
    let swap = match (set(memory.limit()), set(memory.swap())) {
        // Unlimited memory below a limit of memory and swap would be no such thing. Without swap accounting there
        // is no such limit.
        (Some(UNLIMITED), None) => Some(both(UNLIMITED).or_skip()),
        (_, swap) => swap.map(both),
    };
    let grows = |new: i64| {
        let current = live.memory_and_swap_limit;
        new == UNLIMITED || current.is_some_and(|current| u64::try_from(new).is_ok_and(|new| current < new))
    };
    let new = set(memory.swap()).or(Some(UNLIMITED)).filter(|_| swap.is_some());
    let writes = if new.is_some_and(grows) { [swap, limit] } else { [limit, swap] };
    writes.into_iter().flatten().for_each(|write| steps.push(write));
    if let Some(reservation) = set(memory.reservation()) {
        steps.write("memory", "memory.soft_limit_in_bytes", reservation);
    }
    if memory.disable_oom_killer().unwrap_or_default() {
        steps.write("memory", "memory.oom_control", 1);
    }
    match memory.swappiness() {
        // Callers of old write -1, which is read as this, for the default.
        None | Some(u64::MAX) => Ok(()),
        Some(swappiness @ 0..=100) => {
            steps.write("memory", "memory.swappiness", swappiness);
            Ok(())
        }
        Some(swappiness) => Err(Invalid::Swappiness(swappiness)),
    }
}

fn v2(memory: &LinuxMemory, steps: &mut Steps) -> Result<(), Invalid> {
    if let Some(swap) = swap_alone(memory)? {
        let write = Write::new("memory", "memory.swap.max", or_max(swap));
        // A kernel without swap keeps none and any number of bytes out of it.
        steps.push(if swap <= 0 { write.or_skip() } else { write });
    }
    if let Some(limit) = set(memory.limit()) {
        steps.write("memory", "memory.max", or_max(limit));
    }
    if let Some(reservation) = set(memory.reservation()) {
        steps.write("memory", "memory.low", or_max(reservation));
    }
    Ok(())
}

/// The limit of swap without memory.
pub(in crate::cgroup) fn swap_alone(memory: &LinuxMemory) -> Result<Option<i64>, Invalid> {
    match (set(memory.limit()), set(memory.swap())) {
        (Some(UNLIMITED), None) | (_, Some(UNLIMITED)) => Ok(Some(UNLIMITED)),
        (_, None) => Ok(None),
        (None | Some(UNLIMITED), Some(_)) => Err(Invalid::SwapWithoutMemory),
        (Some(limit), Some(swap)) if swap < limit => Err(Invalid::SwapBelowMemory),
        (Some(limit), Some(swap)) => Ok(Some(swap - limit)),
    }
}
