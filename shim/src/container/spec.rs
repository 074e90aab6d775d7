//! The specification that libcontainer is given: the container's own, joined to the sandbox, without
//! the last steps, which `transform` takes itself.
//!
//! libcontainer would do those steps before the start signal, lets go of the seccomp filter in exec'd
//! processes, keeps the caller's groups and reports no reason when `execve` fails.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Hook, LinuxNamespaceType, Process, Spec, UserBuilder};
use serde_json::Value;

use super::seccomp::Cache;
use super::seccomp::aside::{self, KnownFilter};

/// Namespaces of the sandbox that a container joins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Joined {
    /// Pid of pause.
    pub(crate) pause: i32,
    /// Pause is PID 1 of a PID namespace that the containers share.
    pub(crate) share_pid: bool,
}

/// Why a `config.json` cannot be completed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A required object is missing.
    #[error("config.json: {0} is missing")]
    Missing(&'static str),
    /// The file.
    #[error("{what} {}: {reason}", path.display())]
    File {
        /// What was done.
        what: &'static str,
        /// To which.
        path: PathBuf,
        /// Why it failed.
        reason: String,
    },
    /// A hook that libcontainer would wait for in a second thread, which the shim's heap is not made for.
    #[error("config.json: hooks: the timeout of {} needs hull's own engine: leave HULL_ENGINE out", .0.display())]
    HookTimeout(PathBuf),
    /// oci-spec refused a value of ours.
    #[error("complete process.user")]
    User(#[source] oci_spec::OciSpecError),
}

/// Reads a `config.json`, made one that oci-spec takes where it is not.
pub(crate) fn load(path: &Path) -> Result<Box<Spec>, Error> {
    load_with(path, &mut Cache::new()).map(|(spec, _)| spec)
}

/// The same for what makes a process of the container, and what is known of its seccomp filter.
pub(crate) fn load_with(path: &Path, filters: &mut Cache) -> Result<(Box<Spec>, KnownFilter), Error> {
    let fail = |what, error: &dyn std::fmt::Display| failed(path, what, error);
    let text = std::fs::read(path).map_err(|error| fail("read", &error))?;
    let parse = |text: &[u8]| parse(text).map(|spec| (spec, ()));
    let read = aside::read(&text, filters, parse).map_err(|error| fail("parse", &error))?;
    Ok((read.0, read.2))
}

fn failed(path: &Path, what: &'static str, error: &dyn std::fmt::Display) -> Error {
    Error::File { what, path: path.to_owned(), reason: error.to_string() }
}

fn parse(text: &[u8]) -> serde_json::Result<Box<Spec>> {
    serde_json::from_slice(text).or_else(|first| parse_adapted(text, first))
}

/// Its large frame, seldom needed, is not to be part of its caller's.
#[cold]
#[inline(never)]
fn parse_adapted(text: &[u8], first: serde_json::Error) -> serde_json::Result<Box<Spec>> {
    let mut value: Value = serde_json::from_slice(text)?;
    value.get_mut("process").map(adapt);
    serde_json::from_value(value).map_err(|_| first)
}

/// Flags of schedulers that oci-spec 0.10 has under other names than runtime-spec.
const SCHEDULER_FLAGS: [(&str, &str); 2] = [
    ("SCHED_FLAG_RESET_ON_FORK", "SCHED_RESET_ON_FORK"),
    ("SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_D_L_OVERRUN"),
];

/// Makes a process one that oci-spec takes; the capabilities that were left out for it.
pub(crate) fn adapt(process: &mut Value) -> Vec<String> {
    let flags = process.pointer_mut("/scheduler/flags").and_then(Value::as_array_mut);
    for flag in flags.into_iter().flatten() {
        if let Some((_, known)) = SCHEDULER_FLAGS.iter().find(|(name, _)| flag == name) {
            *flag = Value::from(*known);
        }
    }
    forget_unknown_capabilities(process)
}

/// A capability that the kernel may have learned since is no error: `config.md`, Linux Process.
fn forget_unknown_capabilities(process: &mut Value) -> Vec<String> {
    let Some(sets) = process.get_mut("capabilities").and_then(Value::as_object_mut) else {
        return Vec::new();
    };
    let mut unknown = BTreeSet::new();
    let known = |name: &Value| name.as_str().is_some_and(super::capability::is_known);
    for set in sets.values_mut().filter_map(Value::as_array_mut) {
        unknown.extend(set.iter().filter(|name| !known(name)).map(ToString::to_string));
        set.retain(known);
    }
    unknown.into_iter().collect()
}

/// Completes `spec`, found in `bundle`, for the cgroup at `cgroup` (absolute, below each hierarchy).
pub(crate) fn complete(mut spec: Spec, bundle: &Path, joined: Joined, cgroup: &Path) -> Result<Spec, Error> {
    if let Some(hook) = hooks(&spec).find(|hook| hook.timeout().is_some()) {
        return Err(Error::HookTimeout(hook.path().clone()));
    }
    let process = spec.process().as_ref().ok_or(Error::Missing("process"))?;
    let reduced = reduce(process)?;
    spec.set_process(Some(reduced));
    let rootfs = rootfs(&spec, bundle).ok_or(Error::Missing("root"))?;
    if let Some(root) = spec.root_mut().as_mut() {
        root.set_path(rootfs);
    }
    // The sandbox has its hostname already; libcontainer refuses one without a new UTS namespace.
    spec.set_hostname(None);
    let linux = spec.linux_mut().as_mut().ok_or(Error::Missing("linux"))?;
    linux.set_seccomp(None);
    linux.set_cgroups_path(Some(cgroup.to_owned()));
    for namespace in linux.namespaces_mut().iter_mut().flatten() {
        if namespace.path().is_none()
            && let Some(file) = sandbox_file(namespace.typ(), joined.share_pid)
        {
            namespace.set_path(Some(format!("/proc/{}/ns/{file}", joined.pause).into()));
        }
    }
    Ok(spec)
}

/// All that libcontainer may run.
fn hooks(spec: &Spec) -> impl Iterator<Item = &Hook> {
    let lists = spec.hooks().iter().flat_map(|hooks| {
        let before = [hooks.prestart(), hooks.create_runtime(), hooks.create_container()];
        before.into_iter().chain([hooks.start_container(), hooks.poststart(), hooks.poststop()])
    });
    lists.flatten().flatten()
}

/// Whether the container's init is the first process of a PID namespace: then the kernel kills all the others with it.
pub(crate) fn has_own_pid_namespace(spec: &Spec, share_pid: bool) -> bool {
    let linux = spec.linux().as_ref();
    let mut namespaces = linux.and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default().iter();
    !share_pid && namespaces.any(|one| one.typ() == LinuxNamespaceType::Pid && one.path().is_none())
}

/// The absolute path of the root file system.
pub(crate) fn rootfs(spec: &Spec, bundle: &Path) -> Option<PathBuf> {
    spec.root().as_ref().map(|root| bundle.join(root.path()))
}

fn sandbox_file(kind: LinuxNamespaceType, share_pid: bool) -> Option<&'static str> {
    match kind {
        LinuxNamespaceType::Network => Some("net"),
        LinuxNamespaceType::Ipc => Some("ipc"),
        LinuxNamespaceType::Uts => Some("uts"),
        LinuxNamespaceType::Pid if share_pid => Some("pid"),
        LinuxNamespaceType::Pid
        | LinuxNamespaceType::Mount
        | LinuxNamespaceType::Cgroup
        | LinuxNamespaceType::User
        | LinuxNamespaceType::Time => None,
    }
}

fn reduce(process: &Process) -> Result<Process, Error> {
    let mut reduced = process.clone();
    let root = UserBuilder::default().uid(0_u32).gid(0_u32).build().map_err(Error::User)?;
    reduced
        .set_user(root)
        .set_capabilities(None)
        .set_no_new_privileges(None)
        .set_rlimits(None)
        .set_oom_score_adj(None)
        .set_cwd("/".into())
        // HOME keeps libcontainer from asking the image's C library; its executor needs no other.
        .set_env(Some(vec!["HOME=/".to_owned(), "PATH=/".to_owned()]));
    Ok(reduced)
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::LinuxNamespaceType as Kind;

    use super::*;

    fn completed(share_pid: bool) -> Spec {
        let joined = Joined { pause: 42, share_pid };
        complete(Spec::default(), Path::new("/b"), joined, Path::new("/hull/podx/c.0")).unwrap()
    }

    fn path_of(spec: &Spec, kind: Kind) -> Option<String> {
        let namespaces = spec.linux().as_ref().unwrap().namespaces().as_ref().unwrap();
        let found = namespaces.iter().find(|namespace| namespace.typ() == kind).unwrap();
        found.path().as_ref().map(|path| path.display().to_string())
    }

    #[test]
    fn a_pods_configuration_is_read_as_an_oci_runtimes() {
        let text = br#"{"ociVersion": "1.0.0", "process": {"cwd": "/", "user": {},
            "scheduler": {"policy": "SCHED_BATCH", "flags": ["SCHED_FLAG_RESET_ON_FORK"]},
            "capabilities": {"bounding": ["CAP_KILL", "CAP_FUTURE"]}}}"#;
        let spec = parse(text).unwrap();
        let process = spec.process().as_ref().unwrap();
        assert_eq!(process.scheduler().as_ref().unwrap().flags().as_ref().unwrap().len(), 1);
        assert_eq!(process.capabilities().as_ref().unwrap().bounding().as_ref().unwrap().len(), 1);
    }

    #[test]
    fn listed_namespaces_without_a_path_become_the_sandboxs() {
        let spec = completed(false);
        assert_eq!(path_of(&spec, Kind::Network).as_deref(), Some("/proc/42/ns/net"));
        assert_eq!(path_of(&spec, Kind::Uts).as_deref(), Some("/proc/42/ns/uts"));
        assert_eq!(path_of(&spec, Kind::Pid), None);
        assert_eq!(path_of(&spec, Kind::Mount), None);
        assert_eq!(path_of(&completed(true), Kind::Pid).as_deref(), Some("/proc/42/ns/pid"));
    }

    #[test]
    fn a_hook_with_a_timeout_is_not_libcontainers() {
        let hooks = serde_json::json!({"createRuntime": [{"path": "/bin/quick"}, {"path": "/bin/slow", "timeout": 3}]});
        let mut spec = Spec::default();
        spec.set_hooks(serde_json::from_value(hooks).unwrap());
        let joined = Joined { pause: 42, share_pid: false };
        let refused = complete(spec, Path::new("/b"), joined, Path::new("/hull/podx/c.0")).unwrap_err();
        assert!(refused.to_string().contains("the timeout of /bin/slow"), "{refused}");
    }

    #[test]
    fn the_last_steps_are_left_out() {
        let spec = completed(false);
        let process = spec.process().as_ref().unwrap();
        assert!(process.capabilities().is_none() && process.rlimits().is_none());
        assert!(process.no_new_privileges().is_none() && process.oom_score_adj().is_none());
        assert_eq!(spec.root().as_ref().unwrap().path(), Path::new("/b/rootfs"));
    }
}
