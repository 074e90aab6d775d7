//! What the core asks for. The driver carries actions out in order and answers those that say so with
//! exactly one [`super::input::Input`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::input::InstanceId;
use crate::manifest::pod::PullPolicy;

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Action {
    /// Record an event (already counted and aggregated: reference 9.3). The driver appends it to the
    /// journal and tells watchers.
    Record(Box<super::status::Event>),
    /// Make data directories and volumes. Answer: `VolumesReady` or `VolumesFailed`.
    PrepareVolumes,
    /// Show in the volumes what the objects hold now. What cannot be shown stays as it is; `VolumesStale` comes when it failed.
    RefreshVolumes,
    /// Make a new sandbox with this number. Answer: `SandboxUp` or `SandboxFailed`. The first sandbox is
    /// made before the core exists, so a pod's life begins with `SandboxUp` or `SandboxFailed` unasked.
    CreateSandbox {
        /// Its number.
        attempt: u32,
    },
    /// Kill what is left in the sandbox and take network and namespaces down. Answer: `SandboxStopped`.
    StopSandbox,
    /// Find or fetch an instance's image. Answer: `ImageReady` or `ImageFailed`.
    EnsureImage {
        /// For whom.
        instance: InstanceId,
        /// The image as written.
        image: String,
        /// May it be fetched.
        policy: PullPolicy,
    },
    /// Build environment and spec, mount the rootfs, create. Answer: `Created` or `CreateFailed`.
    CreateContainer {
        /// Which.
        instance: InstanceId,
        /// The image that it was found to have, as written; a newer manifest may name another.
        image: String,
    },
    /// Let it execute. Answer: `Started` or `StartFailed`.
    StartContainer {
        /// Which.
        instance: InstanceId,
    },
    /// Run a hook. Answer: `HookDone`, unless it was given up with `AbandonHook`.
    RunHook {
        /// Whose.
        instance: InstanceId,
        /// Which.
        hook: HookKind,
    },
    /// Wait for the rest of a preStop hook that an earlier supervisor began. Answer: as of `RunHook`.
    ResumeHook {
        /// Whose.
        instance: InstanceId,
        /// What is left of it.
        rest: HookRest,
    },
    /// Nobody waits for this hook any more; let it run, its result is not wanted.
    AbandonHook {
        /// Whose.
        instance: InstanceId,
        /// Which.
        hook: HookKind,
    },
    /// Run a probe. Answer: `ProbeDone`, within the probe's timeout (and up to three tries on errors).
    RunProbe {
        /// Whose.
        instance: InstanceId,
        /// Which.
        probe: ProbeKind,
    },
    /// Send a signal to an instance's init process. Its end comes as `Exited`.
    Signal {
        /// Which.
        instance: InstanceId,
        /// Its number.
        signal: i32,
    },
    /// SIGKILL the instance as a whole. Its end comes as `Exited`.
    Kill {
        /// Which.
        instance: InstanceId,
    },
    /// The exit of this instance is in the record: release its runtime state, rootfs, cgroup.
    Release {
        /// Which.
        instance: InstanceId,
    },
    /// Remove an ended instance's log (one dead instance per container is kept).
    RemoveLogs {
        /// Which.
        instance: InstanceId,
    },
    /// The pod object is to go: everything was stopped and the terminal status was published. Volumes,
    /// logs, addresses, directory: all of it, then the supervisor ends.
    Finish,
}

/// The two lifecycle hooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum HookKind {
    /// Right after start.
    PostStart,
    /// Before the stop signal.
    PreStop,
}

/// What is left of a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum HookRest {
    /// The end of this process.
    Process {
        /// Its number towards the shim.
        exec: u64,
    },
    /// So long a sleep.
    Sleep(Duration),
}

/// The three probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ProbeKind {
    /// Gates the others.
    Startup,
    /// Decides `ready`.
    Readiness,
    /// Restarts.
    Liveness,
}

/// Formats a duration as Go does (`40s`, `1m20s`, `5m0s`), for back-off messages; whole seconds.
#[must_use]
pub fn go_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds}s"),
        (hours, minutes, seconds) => format!("{hours}h{minutes}m{seconds}s"),
    }
}
