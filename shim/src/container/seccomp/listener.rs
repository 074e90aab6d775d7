//! Handing the descriptor of notifications to the process that answers them; runtime-spec `runtime-linux.md`
//! (container process state), seccomp_unotify(2).
//!
//! ```text
//!  child                                    parent                        agent at listenerPath
//!  install -> descriptor N              
//!  write N on its pipe  ----------------->  take(pidfd, N)
//!  close N, go on to execve                 send(state, descriptor) --->  state and descriptor
//! ```
//!
//! The child tells its descriptor's number by write(2), which a profile therefore cannot notify of, and every other call
//! may wait for the agent's answer: by then the parent has all that it needs.

use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Filter;
use crate::sys::{pidfd, seccomp, socket};

/// `fds` of the state: what the descriptor is, as the specification names it.
const DESCRIPTORS: [&str; 1] = ["seccompFd"];

/// Why the agent cannot answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The child's descriptor is out of reach.
    #[error("take the seccomp listener, descriptor {number}, from the process that installed the filter")]
    Take {
        /// As the child told it.
        number: RawFd,
        /// Why.
        #[source]
        source: nix::Error,
    },
    /// Nobody is there.
    #[error("linux.seccomp.listenerPath: connect to {}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The state cannot be put in words.
    #[error("write the container process state")]
    State(#[source] serde_json::Error),
    /// The agent went away.
    #[error("linux.seccomp.listenerPath: send the container process state to {}", path.display())]
    Send {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The specification's container process state: what an agent is told with a descriptor.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ProcessState<'a, State> {
    oci_version: &'a str,
    fds: [&'static str; 1],
    pid: i32,
    #[serde(skip_serializing_if = "str::is_empty")]
    metadata: &'a str,
    state: &'a State,
}

/// What an agent is told of a process.
#[derive(Debug)]
pub struct About<'a, State> {
    /// `ociVersion` of the configuration.
    pub version: &'a str,
    /// The process that installed the filter, as the runtime sees it.
    pub pid: i32,
    /// `listenerMetadata`; empty where there is none.
    pub metadata: &'a str,
    /// The container's state, as the verb `state` prints it.
    pub state: &'a State,
}

/// Installs a filter that notifies for the calling process and whatever it executes, and returns the descriptor that
/// notifications come from. Allocates nothing, so a forked child may call it. The calls that the filter
/// notifies of wait from here on: only write(2) is certain to go through.
pub fn install(filter: &Filter) -> nix::Result<OwnedFd> {
    seccomp::install_with_listener(filter)
}

/// Takes the descriptor `number` out of the process behind `pidfd`, which told it; pidfd_getfd(2) of Linux 5.6.
pub fn take(pidfd: BorrowedFd<'_>, number: RawFd) -> Result<OwnedFd, Error> {
    pidfd::descriptor(pidfd, number).map_err(|source| Error::Take { number, source })
}

/// Sends `listener` and what it is about to the agent whose socket is at `path`. The descriptor goes with the
/// first byte; the agent keeps a copy of its own.
pub fn send<State: Serialize>(
    path: &Path,
    about: &About<'_, State>,
    listener: BorrowedFd<'_>,
) -> Result<(), Error> {
    let About { version, pid, metadata, state } = *about;
    let message = ProcessState { oci_version: version, fds: DESCRIPTORS, pid, metadata, state };
    let text = serde_json::to_vec(&message).map_err(Error::State)?;
    let mut agent =
        UnixStream::connect(path).map_err(|source| Error::Connect { path: path.to_owned(), source })?;
    let sent = send_with(&mut agent, &text, listener);
    sent.map_err(|source| Error::Send { path: path.to_owned(), source })
}

/// A stream may take a part of it at once.
fn send_with(agent: &mut UnixStream, text: &[u8], listener: BorrowedFd<'_>) -> io::Result<()> {
    let sent = socket::send_some(agent.as_fd(), text, &[listener.as_raw_fd()])?;
    agent.write_all(text.get(sent..).unwrap_or_default())
}
