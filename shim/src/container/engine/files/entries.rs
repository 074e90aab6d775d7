//! The mounts of a configuration as whoever makes a container anew from a checkpoint needs them: where each is, and
//! whether it shows something of the host. Pure.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Mount, Spec};

use super::mounts::{clean, source};
use super::options;
use super::plan::DEFAULT_DEVICES;
use crate::sys::mount;

/// Attributes that take something away from whoever uses a mount.
const RESTRICTING: u64 = mount::RDONLY | mount::NOSUID | mount::NODEV | mount::NOEXEC | mount::NOSYMFOLLOW;
/// What no mount of a hierarchy needs.
const UNNEEDED: u64 = mount::NOSUID | mount::NODEV | mount::NOEXEC;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Inside the root, absolute and without `.` and `..`.
    pub(crate) destination: PathBuf,
    /// What it shows.
    pub(crate) origin: Origin,
}

/// What a mount shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A path of the host.
    Host(PathBuf),
    /// The container's groups.
    Groups,
    /// A file system of its own.
    Own,
}

/// The mounts in their order; a remount is none.
pub(crate) fn entries(spec: &Spec, bundle: &Path) -> Vec<Entry> {
    spec.mounts().iter().flatten().filter_map(|mount| entry(mount, bundle)).collect()
}

fn entry(mount: &Mount, bundle: &Path) -> Option<Entry> {
    let options = options::parse(mount.options().as_deref().unwrap_or_default());
    let kind = mount.typ().as_deref().unwrap_or_default();
    let origin = match kind {
        _ if options.remount => return None,
        _ if options.bind.is_some() || kind == "bind" => Origin::Host(bundle.join(source(mount))),
        "cgroup" => Origin::Groups,
        _ => Origin::Own,
    };
    Some(Entry { destination: clean(mount.destination()), origin })
}

/// How the configuration restricts the mounts at a place, and those below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Restriction {
    /// Inside the root.
    pub(crate) place: PathBuf,
    /// Attributes of what is mounted there.
    at: u64,
    /// Attributes of what came along below.
    below: u64,
    /// A mount replaces what those before it say of the place; a read-only path adds to it.
    replaces: bool,
}

/// The restrictions of what shows something of the host, in the order in which they are made.
pub(crate) fn restrictions(spec: &Spec, bundle: &Path) -> Vec<Restriction> {
    let mounts = spec.mounts().iter().flatten().filter_map(|mount| {
        let Entry { destination: place, origin } = entry(mount, bundle)?;
        let options = options::parse(mount.options().as_deref().unwrap_or_default());
        let (one, tree) = (options.one.set & RESTRICTING, options.tree.set & RESTRICTING);
        let (at, below) = match origin {
            Origin::Host(_) => (one | tree, tree),
            // On v1 each hierarchy is a mount below.
            Origin::Groups => (0, one | tree | UNNEEDED),
            Origin::Own => (0, 0),
        };
        Some(Restriction { place, at, below, replaces: true })
    });
    let linux = spec.linux().iter();
    let visible = linux.flat_map(|linux| linux.readonly_paths().iter().flatten());
    let visible = visible.map(|path| Restriction {
        place: clean(Path::new(path)),
        at: mount::RDONLY,
        below: mount::RDONLY,
        replaces: false,
    });
    mounts.chain(visible).collect()
}

/// The attributes that `restrictions`, whose places are without symbolic links, want of a mount at `point`.
pub(crate) fn wanted(restrictions: &[Restriction], point: &Path) -> u64 {
    restrictions.iter().filter(|one| point.starts_with(&one.place)).fold(0, |before, one| {
        let own = if one.place == point { one.at } else { one.below };
        if one.replaces { own } else { before | own }
    })
}

/// The paths of all devices, which are the host's own in a user namespace.
pub(crate) fn devices(spec: &Spec) -> Vec<PathBuf> {
    let listed = spec.linux().iter().flat_map(|linux| linux.devices().iter().flatten());
    let own = DEFAULT_DEVICES.iter().map(|(name, ..)| Path::new("/dev").join(name));
    own.chain(listed.map(|device| clean(device.path()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_of_the_host_the_groups_or_its_own() {
        let spec: Spec = serde_json::from_str(
            r#"{"ociVersion": "1.0.0", "root": {"path": "r"}, "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/a/../data", "source": "vol", "options": ["rbind", "ro"]},
                {"destination": "/etc/hosts", "type": "bind", "source": "/h"},
                {"destination": "/", "options": ["remount", "bind", "ro"]},
                {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"}
            ], "linux": {"readonlyPaths": ["/proc/sys"], "devices": [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}]}}"#,
        )
        .unwrap();
        let entry = |destination: &str, origin| Entry { destination: destination.into(), origin };
        let wanted = [
            entry("/proc", Origin::Own),
            entry("/data", Origin::Host("/bundle/vol".into())),
            entry("/etc/hosts", Origin::Host("/h".into())),
            entry("/sys/fs/cgroup", Origin::Groups),
        ];
        assert_eq!(entries(&spec, Path::new("/bundle")), wanted);
        let devices = devices(&spec);
        assert!(
            devices.contains(&"/dev/null".into()) && devices.contains(&"/dev/fuse".into()),
            "{devices:?}"
        );
    }
    #[test]
    fn a_restriction_holds_below_as_far_as_the_configuration_says() {
        let spec: Spec = serde_json::from_str(
            r#"{"ociVersion": "1.0.0", "root": {"path": "r"}, "mounts": [
                {"destination": "/sys/fs/cgroup", "type": "cgroup", "options": ["ro"]},
                {"destination": "/one", "source": "/v", "options": ["rbind", "ro"]},
                {"destination": "/all", "source": "/v", "options": ["rbind", "rro", "rnosuid"]},
                {"destination": "/all/own", "type": "tmpfs", "options": ["ro"]},
                {"destination": "/all/free", "source": "/w", "options": ["bind", "noexec"]}
            ], "linux": {"readonlyPaths": ["/all/free/kept"]}}"#,
        )
        .unwrap();
        let all = restrictions(&spec, Path::new("/bundle"));
        let of = |point: &str| wanted(&all, Path::new(point));
        let tree = mount::RDONLY | mount::NOSUID;
        assert_eq!(of("/sys/fs/cgroup/pids"), mount::RDONLY | UNNEEDED);
        assert_eq!((of("/one"), of("/one/below"), of("/one-more")), (mount::RDONLY, 0, 0));
        assert_eq!((of("/all"), of("/all/below")), (tree, tree));
        // Whatever was mounted there later is not the tree's.
        assert_eq!((of("/all/own"), of("/all/free")), (0, mount::NOEXEC));
        assert_eq!((of("/all/free/kept"), of("/")), (mount::RDONLY, 0));
    }
}
