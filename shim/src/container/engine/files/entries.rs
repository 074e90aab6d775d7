//! The mounts of a configuration as whoever makes a container anew from a checkpoint needs them: where each is, and
//! whether it shows something of the host. Pure.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Mount, Spec};

use super::mounts::{clean, source};
use super::options;
use super::plan::DEFAULT_DEVICES;
use crate::sys::mount;

/// Attributes that take something away from whoever uses a mount.
const RESTRICTING: u64 = mount::RDONLY | mount::NOSUID | mount::NODEV | mount::NOEXEC;

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

/// Where the configuration restricts what shows the host's files, and paths that stay visible, and by which attributes.
pub(crate) fn restrictions(spec: &Spec, bundle: &Path) -> Vec<(PathBuf, u64)> {
    let mounts = spec.mounts().iter().flatten().filter_map(|mount| {
        let Entry { destination, origin } = entry(mount, bundle)?;
        let options = options::parse(mount.options().as_deref().unwrap_or_default());
        let wanted = (options.one.set | options.tree.set) & RESTRICTING;
        (matches!(origin, Origin::Host(_)) && wanted != 0).then_some((destination, wanted))
    });
    let linux = spec.linux().iter();
    let visible = linux.flat_map(|linux| linux.readonly_paths().iter().flatten());
    mounts.chain(visible.map(|path| (clean(Path::new(path)), mount::RDONLY))).collect()
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
        let wanted = [(PathBuf::from("/data"), mount::RDONLY), (PathBuf::from("/proc/sys"), mount::RDONLY)];
        assert_eq!(restrictions(&spec, Path::new("/bundle")), wanted);
        let devices = devices(&spec);
        assert!(
            devices.contains(&"/dev/null".into()) && devices.contains(&"/dev/fuse".into()),
            "{devices:?}"
        );
    }
}
