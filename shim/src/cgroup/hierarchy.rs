//! Which cgroup hierarchies this host has, from `/proc/self/mountinfo` (proc(5)).

use std::path::PathBuf;

use super::Error;

/// The mounted hierarchies that hull uses.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Hierarchies {
    /// v1, and hybrid: one hierarchy per controller or set of controllers.
    V1(Vec<Hierarchy>),
    /// v2 alone, mounted here.
    V2(PathBuf),
}

/// One v1 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    /// Where it is mounted.
    pub(super) root: PathBuf,
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

    /// Looks at what is mounted.
    pub(crate) fn find() -> Result<Self, Error> {
        let path = "/proc/self/mountinfo";
        let text = std::fs::read_to_string(path).map_err(|source| Error::File {
            operation: "read",
            path: path.into(),
            source,
        })?;
        parse(&text).ok_or(Error::NotMounted)
    }
}

fn parse(mountinfo: &str) -> Option<Hierarchies> {
    let mut v1: Vec<Hierarchy> = Vec::new();
    let mut v2 = None;
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else {
            continue;
        };
        let Some(root) = left.split(' ').nth(4).map(crate::sandbox::mounts::unescape) else {
            continue;
        };
        let right: Vec<&str> = right.split(' ').collect();
        match right[..] {
            ["cgroup2", ..] => v2 = v2.or(Some(root)),
            ["cgroup", _, options] => {
                let controllers = controllers(options);
                let known = v1.iter().any(|hierarchy| hierarchy.controllers == controllers);
                if !controllers.is_empty() && !known {
                    v1.push(Hierarchy { root, controllers });
                }
            }
            _ => {}
        }
    }
    if v1.is_empty() { v2.map(Hierarchies::V2) } else { Some(Hierarchies::V1(v1)) }
}

fn controllers(options: &str) -> Vec<String> {
    options.split(',').filter(|one| CONTROLLERS.contains(one)).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIFIED: &str = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";

    #[test]
    fn a_hybrid_host_counts_as_v1() {
        let text = format!(
            "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
             33 31 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n{UNIFIED}"
        );
        let found = Hierarchy {
            root: "/sys/fs/cgroup/cpu,cpuacct".into(),
            controllers: vec!["cpu".into(), "cpuacct".into()],
        };
        assert_eq!(parse(&text), Some(Hierarchies::V1(vec![found])));
    }

    #[test]
    fn v2_alone_is_v2() {
        assert_eq!(parse(UNIFIED), Some(Hierarchies::V2("/sys/fs/cgroup/unified".into())));
        assert_eq!(parse("1 0 0:1 / / rw - ext4 /dev/sda rw\n"), None);
    }
}
