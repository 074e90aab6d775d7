//! What of a container comes from outside, and so is not part of its checkpoint: mounts that show the host's files, its
//! groups or devices, and namespaces by path. When it is dumped criu is told where each is and how it is called, when it is
//! restored what of the host has that name. A mount is called by the destination that the configuration gives.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, SFlag, fstat};
use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, Spec};

use super::request::Options;
use super::worker::Start;
use crate::cgroup::Group;
use crate::cgroup::resources::Version;
use crate::container::engine::files::{Origin, devices, entries};
use crate::oci::error::Error;
use crate::oci::grounds::has_new;
use crate::oci::notify;
use crate::sys::mount;

/// What masks files, and how it is called.
const NULL: &str = "/dev/null";
/// Our own mounts.
const OWN: &str = "/proc/self/mountinfo";

/// One mount that shows something of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    /// How it is called, which is where it was mounted.
    name: PathBuf,
    /// The host's path.
    host: PathBuf,
}

/// All that a container with this configuration shows of the host. On v2 its groups are one mount, and criu would show
/// those of the host where the container has a cgroup namespace.
pub(crate) fn shown(spec: &Spec, bundle: &Path, place: &Path, group: Option<&Group>) -> Vec<Shown> {
    let groups = group.and_then(Group::shown).unwrap_or_default();
    let is_own = has_new(spec, LinuxNamespaceType::Cgroup);
    let unified = group.filter(|group| is_own && group.version() == Version::V2);
    let unified = unified.and_then(|group| group.file("", ""));
    let mut all = vec![Shown { name: notify::INSIDE.into(), host: place.join(notify::DIRECTORY) }];
    for entry in entries(spec, bundle) {
        match entry.origin {
            Origin::Own => {}
            Origin::Host(host) => all.push(Shown { name: entry.destination, host }),
            Origin::Groups => {
                let of_v1 = groups.iter().map(|(name, host)| (entry.destination.join(name), host.clone()));
                let of_v2 = unified.iter().map(|host| (entry.destination.clone(), host.clone()));
                all.extend(of_v1.chain(of_v2).map(|(name, host)| Shown { name, host }));
            }
        }
    }
    all.extend(devices(spec).into_iter().map(|path| Shown { name: path.clone(), host: path }));
    all
}

/// Where the container's groups are shown below a file system of its own, as on v1.
pub(crate) fn groups(spec: &Spec, group: Option<&Group>) -> Vec<PathBuf> {
    let is_v1 = group.is_some_and(|group| group.version() == Version::V1);
    let all = entries(spec, Path::new("/")).into_iter();
    all.filter(|entry| is_v1 && entry.origin == Origin::Groups).map(|entry| entry.destination).collect()
}

/// Tells a dump which mounts of the process `pid` are from outside.
pub(crate) fn name_mounts(
    options: &mut Options,
    spec: &Spec,
    (all, groups): (&[Shown], &[PathBuf]),
    pid: i32,
) -> Result<(), Error> {
    let root = open_root(pid)?;
    let mounts = mounts_of(pid)?;
    let of_host = self::mounts(Path::new(OWN))?;
    let found =
        |path: &Path| find(&root, path).filter(|(_, point)| mounts.iter().any(|mount| mount.point == *point));
    let mut named = Vec::new();
    for shown in all {
        named.extend(found(&shown.name).map(|(_, point)| (point, shown.name.clone())));
    }
    for destination in groups {
        let Some((_, place)) = found(destination) else { continue };
        named.extend(
            below(&mounts, &place).map(|(mount, rest)| (mount.point.clone(), destination.join(rest))),
        );
    }
    for shown in all {
        let Some((_, point)) = found(&shown.name) else { continue };
        // What a container has mounted there itself is its own.
        let outside =
            below(&mounts, &point).filter(|(mount, _)| of_host.iter().any(|one| one.shows_what(mount)));
        named.extend(outside.map(|(mount, rest)| (mount.point.clone(), shown.name.join(rest))));
    }
    let masked = spec.linux().iter().flat_map(|linux| linux.masked_paths().iter().flatten());
    for (place, point) in masked.filter_map(|path| found(Path::new(path))) {
        let kind = fstat(&place).map(|about| SFlag::from_bits_truncate(about.st_mode & SFlag::S_IFMT.bits()));
        if kind != Ok(SFlag::S_IFDIR) {
            named.push((point, NULL.into()));
        }
    }
    // Of several names the first counts, which is its own if it has one.
    named.sort_by(|(one, _), (other, _)| one.cmp(other));
    named.dedup_by(|(one, _), (other, _)| one == other);
    for (point, name) in named {
        options.external_mount(point.as_os_str().as_bytes(), name.as_os_str().as_bytes());
    }
    Ok(())
}

/// Tells criu, when restoring, what of the host the names mean.
pub(crate) fn give_mounts(options: &mut Options, all: &[Shown]) -> Result<(), Error> {
    let mounts = mounts(Path::new(OWN))?;
    let mut give = |name: &Path, host: &Path| {
        options.external_mount(name.as_os_str().as_bytes(), host.as_os_str().as_bytes());
    };
    for Shown { name, host } in all {
        let real = host.canonicalize().unwrap_or_else(|_| host.clone());
        for (mount, rest) in below(&mounts, &real) {
            give(&name.join(rest), &mount.point);
        }
        give(name, host);
    }
    Ok(())
}

/// One line of a `mountinfo`; proc(5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mounted {
    /// Its number; no other mount of any namespace has it.
    pub(super) number: u64,
    device: String,
    /// The part of the file system that is shown.
    root: PathBuf,
    pub(super) point: PathBuf,
    /// The `MOUNT_ATTR_*` that restrict it.
    pub(super) attributes: u64,
}

/// How a `mountinfo` shows attributes.
const SHOWN: [(&[u8], u64); 5] = [
    (b"ro", mount::RDONLY),
    (b"nosuid", mount::NOSUID),
    (b"nodev", mount::NODEV),
    (b"noexec", mount::NOEXEC),
    (b"nosymfollow", mount::NOSYMFOLLOW),
];

impl Mounted {
    /// Whether both show the same part of the same file system.
    fn shows_what(&self, other: &Self) -> bool {
        self.device == other.device && self.root == other.root
    }
}

/// Mounts below a path, and where below.
fn below<'a>(mounts: &'a [Mounted], above: &Path) -> impl Iterator<Item = (&'a Mounted, &'a Path)> {
    let above = above.to_owned();
    let rest = move |mount: &'a Mounted| Some((mount, mount.point.strip_prefix(&above).ok()?));
    mounts.iter().filter_map(rest).filter(|(_, rest)| !rest.as_os_str().is_empty())
}

/// The root directory of a process.
pub(super) fn open_root(pid: i32) -> Result<OwnedFd, Error> {
    let path = PathBuf::from(format!("/proc/{pid}/root"));
    Ok(std::fs::File::open(&path).map_err(Error::file("open", &path))?.into())
}

/// What there is at a path inside a container, and where that is without symbolic links.
pub(super) fn find(root: &OwnedFd, path: &Path) -> Option<(OwnedFd, PathBuf)> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .mode(Mode::empty())
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let found = openat2(root, path, how).ok()?;
    let point = std::fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd())).ok()?;
    Some((found, point))
}

/// The mounts of a process.
pub(super) fn mounts_of(pid: i32) -> Result<Vec<Mounted>, Error> {
    mounts(Path::new(&format!("/proc/{pid}/mountinfo")))
}

/// What a `mountinfo` says, or a copy of one.
pub(super) fn mounts(path: &Path) -> Result<Vec<Mounted>, Error> {
    let text = std::fs::read(path).map_err(Error::file("read", path))?;
    Ok(text.split(|byte| *byte == b'\n').filter_map(mounted).collect())
}

fn mounted(line: &[u8]) -> Option<Mounted> {
    let mut fields = line.split(|byte| *byte == b' ');
    let number = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let device = String::from_utf8_lossy(fields.nth(1)?).into_owned();
    let (root, point) = (unescape(fields.next()?), unescape(fields.next()?));
    let options = fields.next().unwrap_or_default().split(|byte| *byte == b',');
    let shown = options.filter_map(|option| SHOWN.iter().find(|(name, _)| *name == option));
    let attributes = shown.fold(0, |all, (_, attribute)| all | attribute);
    Some(Mounted { number, device, root, point, attributes })
}

/// Blanks and their like stand as three octal digits behind a backslash.
fn unescape(field: &[u8]) -> PathBuf {
    let mut text = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = code.filter(|_| *first == b'\\').and_then(|digits| u8::from_str_radix(digits, 8).ok());
        text.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[3..] } else { after };
    }
    PathBuf::from(std::ffi::OsStr::from_bytes(&text))
}

/// A namespace that a configuration names by path: its kind as the kernel calls it, and the path.
fn joined(namespace: &LinuxNamespace) -> Option<(&'static str, &Path)> {
    let path = namespace.path().as_deref().filter(|path| !path.as_os_str().is_empty())?;
    let kind = match namespace.typ() {
        LinuxNamespaceType::Mount => "mnt",
        LinuxNamespaceType::Cgroup => "cgroup",
        LinuxNamespaceType::Uts => "uts",
        LinuxNamespaceType::Ipc => "ipc",
        LinuxNamespaceType::User => "user",
        LinuxNamespaceType::Pid => "pid",
        LinuxNamespaceType::Network => "net",
        LinuxNamespaceType::Time => "time",
    };
    Some((kind, path))
}

fn namespaces(spec: &Spec) -> impl Iterator<Item = (&'static str, &Path)> {
    let all = spec.linux().iter().flat_map(|linux| linux.namespaces().iter().flatten());
    all.filter_map(joined)
}

/// How criu knows a namespace again, as runc has it.
fn key(kind: &str) -> &'static str {
    if kind == "net" { "extRootNetNS" } else { "extRootPidNS" }
}

/// Tells a dump which namespaces of the process `pid` are from outside.
pub(crate) fn name_namespaces(options: &mut Options, spec: &Spec, pid: i32) -> Result<(), Error> {
    for (kind, _) in namespaces(spec).filter(|(kind, _)| matches!(*kind, "net" | "pid")) {
        let path = format!("/proc/{pid}/ns/{kind}");
        let inode = std::fs::metadata(&path).map_err(Error::file("look at", Path::new(&path)))?.ino();
        options.external(&format!("{kind}[{inode}]:{}", key(kind)));
    }
    Ok(())
}

/// Tells criu, when restoring, which namespaces are to be joined.
pub(crate) fn give_namespaces(
    options: &mut Options,
    spec: &Spec,
    start: &mut Start<'_>,
) -> Result<(), Error> {
    for (kind, path) in namespaces(spec) {
        match kind {
            "net" | "pid" => {
                let file = std::fs::File::open(path).map_err(Error::file("open", path))?;
                options.inherit(key(kind), start.number());
                start.inherited.push(file.into());
            }
            "cgroup" => {
                let text = "linux.namespaces: criu cannot restore into a cgroup namespace by path";
                return Err(Error::Refused(text.to_owned()));
            }
            kind => {
                options.join(kind, path.as_os_str().as_bytes());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(device: &str, root: &str, point: &str) -> Mounted {
        Mounted {
            number: 36,
            device: device.to_owned(),
            root: root.into(),
            point: point.into(),
            attributes: 0,
        }
    }

    #[test]
    fn mounts_below_another_are_found_with_what_is_between() {
        let mounts = ["/", "/data", "/data/a", "/data/a/b", "/database"].map(|point| at("0:1", "/", point));
        let found: Vec<_> =
            below(&mounts, Path::new("/data")).map(|(_, rest)| rest.display().to_string()).collect();
        assert_eq!(found, ["a", "a/b"]);
    }

    #[test]
    fn a_mount_is_read_with_its_blanks() {
        let line = br"36 35 98:0 /mnt\0401 /a\040b\134c rw,noatime master:1 - ext3 /dev/root rw";
        assert_eq!(mounted(line), Some(at("98:0", "/mnt 1", r"/a b\c")));
        let line = b"36 35 98:0 / /a ro,nosuid,relatime - ext3 /dev/root rw";
        assert_eq!(mounted(line).unwrap().attributes, mount::RDONLY | mount::NOSUID);
        assert_eq!(mounted(b""), None);
        let own = mounts(Path::new(OWN)).unwrap();
        assert!(own.iter().any(|mount| mount.point == Path::new("/proc")));
    }

    #[test]
    fn a_mount_of_the_same_part_of_a_file_system_shows_the_same() {
        let one = at("98:0", "/part", "/here");
        assert!(one.shows_what(&at("98:0", "/part", "/there")));
        assert!(!one.shows_what(&at("98:0", "/", "/here")) && !one.shows_what(&at("98:1", "/part", "/here")));
    }

    #[test]
    fn what_is_shown_has_the_name_of_its_destination() {
        let spec: Spec = serde_json::from_str(
            r#"{"ociVersion": "1.0.0", "root": {"path": "r"}, "mounts": [
                {"destination": "/data", "source": "vol", "options": ["bind"]},
                {"destination": "/tmp", "type": "tmpfs"}], "linux": {"namespaces": [
                {"type": "network", "path": "/run/netns/x"}, {"type": "ipc", "path": "/proc/1/ns/ipc"}, {"type": "pid"}]}}"#,
        )
        .unwrap();
        let shown = shown(&spec, Path::new("/bundle"), Path::new("/run/c"), None);
        let host =
            |name: &str| shown.iter().find(|one| one.name == Path::new(name)).map(|one| one.host.as_path());
        assert_eq!(host("/data"), Some(Path::new("/bundle/vol")));
        assert_eq!(host("/run/notify"), Some(Path::new("/run/c/notify")));
        assert_eq!((host("/dev/null"), host("/tmp")), (Some(Path::new("/dev/null")), None));
        let kinds: Vec<_> = namespaces(&spec).map(|(kind, _)| kind).collect();
        assert_eq!(kinds, ["net", "ipc"]);
    }
}
