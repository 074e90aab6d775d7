//! New limits for a group that is at work: all of them, or those of before.

use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxResources};

use super::apply::Performer;
use super::resources::{Devices, Plan, Version, plan};
use super::{Error, Group};
use crate::harmless;

impl Group {
    /// Sets what `change` names and leaves the rest; device rules stay as they are. `announce` is given all limits that are
    /// to hold before any is set, and the old ones if that fails: whoever it tells may write to the same files, and
    /// coarser. `keep` is given all that hold then, to be kept as `stored` of the next time.
    ///
    /// # Errors
    /// The change makes no sense, the kernel refuses a part of it, or it cannot be announced or kept; then the old limits
    /// are back.
    pub fn update<E: From<Error>>(
        &self,
        stored: &LinuxResources,
        change: &LinuxResources,
        announce: impl Fn(&LinuxResources) -> Result<(), E>,
        keep: impl FnOnce(LinuxResources) -> Result<(), E>,
    ) -> Result<(), E> {
        let plan = self.plan_update(stored, change)?;
        let merged = merge(stored, change);
        let mut performer = Performer::new(self);
        performer.remember(&plan);
        let performed = announce(&merged).and_then(|()| performer.perform(&plan).map_err(E::from));
        let kept = performed.and_then(|()| keep(merged));
        if kept.is_err() {
            // The failure is what the caller hears of.
            harmless(announce(stored));
            performer.restore();
        }
        kept
    }

    /// What [`Group::update`] would write.
    ///
    /// # Errors
    /// The change makes no sense.
    pub fn plan_update(&self, stored: &LinuxResources, change: &LinuxResources) -> Result<Plan, Error> {
        let change = complete(stored, change, self.version());
        Ok(plan(&change, self.version(), Devices::Leave, &self.live())?)
    }
}

/// The change, and the stored halves of what the kernel takes whole only: quota and period, and on v2 the memory
/// limit that a limit of memory and swap is counted from.
fn complete(stored: &LinuxResources, change: &LinuxResources, version: Version) -> LinuxResources {
    let mut whole = change.clone();
    if let (Some(cpu), Some(old)) = (whole.cpu_mut(), stored.cpu()) {
        let (quota, period) = (cpu.quota().filter(|it| *it != 0), cpu.period().filter(|it| *it != 0));
        if quota.is_some() != period.is_some() {
            cpu.set_quota(quota.or(old.quota()));
            cpu.set_period(period.or(old.period()));
        }
    }
    if let (Some(memory), Some(old), Version::V2) = (whole.memory_mut(), stored.memory(), version) {
        let is_set = |value: Option<i64>| value.is_some_and(|value| value != 0);
        if is_set(memory.swap()) && !is_set(memory.limit()) {
            memory.set_limit(old.limit());
        }
    }
    if let (Some(memory), Some(old)) = (whole.memory_mut(), stored.memory()) {
        memory.set_check_before_update(memory.check_before_update().or(old.check_before_update()));
    }
    whole
}

/// The stored limits with the change laid over them, field by field.
#[must_use]
pub fn merge(stored: &LinuxResources, change: &LinuxResources) -> LinuxResources {
    let mut merged = stored.clone();
    if let Some(new) = change.cpu() {
        merged.set_cpu(Some(merge_cpu(&stored.cpu().clone().unwrap_or_default(), new)));
    }
    if let Some(new) = change.memory() {
        merged.set_memory(Some(merge_memory(stored.memory().unwrap_or_default(), *new)));
    }
    if let Some(pids) = change.pids() {
        merged.set_pids(Some(*pids));
    }
    if let Some(new) = change.block_io() {
        let mut block = stored.block_io().clone().unwrap_or_default();
        macro_rules! lay_over {
            ($($field:ident $set:ident),*) => {
                $(if new.$field().is_some() { block.$set(new.$field().clone()); })*
            };
        }
        lay_over!(weight set_weight, leaf_weight set_leaf_weight, weight_device set_weight_device);
        lay_over!(throttle_read_bps_device set_throttle_read_bps_device);
        lay_over!(throttle_write_bps_device set_throttle_write_bps_device);
        lay_over!(throttle_read_iops_device set_throttle_read_iops_device);
        lay_over!(throttle_write_iops_device set_throttle_write_iops_device);
        merged.set_block_io(Some(block));
    }
    if change.hugepage_limits().is_some() {
        merged.set_hugepage_limits(change.hugepage_limits().clone());
    }
    if change.network().is_some() {
        merged.set_network(change.network().clone());
    }
    if change.rdma().is_some() {
        merged.set_rdma(change.rdma().clone());
    }
    if let Some(new) = change.unified() {
        let mut unified = stored.unified().clone().unwrap_or_default();
        unified.extend(new.clone());
        merged.set_unified(Some(unified));
    }
    merged
}

/// A number of which 0 says that it is not set.
fn given<T: Default + PartialEq>(value: Option<T>) -> Option<T> {
    value.filter(|value| *value != T::default())
}

fn merge_cpu(old: &LinuxCpu, new: &LinuxCpu) -> LinuxCpu {
    let mut cpu = old.clone();
    cpu.set_shares(given(new.shares()).or(old.shares()));
    // An idle group has no weight of its own any more.
    if new.idle() == Some(1) && given(new.shares()).is_none() {
        cpu.set_shares(None);
    }
    cpu.set_quota(given(new.quota()).or(old.quota()));
    cpu.set_period(given(new.period()).or(old.period()));
    cpu.set_burst(new.burst().or(old.burst()));
    cpu.set_idle(new.idle().or(old.idle()));
    cpu.set_realtime_runtime(given(new.realtime_runtime()).or(old.realtime_runtime()));
    cpu.set_realtime_period(given(new.realtime_period()).or(old.realtime_period()));
    cpu.set_cpus(given(new.cpus().clone()).or(old.cpus().clone()));
    cpu.set_mems(given(new.mems().clone()).or(old.mems().clone()));
    cpu
}

fn merge_memory(old: LinuxMemory, new: LinuxMemory) -> LinuxMemory {
    let mut memory = old;
    memory.set_limit(given(new.limit()).or(old.limit()));
    memory.set_reservation(given(new.reservation()).or(old.reservation()));
    let swap = match (new.limit(), given(new.swap())) {
        (Some(-1), None) => Some(-1),
        (_, swap) => swap.or(old.swap()),
    };
    memory.set_swap(swap);
    memory.set_swappiness(new.swappiness().or(old.swappiness()));
    memory.set_disable_oom_killer(new.disable_oom_killer().or(old.disable_oom_killer()));
    memory.set_check_before_update(new.check_before_update().or(old.check_before_update()));
    memory
}
