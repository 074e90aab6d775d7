//! What there is on this machine, as sets of names, to compare before and after.
//!
//! Other cases run beside this one: what is compared is what belongs to the host under test, by its root, its
//! network namespace and its processes, and counts of what nobody else makes.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use crate::host::Host;
use crate::process;

/// Everything of one host that a pod can add to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Mount points below its root.
    pub mounts: BTreeSet<String>,
    /// Cgroups that name one of its pods.
    pub cgroups: BTreeSet<String>,
    /// Links, addresses and routes in its network namespace.
    pub network: BTreeSet<String>,
    /// Tables, chains and rules of nftables there.
    pub rules: String,
    /// Processes of its own, by pid and arguments.
    pub processes: BTreeSet<String>,
    /// Namespaces that those are in.
    pub namespaces: BTreeSet<String>,
    /// Files below its root, without the image store.
    pub files: BTreeSet<String>,
}

impl Machine {
    /// As it is now.
    #[must_use]
    pub fn look(host: &Host) -> Self {
        let pids = processes(host);
        let kinds = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"];
        let own = std::process::id().cast_signed();
        let of = |pid: i32| kinds.iter().filter_map(move |kind| process::namespace(pid, kind));
        let ours: BTreeSet<String> = of(own).collect();
        Self {
            mounts: mounts(host),
            cgroups: host.cgroups().into_iter().collect(),
            network: network(host),
            rules: output(host, &["nft", "list", "ruleset"]),
            namespaces: pids.iter().flat_map(|pid| of(*pid)).filter(|one| !ours.contains(one)).collect(),
            processes: pids.into_iter().map(|pid| format!("{pid} {}", process::command_line(pid))).collect(),
            files: files(host),
        }
    }
}

/// Processes that name the root, or have one of its pods' namespaces or mounts: with those that have forgotten
/// whose they were, every process that is no ancestor and in another network namespace than the tests.
fn processes(host: &Host) -> Vec<i32> {
    let root = host.root().to_string_lossy().into_owned();
    let own = std::process::id().cast_signed();
    let ours = |pid: &i32| {
        *pid != own && process::is_alive(*pid) && process::command_line(*pid).contains(&root)
            || host.speaks_of_pod(&process::file(*pid, "cgroup"))
    };
    process::all().into_iter().filter(ours).collect()
}

fn mounts(host: &Host) -> BTreeSet<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let root = host.root().to_string_lossy().into_owned();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(str::to_owned);
    points.filter(|point| point.starts_with(&root)).collect()
}

/// What changes by itself (link states, lifetimes, counters) is left out.
fn network(host: &Host) -> BTreeSet<String> {
    let links = output(host, &["busybox", "ip", "-o", "link"]);
    let names = links.lines().filter_map(|line| line.split(": ").nth(1)).map(|name| format!("link {name}"));
    let addresses = output(host, &["busybox", "ip", "-o", "-4", "addr"]);
    let addresses =
        addresses.lines().map(|line| line.split_whitespace().take(4).collect::<Vec<_>>().join(" "));
    let routes = output(host, &["busybox", "ip", "route"]);
    names.chain(addresses).chain(routes.lines().map(|line| format!("route {line}"))).collect()
}

/// What a command prints. One that cannot be run, or fails, would compare as "nothing there".
fn output(host: &Host, words: &[&str]) -> String {
    let mut command: Command = host.command(words[0]);
    let output = command.args(&words[1..]).output().expect("tests/setup installed it");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn files(host: &Host) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut left = vec![host.root().to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            // The image store is a link to the one that all cases share.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                left.push(entry.path());
            }
            found.insert(entry.path().to_string_lossy().into_owned());
        }
    }
    found
}
