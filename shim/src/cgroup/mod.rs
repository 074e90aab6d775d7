//! Control groups: a pod's is `hull/pod<uid>`, or `pod<uid>` in a scope that systemd made for it ([`systemd::pod`]), below it one group per instance, which on v1 is not in every hierarchy ([`Group::sharing`]), and one per exec'd process; an OCI
//! container's is where its `cgroupsPath` says.
//!
//! cgroups(7). On a host with v1 controllers (hybrid too, where v2 is mounted beside them) a group is a
//! directory in every v1 hierarchy that it is in; on v2 it is one directory. The difference stays in this folder:
//! [`v1`] and [`v2`] have the same functions, and [`Group`] calls one or the other.
//!
//! Limits are planned ([`resources`]: pure, printable), then written ([`apply`]); [`update`] changes them on a group
//! at work. Pods and OCI containers use the same groups: [`Group::of_pod`] and [`Group::from_oci_path`]. Nothing
//! waits but what says so ([`Group::freeze`], [`Group::remove_within`]), which is for `hull-oci`.
//!
//! Plain file operations rather than `cgroups-rs`: version 0.5 links zbus and an async runtime with no
//! switch to leave them out, opens its files anew on each call, and its removal sleeps between attempts. The
//! shim must not sleep, and joins through descriptors opened once.

pub mod apply;
pub mod devices;
mod entry;
mod error;
mod file;
pub mod freezer;
mod hierarchy;
mod leaves;
pub mod memory_events;
mod path;
mod processes;
pub mod resources;
pub mod statistics;
pub mod systemd;
pub mod update;
mod usual;
mod v1;
mod v2;

use std::path::{Path, PathBuf};
use std::rc::Rc;

pub use entry::Entry;
pub use error::Error;
pub use hierarchy::Hierarchies;
use oci_spec::runtime::LinuxDeviceCgroup;
pub use processes::Depth;
use resources::{Devices, Live, Plan, Version};

use self::file::{keyed, number, remove_if_empty, remove_tree};
use self::hierarchy::Hierarchy;
use crate::wire::{CgroupManager, Resources, Statistics};

/// Whether a group is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// It is.
    Gone,
    /// Processes that were killed have not left it yet: try again later.
    Busy,
}

/// One group, by its path below the root of every hierarchy that it is in.
#[derive(Debug, Clone)]
pub struct Group {
    hierarchies: Rc<Hierarchies>,
    /// v1 hierarchies in which it has no directory: its processes are in its parent there ([`Group::sharing`]).
    shared: Vec<Hierarchy>,
    path: PathBuf,
}

impl Group {
    /// The group of a pod.
    pub fn of_pod(hierarchies: &Rc<Hierarchies>, uid: &str, manager: CgroupManager) -> Self {
        let above = match manager {
            CgroupManager::Cgroupfs => PathBuf::from("hull"),
            CgroupManager::Systemd => systemd::pod::scope(uid),
        };
        Self::new(Rc::clone(hierarchies), above.join(format!("pod{uid}")))
    }

    fn new(hierarchies: Rc<Hierarchies>, path: PathBuf) -> Self {
        Self { hierarchies, shared: Vec::new(), path }
    }

    /// The group that this one is in.
    fn parent(&self) -> Option<Self> {
        Some(Self::new(Rc::clone(&self.hierarchies), self.path.parent()?.to_owned()))
    }

    /// Whether both have one place.
    pub(crate) fn is_at(&self, other: &Self) -> bool {
        self.path == other.path
    }

    /// A group below this one.
    pub fn child(&self, name: &str) -> Self {
        Self::new(Rc::clone(&self.hierarchies), self.path.join(name))
    }

    /// The same group for a member of a pod with these limits, to be made and entered. On v1 it has a directory where members share time,
    /// memory or disks, or are counted, restricted or stopped apart, and where the plan writes; elsewhere (cpuset, hugetlb, perf_event,
    /// net_cls and such) its processes are in its parent.
    #[must_use]
    pub fn sharing(self, limits: &Plan) -> Self {
        let Hierarchies::V1(all) = &*self.hierarchies else { return self };
        let (own, shared): (_, Vec<_>) =
            all.iter().cloned().partition(|one| v1::is_of_each(one) || limits.writes_to(one));
        let shared = [self.shared, shared].concat();
        Self { hierarchies: Rc::new(Hierarchies::V1(own)), shared, path: self.path }
    }

    /// Its absolute path as `cgroupsPath` of a specification wants it.
    pub fn absolute(&self) -> PathBuf {
        Path::new("/").join(&self.path)
    }

    /// The directory that the group's processes are in, in each v1 hierarchy, under every name that a container looks for it by;
    /// none on v2, where one mount shows all.
    pub fn shown(&self) -> Option<Vec<(String, PathBuf)>> {
        match &*self.hierarchies {
            Hierarchies::V1(all) => Some(v1::shown(self.places(all))),
            Hierarchies::V2(_) => None,
        }
    }

    /// Where the group's processes are in each v1 hierarchy. Its own come first, in their order: a leaf takes the place of one of them.
    fn places<'a>(&'a self, own: &'a [Hierarchy]) -> impl Iterator<Item = (&'a Hierarchy, &'a Path)> {
        let above = self.path.parent().unwrap_or(&self.path);
        let own = own.iter().map(|one| (one, self.path.as_path()));
        own.chain(self.shared.iter().map(move |one| (one, above)))
    }

    /// Which of the kernel's two ways it is made by.
    #[must_use]
    pub fn version(&self) -> Version {
        match &*self.hierarchies {
            Hierarchies::V1(_) => Version::V1,
            Hierarchies::V2(_) => Version::V2,
        }
    }

    /// A file of one controller; none where v1 has no such hierarchy.
    #[must_use]
    pub fn file(&self, controller: &str, file: &str) -> Option<PathBuf> {
        match &*self.hierarchies {
            Hierarchies::V1(all) => v1::file_of(all, controller, &self.path, file),
            Hierarchies::V2(root) => Some(root.join(&self.path).join(file)),
        }
    }

    fn has_controller(&self, controller: &str) -> bool {
        match &*self.hierarchies {
            Hierarchies::V1(_) => self.file(controller, "").is_some(),
            Hierarchies::V2(root) => v2::has_controller(&root.join(&self.path), controller),
        }
    }

    /// What a plan for this group, which is at work, needs to know of it.
    #[must_use]
    pub fn live(&self) -> Live {
        let read = |file| self.file("memory", file).and_then(|file| number(&file));
        match self.version() {
            Version::V1 => Live {
                memory_usage: read("memory.usage_in_bytes"),
                memory_and_swap_limit: read("memory.memsw.limit_in_bytes"),
            },
            Version::V2 => Live { memory_usage: read("memory.current"), memory_and_swap_limit: None },
        }
    }

    /// Makes the group and whatever is missing above it.
    ///
    /// # Errors
    /// A directory cannot be made.
    pub fn create(&self) -> Result<(), Error> {
        self.create_telling(&mut drop)
    }

    /// The same, and tells of each directory of the group itself that was not there before.
    pub(crate) fn create_telling(&self, tell: &mut dyn FnMut(PathBuf)) -> Result<(), Error> {
        match &*self.hierarchies {
            Hierarchies::V1(all) => v1::create(all, &self.path, tell),
            Hierarchies::V2(root) => v2::create(root, &self.path, tell),
        }
    }

    /// Sets a pod's limits.
    ///
    /// # Errors
    /// The kernel refuses one, or lacks its controller.
    pub fn limit(&self, resources: &Resources) -> Result<(), Error> {
        let plan = resources::plan(&resources.into(), self.version(), Devices::Leave, &Live::default())?;
        self.apply(&plan)
    }

    /// One out-of-memory kill takes the whole group, as Kubernetes has it on v2; v1 knows no such thing.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn kill_together(&self) -> Result<(), Error> {
        match &*self.hierarchies {
            Hierarchies::V1(_) => Ok(()),
            Hierarchies::V2(root) => v2::kill_together(root, &self.path),
        }
    }

    /// Limits which devices the group may use, on v2; on v1 libcontainer does.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn restrict_devices(&self, rules: &[LinuxDeviceCgroup]) -> Result<(), Error> {
        match &*self.hierarchies {
            Hierarchies::V1(_) => Ok(()),
            Hierarchies::V2(root) => v2::restrict_devices(root, &self.path, rules),
        }
    }

    /// On v2 gives the group to a user, as a container with a cgroup namespace of its own may have it; v1 has no
    /// safe way.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn delegate(&self, uid: u32) -> Result<(), Error> {
        match &*self.hierarchies {
            Hierarchies::V1(_) => Ok(()),
            Hierarchies::V2(root) => v2::delegate(&root.join(&self.path), uid),
        }
    }

    /// Opens the way in.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn entry(&self) -> Result<Entry, Error> {
        match &*self.hierarchies {
            Hierarchies::V1(all) => v1::entry(self.places(all)),
            Hierarchies::V2(root) => v2::entry(root, &self.path),
        }
    }

    /// Makes the leaf `name` below this group, whose own entry is `entry`, to be killed apart. Its members
    /// count towards this group's limits. On v1 it exists in one hierarchy alone.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn leaf(&self, name: &str, entry: &Entry) -> Result<(Self, Entry), Error> {
        let leaf = self.child(name);
        match &*self.hierarchies {
            Hierarchies::V1(all) => {
                let (hierarchy, entry) = v1::leaf(all, &leaf.path, entry)?;
                let hierarchies = Rc::new(Hierarchies::V1(vec![hierarchy]));
                Ok((Self { hierarchies, ..leaf }, entry))
            }
            Hierarchies::V2(root) => v2::leaf(root, &leaf.path).map(|entry| (leaf, entry)),
        }
    }

    /// Sends SIGKILL to every process in the group and below. They end on their own time.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn kill(&self) -> Result<(), Error> {
        match &*self.hierarchies {
            Hierarchies::V1(all) => v1::kill(all, &self.path),
            Hierarchies::V2(root) => v2::kill(root, &self.path),
        }
    }

    /// Removes the group and everything below, as far as it is empty, and hull's own parent group when
    /// this was its last.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn remove(&self) -> Result<Removal, Error> {
        match &*self.hierarchies {
            // An earlier version of the shim, or libcontainer, made it everywhere.
            Hierarchies::V1(all) => v1::remove(all.iter().chain(&self.shared), &self.path),
            Hierarchies::V2(root) => remove_tree(&root.join(&self.path)),
        }
    }

    /// Removes the parent, `hull`, if this pod's was its last group. A pod's scope is systemd's to remove once it is empty:
    /// one that it finds gone before it was told so it takes for a living one.
    pub fn remove_empty_parent(&self) {
        let is_unit = |parent: &&Path| parent.extension().is_some_and(|kind| kind == "scope");
        let Some(parent) = self.path.parent().filter(|parent| !is_unit(parent)) else { return };
        match &*self.hierarchies {
            Hierarchies::V1(all) => {
                all.iter().for_each(|hierarchy| remove_if_empty(&hierarchy.root.join(parent)));
            }
            Hierarchies::V2(root) => remove_if_empty(&root.join(parent)),
        }
    }

    /// What the group uses.
    pub fn statistics(&self) -> Statistics {
        match &*self.hierarchies {
            Hierarchies::V1(all) => v1::statistics(all, &self.path),
            Hierarchies::V2(root) => v2::statistics(root, &self.path),
        }
    }

    /// Whether the out-of-memory killer took a process of the group since it was made.
    pub fn was_out_of_memory(&self) -> bool {
        let file = match self.version() {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        };
        self.file("memory", file).and_then(|events| keyed(&events, "oom_kill")).is_some_and(|kills| kills > 0)
    }
}

#[cfg(test)]
mod tests;
