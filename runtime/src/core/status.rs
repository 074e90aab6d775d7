//! What a pod shows: its status and its events, shaped as the Kubernetes API has them.
//!
//! Serialised as they stand, these are the JSON of `status` and of an Event; the command line reads them back.
//! Rules: reference `pod-lifecycle.md` sections 8 and 9.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// `status` of a Pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    /// Where the pod stands.
    pub phase: Phase,
    /// In the order of reference 8.4.
    pub conditions: Vec<Condition>,
    /// Why the phase is what it is, for the few cases that have a pod-level reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The same for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Address of the host.
    #[serde(rename = "hostIP", skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<String>,
    /// Addresses of the host.
    #[serde(rename = "hostIPs", skip_serializing_if = "Vec::is_empty")]
    pub host_ips: Vec<Ip>,
    /// Address of the pod.
    #[serde(rename = "podIP", skip_serializing_if = "Option::is_none")]
    pub pod_ip: Option<String>,
    /// Addresses of the pod.
    #[serde(rename = "podIPs", skip_serializing_if = "Vec::is_empty")]
    pub pod_ips: Vec<Ip>,
    /// When the pod was first handled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Timestamp>,
    /// In spec order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub init_container_statuses: Vec<ContainerStatus>,
    /// By name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub container_statuses: Vec<ContainerStatus>,
    /// `Guaranteed`, `Burstable`, `BestEffort`.
    pub qos_class: String,
    /// The generation that was acted on.
    pub observed_generation: i64,
}

/// `metadata.deletionTimestamp` and `deletionGracePeriodSeconds`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletion {
    /// Request time plus grace.
    pub timestamp: Timestamp,
    /// Seconds.
    pub grace_seconds: i64,
}

/// An address, as lists of them have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ip {
    /// As text.
    pub ip: String,
}

/// Where a pod stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Accepted; not every container has run.
    #[default]
    Pending,
    /// At least one container runs or will run again.
    Running,
    /// All ended with 0.
    Succeeded,
    /// All ended, one of them otherwise.
    Failed,
}

impl Phase {
    /// Succeeded or Failed.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

/// One of `status.conditions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Its name.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False`, `Unknown`.
    pub status: String,
    /// When `status` last changed.
    pub last_transition_time: Timestamp,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The same for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The generation that was acted on.
    #[serde(default)]
    pub observed_generation: i64,
}

/// Status of one container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerStatus {
    /// The container's name.
    pub name: String,
    /// Of the newest instance.
    pub state: ContainerState,
    /// Of the one before.
    pub last_state: ContainerState,
    /// Readiness.
    pub ready: bool,
    /// Started, and its startup probe passed.
    pub started: Option<bool>,
    /// Restarts.
    pub restart_count: u32,
    /// Resolved name.
    pub image: String,
    /// Digest reference.
    #[serde(rename = "imageID")]
    pub image_id: String,
    /// `hull://<id>`.
    #[serde(rename = "containerID", skip_serializing_if = "Option::is_none")]
    pub container_id: Option<String>,
}

/// At most one of three.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerState {
    /// Not running yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
    /// Running.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running: Option<Running>,
    /// Ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminated: Option<Terminated>,
}

/// Not running yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Waiting {
    /// Reference 4.2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The same for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Running.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Running {
    /// Since.
    pub started_at: Timestamp,
}

/// Ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Terminated {
    /// Exit status, or 128 plus the signal.
    pub exit_code: i32,
    /// Reference 7.8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The termination message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Null when it never ran.
    #[serde(default)]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default)]
    pub finished_at: Option<Timestamp>,
    /// `hull://<id>`.
    #[serde(rename = "containerID", default, skip_serializing_if = "Option::is_none")]
    pub container_id: Option<String>,
}

/// An event about the pod or one of its containers, one row after counting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// `<pod>.<hex nanoseconds of its first occurrence>`; a repeat has the same name.
    pub name: String,
    /// `Normal` or `Warning`.
    #[serde(rename = "type")]
    pub kind: EventType,
    /// One word.
    pub reason: String,
    /// For people.
    pub message: String,
    /// `spec.containers{app}` and the like; empty for the pod itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field_path: String,
    /// `kubelet` or `default-scheduler`.
    pub source: String,
    /// How often.
    pub count: u32,
    /// First occurrence.
    pub first_timestamp: Timestamp,
    /// Newest occurrence.
    pub last_timestamp: Timestamp,
}

/// Is it a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EventType {
    /// No.
    Normal,
    /// Maybe.
    Warning,
}
