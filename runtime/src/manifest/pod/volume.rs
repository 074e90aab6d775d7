//! Volumes and where containers mount them.

use super::EnvValue;

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
    /// `recursiveReadOnly`.
    pub recursive_read_only: RecursiveReadOnly,
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

/// `recursiveReadOnly`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecursiveReadOnly {
    /// What is mounted below the volume may be writable.
    Disabled,
    /// Nothing below is writable, where the kernel can have that.
    IfPossible,
    /// Nothing below is writable, or there is no container.
    Enabled,
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

impl VolumeSource {
    /// Whether it shows ConfigMaps, Secrets or the pod's own fields, which may change while the pod lives.
    #[must_use]
    pub fn shows_objects(&self) -> bool {
        match self {
            Self::ConfigMap(_) | Self::Secret(_) | Self::DownwardApi { .. } | Self::Projected { .. } => true,
            Self::EmptyDir { .. } | Self::HostPath { .. } => false,
        }
    }
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
