//! The processes behind one pod, as the shim's record tells them, and the moments of its life, as its
//! diagnostics tell them.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::host::Host;
use crate::process;
use crate::wait::{now, wait_until};

/// A container's process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// 64 hex digits.
    pub id: String,
    /// Its restart number.
    pub attempt: u64,
    /// Its init process.
    pub pid: i32,
}

/// One pod's processes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Processes {
    /// `hull-shim`
    pub shim: Option<i32>,
    /// The shim's parent, which starts its successor.
    pub keeper: Option<i32>,
    /// `hull supervise`
    pub supervisor: Option<i32>,
    /// `hull-pause`
    pub pause: Option<i32>,
    /// The newest living instance of each container.
    pub containers: BTreeMap<String, Instance>,
}

/// A pod's directory, which outlives its name.
#[derive(Debug, Clone)]
pub struct PodFiles {
    directory: PathBuf,
}

impl PodFiles {
    /// Of the pod with this name in the namespace `default`; none if there is no such pod.
    #[must_use]
    pub fn find(host: &Host, name: &str) -> Option<Self> {
        let run = host.places().run;
        let target = fs::read_link(run.join("names/default").join(name)).ok()?;
        Some(Self { directory: run.join("pods").join(target.file_name()?) })
    }

    /// The same, once there is one.
    #[track_caller]
    pub fn wait(host: &Host, name: &str, limit: Duration) -> Self {
        wait_until(limit, &format!("pod {name}"), || Self::find(host, name).ok_or_else(String::new))
    }

    /// A file of it.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Its uid.
    #[must_use]
    pub fn uid(&self) -> String {
        self.directory.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Its processes by now. A shim counts when it lives.
    #[must_use]
    pub fn processes(&self) -> Processes {
        let record = fs::read(self.file("shim.json")).unwrap_or_default();
        let record: Value = serde_json::from_slice(&record).unwrap_or_default();
        let pid = |value: &Value| value["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
        let pids = fs::read_to_string(self.file("shim.pid")).unwrap_or_default();
        let mut pids = pids.lines().map(|pid| pid.parse().ok());
        let (shim, keeper) = (pids.next().flatten(), pids.next().flatten());
        let mut containers = BTreeMap::new();
        for each in record["instances"].as_array().into_iter().flatten() {
            let text = |field: &Value| field.as_str().unwrap_or_default().to_owned();
            let create = &each["create"];
            if let (Some(pid), true) = (pid(&each["init"]), each["ended"].is_null()) {
                let attempt = create["instance"]["attempt"].as_u64().unwrap_or_default();
                let instance = Instance { id: text(&create["id"]), attempt, pid };
                containers.insert(text(&create["instance"]["container"]), instance);
            }
        }
        Processes {
            shim: shim.filter(|pid| process::is_alive(*pid)),
            keeper: keeper.filter(|pid| process::is_alive(*pid)),
            supervisor: pid(&record["supervisor"]),
            pause: pid(&record["sandbox"]["pause"]),
            containers,
        }
    }

    /// Kills the supervisor and waits until another one is there; how long that took.
    ///
    /// # Panics
    /// When there is no supervisor, or no new one in time.
    #[track_caller]
    pub fn replace_supervisor(&self) -> Duration {
        let old = self.kill_supervisor();
        let begun = now();
        wait_until(Duration::from_secs(10), "new supervisor", || match self.processes().supervisor {
            Some(new) if new != old => Ok(()),
            other => Err(format!("{other:?}")),
        });
        begun.elapsed()
    }

    /// Kills the supervisor; its pid.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn kill_supervisor(&self) -> i32 {
        let pid = wait_until(Duration::from_secs(10), "supervisor", || {
            self.processes().supervisor.ok_or_else(|| "none".to_owned())
        });
        kill_now(pid);
        pid
    }

    /// Kills the shim and its keeper, so that no successor comes by itself; the shim's pid.
    #[track_caller]
    pub fn kill_shim_for_good(&self) -> i32 {
        self.processes().keeper.into_iter().for_each(kill_now);
        self.kill_shim()
    }

    /// Kills the shim and waits until it is gone; its pid.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn kill_shim(&self) -> i32 {
        let pid = wait_until(Duration::from_secs(10), "shim", || {
            self.processes().shim.ok_or_else(|| "none".to_owned())
        });
        kill_now(pid);
        wait_until(Duration::from_secs(10), "end of the shim", || {
            if process::is_alive(pid) { Err(pid.to_string()) } else { Ok(()) }
        });
        pid
    }

    /// The pod's diagnostics: with [`Host::start_debug`] every input and action of its supervisors.
    #[must_use]
    pub fn diagnostics(&self) -> String {
        fs::read_to_string(self.file("hull.log")).unwrap_or_default()
    }
}

/// SIGKILL; a process that is gone already is as good.
///
/// # Panics
/// When it may not be killed.
#[track_caller]
pub fn kill_now(pid: i32) {
    match kill(Pid::from_raw(pid), Signal::SIGKILL) {
        Ok(()) | Err(nix::Error::ESRCH) => {}
        Err(error) => panic!("kill {pid}: {error}"),
    }
}
