//! What is wrong with a configuration, found before anything is made, in the words of runc's validator.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sched::CloneFlags;
use oci_spec::runtime::{Linux, Process, Spec};

use super::kernel;
use super::namespace::{Namespaces, TIME};
use super::plan::{Error, Known, MakerRights};
use crate::resctrl::Wanted;

fn invalid<T>(text: impl Into<String>) -> Result<T, Error> {
    Err(Error::Invalid(text.into()))
}

/// Checks everything that needs more than one field.
pub(crate) fn check(spec: &Spec, namespaces: &Namespaces, known: &Known<'_>) -> Result<(), Error> {
    process(spec, known.maker)?;
    names(spec, namespaces)?;
    kernel(namespaces)?;
    let Some(linux) = spec.linux() else { return Ok(()) };
    paths(linux, namespaces)?;
    users(linux, namespaces, known.maker)?;
    times(linux, namespaces)?;
    net_devices(linux, namespaces, known.maker)?;
    intel_rdt(linux, known)?;
    for name in linux.sysctl().iter().flatten().map(|(name, _)| name) {
        sysctl(name, namespaces)?;
    }
    labels(spec, linux)
}

fn process(spec: &Spec, maker: MakerRights) -> Result<(), Error> {
    let Some(process) = spec.process() else {
        return invalid("process property must not be empty");
    };
    if !process.cwd().is_absolute() {
        return invalid("Cwd must be an absolute path");
    }
    if process.args().as_deref().unwrap_or_default().is_empty() {
        return invalid("args must not be empty");
    }
    let groups = process.user().additional_gids().as_deref().unwrap_or_default();
    if maker == MakerRights::Rootless && !groups.is_empty() {
        return invalid("cannot set any additional groups in a rootless container");
    }
    Ok(())
}

fn names(spec: &Spec, namespaces: &Namespaces) -> Result<(), Error> {
    let has_uts = namespaces.all().contains(CloneFlags::CLONE_NEWUTS);
    let is_set = |name: &Option<String>| name.as_ref().is_some_and(|name| !name.is_empty());
    if is_set(spec.hostname()) && !has_uts {
        return invalid("unable to set hostname without a private UTS namespace");
    }
    if is_set(spec.domainname()) && !has_uts {
        return invalid("unable to set domainname without a private UTS namespace");
    }
    Ok(())
}

fn kernel(namespaces: &Namespaces) -> Result<(), Error> {
    let all = namespaces.all();
    // The others come with what a container needs anyway: cgroup namespaces with cgroups, from Linux 4.6 on.
    for (flag, name) in [(CloneFlags::CLONE_NEWUSER, "user"), (TIME, "time")] {
        if all.contains(flag) && !kernel::has_namespace(name) {
            return invalid(format!("{name} namespaces aren't enabled in the kernel"));
        }
    }
    Ok(())
}

fn paths(linux: &Linux, namespaces: &Namespaces) -> Result<(), Error> {
    let some = |paths: &Option<Vec<String>>| paths.as_ref().is_some_and(|paths| !paths.is_empty());
    let restricts = some(linux.masked_paths()) || some(linux.readonly_paths());
    if restricts && !namespaces.all().contains(CloneFlags::CLONE_NEWNS) {
        return invalid("unable to restrict sys entries without a private MNT namespace");
    }
    Ok(())
}

fn users(linux: &Linux, namespaces: &Namespaces, maker: MakerRights) -> Result<(), Error> {
    let uids = linux.uid_mappings().as_deref().unwrap_or_default();
    let gids = linux.gid_mappings().as_deref().unwrap_or_default();
    let is_new = namespaces.new.contains(CloneFlags::CLONE_NEWUSER);
    let has = namespaces.all().contains(CloneFlags::CLONE_NEWUSER);
    if is_new && maker == MakerRights::Rootless && uids.is_empty() != gids.is_empty() {
        let missing = if uids.is_empty() { "UID" } else { "GID" };
        return invalid(format!("rootless containers requires at least one {missing} mapping"));
    }
    if is_new && (uids.is_empty() || gids.is_empty()) {
        return invalid(
            "user namespaces enabled, but no namespace path to join nor mappings to apply specified",
        );
    }
    if !(has || uids.is_empty() && gids.is_empty()) {
        return invalid("user namespace mappings specified, but user namespace isn't enabled in the config");
    }
    if maker == MakerRights::Rootless && !has {
        return invalid("rootless container requires user namespaces");
    }
    Ok(())
}

fn times(linux: &Linux, namespaces: &Namespaces) -> Result<(), Error> {
    if linux.time_offsets().as_ref().is_none_or(std::collections::HashMap::is_empty) {
        return Ok(());
    }
    if namespaces.by_path().contains(TIME) {
        return invalid(
            "time namespace enabled, but both namespace path and time offsets specified -- you may only provide one",
        );
    }
    if !namespaces.time {
        return invalid("time namespace offsets specified, but time namespace isn't enabled in the config");
    }
    Ok(())
}

fn net_devices(linux: &Linux, namespaces: &Namespaces, maker: MakerRights) -> Result<(), Error> {
    let Some(devices) = linux.net_devices().as_ref().filter(|devices| !devices.is_empty()) else {
        return Ok(());
    };
    if !namespaces.all().contains(CloneFlags::CLONE_NEWNET) {
        return invalid("unable to move network devices without a NET namespace");
    }
    if maker == MakerRights::Rootless {
        return invalid("network devices are not supported for rootless containers");
    }
    let longest = 15;
    let is_name = |name: &str| {
        !name.is_empty()
            && name.len() <= longest
            && name != "."
            && name != ".."
            && !name.contains(|letter: char| letter == '/' || letter == ':' || letter.is_whitespace())
    };
    for (name, device) in devices {
        let other = device.name().as_deref().filter(|other| !other.is_empty());
        if let Some(bad) = [Some(name.as_str()), other].into_iter().flatten().find(|name| !is_name(name)) {
            return invalid(format!("invalid network device name {bad:?}"));
        }
    }
    Ok(())
}

fn intel_rdt(linux: &Linux, known: &Known<'_>) -> Result<(), Error> {
    let Some(asked) = linux.intel_rdt() else { return Ok(()) };
    if known.sandbox.is_some() {
        return invalid("linux.intelRdt is for containers outside pods");
    }
    if !crate::resctrl::is_there() {
        return invalid("intelRdt is specified in config, but Intel RDT is not enabled");
    }
    Wanted::new(asked, known.id).map(drop).map_err(|error| Error::Invalid(error.to_string()))
}

/// Sysctls of the kernel's IPC namespaces.
const IPC: [&str; 8] = ["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"];

fn sysctl(name: &str, namespaces: &Namespaces) -> Result<(), Error> {
    let path = file(name);
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "._-/".contains(letter);
    if !path.chars().all(plain) || path.split('/').any(|part| part.is_empty() || part == "..") {
        return invalid(format!("sysctl {name:?} is not the name of a sysctl"));
    }
    let has = |flag| namespaces.all().contains(flag);
    let is_ipc = path.starts_with("fs/mqueue/")
        || path.strip_prefix("kernel/").is_some_and(|rest| IPC.contains(&rest));
    if is_ipc {
        if has(CloneFlags::CLONE_NEWIPC) {
            return Ok(());
        }
        return invalid(format!("sysctl {name:?} is not allowed in the hosts ipc namespace"));
    }
    if path.starts_with("net/") {
        if !has(CloneFlags::CLONE_NEWNET) || is_own_network(namespaces) {
            return invalid(format!("sysctl {name:?} not allowed in host network namespace"));
        }
        return Ok(());
    }
    match path.as_str() {
        "kernel/domainname" if has(CloneFlags::CLONE_NEWUTS) => Ok(()),
        "kernel/domainname" => invalid(format!("sysctl {name:?} is not allowed in the hosts uts namespace")),
        "kernel/hostname" => {
            invalid(format!("sysctl {name:?} is not allowed as it conflicts with the OCI \"hostname\" field"))
        }
        path if path.starts_with("user/") => {
            if has(CloneFlags::CLONE_NEWUSER) {
                return Ok(());
            }
            invalid(format!("setting ucounts without a user namespace not allowed: {name}"))
        }
        _ => invalid(format!("sysctl {name:?} is not in a separate kernel namespace")),
    }
}

/// Whether a network namespace that is joined is ours, by whatever path: such a sysctl would be the host's.
fn is_own_network(namespaces: &Namespaces) -> bool {
    let identity = |path: &Path| std::fs::metadata(path).map(|there| (there.dev(), there.ino())).ok();
    let own = identity(Path::new("/proc/self/ns/net"));
    // One that cannot be looked at cannot be joined: that is told when it is opened.
    let is_own = |path: &Path| own.is_some() && identity(path) == own;
    namespaces.joined.iter().any(|(flag, path)| flag.contains(CloneFlags::CLONE_NEWNET) && is_own(path))
}

/// Where a sysctl lies below `sys`; both separators are in use, and the first that occurs tells which.
pub(crate) fn file(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(at) if name[at..].starts_with('.') => {
            // In a name with dots a slash stands for a dot of the file's own, as sysctl(8) has it.
            name.chars()
                .map(|letter| match letter {
                    '.' => '/',
                    '/' => '.',
                    other => other,
                })
                .collect()
        }
        Some(_) | None => name.to_owned(),
    }
}

fn labels(spec: &Spec, linux: &Linux) -> Result<(), Error> {
    if linux.mount_label().as_ref().is_some_and(|label| !label.is_empty()) && !kernel::has_selinux() {
        return invalid(NO_SELINUX);
    }
    spec.process().as_ref().map_or(Ok(()), process_labels)
}

const NO_SELINUX: &str = "selinux label is specified in config, but selinux is disabled or not supported";

/// Whether the kernel can give a process, also one of `exec`, the label and the profile that it is to have.
pub(crate) fn process_labels(process: &Process) -> Result<(), Error> {
    let is_set = |label: &Option<String>| label.as_ref().is_some_and(|label| !label.is_empty());
    if is_set(process.selinux_label()) && !kernel::has_selinux() {
        return invalid(NO_SELINUX);
    }
    if is_set(process.apparmor_profile()) && !kernel::has_apparmor() {
        return invalid("apparmor profile is specified in config, but apparmor is disabled or not supported");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_separators_name_a_sysctl() {
        assert_eq!(file("net.ipv4.ip_forward"), "net/ipv4/ip_forward");
        assert_eq!(file("net/ipv4/conf/eth0.1/forwarding"), "net/ipv4/conf/eth0.1/forwarding");
        assert_eq!(file("net.ipv4.conf.eth0/1.forwarding"), "net/ipv4/conf/eth0.1/forwarding");
    }

    #[test]
    fn sysctls_of_the_host_are_refused_in_runcs_words() {
        let mut namespaces = Namespaces {
            new: CloneFlags::CLONE_NEWNET,
            sandbox: CloneFlags::empty(),
            joined: Vec::new(),
            time: false,
            trimmed: false,
            joins_last: false,
            no_return: false,
        };
        assert_eq!(sysctl("net.core.somaxconn", &namespaces), Ok(()));
        let text = |name: &str, namespaces: &Namespaces| sysctl(name, namespaces).unwrap_err().to_string();
        assert_eq!(
            text("kernel.shmmax", &namespaces),
            "sysctl \"kernel.shmmax\" is not allowed in the hosts ipc namespace"
        );
        assert_eq!(
            text("kernel.core_pattern", &namespaces),
            "sysctl \"kernel.core_pattern\" is not in a separate kernel namespace"
        );
        assert!(text("net/../kernel/core_pattern", &namespaces).contains("not the name of a sysctl"));
        namespaces.new = CloneFlags::empty();
        assert_eq!(
            text("net.core.somaxconn", &namespaces),
            "sysctl \"net.core.somaxconn\" not allowed in host network namespace"
        );
    }
}
