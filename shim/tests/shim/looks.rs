//! What a test sees of a pod from outside: logs, records, groups, times.

use std::path::PathBuf;

use hull_shim::wire::{Instance, InstanceId, Inventory};
use nix::poll::{PollTimeout, poll};
use serde_json::{Value, json};

use crate::pod::Pod;

impl Pod {
    pub(crate) fn log_path(&self, name: &str) -> PathBuf {
        self.root.join("log").join(format!("{name}.log"))
    }

    pub(crate) fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.log_path(name)).unwrap()
    }

    /// What a container said, without stamps and with the parts of a line (`P`) put together: a terminal may hand a line
    /// over in two, on machines with several processors.
    pub(crate) fn said(&self, name: &str) -> String {
        let part = |line: &str| match line.splitn(4, ' ').collect::<Vec<_>>()[..] {
            [_, _, "P", part] => part.to_owned(),
            [_, _, _, rest] => format!("{rest}\n"),
            _ => String::new(),
        };
        self.log(name).lines().map(part).collect()
    }

    /// Waits until the pod's directory is gone.
    pub(crate) fn await_gone(&mut self) {
        self.link = None;
        for _ in 0..2000 {
            if !self.layout.dir().exists() {
                return;
            }
            poll(&mut [], PollTimeout::from(10_u16)).unwrap();
        }
        panic!("the pod stays: {}", self.diagnostics());
    }

    /// Waits until the log of a container has a text.
    pub(crate) fn await_log(&self, name: &str, text: &str) {
        self.await_text(name, text, |name| self.log(name));
    }

    /// Waits until a container has said a text, in whatever pieces.
    pub(crate) fn await_said(&self, name: &str, text: &str) {
        self.await_text(name, text, |name| self.said(name));
    }

    fn await_text(&self, name: &str, text: &str, look: impl Fn(&str) -> String) {
        let mut tries = 0;
        while !look(name).contains(text) {
            tries += 1;
            assert!(tries < 2000, "{text:?} does not come: {}", self.log(name));
            // Waits ten milliseconds without a clock of its own.
            poll(&mut [], PollTimeout::from(10_u16)).unwrap();
        }
    }

    /// The init's pid, as the record has it.
    pub(crate) fn init_of(&self, instance: &InstanceId) -> i32 {
        let record: Value =
            serde_json::from_slice(&std::fs::read(self.layout.shim_record()).unwrap()).unwrap();
        let instances = record["instances"].as_array().unwrap();
        let found = instances.iter().find(|one| one["create"]["instance"] == json!(instance)).unwrap();
        i32::try_from(found["init"]["pid"].as_i64().unwrap()).unwrap()
    }

    pub(crate) fn diagnostics(&self) -> String {
        std::fs::read_to_string(self.layout.diagnostics()).unwrap_or_default()
    }

    /// Groups of instances and exec'd processes in any cgroup hierarchy.
    pub(crate) fn cgroups_below(&self) -> Vec<PathBuf> {
        let below = |group: &PathBuf| std::fs::read_dir(group).unwrap().flatten().map(|entry| entry.path());
        self.cgroups().iter().flat_map(below).filter(|path| path.is_dir()).collect()
    }

    /// Waits until there are so many of them.
    pub(crate) fn await_cgroups_below(&self, count: usize) {
        for _ in 0..2000 {
            if self.cgroups_below().len() == count {
                return;
            }
            poll(&mut [], PollTimeout::from(10_u16)).unwrap();
        }
        panic!("groups stay: {:?}", self.cgroups_below());
    }

    /// The pid of the shim.
    pub(crate) fn shim_pid(&self) -> u32 {
        self.shim.as_ref().unwrap().id()
    }

    /// CPU time of the shim and of the children that it has reaped, in hundredths of a second.
    pub(crate) fn cpu_ticks(&self) -> u64 {
        ticks(self.shim_pid(), 12..16)
    }

    /// The same of those alone that it has reaped.
    pub(crate) fn child_ticks(&self) -> u64 {
        ticks_of_children(self.shim_pid())
    }

    /// Directories of this pod in any cgroup hierarchy.
    pub(crate) fn cgroups(&self) -> Vec<PathBuf> {
        let group = format!("hull/pod{}", self.uid);
        cgroup_roots().iter().map(|root| root.join(&group)).filter(|path| path.exists()).collect()
    }
}

/// CPU time of the children that a process has reaped, in hundredths of a second.
pub(crate) fn ticks_of_children(pid: u32) -> u64 {
    ticks(pid, 14..16)
}

/// The sum of some fields of `/proc/<pid>/stat`, counted from the end of the name on.
fn ticks(pid: u32, which: std::ops::Range<usize>) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = text[text.rfind(')').unwrap()..].split(' ').collect();
    fields[which].iter().map(|field| field.parse::<u64>().unwrap()).sum()
}

/// Waits until `found` has something.
pub(crate) fn await_some<T>(what: &str, found: impl Fn() -> Option<T>) -> T {
    for _ in 0..2000 {
        if let Some(found) = found() {
            return found;
        }
        poll(&mut [], PollTimeout::from(10_u16)).unwrap();
    }
    panic!("{what} does not come");
}

pub(crate) fn cgroup_roots() -> Vec<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    fields.filter(|fields| fields[2].starts_with("cgroup")).map(|fields| fields[1].into()).collect()
}

pub(crate) fn find<'a>(inventory: &'a Inventory, instance: &InstanceId) -> &'a Instance {
    inventory
        .instances
        .iter()
        .find(|one| one.instance == *instance)
        .expect("the instance is in the inventory")
}

/// The version of the running kernel.
pub(crate) fn kernel() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map_while(|number| number.trim().parse().ok());
    (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default())
}

/// Whether a process is there and not a zombie.
pub(crate) fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}
