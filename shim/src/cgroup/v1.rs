//! cgroup v1: one directory per hierarchy; `cgroups-v1` in the kernel's documentation.
//!
//! There is no `cgroup.kill`: a group is frozen so that it cannot fork, its members are killed, and it is
//! thawed so that they can die.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::file::{
    Made, kill_members, make_directory, number, open_members, pids, remove_tree, short, write,
};
use super::hierarchy::Hierarchy;
use super::{Entry, Error, Removal};
use crate::wire::Statistics;

pub(super) fn file_of(all: &[Hierarchy], controller: &str, path: &Path, file: &str) -> Option<PathBuf> {
    let hierarchy = all.iter().find(|one| one.has(controller))?;
    Some(hierarchy.root.join(path).join(file))
}

/// The hierarchy in which leaves are made and members are listed: one in which a pod and each of its members have a directory, so that
/// it is the same for all.
pub(super) fn killing(all: &[Hierarchy]) -> Option<&Hierarchy> {
    let freezer = all.iter().find(|one| one.has("freezer"));
    freezer.or(all.iter().find(|one| is_of_each(one))).or(all.first())
}

/// Whether the members of a pod have a directory each in this hierarchy, whatever their limits are.
pub(super) fn is_of_each(hierarchy: &Hierarchy) -> bool {
    const CONTROLLERS: [&str; 7] = ["cpu", "cpuacct", "memory", "pids", "blkio", "devices", "freezer"];
    CONTROLLERS.iter().any(|name| hierarchy.has(name))
}

/// `cpu,cpuacct` as the hierarchy is called, then `cpu` and `cpuacct`, which other hosts have as links.
pub(super) fn shown<'a>(all: impl Iterator<Item = (&'a Hierarchy, &'a Path)>) -> Vec<(String, PathBuf)> {
    let names = |hierarchy: &Hierarchy| {
        let mut names = hierarchy.controllers.clone();
        names.retain(|name| !name.contains('='));
        if !names.contains(&hierarchy.name) {
            names.push(hierarchy.name.clone());
        }
        names
    };
    let shown = |(hierarchy, path): (&Hierarchy, &Path)| {
        let directory = hierarchy.root.join(path);
        names(hierarchy).into_iter().map(move |name| (name, directory.clone())).collect::<Vec<_>>()
    };
    all.flat_map(shown).collect()
}

pub(super) fn create(all: &[Hierarchy], path: &Path, tell: &mut dyn FnMut(PathBuf)) -> Result<(), Error> {
    for hierarchy in all {
        let directory = hierarchy.root.join(path);
        let made = make_directory(&directory)?;
        if made == Made::Now {
            tell(directory);
        }
        if hierarchy.has("cpuset") {
            fill_cpuset(&hierarchy.root, path, made)?;
        }
    }
    Ok(())
}

/// A new cpuset has no CPU and no memory node and so takes no process: it gets its parent's.
fn fill_cpuset(root: &Path, path: &Path, made: Made) -> Result<(), Error> {
    ["cpuset.cpus", "cpuset.mems"]
        .iter()
        .try_for_each(|file| fill_cpuset_file(root, path, file, made).map(drop))
}

/// What the file holds when it is not empty any more.
fn fill_cpuset_file(root: &Path, path: &Path, file: &str, made: Made) -> Result<String, Error> {
    let own = root.join(path).join(file);
    let value = if made == Made::Now { String::new() } else { short(&own) };
    let Some(above) = path.parent().filter(|_| value.is_empty()) else {
        return Ok(value);
    };
    let value = fill_cpuset_file(root, above, file, Made::Before)?;
    write(own, &value)?;
    Ok(value)
}

/// The way into a group of each hierarchy.
pub(super) fn entry<'a>(all: impl Iterator<Item = (&'a Hierarchy, &'a Path)>) -> Result<Entry, Error> {
    let open = |(hierarchy, path): (&Hierarchy, &Path)| open_members(hierarchy.root.join(path).join("tasks"));
    let members = all.map(|one| open(one).map(Rc::new)).collect::<Result<_, _>>()?;
    Ok(Entry { directory: None, members })
}

/// A leaf exists in one hierarchy only; in the others its members are in the group itself.
pub(super) fn leaf(all: &[Hierarchy], path: &Path, of: &Entry) -> Result<(Hierarchy, Entry), Error> {
    let hierarchy = killing(all).ok_or(Error::NotMounted)?;
    let directory = hierarchy.root.join(path);
    make_directory(&directory)?;
    let index = all.iter().position(|one| one == hierarchy).unwrap_or_default();
    let mut entry = of.clone();
    if let Some(members) = entry.members.get_mut(index) {
        *members = Rc::new(open_members(directory.join("tasks"))?);
    }
    Ok((hierarchy.clone(), entry))
}

pub(super) fn kill(all: &[Hierarchy], path: &Path) -> Result<(), Error> {
    let Some(hierarchy) = killing(all) else {
        return Ok(());
    };
    let directory = hierarchy.root.join(path);
    // What nobody is in cannot fork. Freezing patches the kernel's code, twice, and interrupts every processor for it.
    if pids(&directory).is_empty() {
        return Ok(());
    }
    freeze(hierarchy, &directory, "FROZEN")?;
    kill_members(&directory);
    freeze(hierarchy, &directory, "THAWED")
}

fn freeze(hierarchy: &Hierarchy, directory: &Path, state: &str) -> Result<(), Error> {
    if !hierarchy.has("freezer") {
        return Ok(());
    }
    write(directory.join("freezer.state"), state)
}

pub(super) fn remove<'a>(all: impl Iterator<Item = &'a Hierarchy>, path: &Path) -> Result<Removal, Error> {
    let mut removal = Removal::Gone;
    for hierarchy in all {
        if remove_tree(&hierarchy.root.join(path))? == Removal::Busy {
            removal = Removal::Busy;
        }
    }
    Ok(removal)
}

pub(super) fn statistics(all: &[Hierarchy], path: &Path) -> Statistics {
    let read = |controller, file| {
        file_of(all, controller, path, file).and_then(|file| number(&file)).unwrap_or_default()
    };
    Statistics {
        cpu_usage: read("cpuacct", "cpuacct.usage"),
        memory_usage: read("memory", "memory.usage_in_bytes"),
        pids: read("pids", "pids.current"),
    }
}
