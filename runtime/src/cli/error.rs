//! What can go wrong on the command line, and how it is told: once, with its causes, as kubectl words it.

use std::error::Error as _;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::{ExitCode, Termination};

use crate::api::client;
use crate::api::status::Status;
use crate::driver::unheard;

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0
    Success,
    /// 1: it did not work, or was asked for in the wrong way.
    Failure,
    /// The status of a command that ran in a container.
    Remote(u8),
}

impl Exit {
    /// Of two endings the one that tells of a failure.
    #[must_use]
    pub fn worse(self, other: Self) -> Self {
        if self == Self::Success { other } else { self }
    }
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        match self {
            Self::Success => ExitCode::SUCCESS,
            Self::Failure => ExitCode::FAILURE,
            Self::Remote(code) => ExitCode::from(code),
        }
    }
}

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request makes no sense.
    #[error("{0}")]
    Usage(String),
    /// Flags that do not go together, or a bad value, with what would work.
    #[error("{message}")]
    Hinted {
        /// What is wrong.
        message: String,
        /// What would work.
        hint: String,
    },
    /// The pod's API.
    #[error(transparent)]
    Client(#[from] client::Error),
    /// A pod's shim.
    #[error(transparent)]
    Shim(#[from] client::shim::Error),
    /// A manifest that is not accepted.
    #[error(transparent)]
    Manifest(#[from] super::accept::Error),
    /// A pod could not be started.
    #[error("cannot start pod {pod}")]
    Launch {
        /// Its name.
        pod: String,
        /// Why.
        source: super::launch::Error,
    },
    /// A file.
    #[error("cannot {operation} {}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// On which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Standard output.
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
    /// The terminal.
    #[error("cannot set up the terminal")]
    Terminal(#[source] io::Error),
    /// The asynchronous runtime.
    #[error("cannot start the asynchronous runtime")]
    Runtime(#[source] io::Error),
    /// The image store.
    #[error(transparent)]
    Image(#[from] crate::image::Error),
    /// Something of another part, with its causes.
    #[error(transparent)]
    Other(Box<dyn std::error::Error + Send + Sync>),
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::Client(status.into())
    }
}

impl Error {
    /// There is no such object.
    #[must_use]
    pub fn not_found(resource: &str, name: &str) -> Self {
        Status::not_found(resource, name).into()
    }

    /// Whether an object was not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Client(error) if error.is_not_found())
    }

    /// What may help.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Hinted { hint, .. } => Some(hint.clone()),
            Self::File { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("hull runs as root; or give a directory of your own with --root".to_owned())
            }
            Self::Client(client::Error::Revive { pod, .. }) => {
                let (namespace, name) = pod.split_once('/').unwrap_or(("default", pod));
                Some(format!("removing it whatever its state: hull -n {namespace} delete pod {name} --force"))
            }
            Self::Launch { source, .. } => source.hint(),
            Self::Manifest(error) => error.hint(),
            Self::Image(error) => error.hint(),
            _ => None,
        }
    }

    /// Prints it on standard error. A reader that closed the pipe wants no complaint.
    pub fn print(&self) {
        if matches!(self, Self::Output(source) if source.kind() == io::ErrorKind::BrokenPipe) {
            return;
        }
        note(&self.text());
        if let Some(hint) = self.hint() {
            note(&format!("hint: {hint}"));
        }
    }

    /// The whole message with its causes.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = match self {
            Self::Client(client::Error::Status(status)) => {
                return format!("Error from server ({}): {}", status.reason, status.message);
            }
            Self::Manifest(super::accept::Error::Invalid(invalid)) => return invalid.to_string(),
            other => format!("error: {other}"),
        };
        let mut cause = self.source();
        while let Some(error) = cause {
            write!(text, ": {error}").expect("a String takes every text");
            cause = error.source();
        }
        text
    }
}

/// A line on standard error. A reader that is gone misses it, and nothing else changes: not the exit code, and no
/// task ends of it.
pub(super) fn note(line: &str) {
    unheard(writeln!(io::stderr(), "{line}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_api_are_worded_as_kubectl_does() {
        assert_eq!(
            Error::not_found("pods", "x").text(),
            "Error from server (NotFound): pods \"x\" not found"
        );
    }

    #[test]
    fn each_cause_is_told_once() {
        let source = io::Error::from(io::ErrorKind::PermissionDenied);
        let error = Error::File { operation: "read", path: "/x".into(), source };
        assert_eq!(error.text(), "error: cannot read /x: permission denied");
        assert!(error.hint().is_some());
        let client = client::Error::Read { path: "/y".into(), source: io::ErrorKind::NotFound.into() };
        assert_eq!(Error::from(client).text(), "error: cannot read /y: entity not found");
    }
}
