//! A pod as the rest of hull knows it: parsed, defaulted and checked, so that it cannot be wrong.
//!
//! Only [`super::accept`] makes these values. The raw Kubernetes object stays beside them in
//! [`super::Accepted`] for the API, which shows it as it was written. Units are in the field docs;
//! meanings are those of the Kubernetes API (reference `pod-lifecycle.md` section 1).

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;

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
    pub fn container(&self, name: &ContainerName) -> Option<&Container> {
        self.all_containers().find(|container| container.name == *name)
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

/// A probe: a handler and its numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// What is tried.
    pub handler: Handler,
    /// `initialDelaySeconds`.
    pub initial_delay_seconds: u32,
    /// `timeoutSeconds`.
    pub timeout_seconds: u32,
    /// `periodSeconds`.
    pub period_seconds: u32,
    /// `successThreshold`.
    pub success_threshold: u32,
    /// `failureThreshold`.
    pub failure_threshold: u32,
    /// `terminationGracePeriodSeconds` of the probe.
    pub grace_seconds: Option<u32>,
}

/// What a probe or a hook does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handler {
    /// Run a command in the container.
    Exec(Vec<String>),
    /// Ask by HTTP.
    HttpGet(HttpGet),
    /// Connect.
    TcpSocket {
        /// Pod IP unless given.
        host: Option<String>,
        /// Where.
        port: Port,
    },
    /// `grpc.health.v1.Health/Check` (probes).
    Grpc {
        /// Where.
        port: u16,
        /// Asked for.
        service: String,
    },
    /// Wait (hooks).
    Sleep {
        /// How long.
        seconds: u32,
    },
}

/// An HTTP request of a probe or hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpGet {
    /// `HTTPS`, without verification.
    pub https: bool,
    /// Pod IP unless given.
    pub host: Option<String>,
    /// Where.
    pub port: Port,
    /// May hold a query.
    pub path: String,
    /// Further headers, in order.
    pub headers: Vec<(String, String)>,
}

/// A port by number, or by the name of one of the container's ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Port {
    /// By number.
    Number(u16),
    /// By name.
    Name(String),
}

/// An entry of `env`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvVar {
    /// Its name.
    pub name: String,
    /// Where its value comes from.
    pub value: EnvValue,
}

/// Where a variable's value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnvValue {
    /// `value`, with `$(NAME)` still to be expanded.
    Literal(String),
    /// `fieldRef`.
    Field(FieldRef),
    /// `resourceFieldRef`.
    Resource(ResourceRef),
    /// `configMapKeyRef`.
    ConfigMap(KeyRef),
    /// `secretKeyRef`.
    Secret(KeyRef),
    /// `fileKeyRef`.
    File {
        /// An `emptyDir` volume.
        volume: String,
        /// Relative to it.
        path: String,
        /// In the file.
        key: String,
        /// A missing key is no error.
        optional: bool,
    },
}

/// A key of a ConfigMap or Secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRef {
    /// The object's name.
    pub name: String,
    /// The key.
    pub key: String,
    /// Missing is no error.
    pub optional: bool,
}

/// An entry of `envFrom`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvFrom {
    /// Put before each key.
    pub prefix: String,
    /// ConfigMap or Secret.
    pub kind: ObjectKind,
    /// Its name.
    pub name: String,
    /// Missing is no error.
    pub optional: bool,
}

/// Objects that hold keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectKind {
    /// ConfigMap.
    ConfigMap,
    /// Secret.
    Secret,
}

/// A field of the pod (reference 11.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldRef {
    /// `metadata.name`
    Name,
    /// `metadata.namespace`
    Namespace,
    /// `metadata.uid`
    Uid,
    /// `metadata.labels['k']`
    Label(String),
    /// `metadata.annotations['k']`
    Annotation(String),
    /// `metadata.labels` (volumes)
    Labels,
    /// `metadata.annotations` (volumes)
    Annotations,
    /// `spec.nodeName`
    NodeName,
    /// `spec.serviceAccountName`
    ServiceAccountName,
    /// `status.hostIP`
    HostIp,
    /// `status.hostIPs`
    HostIps,
    /// `status.podIP`
    PodIp,
    /// `status.podIPs`
    PodIps,
}

/// A resource of a container (reference 11.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceRef {
    /// Whose; the own container unless given.
    pub container: Option<ContainerName>,
    /// Which.
    pub resource: ResourceField,
    /// Divisor in milli units (1000 is `1`).
    pub divisor_milli: u128,
}

/// What a `resourceFieldRef` can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResourceField {
    /// `limits.cpu`
    CpuLimit,
    /// `requests.cpu`
    CpuRequest,
    /// `limits.memory`
    MemoryLimit,
    /// `requests.memory`
    MemoryRequest,
    /// `limits.ephemeral-storage`
    EphemeralLimit,
    /// `requests.ephemeral-storage`
    EphemeralRequest,
}

/// An entry of `volumeMounts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeMount {
    /// The volume's name.
    pub name: String,
    /// Absolute path in the container.
    pub mount_path: String,
    /// `subPath` or `subPathExpr`.
    pub sub_path: SubPath,
    /// `readOnly`.
    pub read_only: bool,
    /// `recursiveReadOnly: Enabled` (or `IfPossible`).
    pub recursive_read_only: bool,
    /// `mountPropagation`.
    pub propagation: Propagation,
}

/// A part of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubPath {
    /// The whole volume.
    Whole,
    /// `subPath`: relative, without `..`.
    Path(String),
    /// `subPathExpr`: to be expanded first.
    Expression(String),
}

/// `mountPropagation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// `None`.
    Private,
    /// `HostToContainer`.
    HostToContainer,
    /// `Bidirectional`.
    Bidirectional,
}

/// A volume of the pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Where its content comes from.
    pub source: VolumeSource,
}

/// Where a volume's content comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeSource {
    /// `emptyDir`.
    EmptyDir {
        /// `medium: Memory`.
        memory: bool,
        /// Bytes.
        size_limit: Option<u64>,
    },
    /// `hostPath`.
    HostPath {
        /// Absolute.
        path: String,
        /// `type`.
        kind: HostPathKind,
    },
    /// `configMap`.
    ConfigMap(ObjectSource),
    /// `secret`.
    Secret(ObjectSource),
    /// `downwardAPI`.
    DownwardApi {
        /// Files.
        items: Vec<DownwardItem>,
        /// Mode of files without one of their own.
        default_mode: u32,
    },
    /// `projected`.
    Projected {
        /// In order; a later one may not write a path of an earlier one.
        sources: Vec<ProjectedSource>,
        /// Mode of files without one of their own.
        default_mode: u32,
    },
}

/// A ConfigMap or Secret as files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectSource {
    /// The object's name.
    pub name: String,
    /// Keys to show; empty shows all.
    pub items: Vec<KeyToPath>,
    /// Mode of files without one of their own.
    pub default_mode: u32,
    /// Missing is no error.
    pub optional: bool,
}

/// One key as a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyToPath {
    /// The key.
    pub key: String,
    /// Relative path without `..`.
    pub path: String,
    /// Mode.
    pub mode: Option<u32>,
}

/// One file of a downward API volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DownwardItem {
    /// Relative path without `..`.
    pub path: String,
    /// Its content: a [`EnvValue::Field`] or [`EnvValue::Resource`].
    pub value: EnvValue,
    /// Mode.
    pub mode: Option<u32>,
}

/// One source of a projected volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProjectedSource {
    /// A ConfigMap.
    ConfigMap(ObjectSource),
    /// A Secret.
    Secret(ObjectSource),
    /// Fields.
    DownwardApi(Vec<DownwardItem>),
}

/// `hostPath.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostPathKind {
    /// No check.
    Unset,
    /// Made 0755 if missing.
    DirectoryOrCreate,
    /// Must be there.
    Directory,
    /// Made 0644 if missing.
    FileOrCreate,
    /// Must be there.
    File,
    /// Must be there.
    Socket,
    /// Must be there.
    CharDevice,
    /// Must be there.
    BlockDevice,
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
