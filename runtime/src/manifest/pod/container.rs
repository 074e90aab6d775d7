//! One container of any kind.

use std::fmt;
use std::net::IpAddr;

use super::{ContainerName, EnvFrom, EnvVar, Handler, Probe, RestartPolicy, VolumeMount};

/// When an image is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum PullPolicy {
    /// At every start.
    Always,
    /// When it is not there.
    IfNotPresent,
    /// Not; it must be there.
    Never,
}

/// One container of any kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Container {
    /// Its name.
    pub name: ContainerName,
    /// The image as written.
    pub image: String,
    /// `imagePullPolicy`.
    pub pull_policy: PullPolicy,
    /// `command`; empty means the image's entrypoint.
    pub command: Vec<String>,
    /// `args`; empty means the image's command (if `command` is empty too).
    pub args: Vec<String>,
    /// `workingDir`.
    pub working_dir: Option<String>,
    /// `env`, in order.
    pub env: Vec<EnvVar>,
    /// `envFrom`, in order.
    pub env_from: Vec<EnvFrom>,
    /// `ports`.
    pub ports: Vec<ContainerPort>,
    /// Requests and limits.
    pub resources: Resources,
    /// `volumeMounts`.
    pub mounts: Vec<VolumeMount>,
    /// `livenessProbe`.
    pub liveness: Option<Probe>,
    /// `readinessProbe`.
    pub readiness: Option<Probe>,
    /// `startupProbe`.
    pub startup: Option<Probe>,
    /// `lifecycle.postStart`.
    pub post_start: Option<Handler>,
    /// `lifecycle.preStop`.
    pub pre_stop: Option<Handler>,
    /// `securityContext`, with the pod's values filled in where the container has none.
    pub security: Security,
    /// `stdin`.
    pub stdin: bool,
    /// `stdinOnce`.
    pub stdin_once: bool,
    /// `tty`.
    pub tty: bool,
    /// `terminationMessagePath`.
    pub termination_message_path: String,
    /// `terminationMessagePolicy: FallbackToLogsOnError`.
    pub message_falls_back_to_logs: bool,
    /// The container's own `restartPolicy`. On an init container `Always` makes it a sidecar.
    pub restart_policy: Option<RestartPolicy>,
    /// `restartPolicyRules`.
    pub restart_rules: Vec<RestartRule>,
}

/// One of `restartPolicyRules`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestartRule {
    /// What a match does.
    pub action: RestartAction,
    /// `exitCodes.operator: In` (true for `NotIn`: see [`RestartRule::matches`]).
    pub negated: bool,
    /// `exitCodes.values`.
    pub codes: Vec<i32>,
}

impl RestartRule {
    /// Whether an exit code matches.
    #[must_use]
    pub fn matches(&self, code: i32) -> bool {
        self.codes.contains(&code) != self.negated
    }
}

/// What a matching restart rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartAction {
    /// This container is started again.
    Restart,
    /// All containers are.
    RestartAllContainers,
}

/// A port of `containers[].ports`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerPort {
    /// `name`.
    pub name: Option<String>,
    /// `containerPort`.
    pub port: u16,
    /// `hostPort`.
    pub host_port: Option<u16>,
    /// `hostIP`.
    pub host_ip: Option<IpAddr>,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: Protocol,
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        })
    }
}

/// Requests and limits of a container, after defaulting; `None` is unset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    /// Milli-CPUs.
    pub cpu_request: Option<u64>,
    /// Milli-CPUs.
    pub cpu_limit: Option<u64>,
    /// Bytes.
    pub memory_request: Option<u64>,
    /// Bytes.
    pub memory_limit: Option<u64>,
    /// Bytes; for the downward API and eviction.
    pub ephemeral_request: Option<u64>,
    /// Bytes.
    pub ephemeral_limit: Option<u64>,
}

/// Effective `securityContext` of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Security {
    /// `privileged`.
    pub privileged: bool,
    /// `runAsUser`.
    pub run_as_user: Option<u32>,
    /// `runAsGroup`.
    pub run_as_group: Option<u32>,
    /// `runAsNonRoot`.
    pub run_as_non_root: bool,
    /// `readOnlyRootFilesystem`.
    pub read_only_root: bool,
    /// False sets `no_new_privs`.
    pub allow_privilege_escalation: bool,
    /// Capabilities to add, without `CAP_`, upper case; may hold `ALL`.
    pub add_capabilities: Vec<String>,
    /// Capabilities to drop.
    pub drop_capabilities: Vec<String>,
    /// `seccompProfile`.
    pub seccomp: Seccomp,
    /// `procMount: Unmasked`.
    pub unmasked_proc: bool,
}

/// `seccompProfile`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seccomp {
    /// `RuntimeDefault`; also when nothing is given.
    RuntimeDefault,
    /// `Unconfined`.
    Unconfined,
    /// `Localhost`: a file below the profile directory.
    Localhost(String),
}
