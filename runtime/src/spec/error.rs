//! Why an instance cannot be planned, in the words of the kubelet and of the container runtimes.

/// What the manifest asks for and cannot have. The text is what the user sees behind `Error: `.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A ConfigMap or Secret that is not optional does not exist.
    #[error("{kind} {name:?} not found")]
    ObjectMissing {
        /// `configmap` or `secret`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// A key that is not optional does not exist.
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    KeyMissing {
        /// The key.
        key: String,
        /// `ConfigMap` or `Secret`.
        kind: &'static str,
        /// The object's namespace.
        namespace: String,
        /// The object's name.
        name: String,
    },
    /// The value of a key cannot be the value of a variable.
    #[error(
        "key {key} in {kind} {namespace}/{name} is not valid UTF-8, so it cannot be an environment variable"
    )]
    NotText {
        /// The key.
        key: String,
        /// `ConfigMap` or `Secret`.
        kind: &'static str,
        /// The object's namespace.
        namespace: String,
        /// The object's name.
        name: String,
    },
    /// A variable or argument holds a NUL character, which `execve` cannot pass.
    #[error("{what} holds a NUL character")]
    Nul {
        /// Which.
        what: String,
    },
    /// A variables' file is missing or is not in the format of `fileKeyRef`.
    #[error("couldn't parse env file")]
    EnvFile,
    /// A key that is not optional is not in its variables' file.
    #[error("environment variable key {key:?} not found in file {path:?}")]
    EnvFileKey {
        /// The key.
        key: String,
        /// The file, relative to its volume.
        path: String,
    },
    /// A `resourceFieldRef` names a container that the pod does not have.
    #[error("container {0:?} not found")]
    ContainerMissing(String),
    /// A `subPathExpr` uses a variable that is unset or empty.
    #[error("missing value for {0:?}")]
    SubPathVariable(String),
    /// A `subPathExpr` came out as something that may leave the volume.
    #[error("subPath {0:?} must be a relative path without \"..\"")]
    SubPath(String),
    /// The `volumes-up` task failed on one of [`super::Plan::sub_paths`]; the driver makes this of it. Why goes to the log
    /// alone: it would tell of the host's file system.
    #[error("failed to prepare subPath for volumeMount {volume:?} of container {container:?}")]
    SubPathFailed {
        /// The volume.
        volume: String,
        /// The container.
        container: String,
    },
    /// `runAsNonRoot` with an explicit user 0.
    #[error("container's runAsUser breaks non-root policy (pod: {pod:?}, container: {container})")]
    RunAsRoot {
        /// `name_namespace(uid)`.
        pod: String,
        /// The container.
        container: String,
    },
    /// `runAsNonRoot` with an image whose user is 0.
    #[error("container has runAsNonRoot and image will run as root (pod: {pod:?}, container: {container})")]
    ImageRunsAsRoot {
        /// `name_namespace(uid)`.
        pod: String,
        /// The container.
        container: String,
    },
    /// `runAsNonRoot` with an image whose user is a name.
    #[error(
        "container has runAsNonRoot and image has non-numeric user ({user}), \
         cannot verify user is non-root (pod: {pod:?}, container: {container})"
    )]
    ImageUserUnverifiable {
        /// The image's user.
        user: String,
        /// `name_namespace(uid)`.
        pod: String,
        /// The container.
        container: String,
    },
    /// Neither the manifest nor the image says what to run.
    #[error("no command specified")]
    NoCommand,
    /// The image's user is not in the rootfs.
    #[error("unable to find user {0}: no matching entries in passwd file")]
    UserMissing(String),
    /// The image's group is not in the rootfs.
    #[error("unable to find group {0}: no matching entries in group file")]
    GroupMissing(String),
    /// A user or group id that the kernel cannot hold.
    #[error("uids and gids must be in range 0-2147483647, not {0}")]
    IdRange(String),
    /// `capabilities.add` names something that is no capability.
    #[error("unknown capability {0:?} in securityContext.capabilities.add")]
    UnknownCapability(String),
    /// `capabilities.add` asks for more than the host can give.
    #[error(
        "capability {0:?} in securityContext.capabilities.add cannot be granted: \
         it is not in the bounding set that hull runs with"
    )]
    UngrantableCapability(String),
    /// The seccomp profile cannot be read.
    #[error("failed to generate seccomp spec opts: cannot load seccomp profile {0:?}")]
    SeccompMissing(String),
    /// The seccomp profile is not one.
    #[error("failed to generate seccomp spec opts: seccomp profile {path:?} is not valid: {message}")]
    SeccompInvalid {
        /// The profile.
        path: String,
        /// What is wrong.
        message: String,
    },
    /// A mount names a volume that the pod does not have.
    #[error("cannot find volume {volume:?} to mount into container {container:?}")]
    VolumeMissing {
        /// The volume.
        volume: String,
        /// The container.
        container: String,
    },
    /// A recursive read-only mount that is not read-only or not private.
    #[error("volumeMount {0:?}: recursiveReadOnly needs readOnly: true and mountPropagation: None")]
    RecursiveReadOnly(String),
    /// A recursive read-only mount, and the kernel has none.
    #[error(
        "volumeMount {0:?}: recursiveReadOnly Enabled needs Linux 5.12, this kernel is older (try IfPossible)"
    )]
    NoRecursiveReadOnly(String),
}

impl Error {
    /// Whether the kubelet finds it while it builds the configuration (`CreateContainerConfigError`), rather than
    /// the runtime while it creates the container (`CreateContainerError`).
    #[must_use]
    pub fn is_config(&self) -> bool {
        match self {
            Self::ObjectMissing { .. }
            | Self::KeyMissing { .. }
            | Self::NotText { .. }
            | Self::EnvFile
            | Self::EnvFileKey { .. }
            | Self::ContainerMissing(_)
            | Self::SubPathVariable(_)
            | Self::SubPath(_)
            | Self::SubPathFailed { .. }
            | Self::RunAsRoot { .. }
            | Self::ImageRunsAsRoot { .. }
            | Self::ImageUserUnverifiable { .. }
            | Self::VolumeMissing { .. }
            | Self::RecursiveReadOnly(_)
            | Self::NoRecursiveReadOnly(_) => true,
            Self::Nul { .. }
            | Self::NoCommand
            | Self::UserMissing(_)
            | Self::GroupMissing(_)
            | Self::IdRange(_)
            | Self::UnknownCapability(_)
            | Self::UngrantableCapability(_)
            | Self::SeccompMissing(_)
            | Self::SeccompInvalid { .. } => false,
        }
    }
}
