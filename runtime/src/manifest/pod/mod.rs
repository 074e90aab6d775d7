//! A pod as the rest of hull knows it: parsed, defaulted and checked, so that it cannot be wrong.
//!
//! Only [`super::accept()`] makes these values. The raw Kubernetes object stays beside them in
//! [`super::Accepted`] for the API, which shows it as it was written. Units are in the field docs;
//! meanings are those of the Kubernetes API (reference `pod-lifecycle.md` section 1).

mod container;
mod env;
#[cfg(test)]
pub(crate) mod fixture;
mod handler;
mod volume;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;

pub use container::*;
pub use env::*;
pub use handler::*;
pub use volume::*;

/// The name of a container, unique in its pod: a DNS-1123 label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerName(Arc<str>);

impl ContainerName {
    /// Wraps a name that validation has passed; `manifest` alone calls it on foreign text.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl serde::Serialize for ContainerName {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for ContainerName {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Self::new(&String::deserialize(from)?))
    }
}

/// One accepted pod.
#[derive(Debug, Clone, PartialEq)]
pub struct Pod {
    /// Name, namespace, uid, labels.
    pub meta: Meta,
    /// What is to run.
    pub spec: PodSpec,
}

/// Who the pod is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`, `default` unless given.
    pub namespace: String,
    /// `metadata.uid`, a random UUID given when the pod was accepted.
    pub uid: String,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `metadata.annotations`.
    pub annotations: BTreeMap<String, String>,
    /// `metadata.creationTimestamp`.
    pub created: Timestamp,
    /// `metadata.generation`: counts the changes of the spec, from 1.
    pub generation: i64,
}

impl Meta {
    /// `name_namespace(uid)`, as the kubelet names a pod in messages.
    #[must_use]
    pub fn full_name(&self) -> String {
        format!("{}_{}({})", self.name, self.namespace, self.uid)
    }
}

/// What is to run.
#[derive(Debug, Clone, PartialEq)]
pub struct PodSpec {
    /// Init containers and sidecars, in order.
    pub init_containers: Vec<Container>,
    /// Main containers, in order; at least one.
    pub containers: Vec<Container>,
    /// `restartPolicy`.
    pub restart_policy: RestartPolicy,
    /// `terminationGracePeriodSeconds`.
    pub grace_seconds: u32,
    /// `activeDeadlineSeconds`.
    pub active_deadline_seconds: Option<u32>,
    /// Volumes by name.
    pub volumes: Vec<Volume>,
    /// `hostNetwork`.
    pub host_network: bool,
    /// `hostPID`.
    pub host_pid: bool,
    /// `hostIPC`.
    pub host_ipc: bool,
    /// `shareProcessNamespace`.
    pub share_process_namespace: bool,
    /// Kernel hostname of the sandbox and the name in `/etc/hosts` (reference 11.6).
    pub hostname: String,
    /// `subdomain`.
    pub subdomain: Option<String>,
    /// `setHostnameAsFQDN`.
    pub hostname_as_fqdn: bool,
    /// `hostAliases`.
    pub host_aliases: Vec<HostAlias>,
    /// `dnsPolicy`.
    pub dns_policy: DnsPolicy,
    /// `dnsConfig`.
    pub dns_config: DnsConfig,
    /// `enableServiceLinks`.
    pub enable_service_links: bool,
    /// `readinessGates[].conditionType`.
    pub readiness_gates: Vec<String>,
    /// Pod-level `securityContext`.
    pub security: PodSecurity,
    /// `serviceAccountName`, for the downward API.
    pub service_account: String,
}

impl PodSpec {
    /// Init containers then main containers.
    pub fn all_containers(&self) -> impl Iterator<Item = &Container> {
        self.init_containers.iter().chain(&self.containers)
    }

    /// A container of either list by name.
    #[must_use]
    pub fn container(&self, name: &str) -> Option<&Container> {
        self.all_containers().find(|container| container.name.as_str() == name)
    }

    /// Whether `name` is in the init list.
    #[must_use]
    pub fn is_init(&self, name: &ContainerName) -> bool {
        self.init_containers.iter().any(|container| container.name == *name)
    }
}

/// When an ended container is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartPolicy {
    /// After every exit.
    Always,
    /// After an exit code other than 0.
    OnFailure,
    /// Not.
    Never,
}

/// An entry of `hostAliases`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostAlias {
    /// Address.
    pub ip: IpAddr,
    /// Names.
    pub hostnames: Vec<String>,
}

/// `dnsPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DnsPolicy {
    /// The pod's resolver, cluster search path.
    ClusterFirst,
    /// The same with `hostNetwork`.
    ClusterFirstWithHostNet,
    /// The host's file.
    Default,
    /// `dnsConfig` alone.
    None,
}

/// `dnsConfig`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DnsConfig {
    /// Addresses.
    pub nameservers: Vec<IpAddr>,
    /// Search path.
    pub searches: Vec<String>,
    /// Options.
    pub options: Vec<(String, Option<String>)>,
}

/// Pod-level `securityContext`, as far as it is not copied into each container's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodSecurity {
    /// `fsGroup`.
    pub fs_group: Option<u32>,
    /// `supplementalGroups`.
    pub supplemental_groups: Vec<u32>,
    /// `supplementalGroupsPolicy: Strict`.
    pub strict_groups: bool,
    /// `sysctls`.
    pub sysctls: BTreeMap<String, String>,
}
