//! Scheduler, I/O priority, CPU and memory affinity, personality of the calling process. Nothing here allocates.

use super::check;

/// The kernel's `struct sched_attr`, with utilization clamps; sched_setattr(2).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Scheduling {
    pub(crate) size: u32,
    pub(crate) policy: u32,
    pub(crate) flags: u64,
    pub(crate) nice: i32,
    pub(crate) priority: u32,
    pub(crate) runtime: u64,
    pub(crate) deadline: u64,
    pub(crate) period: u64,
    pub(crate) least: u32,
    pub(crate) most: u32,
}

/// Sets policy and priority.
pub(crate) fn schedule(attributes: &Scheduling) -> nix::Result<()> {
    let attributes = Scheduling { size: size_of::<Scheduling>() as u32, ..*attributes };
    // SAFETY: the kernel reads one sched_attr of the size that it names, which outlives the call.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) }).map(drop)
}

const WHO_PROCESS_GROUP: libc::c_long = 2;

/// Sets the I/O priority of this process's group; ioprio_set(2).
pub(crate) fn prioritize_io(priority: u32) -> nix::Result<()> {
    // SAFETY: ioprio_set takes three integers.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS_GROUP, 0, priority) }).map(drop)
}

/// Runs on these CPUs only; bit *n* of the words for CPU *n*; sched_setaffinity(2).
pub(crate) fn set_cpus(words: &[u64]) -> nix::Result<()> {
    // SAFETY: reads as many bytes as the slice has.
    check(unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size_of_val(words), words.as_ptr()) })
        .map(drop)
}

/// Where memory comes from; bit *n* of the words for node *n*; set_mempolicy(2).
pub(crate) fn set_memory_policy(mode: u32, words: &[u64]) -> nix::Result<()> {
    // The kernel takes the count of bits plus one.
    let bits = if words.is_empty() { 0 } else { words.len() * 64 + 1 };
    let nodes = if words.is_empty() { std::ptr::null() } else { words.as_ptr() };
    // SAFETY: reads `bits - 1` bits from the slice, or nothing at all.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, nodes, bits) }).map(drop)
}

/// Sets the execution domain; personality(2).
pub(crate) fn set_personality(persona: u32) -> nix::Result<()> {
    // SAFETY: personality takes an integer.
    check(unsafe { libc::personality(libc::c_ulong::from(persona)) }.into()).map(drop)
}
