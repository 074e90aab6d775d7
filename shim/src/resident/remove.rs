//! `hull-shim remove`: takes away everything of a pod by force, whatever its records say and whoever lives.
//!
//! Needs nothing but the pod's uid: its processes are found by its cgroup, its mounts and files by its directories,
//! its network by the uid that it was leased to. What the records tell beyond that is used where they can be read.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;

use nix::fcntl::Flock;
use nix::poll::poll;

use super::record::{self, ProcessRecord, Record};
use super::start::{self, Error, Options};
use super::{chain, keeper, procfs};
use crate::cgroup::{Group, Hierarchies, Removal};
use crate::harmless;
use crate::layout::{Layout, PodLayout};
use crate::sandbox::mounts;
use crate::sys::pidfd;
use crate::tree;
use crate::wire::{CgroupManager, SandboxConfig};

/// How long killed processes may take to end, in rounds of so many milliseconds.
const ROUNDS: u32 = 200;
const ROUND: u16 = 50;
/// Milliseconds that one killed process may take.
const DEATH: u16 = 5000;

/// Removes a pod by force.
///
/// # Errors
/// Something of it does not go; the rest was removed all the same.
pub(super) fn remove(options: &Options) -> Result<(), Error> {
    let layout = Layout::new(options.root.clone());
    let pod = layout.pod(&options.uid);
    let hierarchies = Rc::new(Hierarchies::find().map_err(|error| Error::Cgroup(chain(&error)))?);
    let mut failures = Vec::new();
    let _lock = take(&pod, &options.uid)?;
    if let Ok(Some(Record { supervisor: Some(supervisor), .. })) = record::read(&pod.shim_record()) {
        end(supervisor);
    }
    let config = record::read::<SandboxConfig>(&pod.sandbox_config()).ok().flatten();
    for manager in managers(config.as_ref()) {
        failures.extend(empty(&Group::of_pod(&hierarchies, &options.uid, *manager)).err());
    }
    failures.extend(network_down(options, config.as_ref()).err());
    for place in [pod.dir(), pod.disk()] {
        failures.extend(mounts::unmount_below(place).err().map(|error| chain(&error)));
    }
    failures.extend(remove_named(&layout, &options.uid).err());
    for place in [pod.disk(), pod.dir()] {
        failures.extend(tree::remove(place).err().map(|error| chain(&error)));
    }
    if failures.is_empty() { Ok(()) } else { Err(Error::Record(failures.join("; "))) }
}

/// Who may have made the pod's group; without a readable `sandbox.json` anybody.
fn managers(config: Option<&SandboxConfig>) -> &'static [CgroupManager] {
    match config.map(|config| config.cgroup_manager) {
        Some(CgroupManager::Cgroupfs) => &[CgroupManager::Cgroupfs],
        Some(CgroupManager::Systemd) => &[CgroupManager::Systemd],
        None => &[CgroupManager::Cgroupfs, CgroupManager::Systemd],
    }
}

/// Ends the keeper and the shim that have the pod, again and again until its lock is ours: a keeper may have forked
/// another shim just before it was killed. None for a pod without a file to lock.
fn take(pod: &PodLayout, uid: &str) -> Result<Option<Flock<File>>, Error> {
    for _ in 0..ROUNDS {
        match start::lock(&pod.shim_lock()) {
            Ok(Some(lock)) => return Ok(Some(lock)),
            Ok(None) => {}
            // What cannot be opened or locked has no shim either.
            Err(_) => return Ok(None),
        }
        // The keeper first: it would fork another shim.
        for process in keeper::residents(pod, uid).into_iter().rev() {
            // One that has ended meanwhile is as good.
            harmless(pidfd::signal(process.as_fd(), libc::SIGKILL));
            procfs::wait_end(&process, DEATH);
        }
        harmless(poll(&mut [], ROUND));
    }
    Err(Error::Record(format!("{} stays locked", pod.shim_lock().display())))
}

fn end(ProcessRecord { pid, start_time }: ProcessRecord) {
    if let Some(process) = procfs::open(pid, start_time) {
        // One that has ended meanwhile is as good.
        harmless(pidfd::signal(process.as_fd(), libc::SIGKILL));
        procfs::wait_end(&process, DEATH);
    }
}

/// Kills what is in the pod's group until the group can be removed.
fn empty(group: &Group) -> Result<(), String> {
    for _ in 0..ROUNDS {
        let removed = group.kill().and_then(|()| group.remove()).map_err(|error| chain(&error))?;
        if removed == Removal::Gone {
            group.remove_empty_parent();
            return Ok(());
        }
        // Waits for nothing but the time. An interrupted wait is a short one.
        harmless(poll(&mut [], ROUND));
    }
    Err(format!("the cgroup {} stays busy", group.absolute().display()))
}

/// Runs the task that gives the address back. It finds the pod's links by its uid; without a readable
/// `sandbox.json` it takes the usual network for the pod's.
fn network_down(options: &Options, config: Option<&SandboxConfig>) -> Result<(), String> {
    let input = match config {
        Some(config) if config.network.is_none() => return Ok(()),
        Some(config) => config.network.clone().unwrap_or_default(),
        None => serde_json::json!({ "uid": options.uid }),
    };
    let text = |error: std::io::Error| format!("network-down: {error}");
    let program = options.protected.clone().unwrap_or_default().join("hull");
    let mut command = Command::new(program);
    if let Some(root) = &options.root {
        command.arg("--root").arg(root);
    }
    command.args(["task", "network-down"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut task = command.spawn().map_err(text)?;
    if let Some(mut pipe) = task.stdin.take() {
        pipe.write_all(input.to_string().as_bytes()).map_err(text)?;
    }
    let output = task.wait_with_output().map_err(text)?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("network-down: {}", said.trim())) }
}

/// Removes the name that leads to the pod, where it is said to be reached, and its logs: all are found by the uid.
fn remove_named(layout: &Layout, uid: &str) -> Result<(), String> {
    let text = |path: &Path, error: &dyn std::fmt::Display| format!("remove {}: {error}", path.display());
    for namespace in entries(layout.name_link("", "").as_path()) {
        for link in entries(&namespace) {
            if fs::read_link(&link).is_ok_and(|target| target.ends_with(uid)) {
                fs::remove_file(&link).map_err(|error| text(&link, &error))?;
            }
        }
        // Other pods of the namespace keep it.
        harmless(fs::remove_dir(&namespace));
    }
    tree::remove(&layout.endpoint(uid)).map_err(|error| chain(&error))?;
    let logs = layout.pod_logs("", "", uid);
    let ending = format!("_{uid}");
    for directory in logs.parent().map(entries).unwrap_or_default() {
        if directory.to_string_lossy().ends_with(&ending) {
            tree::remove(&directory).map_err(|error| chain(&error))?;
        }
    }
    Ok(())
}

/// What is in a directory; nothing if there is none.
fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}
