//! Which cgroup hierarchies this host has, from `/proc/self/mountinfo` (proc(5)) unless they are where they usually are.

use std::path::{Path, PathBuf};

use super::{Error, usual};

/// The mounted hierarchies that hull uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hierarchies {
    /// v1, and hybrid: one hierarchy per controller or set of controllers.
    V1(Vec<Hierarchy>),
    /// v2 alone, mounted here.
    V2(PathBuf),
}

/// One v1 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Where it is mounted.
    pub(super) root: PathBuf,
    /// What its mount point is called.
    pub(super) name: String,
    /// Its controllers.
    pub(super) controllers: Vec<String>,
}

/// Every controller that v1 ever had; what else stands among a mount's options is an option.
const CONTROLLERS: [&str; 14] = [
    "cpu",
    "cpuacct",
    "cpuset",
    "memory",
    "devices",
    "freezer",
    "blkio",
    "pids",
    "hugetlb",
    "net_cls",
    "net_prio",
    "perf_event",
    "rdma",
    "misc",
];

impl Hierarchies {
    /// Where each is mounted.
    pub(super) fn roots(&self) -> impl Iterator<Item = &std::path::Path> {
        let (v1, v2) = match self {
            Self::V1(all) => (all.as_slice(), None),
            Self::V2(root) => (&[][..], Some(root.as_path())),
        };
        v1.iter().map(|one| one.root.as_path()).chain(v2)
    }

    /// Looks at what is mounted. Hierarchies without a controller are left out: a pod needs none of them.
    ///
    /// # Errors
    /// There are no cgroups.
    pub fn find() -> Result<Self, Error> {
        Ok(match Mounted::find(&own_groups()?)?.hierarchies {
            Self::V1(mut all) => {
                all.retain(|hierarchy| !hierarchy.is_named());
                Self::V1(all)
            }
            v2 @ Self::V2(_) => v2,
        })
    }
}

impl Hierarchy {
    /// Whether a controller is its.
    pub(super) fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|one| one == controller)
    }

    /// Whether it has a name instead of controllers.
    pub(super) fn is_named(&self) -> bool {
        self.controllers.iter().all(|one| one.starts_with(NAMED))
    }
}

/// What is mounted, and which part of each hierarchy.
#[derive(Debug)]
pub(super) struct Mounted {
    /// All of them, with the named ones behind.
    pub(super) hierarchies: Hierarchies,
    /// The group that a mount shows as its root, where that is not the hierarchy's own.
    roots: Vec<(PathBuf, PathBuf)>,
}

impl Mounted {
    /// Looks, with the text of [`own_groups`] at hand.
    pub(super) fn find(own: &str) -> Result<Self, Error> {
        if let Some(hierarchies) = usual::find(own) {
            return Ok(Self { hierarchies, roots: Vec::new() });
        }
        let path = "/proc/self/mountinfo";
        let text = std::fs::read_to_string(path).map_err(|source| Error::File {
            operation: "read",
            path: path.into(),
            source,
        })?;
        Self::parse(&text).ok_or(Error::NotMounted)
    }

    pub(super) fn parse(mountinfo: &str) -> Option<Self> {
        let mut v1: Vec<Hierarchy> = Vec::new();
        let mut v2 = None;
        let mut roots = Vec::new();
        for (shown, root, right) in mountinfo.lines().filter_map(mount) {
            match right[..] {
                ["cgroup2", ..] => v2 = v2.or(Some(root.clone())),
                ["cgroup", _, options] => {
                    let controllers = controllers(options);
                    let known = v1.iter().any(|hierarchy| hierarchy.controllers == controllers);
                    if controllers.is_empty() || known {
                        continue;
                    }
                    let name = root.file_name().unwrap_or_default().to_string_lossy().into_owned();
                    v1.push(Hierarchy { root: root.clone(), name, controllers });
                }
                _ => continue,
            }
            if shown != Path::new("/") {
                roots.push((root, shown));
            }
        }
        // A hierarchy that keeps track of processes for an init system is none for limits.
        if v1.iter().all(Hierarchy::is_named) {
            return Some(Self { hierarchies: Hierarchies::V2(v2?), roots });
        }
        v1.sort_by_key(Hierarchy::is_named);
        Some(Self { hierarchies: Hierarchies::V1(v1), roots })
    }

    /// Where a group is seen in the hierarchy mounted at `root`; the root itself if it is not seen there.
    pub(super) fn below(&self, root: &Path, group: Option<&Path>) -> PathBuf {
        let shown = self.roots.iter().find(|(mount, _)| mount == root);
        let shown = shown.map_or(Path::new("/"), |(_, shown)| shown);
        match group.and_then(|group| group.strip_prefix(shown).ok()) {
            Some(below) if !below.as_os_str().is_empty() => root.join(below),
            _ => root.to_owned(),
        }
    }
}

/// `/proc/self/cgroup`, which has one line for each hierarchy in use; cgroups(7). A kernel without cgroups has no such file.
pub(super) fn own_groups() -> Result<String, Error> {
    lines_of("/proc/self/cgroup")
}

fn lines_of(path: &str) -> Result<String, Error> {
    crate::procfs::record(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => Error::NotMounted,
        _ => Error::File { operation: "read", path: path.into(), source },
    })
}

/// The part of the file system that is mounted, where, and what follows the separator.
fn mount(line: &str) -> Option<(PathBuf, PathBuf, Vec<&str>)> {
    let (left, right) = line.split_once(" - ")?;
    // Most of a host with many containers are others.
    if !right.starts_with("cgroup") {
        return None;
    }
    let mut left = left.split(' ').skip(3).map(crate::sandbox::mounts::unescape);
    Some((left.next()?, left.next()?, right.split(' ').collect()))
}

/// How a hierarchy without controllers stands among a mount's options.
const NAMED: &str = "name=";

/// The controllers, or the name, among the options of a v1 mount.
pub(super) fn controllers(options: &str) -> Vec<String> {
    let is_controller = |one: &&str| CONTROLLERS.contains(one) || one.starts_with(NAMED);
    options.split(',').filter(is_controller).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIFIED: &str = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";

    fn parse(text: &str) -> Option<Hierarchies> {
        Mounted::parse(text).map(|mounted| mounted.hierarchies)
    }

    #[test]
    fn a_kernel_without_cgroups_has_none_mounted() {
        assert!(matches!(lines_of("/proc/self/no-such-file"), Err(Error::NotMounted)));
        assert!(matches!(lines_of("/proc/self/task"), Err(Error::File { .. })));
    }

    #[test]
    fn a_hybrid_host_counts_as_v1_and_named_hierarchies_come_last() {
        let text = format!(
            "33 31 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
             32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n{UNIFIED}"
        );
        let cpu = Hierarchy {
            root: "/sys/fs/cgroup/cpu,cpuacct".into(),
            name: "cpu,cpuacct".into(),
            controllers: vec!["cpu".into(), "cpuacct".into()],
        };
        let named = Hierarchy {
            root: "/sys/fs/cgroup/systemd".into(),
            name: "systemd".into(),
            controllers: vec!["name=systemd".into()],
        };
        assert_eq!(parse(&text), Some(Hierarchies::V1(vec![cpu, named])));
    }

    #[test]
    fn v2_alone_is_v2_also_beside_a_named_hierarchy() {
        assert_eq!(parse(UNIFIED), Some(Hierarchies::V2("/sys/fs/cgroup/unified".into())));
        let text = format!("33 31 0:30 / /s rw - cgroup cgroup rw,name=systemd\n{UNIFIED}");
        assert_eq!(parse(&text), Some(Hierarchies::V2("/sys/fs/cgroup/unified".into())));
        assert_eq!(parse("1 0 0:1 / / rw - ext4 /dev/sda rw\n"), None);
    }
}
