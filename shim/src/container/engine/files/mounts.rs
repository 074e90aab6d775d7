//! From one entry of `mounts` to its steps; runtime-spec `config.md` (Mounts). Pure.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::mount::MsFlags;
use oci_spec::runtime::{LinuxIdMapping, Mount};

use super::bind::{Bind, Nature, Source};
use super::guard::{self, Guard};
use super::id_map::IdMap;
use super::instance::{DirectoryMode, Instance};
use super::joined::JoinedProcfs;
use super::options::{self, Attributes, IdMapOption, Options};
use super::place::Links;
use super::root::{Change, Setting};
use super::{Error, Known, Opener, Rights, Step, Users, cgroup};
use crate::sys::mount::{self, Propagation, Reach};

/// What all mounts of one container have in common.
pub(super) struct Context<'a> {
    pub(super) known: &'a Known<'a>,
    pub(super) opener: Opener,
    pub(super) own_cgroup_namespace: bool,
    /// What `rootfsPropagation` makes of the host's mounts.
    pub(super) host: Propagation,
    /// SELinux's `mountLabel`.
    pub(super) label: Option<&'a str>,
    /// Of the container's user namespace.
    pub(super) id_map: Option<IdMap>,
    /// Users of the container's user namespace, where it has mappings.
    pub(super) users: Option<&'a [LinuxIdMapping]>,
    /// Groups likewise.
    pub(super) groups: Option<&'a [LinuxIdMapping]>,
}

/// One entry, read.
pub(super) struct Request<'a> {
    pub(super) destination: PathBuf,
    pub(super) options: &'a Options,
}

const PROC: &str = "/proc";
/// Files of procfs that may be covered; lxcfs and its kin provide them.
const COVERED_IN_PROC: &[&str] = &[
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

/// The steps for one mount, and the path that has to become read-only in the end.
pub(super) fn steps(entry: &Mount, context: &Context<'_>) -> Result<(Vec<Step>, Option<CString>), Error> {
    let options = options::parse(entry.options().as_deref().unwrap_or_default());
    let destination = clean(entry.destination());
    let kind = entry.typ().as_deref().unwrap_or_default();
    let is_bind = options.bind.is_some() || kind == "bind";
    if destination == Path::new("/") {
        return Err(Error(format!("mount destination {:?} is the root itself", entry.destination())));
    }
    check_abilities(&options, &destination, context)?;
    check_proc(&destination, kind, is_bind)?;
    context.check_owners(&options)?;
    check_id_map(entry, &options, is_bind, context)?;
    let request = Request { destination, options: &options };
    if is_bind && !options.remount {
        let mut bind = context.bind(&request.destination, source(entry), &options)?;
        bind.source.id_map = id_map(entry, &options, context)?;
        return Ok((vec![Step::Bind(bind)], None));
    }
    let late = options.one.set & mount::RDONLY != 0
        && (kind == "cgroup" || context.is_late(kind, &request.destination));
    let late = if late && !options.remount { Some(text(&request.destination)?) } else { None };
    let steps = match kind {
        "cgroup" | "cgroup2" => cgroup::steps(&request, context)?,
        "proc" if context.known.joins_last && !options.remount => {
            vec![Step::JoinedProcfs(context.joined_procfs(&request, &options)?)]
        }
        kind => vec![Step::Mount(context.instance(&request, kind, source(entry), &options)?)],
    };
    let late = late.filter(|_| !matches!(context.known.groups, super::Groups::V2(_)) || kind != "cgroup");
    Ok((steps, late))
}

pub(super) fn source(entry: &Mount) -> &Path {
    entry.source().as_deref().unwrap_or(Path::new(""))
}

impl Context<'_> {
    pub(super) fn bind(&self, destination: &Path, from: &Path, options: &Options) -> Result<Bind, Error> {
        if !options.data.is_empty() {
            return Err(Error("bind mounts cannot have any filesystem-specific options applied".to_owned()));
        }
        let reach = options.bind.unwrap_or(Reach::One);
        let mut source = self.source(from, reach)?;
        source.nature = match options {
            Options { copy_symlink: true, .. } => Nature::LinkCopied,
            Options { source_kept: true, .. } => Nature::LinkKept,
            _ if destination == Path::new(PROC) => Nature::Procfs,
            _ => Nature::Any,
        };
        Ok(Bind {
            source,
            links: if options.destination_kept { Links::LastKept } else { Links::Followed },
            destination: text(destination)?,
            settings: self.bind_settings(options, reach),
        })
    }

    pub(super) fn source(&self, path: &Path, reach: Reach) -> Result<Source, Error> {
        Ok(Source {
            path: text(&self.known.bundle.join(path))?,
            reach,
            opener: self.opener,
            nature: Nature::Any,
            id_map: None,
            set_first: self.known.kernel.set_attributes,
        })
    }

    /// Attributes, then propagation: first what the host's class makes of the copy, then what is asked for.
    fn bind_settings(&self, options: &Options, reach: Reach) -> Vec<Setting> {
        let mut settings = attribute_settings(options);
        // A child's mounts have the host's class already: it restricted its whole old root.
        let host = (self.opener == Opener::Maker && self.host != Propagation::Shared).then_some(self.host);
        let whole = |asked: Reach| asked == Reach::Tree || reach == Reach::One;
        let mut wanted: Vec<(Propagation, Reach)> = host.map(|host| (host, reach)).into_iter().collect();
        for (asked, asked_reach) in &options.propagation {
            if whole(*asked_reach) && *asked != Propagation::Shared {
                // A private mount cannot become a slave again: nothing is left to follow.
                let stays = *asked == Propagation::Slave
                    && wanted.first().is_some_and(|(first, _)| *first == Propagation::Private);
                if stays {
                    continue;
                }
                wanted.clear();
            }
            wanted.push((*asked, if reach == Reach::One { Reach::One } else { *asked_reach }));
        }
        settings.extend(
            wanted
                .into_iter()
                .map(|(propagation, reach)| Setting { reach, change: Change::Propagation(propagation) }),
        );
        settings
    }

    pub(super) fn instance(
        &self,
        request: &Request<'_>,
        kind: &str,
        from: &Path,
        options: &Options,
    ) -> Result<Instance, Error> {
        let late = self.is_late(kind, &request.destination);
        let attributes =
            if late && !options.remount { options.one.set & !mount::RDONLY } else { options.one.set };
        let mut flags = options.file_system;
        if options.remount {
            flags |= MsFlags::MS_REMOUNT;
        }
        if options.remount && options.bind.is_some() {
            flags |= MsFlags::MS_BIND;
        }
        let ordinary = matches!(kind, "proc" | "sysfs");
        Ok(Instance {
            filesystem: text(Path::new(kind))?,
            source: text(if from.as_os_str().is_empty() { Path::new("none") } else { from })?,
            destination: text(&request.destination)?,
            links: if ordinary { Links::Refused } else { Links::Followed },
            attributes,
            flags,
            data: text(Path::new(&self.data(kind, options)))?,
            label: self.label.filter(|_| kind == "mqueue").map(|label| text(Path::new(label))).transpose()?,
            directory: directory_mode(kind, options),
            settings: mount_settings(options),
            otherwise: self.otherwise(kind)?,
        })
    }

    fn joined_procfs(&self, request: &Request<'_>, options: &Options) -> Result<JoinedProcfs, Error> {
        let option = |option: &String| {
            let (key, value) =
                option.split_once('=').map_or((option.as_str(), None), |(key, value)| (key, Some(value)));
            Ok((text(Path::new(key))?, value.map(|value| text(Path::new(value))).transpose()?))
        };
        Ok(JoinedProcfs {
            destination: text(&request.destination)?,
            options: options.data.iter().map(option).collect::<Result<_, Error>>()?,
            attributes: options.one.set,
            settings: mount_settings(options),
        })
    }

    fn data(&self, kind: &str, options: &Options) -> String {
        let unmapped = |option: &str| kind == "devpts" && self.is_unmapped(option);
        let given = options.data.iter().filter(|option| !unmapped(option)).cloned();
        let labelled = !matches!(kind, "proc" | "sysfs" | "mqueue" | "cgroup" | "cgroup2");
        let label = self.label.filter(|_| labelled).map(|label| format!("context={label:?}"));
        given.chain(label).collect::<Vec<_>>().join(",")
    }

    /// Whether an option names a user or a group that does not exist in the user namespace: `gid=5` for
    /// terminals, say.
    fn is_unmapped(&self, option: &str) -> bool {
        let (ids, number) = match option.split_once('=') {
            Some(("uid", number)) => (self.users, number),
            Some(("gid", number)) => (self.groups, number),
            _ => return false,
        };
        let (Some(ids), Ok(number)) = (ids, number.parse::<u64>()) else { return false };
        !ids.iter().any(|one| {
            let first = u64::from(one.container_id());
            (first..first + u64::from(one.size())).contains(&number)
        })
    }

    fn check_owners(&self, options: &Options) -> Result<(), Error> {
        let wrong = options.data.iter().find(|option| self.is_unmapped(option));
        match wrong {
            Some(option) if self.known.rights == Rights::Rootless => Err(Error(format!(
                "cannot specify {option} mount option for rootless container: it is not mapped in the container"
            ))),
            _ => Ok(()),
        }
    }

    /// What a user namespace may have in the stead of a file system that belongs to another one.
    /// Whether a read-only mount is made so at the end. Of sysfs all containers of a network namespace share one: the
    /// mount is to be read-only, not the file system. Where a bind mount may take its place, that is so from the start.
    fn is_late(&self, kind: &str, destination: &Path) -> bool {
        kind == "tmpfs"
            || kind == "sysfs" && self.known.users == Users::Host
            || destination == Path::new("/dev")
    }

    fn otherwise(&self, kind: &str) -> Result<Option<Source>, Error> {
        let path = match kind {
            _ if self.known.users == Users::Host => return Ok(None),
            "sysfs" => "/sys",
            "mqueue" => "/dev/mqueue",
            _ => return Ok(None),
        };
        Ok(Some(Source { set_first: false, ..self.source(Path::new(path), Reach::Tree)? }))
    }
}

fn directory_mode(kind: &str, options: &Options) -> DirectoryMode {
    let mode_given = options.data.iter().any(|option| option.starts_with("mode="));
    match kind {
        "tmpfs" if options.remount => DirectoryMode::Own,
        "tmpfs" if options.copy_up => DirectoryMode::Copied { mode_given },
        "tmpfs" if !mode_given => DirectoryMode::Kept,
        _ => DirectoryMode::Own,
    }
}

fn attribute_settings(options: &Options) -> Vec<Setting> {
    let one = options.one;
    let own = Setting { reach: Reach::One, change: Change::Attributes { set: one.set, clear: one.clear } };
    let own = (!one.is_empty()).then_some(own);
    own.into_iter().chain(tree_settings(options)).collect()
}

/// Of a new file system.
fn mount_settings(options: &Options) -> Vec<Setting> {
    let mut settings = tree_settings(options);
    settings.extend(
        options
            .propagation
            .iter()
            .map(|(propagation, reach)| Setting { reach: *reach, change: Change::Propagation(*propagation) }),
    );
    settings
}

fn tree_settings(options: &Options) -> Vec<Setting> {
    let Attributes { set, clear } = options.tree;
    let setting = Setting { reach: Reach::Tree, change: Change::Attributes { set, clear } };
    (!options.tree.is_empty()).then_some(setting).into_iter().collect()
}

fn check_abilities(options: &Options, destination: &Path, context: &Context<'_>) -> Result<(), Error> {
    if !options.tree.is_empty() && !context.known.kernel.set_attributes {
        return Err(Error(format!(
            "recursive attributes of the mount on {destination:?} need Linux 5.12, this kernel is older"
        )));
    }
    Ok(())
}

fn check_proc(destination: &Path, kind: &str, is_bind: bool) -> Result<(), Error> {
    let at_proc = destination == Path::new(PROC);
    if kind == "proc" && !is_bind && !at_proc {
        return Err(Error(format!(
            "filesystem \"proc\" must be mounted on {PROC:?}, not on {destination:?}"
        )));
    }
    let allowed = match (at_proc, destination.starts_with(PROC)) {
        (true, _) => is_bind || kind == "proc",
        (false, true) => is_bind && COVERED_IN_PROC.iter().any(|one| destination == Path::new(one)),
        (false, false) => true,
    };
    if allowed || guard::is_off(Guard::Procfs) {
        Ok(())
    } else {
        Err(Error(format!("{destination:?} cannot be mounted because it is inside /proc")))
    }
}

fn check_id_map(entry: &Mount, options: &Options, is_bind: bool, context: &Context<'_>) -> Result<(), Error> {
    let given = |map: &Option<Vec<LinuxIdMapping>>| map.as_ref().is_some_and(|map| !map.is_empty());
    let (users, groups) = (given(entry.uid_mappings()), given(entry.gid_mappings()));
    if !users && !groups && options.id_map.is_none() {
        return Ok(());
    }
    let refused = if !is_bind {
        "id-mapped mounts are only supported for bind-mounts"
    } else if context.known.rights == Rights::Rootless {
        "id-mapped mounts are not supported for rootless containers"
    } else if users != groups {
        "id-mapped mounts must have both uid and gid mappings specified"
    } else if !context.known.kernel.set_attributes {
        "id-mapped mounts need Linux 5.12, this kernel is older"
    } else {
        return Ok(());
    };
    Err(Error(refused.to_owned()))
}

fn id_map(entry: &Mount, options: &Options, context: &Context<'_>) -> Result<Option<(Reach, IdMap)>, Error> {
    let reach = options.id_map.as_ref().map(|option| option.reach);
    if let (Some(users), Some(groups)) = (entry.uid_mappings(), entry.gid_mappings())
        && !users.is_empty()
    {
        return Ok(Some((reach.unwrap_or(Reach::One), IdMap::made(users, groups))));
    }
    match &options.id_map {
        None => Ok(None),
        Some(IdMapOption { reach, mapping: Some(mapping) }) => {
            let map = IdMap::parse(mapping)
                .ok_or_else(|| Error(format!("mount option idmap={mapping}: want uids=A-B-N;gids=A-B-N")))?;
            Ok(Some((*reach, map)))
        }
        Some(IdMapOption { reach, mapping: None }) => {
            let own = context.id_map.clone().ok_or_else(|| {
                Error(
                    "id-mapped mounts without mappings need a user namespace whose mappings they take"
                        .to_owned(),
                )
            })?;
            Ok(Some((*reach, own)))
        }
    }
}

/// A path without `.` and `..`, below the root whatever it says.
pub(super) fn clean(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::from("/"), |mut clean, component| {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
        clean
    })
}

/// A path as the kernel wants it.
pub(super) fn text(path: &Path) -> Result<CString, Error> {
    let bytes = path.as_os_str().as_bytes();
    CString::new(bytes).map_err(|_| Error(format!("{path:?} has a null byte")))
}
