//! Why an operation on a group failed, and the names that callers of runc know some of these failures by.

use std::io;
use std::path::PathBuf;

use nix::errno::Errno;

use super::resources::Invalid;

/// Why an operation on a group failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host has no cgroup file system.
    #[error("no cgroup file system is mounted")]
    NotMounted,
    /// A limit needs a controller that the host does not have.
    #[error("the cgroup controller {0} is not available, which this limit needs")]
    NoController(String),
    /// The kernel refused the device program.
    #[error("{operation} the device program of {}", path.display())]
    Devices {
        /// What was done.
        operation: &'static str,
        /// For which group.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: nix::Error,
    },
    /// A file operation.
    #[error("{operation} {}", path.display())]
    File {
        /// What was done.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The limits make no sense, whatever the host.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// Somebody else uses the group that a container was to have for itself.
    #[error("container's cgroup is not empty: {0} process(es) found")]
    NotEmpty(usize),
    /// What starts in the group would never run.
    #[error("container's cgroup unexpectedly frozen")]
    Frozen,
    /// Something did not happen in time.
    #[error("{operation} {} took longer than {milliseconds} ms", path.display())]
    Timeout {
        /// What was waited for.
        operation: &'static str,
        /// In which group.
        path: PathBuf,
        /// How long.
        milliseconds: u128,
    },
    /// A limit below what is used already.
    #[error("unable to set memory limit to {limit} (current usage: {usage}, peak usage: {peak})")]
    MemoryInUse {
        /// What was asked for.
        limit: String,
        /// Bytes in use.
        usage: u64,
        /// The most that ever was.
        peak: u64,
    },
}

impl Error {
    /// The kernel's answer, where it gave one.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::File { source, .. } => source.raw_os_error().map(Errno::from_raw),
            Self::Devices { source, .. } => Some(*source),
            _ => None,
        }
    }

    /// Whether an ordinary user without delegated groups has to expect this.
    #[must_use]
    pub fn is_lack_of_rights(&self) -> bool {
        let errno = self.errno();
        matches!(self, Self::NoController(_) | Self::NotMounted)
            || matches!(errno, Some(Errno::EPERM | Errno::EACCES | Errno::EROFS | Errno::ENOENT))
    }
}
