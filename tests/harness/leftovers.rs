//! What hull left behind on a host: found by the host's root directory and the uids of its pods.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::process;
use crate::wait::{now, pause};

/// hull's directories on a host, by the paths under which a case reaches them.
#[derive(Debug, Clone)]
pub struct Places {
    /// `/run/hull`, or its like below `--root`.
    pub run: PathBuf,
    /// `/var/lib/hull`
    pub lib: PathBuf,
    /// `/var/log/pods`
    pub logs: PathBuf,
}

/// What to look for.
#[derive(Debug)]
pub struct Search<'a> {
    /// The host's `--root`, or the directory that has its disk.
    pub root: &'a Path,
    /// Where hull keeps its things.
    pub places: Places,
    /// Every pod it ever had.
    pub uids: &'a BTreeSet<String>,
    /// A process in the host's network namespace.
    pub network_pid: u32,
}

impl Search<'_> {
    /// One line per thing that is left.
    #[must_use]
    pub fn describe(&self) -> Vec<String> {
        let process = |pid| {
            format!("process {pid} {} {}", process::command_line(pid), process::file(pid, "comm").trim())
        };
        let mut lines: Vec<String> = self.processes().into_iter().map(process).collect();
        lines.extend(self.mounts().iter().map(|path| format!("mount {}", path.display())));
        lines.extend(self.cgroups().iter().map(|path| format!("cgroup {}", path.display())));
        lines.extend(self.links().iter().map(|name| format!("link {name}")));
        lines.extend(self.files().iter().map(|path| format!("file {}", path.display())));
        lines
    }

    /// Kills by pid whatever process there is. Says what does not go.
    pub fn end_processes(&self) {
        let start = now();
        loop {
            let processes = self.processes();
            if processes.is_empty() {
                break;
            }
            if start.elapsed() > Duration::from_secs(10) {
                eprintln!("processes that do not go: {processes:?}");
                break;
            }
            for pid in processes {
                if let Err(error) = kill(Pid::from_raw(pid), Signal::SIGKILL)
                    && error != nix::Error::ESRCH
                {
                    eprintln!("kill {pid}: {error}");
                }
            }
            pause(Duration::from_millis(20));
        }
    }

    /// Removes it all: kills by pid, unmounts, removes groups. Says what does not go.
    pub fn remove(&self) {
        self.end_processes();
        // Mounts of its own go with the last of its processes.
        for path in self.mounts().iter().filter(|_| !self.has_own_mounts()) {
            if let Err(error) = umount2(path, MntFlags::MNT_DETACH) {
                eprintln!("umount {}: {error}", path.display());
            }
        }
        for path in self.cgroups() {
            if let Err(error) = fs::remove_dir(&path) {
                eprintln!("rmdir {}: {error}", path.display());
            }
        }
    }

    /// Processes that name our root or one of our pods, or are in a group of one.
    fn processes(&self) -> Vec<i32> {
        let root = self.root.to_string_lossy();
        let own = std::process::id().cast_signed();
        let ours = |pid: &i32| {
            *pid != own
                && process::is_alive(*pid)
                && (process::command_line(*pid).contains(root.as_ref())
                    || self.is_ours(&process::command_line(*pid))
                    || self.is_ours(&process::file(*pid, "cgroup")))
        };
        process::all().into_iter().filter(ours).collect()
    }

    /// Mount points below our root, or in the pods of a host with mounts of its own, the innermost first.
    fn mounts(&self) -> Vec<PathBuf> {
        let table = fs::read_to_string(format!("/proc/{}/mountinfo", self.network_pid)).unwrap_or_default();
        let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
        let usual = ["/run/hull/", "/var/lib/hull/pods/"];
        let ours = |point: &PathBuf| {
            point.starts_with(self.root) && self.places.run.starts_with(self.root)
                || self.has_own_mounts() && usual.iter().any(|place| point.starts_with(place))
        };
        let mut points: Vec<_> = points.filter(ours).collect();
        points.reverse();
        points
    }

    /// Whether hull is in its usual places on this host.
    fn has_own_mounts(&self) -> bool {
        !self.places.run.starts_with(self.root)
    }

    /// Groups named after one of our pods and those below them, the innermost first.
    #[must_use]
    pub fn cgroups(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        self.walk(Path::new("/sys/fs/cgroup"), &mut found);
        found.reverse();
        found
    }

    fn walk(&self, directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let path = entry.path();
                if self.is_ours(&path.to_string_lossy()) {
                    found.push(path.clone());
                }
                self.walk(&path, found);
            }
        }
    }

    /// A cgroup path that speaks of one of our pods; a uid may be written with `_` for `-`.
    #[must_use]
    pub fn is_ours(&self, text: &str) -> bool {
        self.uids.iter().any(|uid| text.contains(uid.as_str()) || text.contains(&uid.replace('-', "_")))
    }

    /// Pods' links and the bridge, which goes with the last pod.
    fn links(&self) -> Vec<String> {
        let table = fs::read_to_string(format!("/proc/{}/net/dev", self.network_pid)).unwrap_or_default();
        let names = table.lines().skip(2).filter_map(|line| line.split(':').next()).map(str::trim);
        names.filter(|name| *name != "lo").map(str::to_owned).collect()
    }

    /// Directories of pods, in memory and on disk, their names, where they are reached, and their logs.
    fn files(&self) -> Vec<PathBuf> {
        let below = |path: &Path| -> Vec<PathBuf> {
            fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
        };
        let Places { run, lib, logs } = &self.places;
        let mut files = below(&run.join("pods"));
        files.extend(below(&run.join("names")).iter().flat_map(|namespace| below(namespace)));
        files.extend(below(&run.join("endpoints")));
        files.extend([lib.join("pods"), logs.clone()].iter().flat_map(|place| below(place)));
        files
    }
}
