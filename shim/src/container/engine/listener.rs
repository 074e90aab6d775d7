//! Whom a seccomp profile with `SCMP_ACT_NOTIFY` names: it gets the listener of each process that installs the filter, with
//! runtime-spec's `ContainerProcessState` (`config-linux.md`, seccomp).

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxSeccomp, Spec};

use super::failure::Failure;
use super::hook::State;

/// Where a seccomp listener goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listener {
    /// A socket on the host.
    pub(crate) path: PathBuf,
    /// What it is told.
    pub(crate) state: State,
}

impl Listener {
    /// For the init of a container in the making.
    pub(crate) fn of_init(spec: &Spec, id: &str, bundle: &Path) -> Option<Self> {
        let (path, metadata) = named(spec)?;
        Some(Self { path, state: State::of_listener(spec, id, bundle, &metadata) })
    }

    /// For a further process of the container whose init is `init`.
    pub(crate) fn of_joining(spec: &Spec, id: &str, bundle: &Path, init: i32) -> Option<Self> {
        let (path, metadata) = named(spec)?;
        Some(Self { path, state: State::of_joining(spec, id, bundle, (&metadata, init)) })
    }

    /// Connects to it.
    pub(crate) fn connect(&self) -> Result<OwnedFd, Failure> {
        let what = || {
            let path = self.path.display();
            format!("failed to connect with seccomp agent specified in the seccomp profile ({path})")
        };
        let connected = std::os::unix::net::UnixStream::connect(&self.path);
        connected.map(OwnedFd::from).map_err(|error| Failure::io(&what(), &error))
    }
}

fn named(spec: &Spec) -> Option<(PathBuf, String)> {
    let profile: &LinuxSeccomp = spec.linux().as_ref()?.seccomp().as_ref()?;
    let path = profile.listener_path().clone().filter(|path| !path.as_os_str().is_empty())?;
    Some((path, profile.listener_metadata().clone().unwrap_or_default()))
}
