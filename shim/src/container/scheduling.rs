//! How a container's processes are scheduled: `scheduler`, `ioPriority` and `execCPUAffinity` of `process`, `personality` and
//! `memoryPolicy` of `linux`. Errors are in runc's words.

use oci_spec::runtime::{
    IOPriorityClass, LinuxIOPriority, LinuxMemoryPolicy, LinuxPersonality, LinuxPersonalityDomain,
    LinuxSchedulerFlag as Flag, LinuxSchedulerPolicy as Policy, MemoryPolicyFlagType as MemoryFlag,
    MemoryPolicyModeType as Mode, Scheduler, Spec,
};

use super::identity::Error;
use super::transform::{Problem, Scheduled, Step};
use crate::sys::scheduling::{self as system, Scheduling as Attributes};

/// Everything of it, in the kernel's terms.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Scheduling {
    scheduler: Option<Attributes>,
    io_priority: Option<u32>,
    personality: Option<u32>,
    memory: Option<(u32, Vec<u64>)>,
    /// CPUs of an exec'd process until it is in its cgroup, and from then on.
    initial: Option<Vec<u64>>,
    last: Option<Vec<u64>>,
}

impl Scheduling {
    /// Reads it.
    pub(crate) fn new(spec: &Spec) -> Result<Self, Error> {
        let process = spec.process().as_ref();
        let linux = spec.linux().as_ref();
        let affinity = process.and_then(|process| process.exec_cpu_affinity().as_ref());
        let cpus = |list: Option<&String>| {
            let list = list.filter(|list| !list.is_empty());
            list.map(|list| numbers("CPU affinity", list)).transpose()
        };
        let scheduler = process.and_then(|process| process.scheduler().as_ref());
        let io = process.and_then(|process| process.io_priority().as_ref());
        let memory = linux.and_then(|linux| linux.memory_policy().as_ref());
        Ok(Self {
            scheduler: scheduler.map(attributes).transpose()?,
            io_priority: io.map(io_priority).transpose()?,
            personality: linux.and_then(|linux| linux.personality().as_ref()).map(personality).transpose()?,
            memory: memory.map(memory_policy).transpose()?,
            initial: cpus(affinity.and_then(|affinity| affinity.initial().as_ref()))?,
            last: cpus(affinity.and_then(|affinity| affinity.cpu_affinity_final().as_ref()))?,
        })
    }

    /// For every process of the container. Allocates nothing.
    pub(crate) fn apply(&self) -> Result<(), Problem> {
        let failed = |what| Problem::at(Step::Scheduling(what));
        if let Some(attributes) = &self.scheduler {
            system::schedule(attributes).map_err(failed(Scheduled::Scheduler))?;
        }
        if let Some(priority) = self.io_priority {
            system::prioritize_io(priority).map_err(failed(Scheduled::IoPriority))?;
        }
        if let Some(persona) = self.personality {
            system::set_personality(persona).map_err(failed(Scheduled::Personality))?;
        }
        if let Some((mode, nodes)) = &self.memory {
            system::set_memory_policy(*mode, nodes).map_err(failed(Scheduled::MemoryPolicy))?;
        }
        Ok(())
    }

    /// For an exec'd process, before it enters its cgroup.
    pub(crate) fn narrow_joining(&self) -> Result<(), Problem> {
        self.narrow(self.initial.as_deref())
    }

    /// For an exec'd process in its cgroup.
    pub(crate) fn narrow_joined(&self) -> Result<(), Problem> {
        self.narrow(self.last.as_deref())
    }

    fn narrow(&self, cpus: Option<&[u64]>) -> Result<(), Problem> {
        let failed = Problem::at(Step::Scheduling(Scheduled::Cpus));
        cpus.map_or(Ok(()), |cpus| system::set_cpus(cpus).map_err(failed))
    }
}

fn invalid<T>(text: String) -> Result<T, Error> {
    Err(Error::Invalid(text))
}

fn attributes(wanted: &Scheduler) -> Result<Attributes, Error> {
    let policy = *wanted.policy();
    let (nice, priority) = (wanted.nice().unwrap_or_default(), wanted.priority().unwrap_or_default());
    if matches!(policy, Policy::SchedOther | Policy::SchedBatch) && !(-20..=19).contains(&nice) {
        return invalid(format!("invalid scheduler.nice: {nice} when scheduler.policy is {policy}"));
    }
    let Ok(rank) = u32::try_from(priority) else {
        return invalid(format!("invalid scheduler.priority: {priority} is negative"));
    };
    if priority != 0 && !matches!(policy, Policy::SchedFifo | Policy::SchedRr) {
        return invalid(
            "scheduler.priority can only be specified for SchedFIFO or SchedRR policy".to_owned(),
        );
    }
    let times = [wanted.runtime(), wanted.deadline(), wanted.period()].map(|time| time.unwrap_or_default());
    if policy != Policy::SchedDeadline && times.iter().any(|time| *time != 0) {
        return invalid(
            "scheduler runtime/deadline/period can only be specified for SchedDeadline policy".to_owned(),
        );
    }
    let flags = wanted.flags().iter().flatten().fold(0, |all, one| {
        all | match one {
            Flag::SchedResetOnFork => 1,
            Flag::SchedFlagReclaim => 1 << 1,
            Flag::SchedFlagDLOverrun => 1 << 2,
            Flag::SchedFlagKeepPolicy => 1 << 3,
            Flag::SchedFlagKeepParams => 1 << 4,
            Flag::SchedFlagUtilClampMin => 1 << 5,
            Flag::SchedFlagUtilClampMax => 1 << 6,
        }
    });
    let [runtime, deadline, period] = times;
    Ok(Attributes {
        policy: match policy {
            Policy::SchedOther => 0,
            Policy::SchedFifo => 1,
            Policy::SchedRr => 2,
            Policy::SchedBatch => 3,
            Policy::SchedIso => 4,
            Policy::SchedIdle => 5,
            Policy::SchedDeadline => 6,
        },
        flags,
        nice,
        priority: rank,
        runtime,
        deadline,
        period,
        ..Attributes::default()
    })
}

fn io_priority(wanted: &LinuxIOPriority) -> Result<u32, Error> {
    const CLASS_SHIFT: u32 = 13;
    let class: u32 = match wanted.class() {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    };
    match u32::try_from(wanted.priority()) {
        Ok(priority @ 0..=7) => Ok(class << CLASS_SHIFT | priority),
        Ok(_) | Err(_) => invalid(format!("invalid ioPriority.Priority: {}", wanted.priority())),
    }
}

fn personality(wanted: &LinuxPersonality) -> Result<u32, Error> {
    if wanted.flags().as_ref().is_some_and(|flags| !flags.is_empty()) {
        return invalid("personality flags not supported by runc".replace("runc", "this runtime"));
    }
    Ok(match wanted.domain() {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => 8,
    })
}

fn memory_policy(wanted: &LinuxMemoryPolicy) -> Result<(u32, Vec<u64>), Error> {
    let mode = match wanted.mode() {
        Mode::MpolDefault => 0,
        Mode::MpolPreferred => 1,
        Mode::MpolBind => 2,
        Mode::MpolInterleave => 3,
        Mode::MpolLocal => 4,
        Mode::MpolPreferredMany => 5,
        Mode::MpolWeightedInterleave => 6,
    };
    let flags = wanted.flags().iter().flatten().fold(0, |all, one| {
        all | match one {
            MemoryFlag::MpolFNumaBalancing => 1 << 13,
            MemoryFlag::MpolFRelativeNodes => 1 << 14,
            MemoryFlag::MpolFStaticNodes => 1 << 15,
        }
    });
    let list = wanted.nodes().as_deref().unwrap_or_default();
    let nodes = if list.is_empty() { Vec::new() } else { numbers("memory policy nodes", list)? };
    let count: u32 = nodes.iter().map(|word| word.count_ones()).sum();
    match wanted.mode() {
        Mode::MpolDefault | Mode::MpolLocal if count > 0 => {
            return invalid(format!("memory policy mode requires 0 nodes but got {count}"));
        }
        Mode::MpolBind | Mode::MpolInterleave | Mode::MpolWeightedInterleave | Mode::MpolPreferredMany
            if count == 0 =>
        {
            return invalid("memory policy mode requires at least one node but got 0".to_owned());
        }
        Mode::MpolDefault
        | Mode::MpolLocal
        | Mode::MpolBind
        | Mode::MpolInterleave
        | Mode::MpolWeightedInterleave
        | Mode::MpolPreferredMany
        | Mode::MpolPreferred => {}
    }
    Ok((mode | flags, nodes))
}

/// Most numbers that a list may name; the kernel has fewer CPUs and nodes.
const HIGHEST: usize = 8191;

/// The bits of a list such as `0-3,7`.
fn numbers(what: &str, list: &str) -> Result<Vec<u64>, Error> {
    let bad = || Error::Invalid(format!("invalid {what} {list:?}: give numbers and ranges, as in 0-3,7"));
    let mut words: Vec<u64> = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<usize>().ok().filter(|number| *number <= HIGHEST);
        let (first, last) = (number(first).ok_or_else(bad)?, number(last).ok_or_else(bad)?);
        if first > last {
            return Err(bad());
        }
        for one in first..=last {
            let word = one / 64;
            if words.len() <= word {
                words.resize(word + 1, 0);
            }
            if let Some(word) = words.get_mut(word) {
                *word |= 1 << (one % 64);
            }
        }
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_numbers_become_bits() {
        assert_eq!(numbers("x", "0-3,7").unwrap(), [0b1000_1111]);
        assert_eq!(numbers("x", "64").unwrap(), [0, 1]);
        assert!(numbers("x", "3-1").is_err() && numbers("x", "a").is_err() && numbers("x", "99999").is_err());
    }

    #[test]
    fn a_priority_that_its_policy_does_not_have_is_refused() {
        let read = |json: &str| attributes(&serde_json::from_str(json).unwrap());
        assert_eq!(read("{\"policy\":\"SCHED_FIFO\",\"priority\":5}").unwrap().priority, 5);
        let error = read("{\"policy\":\"SCHED_OTHER\",\"priority\":5}").unwrap_err();
        assert_eq!(
            error.to_string(),
            "scheduler.priority can only be specified for SchedFIFO or SchedRR policy"
        );
        assert!(read("{\"policy\":\"SCHED_OTHER\",\"nice\":40}").is_err());
        assert!(read("{\"policy\":\"SCHED_FIFO\",\"priority\":-1}").is_err());
        let io = |json: &str| io_priority(&serde_json::from_str(json).unwrap());
        assert_eq!(io("{\"class\":\"IOPRIO_CLASS_BE\",\"priority\":4}").unwrap(), 2 << 13 | 4);
        assert!(io("{\"class\":\"IOPRIO_CLASS_BE\",\"priority\":9}").is_err());
    }
}
