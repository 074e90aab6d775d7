//! What the core is told: observations, results of its actions, and orders.
//!
//! Every input names the instance it speaks of, so that late news of an earlier one is recognised.

use hull_shim::wire::Ended;
pub use hull_shim::wire::InstanceId;
use serde::{Deserialize, Serialize};

use crate::core::action::{HookKind, ProbeKind};
use crate::manifest::pod::ContainerName;

/// One piece of news.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Input {
    /// Time passed; also sent at the moment that the core asked to be woken.
    Tick,
    /// The sandbox stands with these addresses (none yet on a loopback-only network). Sent once per
    /// sandbox, and again after a restart of the supervisor.
    SandboxUp {
        /// Its number.
        attempt: u32,
        /// The pod's addresses, primary first.
        ips: Vec<std::net::IpAddr>,
        /// The host's addresses as seen from the pod, for `status.hostIPs`.
        host_ips: Vec<std::net::IpAddr>,
    },
    /// The pod's `resolv.conf` is not as it was asked for. Said of a sandbox once, however often it comes.
    ResolvConfWarnings {
        /// Of which sandbox.
        attempt: u32,
        /// For people, one after the other.
        warnings: Vec<(DnsWarning, String)>,
    },
    /// The sandbox could not be made.
    SandboxFailed {
        /// Why.
        message: String,
    },
    /// Pause ended unasked.
    SandboxDied,
    /// Answer to `StopSandbox`: nothing of the sandbox is left.
    SandboxStopped,
    /// Answer to `PrepareVolumes`.
    VolumesReady,
    /// Answer to `PrepareVolumes`.
    VolumesFailed {
        /// Which volume.
        volume: String,
        /// Why, as in `MountVolume.SetUp failed for volume "v" : <message>`.
        message: String,
    },
    /// Not all that `RefreshVolumes` asked for could be written; it is time to try again.
    VolumesStale,
    /// The image is there: answer to `EnsureImage`.
    ImageReady {
        /// For whom.
        instance: InstanceId,
        /// Its normalised reference, for `status.image`.
        image: String,
        /// Digest reference, for `status.imageID`.
        image_id: String,
        /// Set when it was fetched: how long that took in milliseconds and its size in bytes.
        pulled: Option<(u64, u64)>,
    },
    /// The image is not there: answer to `EnsureImage`.
    ImageFailed {
        /// For whom.
        instance: InstanceId,
        /// In which way.
        reason: ImageFailure,
        /// The text from the image store.
        message: String,
    },
    /// Answer to `CreateContainer`.
    Created {
        /// Which.
        instance: InstanceId,
        /// 64 hex digits.
        id: String,
        /// The image's `StopSignal` as a number, if it has one.
        stop_signal: Option<i32>,
    },
    /// Answer to `CreateContainer`.
    CreateFailed {
        /// Which.
        instance: InstanceId,
        /// Wrong configuration (missing ConfigMap, runAsNonRoot, ...) rather than a runtime's failure.
        config: bool,
        /// The text.
        message: String,
    },
    /// Answer to `StartContainer`: its process runs.
    Started {
        /// Which.
        instance: InstanceId,
        /// When, by the wall clock, in nanoseconds since the Unix epoch.
        started_at: i64,
    },
    /// Answer to `StartContainer`: its process could not be executed (`StartError`, 128).
    StartFailed {
        /// Which.
        instance: InstanceId,
        /// The text.
        message: String,
    },
    /// A container's init process ended, for whatever reason.
    Exited {
        /// Which.
        instance: InstanceId,
        /// How.
        ended: Ended,
        /// The termination message: file, or tail of the log where the policy says so.
        message: String,
    },
    /// Answer to `RunHook`.
    HookDone {
        /// Whose.
        instance: InstanceId,
        /// Which of its hooks.
        hook: HookKind,
        /// The error text as in reference 6.3 (`<err>` with its message), or success.
        result: Result<(), String>,
    },
    /// An HTTPS request of a hook got an HTTP answer and went well as an HTTP one. Comes before `HookDone`.
    HookFellBack {
        /// `host:port` of the request.
        address: String,
    },
    /// Answer to `RunProbe`.
    ProbeDone {
        /// Whose.
        instance: InstanceId,
        /// Which of its probes.
        probe: ProbeKind,
        /// What came out (the last of up to three tries).
        outcome: Outcome,
    },
    /// The user asks for deletion.
    Delete {
        /// `gracePeriodSeconds` of the request; none means the pod's own.
        grace_seconds: Option<i64>,
    },
    /// A supervisor took over: these instances exist. Those that the state believes alive and that
    /// are missing here have vanished. Requests that were under way have no answer any more and are to be
    /// asked again.
    Recovered {
        /// The sandbox, if it lives.
        sandbox: Option<u32>,
        /// What the shim knows.
        instances: Vec<hull_shim::wire::Instance>,
    },
    /// The pod was given a new manifest, which this step and all later ones have.
    PodChanged,
    /// ConfigMaps, Secrets or Services changed: waiting for one of them may be over.
    ObjectsChanged,
}

/// What of a pod's `resolv.conf` is not as it was asked for (reference 11.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DnsWarning {
    /// There is no resolver for `ClusterFirst`.
    MissingClusterDns,
    /// Something had to be left out.
    DnsConfigForming,
}

impl DnsWarning {
    /// The reason of its event.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::MissingClusterDns => "MissingClusterDNS",
            Self::DnsConfigForming => "DNSConfigForming",
        }
    }
}

/// How an image is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ImageFailure {
    /// `ErrImagePull`.
    Pull,
    /// `ErrImageNeverPull`.
    NeverPull,
    /// `InvalidImageName`.
    InvalidName,
}

/// What a probe brought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Success.
    Success,
    /// Success with a `ProbeWarning` event.
    Warning(String),
    /// Failure, with the output.
    Failure(String),
    /// It could not be tried; does not count.
    Error(String),
}

/// A container's kind decides how it is started, restarted and stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerKind {
    /// Runs to completion before the next.
    Init,
    /// An init container with `restartPolicy: Always`.
    Sidecar,
    /// One of `spec.containers`.
    Main,
}

impl ContainerKind {
    /// The kind of a container of this pod; none if it has no such container.
    #[must_use]
    pub fn of(spec: &crate::manifest::pod::PodSpec, name: &ContainerName) -> Option<Self> {
        use crate::manifest::pod::RestartPolicy;
        if spec.containers.iter().any(|container| container.name == *name) {
            return Some(Self::Main);
        }
        let init = spec.init_containers.iter().find(|container| container.name == *name)?;
        Some(match init.restart_policy {
            Some(RestartPolicy::Always) => Self::Sidecar,
            _ => Self::Init,
        })
    }
}
