//! cgroup v2: one directory; `cgroup-v2` in the kernel's documentation.
//!
//! A group whose controllers are on for its children takes no process itself, so every process of a
//! pod is in a leaf: pause's own or an instance's. Leaves of exec'd processes are below an instance's
//! group and have no controllers, which the rule allows.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::errno::Errno;
use oci_spec::runtime::LinuxDeviceCgroup;

use super::devices::{self, Rule, loaded, program};
use super::file::{Made, keyed, kill_members, make_directory, number, open_directory, short, write};
use super::{Entry, Error};
use crate::harmless;
use crate::sys::bpf;
use crate::wire::Statistics;

const CONTROLLERS_FILE: &str = "cgroup.controllers";
const CONTROLLERS: [&str; 7] = ["cpu", "memory", "pids", "cpuset", "io", "hugetlb", "rdma"];

pub(super) fn create(root: &Path, path: &Path, tell: &mut dyn FnMut(PathBuf)) -> Result<(), Error> {
    // Most often all above it is as an earlier one needed it.
    let leaf = root.join(path);
    let is_new = match std::fs::create_dir(&leaf) {
        Ok(()) if has_all_of(&leaf, root) => {
            tell(leaf);
            return Ok(());
        }
        made => made.is_ok(),
    };
    let mut directory = root.to_owned();
    let mut made = Made::Before;
    for name in path {
        enable_controllers(&directory);
        directory.push(name);
        made = make_directory(&directory)?;
    }
    if is_new || made == Made::Now {
        tell(directory);
    }
    Ok(())
}

/// Whether a group has every controller that is on at the top: then no group between them keeps one back.
fn has_all_of(group: &Path, top: &Path) -> bool {
    let there = short(&top.join(CONTROLLERS_FILE));
    let wanted: Vec<&str> = there.split(' ').filter(|one| CONTROLLERS.contains(one)).collect();
    let handed = if wanted.is_empty() { String::new() } else { short(&group.join(CONTROLLERS_FILE)) };
    wanted.iter().all(|one| handed.split(' ').any(|there| there == *one))
}

/// Whether the group has a controller; `cgroup` stands for what every group has.
pub(super) fn has_controller(directory: &Path, controller: &str) -> bool {
    let all = std::fs::read_to_string(directory.join(CONTROLLERS_FILE)).unwrap_or_default();
    controller == "cgroup" || all.split_whitespace().any(|one| one == controller)
}

/// Turns on for the children whatever is there. What a limit needs and lacks is noticed when it is set.
fn enable_controllers(directory: &Path) {
    let (there, on) = (short(&directory.join(CONTROLLERS_FILE)), directory.join("cgroup.subtree_control"));
    let enabled = short(&on);
    let is_in = |list: &str, wanted: &str| list.split(' ').any(|one| one == wanted);
    let missing = |name: &&str| is_in(&there, name) && !is_in(&enabled, name);
    let missing: Vec<String> =
        CONTROLLERS.iter().filter(|name| missing(name)).map(|name| format!("+{name}")).collect();
    if missing.is_empty() {
        return;
    }
    match write(on.clone(), &missing.join(" ")) {
        Ok(()) => return,
        // It has processes of its own. With the controllers of threads alone it would be a tree of threads, and its groups below
        // would take no process (cgroup-v2.rst, Threads).
        Err(Error::File { source, .. }) if source.raw_os_error() == Some(libc::EBUSY) => return,
        Err(_) => {}
    }
    // One of them cannot be: realtime processes keep `cpu` off, for one. The others can.
    for controller in missing {
        harmless(write(on.clone(), &controller));
    }
}

/// Gives the group to a user, who may then make groups below it and move his processes among them; cgroups(7),
/// delegation.
pub(super) fn delegate(directory: &Path, uid: u32) -> Result<(), Error> {
    const USUAL: &str = "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n";
    let files = std::fs::read_to_string("/sys/kernel/cgroup/delegate").unwrap_or_else(|_| USUAL.to_owned());
    for path in std::iter::once(directory.to_owned()).chain(files.lines().map(|file| directory.join(file))) {
        match std::os::unix::fs::chown(&path, Some(uid), None) {
            Ok(()) => {}
            // The list names files of controllers that are not on here.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(Error::File { operation: "change the owner of", path, source }),
        }
    }
    Ok(())
}

pub(super) fn kill_together(root: &Path, path: &Path) -> Result<(), Error> {
    let file = root.join(path).join("memory.oom.group");
    if file.exists() { write(file, "1") } else { Ok(()) }
}

pub(super) fn restrict_devices(root: &Path, path: &Path, rules: &[LinuxDeviceCgroup]) -> Result<(), Error> {
    filter(root, path, &devices::rules(rules)?).map(drop)
}

/// Binds a device program made from these rules; the group's directory, which it opened for that.
pub(super) fn filter(root: &Path, path: &Path, rules: &[Rule]) -> Result<OwnedFd, Error> {
    let path = root.join(path);
    let group = open_directory(path.clone())?;
    let fail = |operation| {
        let path = path.clone();
        move |source| Error::Devices { operation, path, source }
    };
    let program = loaded::load(program::compile(rules)).map_err(fail("load"))?;
    bpf::attach_device_program(&program, group.as_fd()).map_err(fail("attach"))?;
    Ok(group)
}

pub(super) fn entry(root: &Path, path: &Path) -> Result<Entry, Error> {
    open_directory(root.join(path)).map(entry_by)
}

/// The way in, by the group's directory.
pub(super) fn entry_by(directory: OwnedFd) -> Entry {
    Entry { directory: Some(Rc::new(directory)), members: Vec::new() }
}

pub(super) fn leaf(root: &Path, path: &Path) -> Result<Entry, Error> {
    make_directory(&root.join(path))?;
    entry(root, path)
}

pub(super) fn kill(root: &Path, path: &Path) -> Result<(), Error> {
    let directory = root.join(path);
    let error = match write(directory.join("cgroup.kill"), "1") {
        Err(error) if error.errno() == Some(Errno::ENOENT) => error,
        result => return result,
    };
    let freeze = directory.join("cgroup.freeze");
    if !directory.exists() {
        return Ok(());
    }
    if !freeze.exists() {
        return Err(error);
    }
    // Before 5.14. A killed process leaves the freezer by itself.
    write(freeze.clone(), "1")?;
    kill_members(&directory);
    write(freeze, "0")
}

pub(super) fn statistics(root: &Path, path: &Path) -> Statistics {
    let directory = root.join(path);
    let read = |file| number(&directory.join(file)).unwrap_or_default();
    Statistics {
        cpu_usage: keyed(&directory.join("cpu.stat"), "usage_usec").unwrap_or_default() * 1000,
        memory_usage: read("memory.current"),
        pids: read("pids.current"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// A group, removed at the end. On a hybrid host v2 is mounted beside v1 without the controllers, and takes device
    /// programs all the same.
    struct Group {
        root: PathBuf,
        name: PathBuf,
    }

    impl Group {
        fn new(name: &str) -> Result<Self, String> {
            let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
            let v2 = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
            let root = v2.and_then(|line| line.split(' ').nth(1)).ok_or("no cgroup v2 is mounted")?;
            let name = format!("hull-{name}-test-{}", std::process::id());
            let group = Self { root: root.into(), name: name.into() };
            std::fs::create_dir(group.path()).map_err(|_| format!("may not make a group in {root}"))?;
            Ok(group)
        }

        fn path(&self) -> PathBuf {
            self.root.join(&self.name)
        }
    }

    impl Drop for Group {
        fn drop(&mut self) {
            std::fs::remove_dir(self.path()).unwrap();
        }
    }

    #[test]
    fn a_group_uses_only_the_devices_it_may() {
        const SCRIPT: &str = "echo 0 > \"$0/cgroup.procs\" && true < /dev/null && ! true < /dev/kmsg";
        let group = match Group::new("devices") {
            Ok(group) => group,
            Err(reason) => return eprintln!("skipped: {reason}"),
        };
        restrict_devices(&group.root, &group.name, &[]).unwrap();
        let status = std::process::Command::new("/bin/sh").arg("-c").arg(SCRIPT).arg(group.path()).status();
        assert!(status.unwrap().success());
    }

    /// A creation that failed may leave its group behind, busy, and the next one of that name restricts it again.
    #[test]
    fn a_group_may_be_restricted_twice() {
        let group = match Group::new("twice") {
            Ok(group) => group,
            Err(reason) => return eprintln!("skipped: {reason}"),
        };
        restrict_devices(&group.root, &group.name, &[]).unwrap();
        restrict_devices(&group.root, &group.name, &[]).unwrap();
    }
}
