//! From the `resources` of a `config.json` to the files that say the same to the kernel.
//!
//! Pure: limits go in, an ordered list of writes comes out, which can be printed, compared and undone. The order is
//! that of runc's v2 manager (pids, memory, io, cpu, devices, cpuset, hugetlb, rdma, network), with `unified` last
//! so that it may overrule. Values are those of runtime-spec `config-linux.md`; a field that is 0 where 0
//! means nothing is not set, as with runc.

mod block;
mod cpu;
mod invalid;
mod memory;
mod others;

use std::borrow::Cow;
use std::fmt;

pub use invalid::Invalid;
use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxPids, LinuxResources};

pub(super) use cpu::{ranges, weight};
pub(super) use memory::swap_alone;

use super::devices::{self, Rule, list};
use super::hierarchy::Hierarchy;
use crate::wire;

/// Which of the kernel's two ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// v1, and hybrid.
    V1,
    /// v2.
    V2,
}

/// What a group holds while limits are planned for it; nothing for one that was just made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Live {
    /// Bytes in use.
    pub memory_usage: Option<u64>,
    /// v1: the limit of memory and swap together.
    pub memory_and_swap_limit: Option<u64>,
}

/// One value for one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The controller that has the file.
    pub controller: Cow<'static, str>,
    /// Its name.
    pub file: Cow<'static, str>,
    /// What is written, one `write` per line.
    pub value: String,
    /// What to do where the kernel does not have the file.
    pub missing: Missing,
    /// Whether a refusal (EINVAL) may come from a value that a later write changes: then it is tried again after it.
    pub again: bool,
}

/// What to do where the kernel does not have a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// The limit cannot be kept: an error.
    Refuse,
    /// The limit needs nothing there.
    Skip,
    /// Another file says the same.
    Instead {
        /// Its name.
        file: &'static str,
        /// What is written there.
        value: String,
    },
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Write to a file.
    Write(Write),
    /// v2: bind a device program made from these rules.
    Filter(Vec<Rule>),
}

/// What makes a group keep its limits, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan(pub Vec<Step>);

impl Plan {
    /// Whether it writes to a file of this hierarchy.
    pub(super) fn writes_to(&self, hierarchy: &Hierarchy) -> bool {
        self.0.iter().any(|step| match step {
            Step::Write(write) => hierarchy.has(&write.controller),
            Step::Filter(_) => false,
        })
    }
}

/// Whether a plan says something of devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Devices {
    /// The rules, and what every container may use.
    Restrict,
    /// Nothing: they stay as they are (updates, and groups of an ordinary user).
    Leave,
}

/// Plans limits for a group.
///
/// # Errors
/// They make no sense, or this version of cgroups cannot keep them.
pub fn plan(
    resources: &LinuxResources,
    version: Version,
    devices: Devices,
    live: &Live,
) -> Result<Plan, Invalid> {
    let mut steps = Steps { version, list: Vec::new() };
    others::pids(resources, &mut steps);
    memory::plan(resources, live, &mut steps)?;
    block::plan(resources, &mut steps)?;
    cpu::plan(resources, &mut steps)?;
    if devices == Devices::Restrict {
        restrict(resources, &mut steps)?;
    }
    cpu::sets(resources, &mut steps)?;
    others::hugepages(resources, &mut steps)?;
    others::rdma(resources, &mut steps)?;
    others::network(resources, &mut steps)?;
    others::unified(resources, &mut steps)?;
    Ok(Plan(steps.list))
}

fn restrict(resources: &LinuxResources, steps: &mut Steps) -> Result<(), Invalid> {
    let rules = devices::rules(resources.devices().as_deref().unwrap_or_default())?;
    match steps.version {
        Version::V2 => steps.list.push(Step::Filter(rules)),
        Version::V1 => {
            for (file, line) in list::writes(&rules)? {
                steps.write("devices", file, line);
            }
        }
    }
    Ok(())
}

impl From<&wire::Resources> for LinuxResources {
    fn from(limits: &wire::Resources) -> Self {
        let mut cpu = LinuxCpu::default();
        cpu.set_shares(limits.cpu_shares);
        cpu.set_quota(limits.cpu_quota);
        cpu.set_period(limits.cpu_period);
        let mut memory = LinuxMemory::default();
        memory.set_limit(limits.memory_limit);
        let mut resources = Self::default();
        resources.set_cpu(Some(cpu)).set_memory(Some(memory));
        resources.set_pids(limits.pids_limit.map(|limit| {
            let mut pids = LinuxPids::default();
            pids.set_limit(limit);
            pids
        }));
        resources
    }
}

/// The list while it grows.
struct Steps {
    version: Version,
    list: Vec<Step>,
}

impl Steps {
    fn write(&mut self, controller: &'static str, file: impl Into<Cow<'static, str>>, value: impl ToString) {
        self.push(Write::new(controller, file, value));
    }

    fn push(&mut self, write: Write) {
        self.list.push(Step::Write(write));
    }
}

impl Write {
    fn new(
        controller: impl Into<Cow<'static, str>>,
        file: impl Into<Cow<'static, str>>,
        value: impl ToString,
    ) -> Self {
        let (controller, file) = (controller.into(), file.into());
        Self { controller, file, value: value.to_string(), missing: Missing::Refuse, again: false }
    }

    fn or_skip(self) -> Self {
        Self { missing: Missing::Skip, ..self }
    }

    fn or(self, file: &'static str, value: impl ToString) -> Self {
        Self { missing: Missing::Instead { file, value: value.to_string() }, ..self }
    }

    fn or_again(self) -> Self {
        Self { again: true, ..self }
    }
}

/// A limit as v2 writes it; a negative one is none.
fn or_max(limit: i64) -> String {
    if limit < 0 { "max".to_owned() } else { limit.to_string() }
}

/// A line per step: `memory.max = 1048576`.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|step| writeln!(f, "{step}"))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write(Write { file, value, missing, .. }) => {
                write!(f, "{file} = {}", value.replace('\n', "; "))?;
                match missing {
                    Missing::Refuse => Ok(()),
                    Missing::Skip => f.write_str(" (where there is such a file)"),
                    Missing::Instead { file, value } => write!(f, " (else {file} = {value})"),
                }
            }
            Self::Filter(rules) => {
                f.write_str("device filter: ")?;
                let text = |rule: &Rule| format!("{} {rule}", if rule.allow { "allow" } else { "deny" });
                f.write_str(&rules.iter().map(text).collect::<Vec<_>>().join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests;
