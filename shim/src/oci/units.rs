//! `--systemd-cgroup`: a container's group is a unit that systemd makes (oci-runtime.md section 4.12).
//!
//! systemd makes a scope around a process that exists. The init is born in its group, so the scope is first made around
//! a process of no other use, which ends when the init is there.

use std::path::Path;

use oci_spec::runtime::{LinuxResources, Spec};

use super::error::Error;
use super::make::refuse;
use super::store::Id;
use crate::cgroup::Group;
pub(crate) use crate::cgroup::systemd::Placeholder;
use crate::cgroup::systemd::Unit;
use crate::cgroup::systemd::manager::{Manager, Owner};
use crate::cgroup::systemd::properties::{self, Target};

/// Whose systemd: the caller's own.
fn owner() -> Owner {
    if nix::unistd::geteuid().is_root() {
        return Owner::System;
    }
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").unwrap_or_default();
    Owner::User { runtime: runtime.into(), bus: std::env::var("DBUS_SESSION_BUS_ADDRESS").ok() }
}

fn connect(owner: &Owner) -> Result<Manager, Error> {
    Manager::connect(owner).map_err(refuse)
}

/// The unit that a configuration asks for, and its group.
pub(crate) fn find(path: Option<&Path>, id: &Id) -> Result<(Unit, Group), Error> {
    let owner = owner();
    let slice = if owner == Owner::System { "system.slice" } else { "user.slice" };
    let text = path.map(|path| path.to_string_lossy().into_owned());
    let unit = Unit::from_oci_path(text.as_deref(), id.as_str(), slice).map_err(refuse)?;
    let below = unit.path().map_err(refuse)?;
    let path = match owner {
        Owner::System => below,
        Owner::User { .. } => {
            let own = connect(&owner)?.control_group().map_err(refuse)?;
            own.join(below.strip_prefix("/").unwrap_or(&below))
        }
    };
    Ok((unit, Group::from_oci_path(Some(&path), id.as_str())?))
}

/// Has systemd make a unit with the limits of a configuration.
pub(crate) fn start(unit: &Unit, group: &Group, spec: &Spec) -> Result<Option<Placeholder>, Error> {
    let mut manager = connect(&owner())?;
    // A slice holds other units, and no process.
    let held = || Placeholder::start().map_err(Error::kernel("make a process to hold the unit"));
    let placeholder = if unit.is_slice() { None } else { Some(held()?) };
    let resources = resources(spec);
    let annotations = spec.annotations().clone().unwrap_or_default();
    let devices = std::fs::read_to_string("/proc/devices").unwrap_or_default();
    let systemd = manager.version().map_err(refuse)?;
    let target = Target { version: group.version(), systemd, devices: &devices };
    let pid = placeholder.as_ref().and_then(Placeholder::pid);
    let wanted = properties::of_new_unit(unit, pid, &resources, &annotations, target).map_err(refuse)?;
    let made = if unit.is_slice() {
        // The kubelet makes sure of one that may be there, as it may under runc.
        let limits = properties::of_limits(&resources, target).map_err(refuse)?;
        manager.ensure(&unit.name, &wanted, &limits)
    } else {
        manager.start(&unit.name, &wanted)
    };
    made.map_err(refuse)?;
    Ok(placeholder)
}

fn resources(spec: &Spec) -> LinuxResources {
    spec.linux().as_ref().and_then(|linux| linux.resources().clone()).unwrap_or_default()
}

/// Tells systemd of other limits, so that it does not set the old ones again.
pub(crate) fn update(unit: &str, group: &Group, resources: &LinuxResources) -> Result<(), Error> {
    let mut manager = connect(&owner())?;
    let systemd = manager.version().map_err(refuse)?;
    let target = Target { version: group.version(), systemd, devices: "" };
    let wanted = properties::of_limits(resources, target).map_err(refuse)?;
    manager.set(unit, &wanted).map_err(refuse)
}

/// Ends a unit.
pub(crate) fn stop(unit: &str) -> Result<(), Error> {
    connect(&owner())?.stop(unit).map_err(refuse)
}
