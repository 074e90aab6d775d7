//! Who makes the cgroups of pods.

use clap::ValueEnum;
use hull_shim::cgroup::systemd::pod::usual_manager;
use hull_shim::wire::CgroupManager;

/// The flag of `apply` and `run` that speaks of cgroups.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct CgroupFlags {
    /// Who makes the cgroups of pods: systemd, as a scope of each pod in hull.slice, or hull itself below /hull; auto is
    /// systemd where it is the init of a host with cgroup v2 alone.
    #[arg(long, value_enum, default_value_t = Choice::Auto, value_name = "WHO", env = "HULL_CGROUP_MANAGER")]
    cgroup_manager: Choice,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Choice {
    /// As the host has it.
    Auto,
    /// systemd.
    Systemd,
    /// hull.
    Cgroupfs,
}

impl CgroupFlags {
    /// Who it is on this host.
    pub(super) fn manager(self) -> CgroupManager {
        match self.cgroup_manager {
            Choice::Auto => usual_manager(),
            Choice::Systemd => CgroupManager::Systemd,
            Choice::Cgroupfs => CgroupManager::Cgroupfs,
        }
    }
}
