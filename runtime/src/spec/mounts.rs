//! The mounts of a container: reference `pod-to-oci-and-cri.md` 1.5.
//!
//! A mount of the manifest replaces a default one at the same place, and all defaults below `/dev` or `/sys` if it is
//! there. All are sorted by the number of their path's components, so that none hides a later one.

use std::path::{Path, PathBuf};

use hull_shim::layout::PodLayout;
use hull_shim::wire::InstanceId;
use oci_spec::runtime::Mount;

use super::env::{Variables, expand};
use super::{Error, Host, Input};
use crate::manifest::pod::{Propagation, RecursiveReadOnly, SubPath, VolumeMount, VolumeSource};
use crate::volume::{self, Step};

/// What a container mounts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Mounts {
    /// In order.
    pub(crate) mounts: Vec<Mount>,
    /// `linux.rootfsPropagation`.
    pub(crate) root_propagation: Option<&'static str>,
    /// Parts of volumes and of the root that are to be put into place first.
    pub(crate) sub_paths: Vec<Step>,
}

/// The file behind `terminationMessagePath`.
#[must_use]
pub fn termination_log(layout: &PodLayout, instance: &InstanceId) -> PathBuf {
    layout.instance(&instance.container, instance.attempt).join("termination-log")
}

/// Plans all mounts.
pub(crate) fn plan(input: &Input<'_>, variables: &Variables) -> Result<Mounts, Error> {
    let (mut own, mut sub_paths) = (Vec::new(), Vec::new());
    for (index, wanted) in input.container.mounts.iter().enumerate() {
        let (mount, step) = volume_mount(input, variables, index, wanted)?;
        own.push(mount);
        sub_paths.extend(step);
    }
    for (mount, step) in image_volumes(input, &own) {
        own.push(mount);
        sub_paths.push(step);
    }
    let path = &input.container.termination_message_path;
    if !path.is_empty() && !own.iter().any(|mount| mount.destination() == &clean(path)) {
        let file = termination_log(input.layout, input.instance);
        own.push(bind(&file, path, &["rbind", "rprivate", "rw"]));
    }
    let mut mounts: Vec<Mount> = defaults(input)
        .into_iter()
        .chain(files(input))
        .filter(|default| !own.iter().any(|mount| replaces(mount.destination(), default.destination())))
        .collect();
    mounts.extend(own);
    mounts.sort_by_key(|mount| mount.destination().components().count());
    Ok(Mounts { mounts, root_propagation: root_propagation(&input.container.mounts), sub_paths })
}

/// Where a directory of the container is made: below the rootfs, or below the source of the writable volume that is
/// mounted over it. None on a file system of the kernel and where nothing may be written.
pub(crate) fn place_of(mounts: &Mounts, directory: &str) -> Option<(PathBuf, String)> {
    let directory = clean(directory);
    let over = |mount: &&Mount| directory.starts_with(mount.destination());
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let Some(mount) = mounts.mounts.iter().rev().find(over) else {
        return Some((PathBuf::from("rootfs"), text(&directory)));
    };
    let writable = mount.options().iter().flatten().all(|option| option != "ro");
    let below = directory.strip_prefix(mount.destination()).ok()?;
    match (mount.typ().as_deref(), mount.source()) {
        (Some("bind"), Some(source)) if writable => Some((source.clone(), text(below))),
        _ => None,
    }
}

/// Whether a mount of the manifest at `own` makes the default one superfluous.
fn replaces(own: &Path, default: &Path) -> bool {
    own == default || ["/dev", "/sys"].iter().any(|top| own == Path::new(top) && default.starts_with(top))
}

fn root_propagation(mounts: &[VolumeMount]) -> Option<&'static str> {
    let any = |kind| mounts.iter().any(|mount| mount.propagation == kind);
    match (any(Propagation::Bidirectional), any(Propagation::HostToContainer)) {
        (true, _) => Some("shared"),
        (false, true) => Some("slave"),
        (false, false) => None,
    }
}

fn mount(destination: &str, kind: &str, source: &Path, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(clean(destination))
        .set_typ(Some(kind.to_owned()))
        .set_source(Some(source.to_owned()))
        .set_options(Some(options.iter().map(|option| (*option).to_owned()).collect()));
    mount
}

fn bind(source: &Path, destination: &str, options: &[&str]) -> Mount {
    mount(destination, "bind", source, options)
}

/// An absolute path without repeated or trailing slashes, `.` or `..`.
fn clean(path: &str) -> PathBuf {
    let mut out = PathBuf::from("/");
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                out.pop();
            }
            part => out.push(part),
        }
    }
    out
}

/// The file systems that every container has.
fn defaults(input: &Input<'_>) -> Vec<Mount> {
    let access = if input.container.security.privileged { "rw" } else { "ro" };
    let fresh = |destination, kind, options: &[&str]| mount(destination, kind, Path::new(kind), options);
    let shm = if input.pod.spec.host_ipc { PathBuf::from("/dev/shm") } else { input.layout.shm() };
    vec![
        fresh("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        fresh("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        fresh("/sys", "sysfs", &["nosuid", "noexec", "nodev", access]),
        fresh(
            "/dev/pts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        bind(&shm, "/dev/shm", &["rbind", "rprivate", "nosuid", "noexec", "nodev", "rw"]),
        fresh("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        fresh("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", access]),
    ]
}

/// The files that the sandbox gives each container.
fn files(input: &Input<'_>) -> Vec<Mount> {
    let access = if input.container.security.read_only_root { "ro" } else { "rw" };
    let options = ["rbind", "rprivate", access];
    let known_ip = input.pod.spec.host_network || !input.ips.is_empty();
    let hosts =
        known_ip.then(|| bind(&input.layout.etc().join("hosts"), "/etc/hosts", &["rbind", "rprivate", "rw"]));
    let others = ["hostname", "resolv.conf"];
    hosts
        .into_iter()
        .chain(others.map(|name| bind(&input.layout.etc().join(name), &format!("/etc/{name}"), &options)))
        .collect()
}

/// One of `volumeMounts`, and the step that its `subPath` needs.
fn volume_mount(
    input: &Input<'_>,
    variables: &Variables,
    index: usize,
    wanted: &VolumeMount,
) -> Result<(Mount, Option<Step>), Error> {
    let found = input.pod.spec.volumes.iter().find(|volume| volume.name == wanted.name);
    let found = found.ok_or_else(|| Error::VolumeMissing {
        volume: wanted.name.clone(),
        container: input.container.name.to_string(),
    })?;
    let root = volume::directory(found, input.layout);
    let (source, step) = match sub_path(wanted, variables)? {
        None => (root, None),
        Some(sub_path) => {
            let target = volume::sub_path_target(input.layout, input.instance, index);
            let step = Step::sub_path(&wanted.name, root, sub_path, target.clone());
            (target, Some(step))
        }
    };
    let read_only = wanted.read_only || is_read_only(&found.source);
    let destination = &wanted.mount_path;
    Ok((bind(&source, destination, &options(wanted, read_only, input.host)?), step))
}

/// The places that the image wants volumes at. Each is what the root has there, which is of this instance alone, bound as a
/// part of the root: it has what the image has, can be written to although the root cannot, and goes with the root.
/// Where the root can be written to that is so without a mount. One of the manifest at the same place, and what every
/// container has, goes before.
fn image_volumes(input: &Input<'_>, own: &[Mount]) -> Vec<(Mount, Step)> {
    if !input.container.security.read_only_root {
        return Vec::new();
    }
    let InstanceId { container, attempt } = input.instance;
    let root = input.layout.instance(container, *attempt).join("rootfs");
    let systems = defaults(input);
    let is_free = |path: &PathBuf| {
        path != Path::new("/")
            && !own.iter().any(|mount| mount.destination() == path)
            && !systems.iter().any(|system| path.starts_with(system.destination()))
    };
    let paths = input.image.volumes.iter().map(|path| clean(path)).filter(is_free);
    let volume = |(index, path): (usize, PathBuf)| {
        let target =
            volume::sub_path_target(input.layout, input.instance, input.container.mounts.len() + index);
        let path = path.to_string_lossy();
        let part = path.trim_start_matches('/').to_owned();
        let step = Step::sub_path(&path, root.clone(), part, target.clone());
        (bind(&target, &path, &["rbind", "rprivate", "rw"]), step)
    };
    paths.enumerate().map(volume).collect()
}

/// Volumes that hull writes are never written by containers.
fn is_read_only(source: &VolumeSource) -> bool {
    match source {
        VolumeSource::EmptyDir { .. } | VolumeSource::HostPath { .. } => false,
        VolumeSource::ConfigMap(_)
        | VolumeSource::Secret(_)
        | VolumeSource::DownwardApi { .. }
        | VolumeSource::Projected { .. } => true,
    }
}

fn options(wanted: &VolumeMount, read_only: bool, host: &Host) -> Result<Vec<&'static str>, Error> {
    let propagation = match wanted.propagation {
        Propagation::Private => "rprivate",
        Propagation::HostToContainer => "rslave",
        Propagation::Bidirectional => "rshared",
    };
    let mut options = vec!["rbind", propagation, if read_only { "ro" } else { "rw" }];
    if wanted.recursive_read_only == RecursiveReadOnly::Disabled {
        return Ok(options);
    }
    if !wanted.read_only || wanted.propagation != Propagation::Private {
        return Err(Error::RecursiveReadOnly(wanted.name.clone()));
    }
    if host.recursive_attributes {
        options.push("rro");
    } else if wanted.recursive_read_only == RecursiveReadOnly::Enabled {
        return Err(Error::NoRecursiveReadOnly(wanted.name.clone()));
    }
    Ok(options)
}

/// The part of the volume, none for the whole.
fn sub_path(wanted: &VolumeMount, variables: &Variables) -> Result<Option<String>, Error> {
    let path = match &wanted.sub_path {
        SubPath::Whole => return Ok(None),
        SubPath::Path(path) => path.clone(),
        SubPath::Expression(expression) => expand_strictly(expression, variables)?,
    };
    if path.is_empty() {
        return Ok(None);
    }
    if path.starts_with('/') || path.split('/').any(|part| part == "..") || path.contains('\0') {
        return Err(Error::SubPath(path));
    }
    Ok(Some(path))
}

/// As [`expand`], but an unknown or empty variable is an error.
fn expand_strictly(text: &str, variables: &Variables) -> Result<String, Error> {
    let mut missing = None;
    let expanded = expand(text, |name| {
        let value = variables.value(name).filter(|value| !value.is_empty());
        if value.is_none() {
            missing.get_or_insert_with(|| name.to_owned());
        }
        value.map(str::to_owned)
    });
    missing.map_or(Ok(expanded), |name| Err(Error::SubPathVariable(name)))
}

#[cfg(test)]
#[path = "mounts_tests.rs"]
mod tests;
