//! From `config.json` to the steps that make its files. Pure: no system call, and every error is told before anything
//! is made, in runc's words where it has some.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::path::{Path, PathBuf};

use nix::sys::stat::{SFlag, makedev};
use oci_spec::runtime::{Linux, LinuxDevice, LinuxDeviceType, LinuxNamespaceType, Spec};

use super::device::{How, Node, Nodes};
use super::enter::{Attach, Leave, Site};
use super::id_map::IdMap;
use super::mounts::{self, Context, clean, text};
use super::root::{Change, Setting};
use super::{Base, ChangeRoot, Error, Known, Opener, Plan, Rights, Step, Users, options};
use crate::sys::mount::{Propagation, Reach};

/// What the configuration says of a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Namespace {
    Absent,
    New,
    Joined(PathBuf),
}

const DEVICE_DIRECTORY: &str = "/dev";
/// Name, major and minor of the devices that every container has.
pub(super) const DEFAULT_DEVICES: [(&str, u64, u64); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
const DEFAULT_LINKS: [(&str, &str); 5] = [
    ("ptmx", "pts/ptmx"),
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];
const DEFAULT_MODE: u32 = 0o666;

/// Decides what is to be done.
pub(crate) fn plan(spec: &Spec, known: &Known<'_>) -> Result<Plan, Error> {
    let absent = Linux::default();
    let linux = spec.linux().as_ref().unwrap_or(&absent);
    let opener = match known.rights {
        Rights::Root | Rights::Inside => Opener::Maker,
        Rights::Rootless => Opener::Child,
    };
    let label = mount_label(linux).map(|label| text(Path::new(label))).transpose()?;
    let empty = Plan { prepare: vec![], enter: vec![], seal: vec![], kernel: known.kernel, opener, label };
    let covered = restricted(linux.readonly_paths(), Step::ReadOnlyPath)?
        .into_iter()
        .chain(restricted(linux.masked_paths(), Step::Mask)?)
        .collect::<Vec<_>>();
    match namespace(linux, LinuxNamespaceType::Mount) {
        Namespace::New => whole(Parts { spec, linux, known, opener, covered }, empty),
        Namespace::Joined(_) => Ok(Plan { prepare: vec![Step::AdoptRoot], seal: covered, ..empty }),
        Namespace::Absent if !covered.is_empty() => {
            Err(Error("unable to restrict sys entries without a private MNT namespace".to_owned()))
        }
        Namespace::Absent if spec.mounts().as_ref().is_some_and(|mounts| !mounts.is_empty()) => {
            Err(Error("mounts need a private MNT namespace".to_owned()))
        }
        Namespace::Absent => Ok(Plan { enter: vec![Step::ChangeRoot(text(known.root)?)], ..empty }),
    }
}

struct Parts<'a> {
    spec: &'a Spec,
    linux: &'a Linux,
    known: &'a Known<'a>,
    opener: Opener,
    covered: Vec<Step>,
}

fn whole(parts: Parts<'_>, empty: Plan) -> Result<Plan, Error> {
    let known = parts.known;
    if !known.root.is_absolute() {
        return Err(Error("invalid rootfs: not an absolute path, or a symlink".to_owned()));
    }
    let class = class(parts.linux)?;
    if known.change == ChangeRoot::Move && matches!(class, Some((Propagation::Private, _))) {
        return Err(Error("rootfsPropagation: [r]private is not safe without pivot_root".to_owned()));
    }
    let shared = matches!(class, Some((Propagation::Shared, _)));
    let mut prepare = restrict(known, class);
    prepare.push(Step::Root(root(&parts, class)?));
    let mut seal = Vec::new();
    let context = context(&parts, class);
    for entry in parts.spec.mounts().iter().flatten() {
        let (steps, late) = mounts::steps(entry, &context)?;
        prepare.extend(steps);
        seal.extend(late.map(Step::ReadOnlyMount));
    }
    if !covers_devices(parts.spec) {
        prepare.extend(devices(&parts)?);
    }
    let mut enter = vec![Step::Leave(match known.change {
        ChangeRoot::Move => Leave::Move,
        ChangeRoot::Pivot if shared && known.base == Base::Host => Leave::PivotShared,
        ChangeRoot::Pivot => Leave::Pivot,
    })];
    enter.extend(class.map(|(propagation, reach)| Step::RootPropagation(propagation, reach)));
    if parts.spec.root().as_ref().is_some_and(|root| root.readonly() == Some(true)) {
        seal.push(Step::ReadOnlyRoot);
    }
    seal.extend(parts.covered);
    Ok(Plan { prepare, enter, seal, ..empty })
}

/// A trimmed namespace has private mounts only.
fn restrict(known: &Known<'_>, class: Option<(Propagation, Reach)>) -> Vec<Step> {
    match (known.base, class) {
        (Base::Trimmed, _) => vec![],
        (Base::Host, Some((Propagation::Shared, _))) => vec![Step::RestrictOldRootAlone],
        (Base::Host, class) => vec![Step::RestrictOldRoot(host_class(class))],
    }
}

/// What becomes of the host's mounts in the new namespace. Unbindable ones could not even be bound; private ones
/// keep the promise that nothing arrives.
fn host_class(class: Option<(Propagation, Reach)>) -> Propagation {
    match class {
        None | Some((Propagation::Slave, _)) => Propagation::Slave,
        Some((Propagation::Shared, _)) => Propagation::Shared,
        Some((Propagation::Private | Propagation::Unbindable, _)) => Propagation::Private,
    }
}

fn class(linux: &Linux) -> Result<Option<(Propagation, Reach)>, Error> {
    let name = linux.rootfs_propagation().as_deref().unwrap_or_default();
    if name.is_empty() {
        return Ok(None);
    }
    let read = options::propagation(name);
    read.map(Some).ok_or_else(|| {
        Error(format!("rootfsPropagation={name} is not supported: want shared, slave, private or unbindable"))
    })
}

fn root(parts: &Parts<'_>, class: Option<(Propagation, Reach)>) -> Result<Attach, Error> {
    // pivot_root(2) refuses a root that shares; it is made shared after it where that is asked for.
    let propagation = match host_class(class) {
        Propagation::Slave => Propagation::Slave,
        Propagation::Shared | Propagation::Private | Propagation::Unbindable => Propagation::Private,
    };
    let masked = parts.covered.iter().any(|step| matches!(step, Step::Mask(_)));
    Ok(Attach {
        path: text(parts.known.root)?,
        opener: parts.opener,
        at: match parts.known.base {
            Base::Host => Site::OwnPath,
            Base::Trimmed => Site::Top,
        },
        settings: vec![Setting { reach: Reach::Tree, change: Change::Propagation(propagation) }],
        covers: masked,
    })
}

fn context<'a>(parts: &Parts<'a>, class: Option<(Propagation, Reach)>) -> Context<'a> {
    let linux = parts.linux;
    let users = linux.uid_mappings().as_deref().unwrap_or_default();
    let groups = linux.gid_mappings().as_deref().unwrap_or_default();
    let id_map = match namespace(linux, LinuxNamespaceType::User) {
        Namespace::Joined(path) => Some(IdMap::Joined(path)),
        Namespace::New if !users.is_empty() => Some(IdMap::made(users, groups)),
        Namespace::New | Namespace::Absent => None,
    };
    Context {
        known: parts.known,
        opener: parts.opener,
        own_cgroup_namespace: namespace(linux, LinuxNamespaceType::Cgroup) != Namespace::Absent,
        host: host_class(class),
        label: mount_label(linux),
        id_map,
        users: (!users.is_empty()).then_some(users),
        groups: (!groups.is_empty()).then_some(groups),
    }
}

fn mount_label(linux: &Linux) -> Option<&str> {
    linux.mount_label().as_deref().filter(|label| !label.is_empty())
}

fn namespace(linux: &Linux, kind: LinuxNamespaceType) -> Namespace {
    let listed = linux.namespaces().iter().flatten().find(|one| one.typ() == kind);
    match listed.map(|one| one.path().clone().filter(|path| !path.as_os_str().is_empty())) {
        None => Namespace::Absent,
        Some(None) => Namespace::New,
        Some(Some(path)) => Namespace::Joined(path),
    }
}

/// A `/dev` of the host is left as it is.
fn covers_devices(spec: &Spec) -> bool {
    spec.mounts().iter().flatten().any(|mount| {
        let options = options::parse(mount.options().as_deref().unwrap_or_default());
        let is_bind = options.bind.is_some() || mount.typ().as_deref() == Some("bind");
        is_bind && clean(mount.destination()) == Path::new(DEVICE_DIRECTORY)
    })
}

fn devices(parts: &Parts<'_>) -> Result<Vec<Step>, Error> {
    let how = match (parts.known.users, parts.known.rights) {
        (Users::Host, Rights::Root) => How::Made,
        (Users::Namespace, Rights::Root) | (_, Rights::Inside) => How::Bound,
        (_, Rights::Rootless) => How::BoundByChild,
    };
    let mut all: BTreeMap<PathBuf, Vec<Node>> = BTreeMap::new();
    let defaults = all.entry(PathBuf::from(DEVICE_DIRECTORY)).or_default();
    for (name, major, minor) in DEFAULT_DEVICES {
        let path = Path::new(DEVICE_DIRECTORY).join(name);
        defaults.push(node(&path, SFlag::S_IFCHR, makedev(major, minor))?);
    }
    for device in parts.linux.devices().iter().flatten() {
        let (directory, node) = configured(device)?;
        let present = all.entry(directory).or_default();
        present.retain(|one| one.name != node.name);
        present.push(node);
    }
    let step = |(directory, nodes): (PathBuf, Vec<Node>)| {
        let is_default = directory == Path::new(DEVICE_DIRECTORY);
        let links = if is_default { links(parts.known.kernel.kcore)? } else { vec![] };
        Ok(Step::Nodes(Nodes { directory: text(&directory)?, nodes, links, how }))
    };
    all.into_iter().map(step).collect()
}

fn links(kcore: bool) -> Result<Vec<(CString, CString)>, Error> {
    let core = kcore.then_some(("core", "/proc/kcore"));
    let link = |(name, target): (&str, &str)| Ok((text(Path::new(name))?, text(Path::new(target))?));
    DEFAULT_LINKS.into_iter().chain(core).map(link).collect()
}

fn configured(device: &LinuxDevice) -> Result<(PathBuf, Node), Error> {
    let wrong = |why: &str| Error(format!("invalid device {:?}: {why}", device.path()));
    let kind = match device.typ() {
        LinuxDeviceType::C | LinuxDeviceType::U => SFlag::S_IFCHR,
        LinuxDeviceType::B => SFlag::S_IFBLK,
        LinuxDeviceType::P => SFlag::S_IFIFO,
        LinuxDeviceType::A => return Err(wrong("type must be one of c, b, u and p")),
    };
    let path = clean(device.path());
    let directory = path.parent().ok_or_else(|| wrong("a device needs a path"))?.to_owned();
    let number =
        |number: i64| u64::try_from(number).map_err(|_| wrong("major and minor must not be negative"));
    let device_number = match kind {
        SFlag::S_IFIFO => 0,
        _ => makedev(number(device.major())?, number(device.minor())?),
    };
    let node = Node {
        mode: device.file_mode().unwrap_or(DEFAULT_MODE) & 0o7777,
        owner: (device.uid().unwrap_or_default(), device.gid().unwrap_or_default()),
        ..node(&path, kind, device_number)?
    };
    Ok((directory, node))
}

fn node(path: &Path, kind: SFlag, device: u64) -> Result<Node, Error> {
    let name = path.file_name().unwrap_or_default();
    Ok(Node {
        name: text(Path::new(name))?,
        path: text(path)?,
        kind,
        device,
        mode: DEFAULT_MODE,
        owner: (0, 0),
    })
}

fn restricted(paths: &Option<Vec<String>>, step: fn(CString) -> Step) -> Result<Vec<Step>, Error> {
    paths.iter().flatten().map(|path| text(&clean(Path::new(path))).map(step)).collect()
}

impl Plan {
    /// All steps.
    pub(crate) fn steps(&self) -> impl Iterator<Item = &Step> {
        self.prepare.iter().chain(&self.enter).chain(&self.seal)
    }

    /// Where the root file system is, if there is one to be attached.
    pub(super) fn root(&self) -> Option<&std::ffi::CStr> {
        self.prepare.iter().find_map(|step| match step {
            Step::Root(attach) => Some(attach.path.as_c_str()),
            _ => None,
        })
    }

    pub(super) fn masks(&self) -> bool {
        self.seal.iter().any(|step| matches!(step, Step::Mask(_)))
    }
}
