//! Where a container's group is: `cgroupsPath` of its `config.json`, resolved as runc resolves it.
//!
//! An absolute path is below the root of each hierarchy. A relative one, and the container's id where there is none,
//! is below the caller's own group on v1; on v2 it is beside the caller, since a group that has processes of its
//! own cannot have children with controllers. `..` never leads out.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use super::hierarchy::{Hierarchies, Hierarchy, Mounted, own_groups};
use super::{Error, Group, usual};

impl Group {
    /// The group that a `cgroupsPath` means, in every hierarchy that is mounted, named ones too.
    ///
    /// # Errors
    /// There are no cgroups.
    pub fn from_oci_path(path: Option<&Path>, id: &str) -> Result<Self, Error> {
        let path = match path.filter(|path| !path.as_os_str().is_empty()) {
            Some(path) => clean(path),
            None => clean(Path::new(id)),
        };
        // Whose own group counts for nothing then.
        if let Ok(inner) = path.strip_prefix("/")
            && let Some(unified) = usual::unified()
        {
            return Ok(Self::new(Rc::new(unified), inner.to_owned()));
        }
        let own = own_groups()?;
        let mounted = Mounted::find(&own)?;
        Ok(resolve(&mounted, &path, &own))
    }

    /// The group's directory for each controller, under the names that runc's state has: `""` on v2.
    #[must_use]
    pub fn paths(&self) -> BTreeMap<String, PathBuf> {
        match &*self.hierarchies {
            Hierarchies::V1(all) => {
                let pairs = all.iter().flat_map(|hierarchy| {
                    let directory = join(&hierarchy.root, &self.path);
                    hierarchy.controllers.iter().map(move |name| (name.clone(), directory.clone()))
                });
                pairs.collect()
            }
            Hierarchies::V2(root) => BTreeMap::from([(String::new(), join(root, &self.path))]),
        }
    }

    /// The group that [`Group::paths`] described, which was made before; none if it names no directory.
    #[must_use]
    pub fn from_paths(paths: &BTreeMap<String, PathBuf>) -> Option<Self> {
        if let Some(root) = paths.get("") {
            return Some(Self::at(Hierarchies::V2(root.clone())));
        }
        let mut all: Vec<Hierarchy> = Vec::new();
        for (controller, root) in paths {
            match all.iter_mut().find(|hierarchy| hierarchy.root == *root) {
                Some(hierarchy) => hierarchy.controllers.push(controller.clone()),
                None => {
                    let (root, name) = (root.clone(), controller.clone());
                    all.push(Hierarchy { root, name, controllers: vec![controller.clone()] });
                }
            }
        }
        (!all.is_empty()).then(|| Self::at(Hierarchies::V1(all)))
    }

    /// The group that each of these directories is.
    fn at(hierarchies: Hierarchies) -> Self {
        Self::new(Rc::new(hierarchies), PathBuf::new())
    }
}

fn join(root: &Path, path: &Path) -> PathBuf {
    if path.as_os_str().is_empty() { root.to_owned() } else { root.join(path) }
}

/// The path without `.` and `..`; neither leads above the root or above where a relative path starts.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::RootDir => clean.push("/"),
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

fn resolve(mounted: &Mounted, path: &Path, own: &str) -> Group {
    let inner = path.strip_prefix("/").ok();
    let relative = inner.unwrap_or(path).to_owned();
    let hierarchies = match &mounted.hierarchies {
        Hierarchies::V2(root) if inner.is_none() => {
            let own = own_group(own, &[]).and_then(|own| own.parent().map(Path::to_owned));
            Hierarchies::V2(mounted.below(root, own.as_deref()))
        }
        Hierarchies::V1(all) if inner.is_none() => {
            let below = |hierarchy: &Hierarchy| {
                let own = own_group(own, &hierarchy.controllers);
                Hierarchy { root: mounted.below(&hierarchy.root, own.as_deref()), ..hierarchy.clone() }
            };
            Hierarchies::V1(all.iter().map(below).collect())
        }
        all => all.clone(),
    };
    Group::new(Rc::new(hierarchies), relative)
}

/// The caller's group in the hierarchy of one of these controllers; without any, in that of v2.
fn own_group(own: &str, controllers: &[String]) -> Option<PathBuf> {
    own.lines().find_map(|line| {
        let (_, line) = line.split_once(':')?;
        let (names, path) = line.split_once(':')?;
        let is_meant = match controllers {
            [] => names.is_empty(),
            wanted => names.split(',').any(|name| wanted.iter().any(|wanted| wanted == name)),
        };
        is_meant.then(|| clean(Path::new(path)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str =
        "9:name=systemd:/\n4:memory:/user/7\n2:cpu,cpuacct:/user\n0::/system.slice/agent.service\n";

    fn mounted(text: &str) -> Mounted {
        Mounted::parse(text).unwrap()
    }

    const V1: &str = "32 31 0:29 / /cg/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                      33 31 0:30 / /cg/systemd rw - cgroup cgroup rw,name=systemd\n\
                      35 31 0:32 /user /cg/memory rw - cgroup cgroup rw,memory\n";
    const V2: &str = "31 23 0:28 / /cg rw - cgroup2 cgroup2 rw\n";

    fn directories(mountinfo: &str, path: &str) -> Vec<(String, String)> {
        let group = resolve(&mounted(mountinfo), &clean(Path::new(path)), OWN);
        let text = |(name, path): (String, PathBuf)| (name, path.display().to_string());
        group.paths().into_iter().map(text).collect()
    }

    #[test]
    fn an_absolute_path_is_below_the_root_of_every_hierarchy() {
        let expected = [
            ("cpu", "/cg/cpu,cpuacct/a/b"),
            ("cpuacct", "/cg/cpu,cpuacct/a/b"),
            ("memory", "/cg/memory/a/b"),
            ("name=systemd", "/cg/systemd/a/b"),
        ];
        assert_eq!(directories(V1, "/a/./b"), expected.map(|(name, path)| (name.into(), path.into())));
        assert_eq!(directories(V2, "/a/b"), [(String::new(), "/cg/a/b".to_owned())]);
    }

    #[test]
    fn a_relative_path_is_below_the_caller_on_v1_and_beside_it_on_v2() {
        let expected = [
            ("cpu", "/cg/cpu,cpuacct/user/a"),
            ("cpuacct", "/cg/cpu,cpuacct/user/a"),
            // Only what is below /user is mounted there.
            ("memory", "/cg/memory/7/a"),
            ("name=systemd", "/cg/systemd/a"),
        ];
        assert_eq!(directories(V1, "a"), expected.map(|(name, path)| (name.into(), path.into())));
        assert_eq!(directories(V2, "a"), [(String::new(), "/cg/system.slice/a".to_owned())]);
    }

    #[test]
    fn dots_lead_nowhere() {
        assert_eq!(directories(V2, "/../../a/../b"), [(String::new(), "/cg/b".to_owned())]);
        assert_eq!(directories(V2, "../../b"), [(String::new(), "/cg/system.slice/b".to_owned())]);
    }

    #[test]
    fn a_group_is_found_again_by_its_paths() {
        let paths = resolve(&mounted(V1), Path::new("/a"), OWN).paths();
        assert_eq!(Group::from_paths(&paths).unwrap().paths(), paths);
        let paths = resolve(&mounted(V2), Path::new("/a"), OWN).paths();
        assert_eq!(Group::from_paths(&paths).unwrap().paths(), paths);
        assert!(Group::from_paths(&BTreeMap::new()).is_none());
    }
}
