//! How a container sees its own cgroup v1 groups: a directory with one bind mount per controller, as
//! runtime-spec `config-linux.md` (Default Filesystems) and the tools inside expect.
//!
//! libcontainer's own way looks its process up in the `/proc` of another PID namespace, which shows the
//! wrong process, or none when the namespace is shared.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Mount, MountBuilder, Spec};

/// Puts the groups `shown`, by name, where `spec` asks for a file system of type `cgroup`.
pub(crate) fn show(spec: &mut Spec, shown: &[(String, PathBuf)]) -> Result<(), oci_spec::OciSpecError> {
    let Some(mounts) = spec.mounts_mut() else { return Ok(()) };
    let Some(at) = mounts.iter().position(|mount| mount.typ().as_deref() == Some("cgroup")) else {
        return Ok(());
    };
    let wanted = mounts.remove(at);
    let options = wanted.options().clone().unwrap_or_default();
    let mut made = vec![directory(wanted.destination())?];
    for (name, source) in shown {
        made.push(group(&wanted.destination().join(name), source, &options)?);
    }
    mounts.splice(at..at, made);
    Ok(())
}

fn directory(destination: &Path) -> Result<Mount, oci_spec::OciSpecError> {
    let options = ["nosuid", "noexec", "nodev", "mode=755", "size=64k"].map(str::to_owned);
    MountBuilder::default().destination(destination).typ("tmpfs").source("tmpfs").options(options).build()
}

fn group(destination: &Path, source: &Path, options: &[String]) -> Result<Mount, oci_spec::OciSpecError> {
    let options = options.iter().cloned().chain(["bind", "rprivate"].map(str::to_owned));
    MountBuilder::default()
        .destination(destination)
        .typ("bind")
        .source(source)
        .options(options.collect::<Vec<_>>())
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_group_is_mounted_in_the_place_of_the_file_system() {
        let mut spec = Spec::default();
        let shown = [("memory".to_owned(), PathBuf::from("/groups/memory/hull/x"))];
        let before = spec.mounts().as_ref().unwrap().len();
        show(&mut spec, &shown).unwrap();
        let mounts = spec.mounts().as_ref().unwrap();
        assert_eq!(mounts.len(), before + 1);
        assert!(mounts.iter().all(|mount| mount.typ().as_deref() != Some("cgroup")));
        let at = mounts.iter().position(|mount| mount.destination() == Path::new("/sys/fs/cgroup")).unwrap();
        assert_eq!(mounts[at].typ().as_deref(), Some("tmpfs"));
        assert_eq!(mounts[at + 1].destination(), Path::new("/sys/fs/cgroup/memory"));
        assert!(mounts[at + 1].options().as_ref().unwrap().contains(&"ro".to_owned()));
    }

    #[test]
    fn what_asks_for_no_groups_gets_none() {
        let mut spec = Spec::default();
        spec.set_mounts(None);
        show(&mut spec, &[("memory".to_owned(), "/groups".into())]).unwrap();
        assert!(spec.mounts().is_none());
    }
}
