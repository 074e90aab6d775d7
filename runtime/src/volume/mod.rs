//! Volumes: a pure plan, and the host task that carries it out.
//!
//! [`plan()`] turns a pod's volumes into [`Step`]s, which can be printed; [`up()`] carries them out on the host and may be
//! repeated after a crash at any point; [`down()`] removes all of it. `hull task volumes-up` and `volumes-down` call those
//! two with what is on their standard input, and print what failed.
//!
//! **Invariant:** nothing is ever created, followed or deleted through a symlink or mount that a container could have
//! put into a volume: paths inside volumes are resolved from a descriptor of the volume's root with openat2(2).

pub mod down;
mod files;
pub mod plan;
pub mod step;
mod sub_path;
pub mod up;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use down::{DownInput, all, down, of_instance};
pub use plan::{plan, refresh};
pub use step::{Step, directory, sub_path_target};
pub use up::{TaskInput, UpInput, task_input, up};

/// Why a volume is not there. The kubelet's event is `MountVolume.SetUp failed for volume "v" : <message>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "camelCase")]
#[error("MountVolume.SetUp failed for volume {volume:?} : {message}")]
pub struct Error {
    /// Which volume; empty when it is none in particular.
    pub volume: String,
    /// What failed, on what, and why.
    pub message: String,
}

impl Error {
    fn new(volume: &str, message: impl ToString) -> Self {
        Self { volume: volume.to_owned(), message: message.to_string() }
    }
}

/// An operation of the kernel that failed, with its object.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {path}: {cause}")]
pub(crate) struct Failed {
    operation: &'static str,
    path: String,
    cause: std::io::Error,
}

/// Names operation and path of an error.
pub(crate) fn failed<E: Into<std::io::Error>>(
    operation: &'static str,
    path: impl AsRef<std::path::Path>,
) -> impl FnOnce(E) -> Failed {
    let path = path.as_ref().display().to_string();
    move |cause| Failed { operation, path, cause: cause.into() }
}
