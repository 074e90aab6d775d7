//! Limits that make no sense, in the words that users of runc know where there are such.

/// Why limits were refused before anything was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// v2 knows the swap limit only as what is over the memory limit.
    #[error("unable to set swap limit without memory limit")]
    SwapWithoutMemory,
    /// A sum that is less than its part.
    #[error("memory+swap limit should be >= memory limit")]
    SwapBelowMemory,
    /// Neither bytes nor -1.
    #[error("invalid memory value: {0}")]
    Memory(i64),
    /// Not a percentage.
    #[error("invalid memory swappiness value: {0} (valid range is 0-100)")]
    Swappiness(u64),
    /// A limit below what is used, where the configuration asks for a check.
    #[error("rejecting memory limit {limit} <= usage {usage}")]
    MemoryInUse {
        /// What was asked for.
        limit: i64,
        /// What is used.
        usage: u64,
    },
    /// The same for memory and swap together.
    #[error("rejecting memory+swap limit {limit} <= usage {usage}")]
    SwapInUse {
        /// What was asked for.
        limit: i64,
        /// What is used.
        usage: u64,
    },
    /// v2 has no realtime groups.
    #[error("cpu.{0}: cgroup v2 has no realtime scheduling groups")]
    Realtime(&'static str),
    /// Beyond what the kernel takes on v1.
    #[error("the maximum allowed cpu-shares is 262144")]
    SharesTooMany,
    /// Below it.
    #[error("the minimum allowed cpu-shares is 2")]
    SharesTooFew,
    /// Neither 0 nor 1.
    #[error("invalid cpu.idle value: {0} (it is 0 or 1)")]
    Idle(i64),
    /// Not a list of numbers and ranges.
    #[error("invalid cpu.{field} list {list:?}: it is written as in 0-3,7")]
    Set {
        /// `cpus` or `mems`.
        field: &'static str,
        /// What was given.
        list: String,
    },
    /// The kernel's range of weights.
    #[error("invalid blockIO weight {0}: it is 10 to 1000")]
    Weight(u16),
    /// v2 has no second weight.
    #[error("blockIO.leafWeight: cgroup v2 has none")]
    LeafWeight,
    /// Not the name of a page size.
    #[error("invalid hugepageLimits pageSize {0:?}: it is written as in 2MB or 1GB")]
    PageSize(String),
    /// v2 has no such controllers.
    #[error("network.{0}: cgroup v2 has no such controller")]
    Network(&'static str),
    /// The name of an interface or of a device that would be read as something else.
    #[error("invalid {field} name {name:?}")]
    Name {
        /// Where.
        field: &'static str,
        /// What was given.
        name: String,
    },
    /// `unified` on v1.
    #[error("invalid configuration: cannot use unified on cgroup v1")]
    UnifiedOnV1,
    /// A path where a name is wanted.
    #[error("unified resource {0:?} must be a file name (no slashes)")]
    UnifiedPath(String),
    /// A name of no controller's file.
    #[error("unified resource {0:?} must be in the form CONTROLLER.PARAMETER")]
    UnifiedName(String),
    /// A device number that the kernel does not have.
    #[error("invalid device number {0} in resources.devices")]
    DeviceNumber(i64),
    /// A type of file that no rule speaks of.
    #[error("invalid device type {0:?} in resources.devices: it is a, b or c")]
    DeviceType(&'static str),
    /// Letters other than those three.
    #[error("invalid device access {0:?} in resources.devices: it is made of r, w and m")]
    DeviceAccess(String),
    /// A rule that denies a part of what an earlier one allows.
    #[error("requested rule [{0}] not supported by devices cgroupv1 (cannot punch hole in existing rule)")]
    DeviceHole(String),
    /// A `cgroupsPath` for systemd that is not one.
    #[error(
        "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {0:?} instead"
    )]
    SystemdPath(String),
    /// The name of no slice.
    #[error("invalid slice name: {0}")]
    Slice(String),
    /// An annotation that sets a unit's property to something unreadable.
    #[error("annotation {name}={value}: {problem}")]
    Annotation {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}
