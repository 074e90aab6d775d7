//! A pod's cgroup on a host with systemd: a scope of its own in `hull.slice`, so that `systemctl status` and systemd's
//! accounting show it, and systemd lets alone what is in it (`Delegate=yes`); systemd.scope(5).
//!
//! ```text
//! hull.slice/hull-pod<uid>.scope/   systemd's; has no process
//!     pod<uid>/                     hull's, with the pod's limits
//! ```
//! systemd forgets the scope when the last process in it has ended.

use std::path::{Path, PathBuf};

use super::bus::Error as BusError;
use super::manager::{Manager, Owner};
use super::message::Value;
use super::properties::Property;
use super::{Placeholder, Unit};
use crate::cgroup::resources::Version;
use crate::cgroup::{Error as CgroupError, Group};
use crate::harmless;
use crate::wire::{CgroupManager, SandboxConfig};

const SLICE: &str = "hull.slice";
/// A leaf of the scope, for the process that systemd made it around: a group with processes can have no children with
/// controllers.
const START: &str = "start";

/// Why there is no scope for a pod.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A scope that holds what v1 hierarchies have of a pod does not exist.
    #[error("the cgroup manager systemd needs cgroup v2 alone; try: hull apply --cgroup-manager cgroupfs")]
    Version,
    /// The process that the scope begins with.
    #[error("make a process to hold the unit {unit}")]
    Placeholder {
        /// The scope.
        unit: String,
        /// Why not.
        #[source]
        source: nix::Error,
    },
    /// systemd refuses it, or is not there.
    #[error("have systemd make the unit {unit}")]
    Systemd {
        /// The scope.
        unit: String,
        /// What it said.
        #[source]
        source: BusError,
    },
    /// A group in the scope.
    #[error(transparent)]
    Group(#[from] CgroupError),
}

/// Who makes groups where nobody says it: systemd where it is the host's init (sd_booted(3)) and cgroups are v2 alone.
#[must_use]
pub fn usual_manager() -> CgroupManager {
    let is_booted = std::fs::symlink_metadata("/run/systemd/system").is_ok_and(|about| about.is_dir());
    let is_v2 = matches!(crate::cgroup::Hierarchies::find(), Ok(crate::cgroup::Hierarchies::V2(_)));
    if is_booted && is_v2 { CgroupManager::Systemd } else { CgroupManager::Cgroupfs }
}

/// The scope of a pod, below the root of the hierarchy.
pub(crate) fn scope(uid: &str) -> PathBuf {
    Path::new(SLICE).join(unit(uid).name)
}

fn unit(uid: &str) -> Unit {
    Unit { slice: SLICE.to_owned(), name: format!("hull-pod{uid}.scope") }
}

/// What holds a pod's scope until pause is in it.
#[derive(Debug)]
pub(crate) struct Held {
    /// None once it was killed.
    placeholder: Option<Placeholder>,
    leaf: Group,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.placeholder = None;
        // Where it is busy it goes with the scope.
        harmless(self.leaf.remove());
    }
}

/// Has systemd make the scope that `group`, a pod's, is to be in.
///
/// # Errors
/// systemd refuses it, or does not get it done in half a minute.
pub(crate) fn start(group: &Group, config: &SandboxConfig) -> Result<Held, Error> {
    let unit = unit(&config.uid);
    let scope = group.parent().filter(|_| group.version() == Version::V2).ok_or(Error::Version)?;
    let placeholder =
        Placeholder::start().map_err(|source| Error::Placeholder { unit: unit.name.clone(), source })?;
    let wanted = properties(&unit, &format!("pod {}/{}", config.namespace, config.name), placeholder.pid());
    ask(&unit, &wanted).map_err(|source| Error::Systemd { unit: unit.name.clone(), source })?;
    let held = Held { placeholder: Some(placeholder), leaf: scope.child(START) };
    // Controllers come with the pod's own group: here is a process still.
    held.leaf.create_alone()?;
    scope.move_to(&held.leaf)?;
    Ok(held)
}

fn ask(unit: &Unit, wanted: &[Property]) -> Result<(), BusError> {
    let mut manager = Manager::connect(&Owner::System)?;
    match manager.start(&unit.name, wanted) {
        Err(BusError::Answer { name, .. }) if name == "org.freedesktop.systemd1.UnitExists" => {
            // That of an earlier sandbox, which systemd is about to forget.
            manager.stop(&unit.name)?;
            manager.start(&unit.name, wanted)
        }
        started => started,
    }
}

/// What `StartTransientUnit` is given. Limits are those of the group inside: here is room for all that it may use.
pub(super) fn properties(unit: &Unit, description: &str, pid: Option<u32>) -> Vec<Property> {
    let text = |text: &str| Value::Text(text.to_owned());
    let pids = pid.into_iter().map(Value::U32).collect();
    let accounting = ["CPUAccounting", "MemoryAccounting", "TasksAccounting", "IOAccounting"];
    let all = [
        ("Description", text(description)),
        ("Slice", text(&unit.slice)),
        ("Delegate", Value::Bool(true)),
        ("PIDs", Value::Array("u".to_owned(), pids)),
        ("TasksMax", Value::U64(u64::MAX)),
        // At shutdown the slice takes its scopes along: only after hull.service has ended its pods, each within its grace
        // period. What is left has as long as Kubernetes gives a pod by default.
        ("DefaultDependencies", Value::Bool(false)),
        ("Before", Value::Array("s".to_owned(), vec![text("hull.service")])),
        ("TimeoutStopUSec", Value::U64(30_000_000)),
        ("CollectMode", text("inactive-or-failed")),
    ];
    let all = all.into_iter().chain(accounting.map(|name| (name, Value::Bool(true))));
    all.map(|(name, value)| Property { name: name.to_owned(), value }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scope_of_a_pod_is_in_the_slice_of_all() {
        assert_eq!(scope("0a-1b"), Path::new("hull.slice/hull-pod0a-1b.scope"));
        assert_eq!(unit("0a-1b").path(), Ok(Path::new("/").join(scope("0a-1b"))));
    }

    #[test]
    fn the_scope_of_a_pod_is_delegated_and_limits_nothing() {
        let all = properties(&unit("7"), "pod default/web", Some(12));
        let value = |name: &str| all.iter().find(|one| one.name == name).map(|one| one.value.clone());
        assert_eq!(value("Delegate"), Some(Value::Bool(true)));
        assert_eq!(value("TasksMax"), Some(Value::U64(u64::MAX)));
        assert_eq!(value("PIDs"), Some(Value::Array("u".to_owned(), vec![Value::U32(12)])));
        assert_eq!(value("MemoryMax"), None);
    }
}
