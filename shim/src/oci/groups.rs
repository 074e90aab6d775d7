//! The groups of a container, as its record names them.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use nix::unistd::{AccessFlags, access};
use oci_spec::runtime::{LinuxNamespaceType, Mount, Spec};
use serde::{Deserialize, Serialize};

use super::error::Error;
use super::global::Global;
use super::grounds::has_new;
use super::store::Id;
use super::units;
use crate::cgroup::resources::{self, Devices, Live, Plan, Version};
use crate::cgroup::systemd::Unit;
use crate::cgroup::{self, Depth, Entry, Group, Removal};
use crate::container::engine::plan::CgroupView;

/// How long processes may take to leave a group, and to stop in it.
const PATIENCE: Duration = Duration::from_secs(10);

/// What may be done to groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rights {
    /// Everything.
    All,
    /// What was delegated to an ordinary user, which rules for devices never are.
    Delegated,
}

/// Which group a container is in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Membership {
    /// Its directory per controller, as runc's own state has them; none where the container has no group of its own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) paths: BTreeMap<String, PathBuf>,
    /// The systemd unit that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unit: Option<String>,
}

impl Membership {
    /// The group; none where the container has none of its own.
    pub(crate) fn group(&self) -> Option<Group> {
        Group::from_paths(&self.paths)
    }

    /// The part of it in these directories.
    pub(crate) fn within(&self, directories: &[PathBuf]) -> Self {
        Self { paths: self.part(|path| directories.contains(path)), unit: None }
    }

    /// The part of it that is yet to be made. A unit is not, whose group is there.
    pub(crate) fn missing(&self) -> Self {
        let paths = self.part(|path| !path.exists());
        let unit = self.unit.clone().filter(|_| paths.len() == self.paths.len());
        Self { paths, unit }
    }

    fn part(&self, is_in: impl Fn(&PathBuf) -> bool) -> BTreeMap<String, PathBuf> {
        let paths = self.paths.iter().filter(|(_, path)| is_in(path));
        paths.map(|(name, path)| (name.clone(), path.clone())).collect()
    }

    /// The group, for what cannot be done without.
    pub(crate) fn needed(&self) -> Result<Group, Error> {
        self.group().ok_or_else(|| Error::Refused("cgroup not exist".to_owned()))
    }

    /// Whether its processes are stopped by the freezer.
    pub(crate) fn is_frozen(&self) -> bool {
        self.group().is_some_and(|group| group.is_frozen())
    }

    /// Every process in it.
    pub(crate) fn pids(&self) -> Vec<i32> {
        self.group().map(|group| group.processes(Depth::Recursive)).unwrap_or_default()
    }

    /// Sends SIGKILL to every process in it; false where the container has no group of its own.
    pub(crate) fn kill(&self) -> Result<bool, Error> {
        let Some(group) = self.group() else {
            return Ok(false);
        };
        group.kill()?;
        // On v1 nothing dies in the freezer; one that is not there holds nobody.
        crate::harmless(group.thaw());
        Ok(true)
    }

    /// Stops its processes where they are.
    pub(crate) fn freeze(&self) -> Result<(), Error> {
        Ok(self.needed()?.freeze(PATIENCE)?)
    }

    /// Lets its processes go on.
    pub(crate) fn thaw(&self) -> Result<(), Error> {
        Ok(self.needed()?.thaw()?)
    }

    /// Ends whoever is left in it and removes it.
    pub(crate) fn remove(&self) -> Result<(), Error> {
        if let Some(unit) = &self.unit {
            // One whose processes have all ended is gone already.
            crate::harmless(units::stop(unit));
        }
        // On v1 a `create` that was killed may have made it in some hierarchies only.
        let Some(group) = self.group() else {
            return Ok(());
        };
        // As a rule nobody is left in it.
        if group.remove()? == Removal::Gone {
            return Ok(());
        }
        if group.is_frozen() {
            group.kill()?;
            group.thaw()?;
        }
        Ok(group.remove_within(PATIENCE)?)
    }
}

/// Where the container's group is to be; none for an ordinary user without a group to make it in.
pub(crate) fn place(
    spec: &Spec,
    id: &Id,
    global: &Global<'_>,
) -> Result<(Option<Group>, Membership, Option<Unit>), Error> {
    let path = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().clone());
    if global.systemd {
        let (unit, group) = units::find(path.as_deref(), id)?;
        let membership = Membership { paths: group.paths(), unit: Some(unit.name.clone()) };
        return Ok((Some(group), membership, Some(unit)));
    }
    let group = match Group::from_oci_path(path.as_deref(), id.as_str()) {
        Ok(group) => group,
        Err(cgroup::Error::NotMounted) if global.rootless && !is_asked_for(spec, Version::V2)? => {
            return Ok((None, Membership::default(), None));
        }
        Err(error) => return Err(error.into()),
    };
    let closed = || group.paths().into_values().find(|path| !can_be_made(path));
    if global.rootless
        && let Some(closed) = closed()
    {
        // Nothing was delegated to this user.
        return match is_asked_for(spec, group.version())? {
            false => Ok((None, Membership::default(), None)),
            true => Err(Error::Refused(format!(
                "rootless needs no limits + no cgrouppath when no permission is granted for cgroups: mkdir {}: \
                 permission denied",
                closed.display()
            ))),
        };
    }
    let membership = Membership { paths: group.paths(), unit: None };
    Ok((Some(group), membership, None))
}

/// Whether this user may make what is missing of a path.
fn can_be_made(path: &Path) -> bool {
    let existing = path.ancestors().find(|ancestor| ancestor.exists());
    existing.is_some_and(|existing| access(existing, AccessFlags::W_OK).is_ok())
}

/// What a `cgroup` mount shows.
pub(crate) fn view(group: Option<&Group>) -> CgroupView {
    let Some(group) = group else {
        return CgroupView::V1(Vec::new());
    };
    match group.shown() {
        Some(shown) => CgroupView::V1(shown),
        None => CgroupView::V2(group.paths().into_values().next().unwrap_or_default()),
    }
}

/// What makes the group keep the limits of the configuration.
pub(crate) fn limits(spec: &Spec, group: Option<&Group>, rights: Rights) -> Result<Option<Plan>, Error> {
    group.map(|group| planned(spec, group.version(), rights)).transpose()
}

fn planned(spec: &Spec, version: Version, rights: Rights) -> Result<Plan, Error> {
    let devices = match rights {
        Rights::All => Devices::Restrict,
        Rights::Delegated => Devices::Leave,
    };
    let mut resources = spec.linux().as_ref().and_then(|linux| linux.resources().clone()).unwrap_or_default();
    // podman 4 writes 0 for no limit; with the kernel's 0 nothing in the container could fork.
    if resources.pids().as_ref().is_some_and(|pids| pids.limit() == 0) {
        resources.set_pids(None);
    }
    let plan = resources::plan(&resources, version, devices, &Live::default());
    plan.map_err(|error| cgroup::Error::from(error).into())
}

/// Whether a configuration names a group, or has limits that need one.
fn is_asked_for(spec: &Spec, version: Version) -> Result<bool, Error> {
    let path = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().as_ref());
    let is_named = path.is_some_and(|path| !path.as_os_str().is_empty());
    Ok(is_named || !planned(spec, version, Rights::Delegated)?.0.is_empty())
}

/// Makes the group, sets its limits, and opens the way in. `made` has what this command made of it before, and gets what is made
/// now.
pub(crate) fn make(
    spec: &Spec,
    group: Option<&Group>,
    rights: Rights,
    made: &mut Vec<PathBuf>,
) -> Result<Entry, Error> {
    let (Some(group), Some(limits)) = (group, limits(spec, group, rights)?) else {
        return Ok(Entry::default());
    };
    let owner = owner(spec).filter(|_| rights == Rights::All);
    let ready = group
        .create_telling(&mut |directory| made.push(directory))
        .and_then(|()| group.apply_and_open(&limits))
        // An ordinary user's is his already, and one that was there is whoever's made it.
        .and_then(|entry| {
            owner.filter(|_| !made.is_empty()).map_or(Ok(()), |uid| group.delegate(uid)).map(|()| entry)
        });
    match ready {
        Ok(entry) => Ok(entry),
        // Nothing was delegated to this user, and nothing asked for.
        Err(error)
            if rights == Rights::Delegated
                && error.is_lack_of_rights()
                && !is_asked_for(spec, group.version())? =>
        {
            Ok(Entry::default())
        }
        Err(error) => Err(error.into()),
    }
}

/// The host's id of the user to whom a group on v2 is given: that of the container's process, where it sees no groups
/// above and may write to its own (`config-linux.md`, Cgroup ownership).
fn owner(spec: &Spec) -> Option<u32> {
    let writes = |mount: &Mount| {
        let options = mount.options().as_deref().unwrap_or_default();
        matches!(mount.typ().as_deref(), Some("cgroup" | "cgroup2"))
            && mount.destination() == Path::new("/sys/fs/cgroup")
            && !options.iter().any(|option| option == "ro" || option == "rro")
    };
    let is_its_own = has_new(spec, LinuxNamespaceType::Cgroup);
    if !is_its_own || !spec.mounts().iter().flatten().any(writes) {
        return None;
    }
    let uid = spec.process().as_ref()?.user().uid();
    let linux = spec.linux().as_ref()?;
    let mut namespaces = linux.namespaces().iter().flatten();
    if !namespaces.any(|one| one.typ() == LinuxNamespaceType::User) {
        return Some(uid);
    }
    // Of a user namespace by path nobody says here whom it maps.
    if !has_new(spec, LinuxNamespaceType::User) {
        return None;
    }
    linux.uid_mappings().iter().flatten().find_map(|map| {
        let at = uid.checked_sub(map.container_id()).filter(|at| *at < map.size())?;
        map.host_id().checked_add(at)
    })
}

/// The way into the group of the container whose init is `init`, or into existing ones below it:
/// `[CONTROLLER[,CONTROLLER...]:]PATH`.
pub(crate) fn entry<'a>(
    membership: &Membership,
    below: impl Iterator<Item = &'a str>,
    init: i32,
) -> Result<Entry, Error> {
    let mut paths = membership.paths.clone();
    let mut below = below.peekable();
    if let Some(group) = paths.get_mut("").filter(|group| below.peek().is_none() && is_divided(group)) {
        let told = std::fs::read_to_string(format!("/proc/{init}/cgroup")).unwrap_or_default();
        *group = moved(group, &told).unwrap_or_else(|| group.clone());
    }
    let own = membership.paths.clone();
    for text in below {
        let (controllers, path) = match text.split_once(':') {
            Some((controllers, path)) => (controllers.split(',').collect(), path),
            None => (Vec::new(), text),
        };
        let inner = inner(path).ok_or_else(|| Error::Refused(format!("invalid --cgroup value {text:?}")))?;
        for controller in &controllers {
            if !own.contains_key(*controller) {
                return Err(Error::Refused(format!("unknown controller {controller} in --cgroup {text:?}")));
            }
        }
        for (controller, path) in &mut paths {
            if controllers.is_empty() || controllers.contains(&controller.as_str()) {
                *path = own.get(controller).unwrap_or(path).join(&inner);
            }
        }
    }
    Group::from_paths(&paths).map_or_else(|| Ok(Entry::default()), |group| Ok(group.entry()?))
}

/// Whether a v2 group hands its controllers on: then it has no processes, and the container made itself one below.
fn is_divided(group: &Path) -> bool {
    let handed_on = std::fs::read_to_string(group.join("cgroup.subtree_control"));
    handed_on.is_ok_and(|controllers| !controllers.trim().is_empty())
}

/// Where below its v2 group a container has moved, by its init's `/proc/<pid>/cgroup`. How much of the group's path
/// belongs to the mount is not known: the longest end of it that fits counts.
fn moved(group: &Path, told: &str) -> Option<PathBuf> {
    let path = Path::new(told.lines().find_map(|line| line.strip_prefix("0::/"))?);
    let mut end = group.components();
    loop {
        if end.as_path().as_os_str().is_empty() {
            return None;
        }
        match path.strip_prefix(end.as_path()) {
            Ok(below) => return Some(group.join(below)),
            Err(_) => end.next(),
        };
    }
}

/// A path below a group, which it does not leave.
fn inner(path: &str) -> Option<PathBuf> {
    let path = path.trim_start_matches('/');
    let parts = Path::new(path).components();
    let plain = |part: Component<'_>| match part {
        Component::Normal(name) => Some(name.to_owned()),
        _ => None,
    };
    parts.map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_not_to_be_made() {
        let of = |paths: &[(&str, &str)], unit: Option<&str>| Membership {
            paths: paths.iter().map(|(name, path)| ((*name).to_owned(), path.into())).collect(),
            unit: unit.map(str::to_owned),
        };
        let (there, missing) = (("cpu", "/proc"), ("pids", "/nonexistent/box"));
        assert_eq!(of(&[there, missing], None).missing(), of(&[missing], None));
        assert_eq!(of(&[there], Some("box.scope")).missing(), Membership::default());
        assert_eq!(of(&[missing], Some("box.scope")).missing(), of(&[missing], Some("box.scope")));
    }

    #[test]
    fn a_group_is_the_containers_users_where_he_sees_no_other_and_may_write() {
        let of = |namespaces: &str, options: &str, more: &str| {
            let spec = format!(
                r#"{{"ociVersion": "1.0.0", "process": {{"cwd": "/", "user": {{"uid": 7}}}},
                "mounts": [{{"destination": "/sys/fs/cgroup", "type": "cgroup", "options": [{options}]}}],
                "linux": {{"namespaces": [{namespaces}]{more}}}}}"#
            );
            owner(&serde_json::from_str(&spec).unwrap())
        };
        let (cgroup, both) = (r#"{"type": "cgroup"}"#, r#"{"type": "cgroup"}, {"type": "user"}"#);
        let map = r#", "uidMappings": [{"containerID": 0, "hostID": 50, "size": 5}, {"containerID": 5, "hostID": 900, "size": 5}]"#;
        assert_eq!(of(cgroup, "", ""), Some(7));
        assert_eq!(of(both, r#""nosuid", "rw""#, map), Some(902));
        assert_eq!(of(both, "", ""), None);
        assert_eq!(of(cgroup, r#""nosuid", "ro""#, ""), None);
        assert_eq!(of("", "", ""), None);
    }

    #[test]
    fn a_container_that_moved_is_found_below_its_group() {
        let group = Path::new("/sys/fs/cgroup/pods/box");
        let below = moved(group, "0::/pods/box/init.scope\n");
        assert_eq!(below.as_deref(), Some(Path::new("/sys/fs/cgroup/pods/box/init.scope")));
        assert_eq!(moved(group, "1:name=systemd:/x\n0::/elsewhere\n"), None);
        assert_eq!(moved(group, ""), None);
    }
}
