//! Why a command failed. The texts are those that callers of runc match (oci-runtime.md section 2.5).

use std::io;
use std::path::{Path, PathBuf};

use super::command::parse::Misuse;
use super::criu;
use super::status::Status;
use crate::cgroup;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The command line makes no sense.
    #[error(transparent)]
    Misuse(#[from] Misuse),
    /// The command line asks for what is not to be had.
    #[error("{0}")]
    Refused(String),
    /// `list` of a root directory that is not there, and the like: what was done, and on which file.
    #[error("{operation} {}", path.display())]
    File {
        /// What was done.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A system call.
    #[error("{0}")]
    Kernel(String, #[source] nix::Error),
    /// A file or stream does not hold what it should.
    #[error("parse {0}")]
    Json(String, #[source] serde_json::Error),
    /// No usable name.
    #[error("invalid container ID format: {0}")]
    InvalidId(String),
    /// Not there.
    #[error("container does not exist")]
    Missing,
    /// There already.
    #[error("container with given ID already exists")]
    Exists,
    /// Its init ended.
    #[error("container not running")]
    NotRunning,
    /// Only a running one can be paused.
    #[error("container not running or created: {0}")]
    NotPausable(Status),
    /// Only a paused one can go on.
    #[error("container not paused")]
    NotPaused,
    /// It does not end.
    #[error("container init still running")]
    StillRunning,
    /// It is to be stopped first.
    #[error("cannot delete container {0} that is not stopped: {1}")]
    NotStopped(String, Status),
    /// No such signal.
    #[error("unknown signal {0:?}")]
    UnknownSignal(String),
    /// No `config.json`.
    #[error("JSON specification file config.json not found")]
    NoConfig,
    /// The engine said why, or the process in the container did.
    #[error("{0}")]
    Container(String),
    /// A group.
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
    /// criu.
    #[error(transparent)]
    Criu(#[from] criu::Error),
    /// `create` or `run`.
    #[error("runc {0} failed")]
    Make(&'static str, #[source] Box<Error>),
    /// `exec`; the only one whose exit status is 255.
    #[error("exec failed")]
    Exec(#[source] Box<Error>),
}

impl Error {
    /// For `map_err` of a file operation.
    pub(crate) fn file(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { operation, path, source }
    }

    /// For `map_err` of a system call.
    pub(crate) fn kernel(what: impl Into<String>) -> impl FnOnce(nix::Error) -> Self {
        let what = what.into();
        move |errno| Self::Kernel(what, errno)
    }

    /// The exit status.
    pub(crate) fn status(&self) -> u8 {
        match self {
            Self::Exec(_) => 255,
            _ => 1,
        }
    }

    /// The message with all its causes, as runc prints it: `what: why: why`.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut next = std::error::Error::source(self);
        while let Some(cause) = next {
            text.push_str(": ");
            text.push_str(&reason(cause));
            next = cause.source();
        }
        text
    }
}

/// An errno reads `no such file or directory`, as callers of runc match it, not `ENOENT: No such …` or
/// `No such file or directory (os error 2)`.
fn reason(cause: &(dyn std::error::Error + 'static)) -> String {
    let of_kernel = cause.downcast_ref::<nix::Error>().copied();
    let of_file =
        cause.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error).map(nix::Error::from_raw);
    match of_kernel.or(of_file) {
        Some(errno) => words(errno),
        None => cause.to_string(),
    }
}

/// What an errno means, as it stands in the middle of a message.
pub(crate) fn words(errno: nix::Error) -> String {
    crate::container::program::lower(errno.desc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_stand_behind_the_message_in_the_words_that_callers_match() {
        let inner = Error::Kernel("open executable".to_owned(), nix::Error::ENOENT);
        let outer = Error::Make("create", Box::new(inner));
        assert_eq!(outer.chain(), "runc create failed: open executable: no such file or directory");
        let file = Error::file("open", Path::new("/x"))(io::Error::from_raw_os_error(libc::EACCES));
        assert_eq!(Error::Exec(Box::new(file)).chain(), "exec failed: open /x: permission denied");
    }

    #[test]
    fn only_exec_fails_with_255() {
        assert_eq!(Error::Exec(Box::new(Error::Missing)).status(), 255);
        assert_eq!(Error::Missing.status(), 1);
    }
}
