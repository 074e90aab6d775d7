//! What is to be done on the host for a pod's volumes, as values.

use std::path::PathBuf;

use hull_shim::layout::PodLayout;
use hull_shim::wire::InstanceId;
use serde::{Deserialize, Serialize};

use crate::manifest::pod::{HostPathKind, Volume, VolumeSource};

/// One thing to do for one volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// The volume's name.
    pub volume: String,
    /// What.
    pub action: Action,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Action {
    /// Make a directory.
    Directory {
        /// Where.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// `fsGroup`: its group, which then may write and hands itself on.
        group: Option<u32>,
    },
    /// Make a directory and mount a tmpfs on it.
    Tmpfs {
        /// Where.
        path: PathBuf,
        /// Size in bytes; half the memory if there is none.
        size: Option<u64>,
        /// Mode of its root.
        mode: u32,
        /// `fsGroup`.
        group: Option<u32>,
    },
    /// Check a path of the host, and make it where its type says so.
    HostPath {
        /// Which.
        path: PathBuf,
        /// What it must be.
        kind: Check,
    },
    /// Write files all at once, as the kubelet's atomic writer does.
    Files {
        /// The volume's directory.
        path: PathBuf,
        /// All files.
        files: Vec<File>,
        /// `fsGroup`: their group, which may read them.
        group: Option<u32>,
    },
    /// Bind a part of a volume to a place that no container can reach.
    SubPath {
        /// The volume's directory.
        root: PathBuf,
        /// Relative to it; made if missing.
        path: String,
        /// Where the part is bound.
        target: PathBuf,
    },
}

/// `hostPath.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the names are those of the Kubernetes API")]
pub enum Check {
    Unset,
    DirectoryOrCreate,
    Directory,
    FileOrCreate,
    File,
    Socket,
    CharDevice,
    BlockDevice,
}

impl From<HostPathKind> for Check {
    fn from(kind: HostPathKind) -> Self {
        match kind {
            HostPathKind::Unset => Self::Unset,
            HostPathKind::DirectoryOrCreate => Self::DirectoryOrCreate,
            HostPathKind::Directory => Self::Directory,
            HostPathKind::FileOrCreate => Self::FileOrCreate,
            HostPathKind::File => Self::File,
            HostPathKind::Socket => Self::Socket,
            HostPathKind::CharDevice => Self::CharDevice,
            HostPathKind::BlockDevice => Self::BlockDevice,
        }
    }
}

/// One file of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct File {
    /// Relative path without `..`.
    pub path: String,
    /// Its mode.
    pub mode: u32,
    /// What it holds.
    pub content: Content,
}

/// What a file holds; text where it is text, which is shorter in JSON.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Content {
    /// UTF-8.
    Text(String),
    /// Anything else.
    Bytes(Vec<u8>),
}

impl Content {
    /// Wraps some bytes.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Bytes(bytes.to_owned()),
        }
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }
}

impl std::fmt::Debug for Content {
    /// Its length alone: it may be a secret.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} bytes", self.as_bytes().len())
    }
}

impl Step {
    /// Binds a part of a volume.
    #[must_use]
    pub fn sub_path(volume: &str, root: PathBuf, path: String, target: PathBuf) -> Self {
        Self { volume: volume.to_owned(), action: Action::SubPath { root, path, target } }
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}: ", self.volume)?;
        match &self.action {
            Action::Directory { path, mode, group } => {
                write!(out, "directory {} {mode:04o}{}", path.display(), Group(*group))
            }
            Action::Tmpfs { path, size, mode, group } => {
                let size = size.map_or_else(|| "default".to_owned(), |size| size.to_string());
                write!(out, "tmpfs {} size={size} {mode:04o}{}", path.display(), Group(*group))
            }
            Action::HostPath { path, kind } => write!(out, "host path {} {kind:?}", path.display()),
            Action::Files { path, files, group } => {
                write!(out, "files {}{}:", path.display(), Group(*group))?;
                files.iter().try_for_each(|file| write!(out, " {} {:04o}", file.path, file.mode))
            }
            Action::SubPath { root, path, target } => {
                write!(out, "bind {} of {} to {}", path, root.display(), target.display())
            }
        }
    }
}

struct Group(Option<u32>);

impl std::fmt::Display for Group {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.map_or(Ok(()), |group| write!(out, " group={group}"))
    }
}

/// Where a volume's content is on the host.
#[must_use]
pub fn directory(volume: &Volume, layout: &PodLayout) -> PathBuf {
    match &volume.source {
        VolumeSource::HostPath { path, .. } => PathBuf::from(path),
        VolumeSource::EmptyDir { .. }
        | VolumeSource::ConfigMap(_)
        | VolumeSource::Secret(_)
        | VolumeSource::DownwardApi { .. }
        | VolumeSource::Projected { .. } => layout.volumes().join(&volume.name),
    }
}

/// Where the `subPath` of one of an instance's mounts is bound.
#[must_use]
pub fn sub_path_target(layout: &PodLayout, instance: &InstanceId, index: usize) -> PathBuf {
    layout.sub_paths().join(instance.to_string()).join(index.to_string())
}
