//! Checkpoints, by criu(8): which criu, what it is asked, and what is told of its failures. What is asked for is decided
//! in [`settings`] and [`outside`], pure but for looking; [`worker`] has it done.
//!
//! criu is a program that is started, over whose socket requests go, never a library.

mod answer;
mod children;
pub(super) mod journal;
mod loopback;
pub(super) mod orphan;
pub(super) mod outside;
mod places;
pub(super) mod request;
pub(super) mod restore;
pub(super) mod seal;
pub(super) mod settings;
pub(super) mod streams;
mod wire;
pub(super) mod worker;

use std::ffi::{CString, OsStr};
use std::fs::{DirBuilder, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};

use answer::{Answer, Version};
use journal::Journal;
use request::{Kind, Options, Request};
use worker::{Notice, Start, Worker};

use super::error::Error as Failure;
use crate::wire::Exit;

/// The oldest criu with all that is asked of it: external PID namespaces (3.15), the freezer of cgroup v2 (3.14), another
/// LSM profile at restore (3.16).
const OLDEST: Version = Version { major: 3, minor: 16, sublevel: 0 };
/// The program's name where the caller gives none.
const NAME: &str = "criu";

/// Why criu did not do it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// There is none.
    #[error("{0}: executable file not found in $PATH; install criu, or give its path with --criu")]
    NotFound(String),
    /// It could not be started.
    #[error("{what} {program}")]
    Start {
        /// What was done.
        what: &'static str,
        /// Its path.
        program: String,
        /// Why it failed.
        #[source]
        source: Errno,
    },
    /// It knows too little.
    #[error("{program} is criu {version}; {OLDEST} or newer is needed")]
    TooOld {
        /// Its path.
        program: String,
        /// What it is.
        version: Version,
    },
    /// The kernel, or it, lacks something.
    #[error("criu is missing features: [{name}]: {needs}")]
    Missing {
        /// As runc calls it.
        name: &'static str,
        /// Which flag needs it, and what would have it.
        needs: &'static str,
    },
    /// It said no.
    #[error("criu failed: type {kind} errno {errno}{journal}")]
    Failed {
        /// What it was asked.
        kind: &'static str,
        /// Its own.
        errno: i32,
        /// Why.
        journal: Journal,
    },
    /// It ended without an answer.
    #[error("criu ended without an answer: type {kind}, {}{journal}", ending(*exit))]
    Gone {
        /// What it was asked.
        kind: &'static str,
        /// How it ended.
        exit: Option<Exit>,
        /// Why.
        journal: Journal,
    },
}

fn ending(exit: Option<Exit>) -> String {
    match exit {
        Some(Exit::Code(code)) => format!("exit status {code}"),
        Some(Exit::Signaled(signal)) => format!("signal {signal}"),
        Some(Exit::Unknown) | None => "exit status unknown".to_owned(),
    }
}

/// A criu that is new enough.
#[derive(Debug)]
pub(crate) struct Criu {
    program: CString,
}

impl Criu {
    /// Finds the one that the caller names, or else `criu`.
    pub(crate) fn find(given: Option<&str>) -> Result<Self, Failure> {
        let name = given.filter(|name| !name.is_empty()).unwrap_or(NAME);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let program = find(name, &path).ok_or_else(|| Error::NotFound(name.to_owned()))?;
        let program = CString::new(program.as_os_str().as_bytes())
            .map_err(|_| Failure::Refused(format!("--criu {name:?} has a null byte")))?;
        let criu = Self { program };
        let version = criu.ask(Start::default(), &Request::version(), |_| Ok(()))?.version;
        if version < OLDEST {
            let program = criu.program.to_string_lossy().into_owned();
            return Err(Error::TooOld { program, version }.into());
        }
        Ok(criu)
    }

    /// Fails unless memory can be tracked.
    pub(crate) fn need_memory_track(&self) -> Result<(), Failure> {
        let needs = "--pre-dump and --parent-path need a kernel that tells which memory changed \
             (CONFIG_MEM_SOFT_DIRTY); see `criu check --feature mem_dirty_track`";
        if self.features()?.memory_track {
            return Ok(());
        }
        Err(Error::Missing { name: "MemTrack", needs }.into())
    }

    /// Fails unless memory can be filled in later.
    pub(crate) fn need_lazy_pages(&self) -> Result<(), Failure> {
        let needs = "--lazy-pages needs a kernel with userfaultfd; see `criu check --feature uffd-noncoop`";
        if self.features()?.lazy_pages {
            return Ok(());
        }
        Err(Error::Missing { name: "LazyPages", needs }.into())
    }

    fn features(&self) -> Result<answer::Features, Failure> {
        Ok(self.ask(Start::default(), &Request::features(), |_| Ok(()))?.features)
    }

    /// Has criu write a tree, or its memory.
    pub(crate) fn dump(
        &self,
        kind: Kind,
        options: &Options,
        heed: impl FnMut(Notice) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.ask(Start::default(), &Request::new(kind, options), heed).map(drop)
    }

    /// Starts the criu that is to restore a tree.
    pub(crate) fn start(&self, start: Start<'_>) -> Result<Worker, Failure> {
        Ok(Worker::start(&self.program, start)?)
    }

    fn ask(
        &self,
        start: Start<'_>,
        request: &Request,
        heed: impl FnMut(Notice) -> Result<(), Failure>,
    ) -> Result<Answer, Failure> {
        Worker::start(&self.program, start)?.ask(request, heed)
    }
}

/// The path of a program; a name without a slash is looked for.
fn find(name: &str, path: &OsStr) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(name.into());
    }
    let executable = |path: &PathBuf| path.is_file() && access(path, AccessFlags::X_OK).is_ok();
    std::env::split_paths(path)
        .filter(|place| place.is_absolute())
        .map(|place| place.join(name))
        .find(executable)
}

/// Opens a directory that is made if it is missing: several checkpoints may go to one. Root of a user namespace looks into
/// it when it restores itself; the images are closed to it.
pub(crate) fn open(operation: &'static str, path: &Path) -> Result<File, Failure> {
    let made = DirBuilder::new().recursive(true).mode(0o711).create(path);
    made.and_then(|()| File::open(path)).map_err(Failure::file(operation, path))
}

/// A path for a system call.
fn text(path: &Path) -> Result<CString, Failure> {
    let made = CString::new(path.as_os_str().as_bytes());
    made.map_err(|_| Failure::Kernel(format!("use the path {}", path.display()), Errno::EINVAL))
}
