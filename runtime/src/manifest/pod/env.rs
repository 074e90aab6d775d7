//! Variables of a container and where their values come from (reference `pod-lifecycle.md` 11.3, 11.4).

use super::ContainerName;

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
