//! Containers in units of systemd, from start to stop: what `hull-oci --systemd-cgroup` does instead of making
//! directories.
//!
//! systemd makes no scope without a process in it, and the container's first process is to be born in its group. So
//! the scope begins with a placeholder, a copy of the caller that waits to be killed, and loses it once the
//! container is there ([`Started`]).

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;

use super::bus;
use super::manager::{Manager, Owner};
use super::properties::{Target, of_limits, of_new_unit};
use super::{Invalid, Unit};
use crate::cgroup::{self, Group};
use crate::harmless;
use crate::sys::pidfd;
use crate::sys::process::{self, Child};

/// Why a container's unit could not be made or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// systemd cannot or will not.
    #[error(transparent)]
    Bus(#[from] bus::Error),
    /// A unit was refused.
    #[error("unable to {operation} unit {unit:?}")]
    Unit {
        /// What was done.
        operation: &'static str,
        /// With which unit.
        unit: String,
        /// Why it failed.
        #[source]
        source: bus::Error,
    },
    /// The limits make no sense.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// There are no cgroups.
    #[error(transparent)]
    Group(#[from] cgroup::Error),
    /// There can be no other process.
    #[error("fork a placeholder for unit {unit:?}")]
    Placeholder {
        /// For which unit.
        unit: String,
        /// Why it failed.
        #[source]
        source: nix::Error,
    },
}

/// A connection to a manager, and what is to be known of it.
#[derive(Debug)]
pub struct Driver {
    manager: Manager,
    version: u32,
    /// The group of the manager itself, below which its slices are.
    base: PathBuf,
    devices: String,
}

/// A unit that was started and is kept by a placeholder until this is dropped: after the container's first process
/// is in the group, or when there will be none.
#[derive(Debug)]
pub struct Started {
    placeholder: Child,
}

impl Drop for Started {
    fn drop(&mut self) {
        // It may have been killed with its group.
        harmless(pidfd::signal(self.placeholder.pidfd.as_fd(), libc::SIGKILL));
        process::reap_child(self.placeholder.pidfd.as_fd());
    }
}

impl Driver {
    /// Connects to a manager.
    ///
    /// # Errors
    /// There is no systemd, or it does not let us in.
    pub fn connect(owner: &Owner) -> Result<Self, Error> {
        let mut manager = Manager::connect(owner)?;
        let version = manager.version()?;
        let base = match owner {
            Owner::System => PathBuf::from("/"),
            Owner::User { .. } => manager.control_group()?,
        };
        // Without it devices go by their numbers.
        let devices = std::fs::read_to_string("/proc/devices").unwrap_or_default();
        Ok(Self { manager, version, base, devices })
    }

    /// Where the group of a unit is or will be.
    ///
    /// # Errors
    /// There are no cgroups.
    pub fn group(&self, unit: &Unit) -> Result<Group, Error> {
        let below = unit.path()?;
        let path = self.base.join(below.strip_prefix("/").unwrap_or(Path::new("")));
        Ok(Group::from_oci_path(Some(&path), "")?)
    }

    /// Starts a unit with its limits. The group is there then; `Group::create` adds hierarchies that systemd does not
    /// use, and `Group::apply` sets what it does not know. For a process of one thread.
    ///
    /// # Errors
    /// The limits or the annotations make no sense, or systemd refuses the unit.
    pub fn start(
        &mut self,
        unit: &Unit,
        group: &Group,
        resources: &LinuxResources,
        annotations: &HashMap<String, String>,
    ) -> Result<Started, Error> {
        let fail = |source| Error::Placeholder { unit: unit.name.clone(), source };
        let placeholder = process::spawn(nix::sched::CloneFlags::empty(), None, &(), wait).map_err(fail)?;
        let started = Started { placeholder };
        let pid = u32::try_from(started.placeholder.pid).ok().filter(|_| !unit.is_slice());
        let properties = of_new_unit(unit, pid, resources, annotations, self.target(group))?;
        let fail = |source| Error::Unit { operation: "start", unit: unit.name.clone(), source };
        self.manager.start(&unit.name, &properties).map_err(fail)?;
        Ok(started)
    }

    /// Tells systemd of new limits, so that it does not put the old ones back; the group's files are for
    /// `Group::update`.
    ///
    /// # Errors
    /// The limits make no sense, or systemd refuses them.
    pub fn update(&mut self, unit: &str, group: &Group, resources: &LinuxResources) -> Result<(), Error> {
        let properties = of_limits(resources, self.target(group))?;
        let fail = |source| Error::Unit { operation: "set properties of", unit: unit.to_owned(), source };
        self.manager.set(unit, &properties).map_err(fail)
    }

    /// Stops a unit. What `Group::create` added is for `Group::remove_within`.
    ///
    /// # Errors
    /// systemd does not get it done.
    pub fn stop(&mut self, unit: &str) -> Result<(), Error> {
        let fail = |source| Error::Unit { operation: "stop", unit: unit.to_owned(), source };
        self.manager.stop(unit).map_err(fail)
    }

    fn target(&self, group: &Group) -> Target<'_> {
        Target { version: group.version(), systemd: self.version, devices: &self.devices }
    }
}

/// The placeholder: does nothing, and ends with its parent.
fn wait(&(): &()) -> ! {
    if process::die_with_parent(libc::SIGKILL).is_err() {
        process::leave(1);
    }
    loop {
        nix::unistd::pause();
    }
}
