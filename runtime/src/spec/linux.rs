//! The `linux` object: namespaces, resources, devices, hidden paths, seccomp.

use oci_spec::runtime::{Linux, LinuxNamespace, LinuxNamespaceType, LinuxSeccomp};

use super::mounts::Mounts;
use super::{CgroupMode, Error, Host, Input, capabilities, resources, seccomp};
use crate::manifest::pod::{Container, Pod, Seccomp};

const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Makes the object for one container.
pub(crate) fn plan(
    input: &Input<'_>,
    capabilities: &capabilities::Set,
    mounts: &Mounts,
) -> Result<Linux, Error> {
    let mut linux = Linux::default();
    linux
        .set_namespaces(Some(namespaces(input.pod, input.container, input.host)))
        .set_resources(Some(resources::of(input)))
        .set_masked_paths(Some(masked(input.container, input.host)))
        .set_readonly_paths(Some(read_only(input.container, input.host)))
        .set_seccomp(filter(input, capabilities)?)
        .set_rootfs_propagation(mounts.root_propagation.map(str::to_owned));
    if input.container.security.privileged {
        linux.set_devices(Some(input.host.devices.clone()));
    }
    Ok(linux)
}

/// The namespaces of a container. One that is listed for `network`, `ipc`, `uts`, and `pid` of a pod that shares it, is
/// the sandbox's: the shim writes its path.
fn namespaces(pod: &Pod, container: &Container, host: &Host) -> Vec<LinuxNamespace> {
    let spec = &pod.spec;
    let listed = [
        (LinuxNamespaceType::Network, !spec.host_network),
        (LinuxNamespaceType::Ipc, !spec.host_ipc),
        (LinuxNamespaceType::Uts, !spec.host_network),
        (LinuxNamespaceType::Pid, !spec.host_pid),
        (LinuxNamespaceType::Mount, true),
        (LinuxNamespaceType::Cgroup, host.cgroup == CgroupMode::V2 && !container.security.privileged),
    ];
    listed
        .into_iter()
        .filter(|(_, wanted)| *wanted)
        .map(|(kind, _)| {
            let mut namespace = LinuxNamespace::default();
            namespace.set_typ(kind);
            namespace
        })
        .collect()
}

fn open_proc(container: &Container) -> bool {
    container.security.privileged || container.security.unmasked_proc
}

fn masked(container: &Container, host: &Host) -> Vec<String> {
    if open_proc(container) {
        return Vec::new();
    }
    let throttle = |cpu| format!("/sys/devices/system/cpu/cpu{cpu}/thermal_throttle");
    MASKED.iter().map(|path| (*path).to_owned()).chain((0..host.cpus).map(throttle)).collect()
}

/// Read-only paths. On cgroup v1 each hierarchy is one: a runtime may mount them writable below a read-only
/// `/sys/fs/cgroup`, and a container could then raise its own limits.
fn read_only(container: &Container, host: &Host) -> Vec<String> {
    let proc = READ_ONLY.iter().filter(|_| !open_proc(container)).map(|path| (*path).to_owned());
    let cgroups = host.cgroup_hierarchies.iter().map(|name| format!("/sys/fs/cgroup/{name}"));
    proc.chain(cgroups.filter(|_| !container.security.privileged)).collect()
}

/// The name of the `Localhost` profile that a container asks for; its text is to be [`Input::seccomp_profile`].
#[must_use]
pub fn localhost_profile(container: &Container) -> Option<&str> {
    match &container.security.seccomp {
        Seccomp::Localhost(path) if !container.security.privileged => Some(path),
        Seccomp::Localhost(_) | Seccomp::RuntimeDefault | Seccomp::Unconfined => None,
    }
}

fn filter(input: &Input<'_>, capabilities: &capabilities::Set) -> Result<Option<LinuxSeccomp>, Error> {
    if input.container.security.privileged {
        return Ok(None);
    }
    match &input.container.security.seccomp {
        Seccomp::Unconfined => Ok(None),
        Seccomp::RuntimeDefault => Ok(Some(seccomp::runtime_default(capabilities))),
        Seccomp::Localhost(path) => {
            let text = input.seccomp_profile.ok_or_else(|| Error::SeccompMissing(path.clone()))?;
            let profile = serde_json::from_str(text)
                .map_err(|error| Error::SeccompInvalid { path: path.clone(), message: error.to_string() })?;
            Ok(Some(profile))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::fixture;

    fn kinds(pod: &Pod, host: &Host) -> String {
        let list = namespaces(pod, &pod.spec.containers[0], host);
        list.iter().map(|namespace| namespace.typ().to_string()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn host_modes_leave_namespaces_out() {
        let mut pod = fixture::pod(vec![fixture::container("app")]);
        let v1 = fixture::host();
        let v2 = Host { cgroup: CgroupMode::V2, ..fixture::host() };
        assert_eq!(kinds(&pod, &v1), "net ipc uts pid mnt");
        assert_eq!(kinds(&pod, &v2), "net ipc uts pid mnt cgroup");
        pod.spec.host_network = true;
        assert_eq!(kinds(&pod, &v1), "ipc pid mnt");
        pod.spec.host_ipc = true;
        pod.spec.host_pid = true;
        assert_eq!(kinds(&pod, &v1), "mnt");
        pod.spec.containers[0].security.privileged = true;
        assert_eq!(kinds(&pod, &v2), "mnt");
    }

    #[test]
    fn paths_are_hidden_unless_proc_is_unmasked() {
        let mut container = fixture::container("app");
        let host = fixture::host();
        assert!(masked(&container, &host).contains(&"/proc/kcore".to_owned()));
        assert!(read_only(&container, &host).contains(&"/sys/fs/cgroup/memory".to_owned()));
        container.security.unmasked_proc = true;
        assert!(masked(&container, &host).is_empty());
        assert_eq!(read_only(&container, &host), ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/memory"]);
        container.security.privileged = true;
        assert!(read_only(&container, &host).is_empty());
    }
}
