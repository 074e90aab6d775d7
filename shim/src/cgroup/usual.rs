//! The cgroup hierarchies of a host that has each where init systems put them, below `/sys/fs/cgroup`.
//!
//! Looking there costs the same on a host with thousands of mounts, whose mountinfo the kernel writes line by line.
//! What is not there, or is only a part of a hierarchy, is left to mountinfo.

use std::path::Path;

use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, FsType, statfs};

use super::hierarchy::{Hierarchies, Hierarchy, controllers};

const PLACE: &str = "/sys/fs/cgroup";

/// All of them, each shown from its root on; none where one is elsewhere. By the lines of `/proc/<pid>/cgroup`, of which there
/// is one for each hierarchy in use; cgroups(7).
pub(super) fn find(lines: &str) -> Option<Hierarchies> {
    parse(lines, Path::new(PLACE))
}

/// v2, where it is in that very place: so runc and crun have it too, whatever else is mounted elsewhere.
pub(super) fn unified() -> Option<Hierarchies> {
    unified_at(Path::new(PLACE))
}

fn unified_at(place: &Path) -> Option<Hierarchies> {
    is_root(place, CGROUP2_SUPER_MAGIC).then(|| Hierarchies::V2(place.to_owned()))
}

fn parse(lines: &str, place: &Path) -> Option<Hierarchies> {
    if let Some(unified) = unified_at(place) {
        return Some(unified);
    }
    let names = lines.lines().filter_map(|line| line.split(':').nth(1)).filter(|names| !names.is_empty());
    let mut all: Vec<Hierarchy> = names.map(|names| hierarchy(names, place)).collect::<Option<_>>()?;
    if all.iter().all(Hierarchy::is_named) {
        return None;
    }
    // In the order in which they were mounted, as mountinfo has them; named ones last.
    all.reverse();
    all.sort_by_key(Hierarchy::is_named);
    Some(Hierarchies::V1(all))
}

fn hierarchy(names: &str, place: &Path) -> Option<Hierarchy> {
    let controllers = controllers(names);
    let name = names.strip_prefix("name=").unwrap_or(names);
    let root = place.join(name);
    let is_whole = !controllers.is_empty() && is_root(&root, CGROUP_SUPER_MAGIC);
    is_whole.then(|| Hierarchy { root, name: name.to_owned(), controllers })
}

/// Whether a directory is the root of a hierarchy: only there v1 has `release_agent`, and everywhere else v2 has
/// `cgroup.events`.
fn is_root(directory: &Path, kind: FsType) -> bool {
    let is_kind = |path: &Path| statfs(path).is_ok_and(|about| about.filesystem_type() == kind);
    match kind {
        CGROUP2_SUPER_MAGIC => is_kind(directory) && !directory.join("cgroup.events").exists(),
        _ => is_kind(&directory.join("release_agent")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::hierarchy::{Mounted, own_groups};
    use super::*;

    #[test]
    fn what_is_found_is_what_is_mounted() {
        let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let is_v2 = |line: &str| line.contains(&format!(" / {PLACE} ")) && line.contains(" - cgroup2 ");
        if mountinfo.lines().any(is_v2) {
            assert_eq!(find("1:cpu:/\n0::/\n"), Some(Hierarchies::V2(PLACE.into())));
            return;
        }
        let Some(found) = find(&own_groups().unwrap()) else {
            println!("skipped: the hierarchies of this host are elsewhere");
            return;
        };
        assert_eq!(Some(found), Mounted::parse(&mountinfo).map(|mounted| mounted.hierarchies));
    }

    #[test]
    fn a_hierarchy_that_is_elsewhere_is_left_to_mountinfo() {
        assert_eq!(parse("1:cpu:/\n0::/\n", Path::new("/nowhere")), None);
        assert_eq!(parse("0::/\n", Path::new("/nowhere")), None);
        // A directory, but no hierarchy.
        assert_eq!(parse("0::/\n", Path::new("/")), None);
        assert_eq!(parse("", Path::new("/")), None);
    }
}
