//! Starts hull's own programs: the supervisor and host tasks.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns};

use crate::container::program::lower;
use crate::sys::{descriptor, process};

/// Where the programs are, and what environment they get.
pub(super) struct Programs {
    /// `hull`.
    pub(super) hull: PathBuf,
    /// `hull-pause`.
    pub(super) pause: PathBuf,
    environment: process::Vector,
}

impl Programs {
    pub(super) fn new(directory: &Path) -> Self {
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            CString::new([name.into_vec(), b"=".to_vec(), value.into_vec()].concat()).ok()
        });
        Self {
            hull: directory.join("hull"),
            pause: directory.join("hull-pause"),
            environment: process::Vector::new(variables.collect()),
        }
    }
}

/// One start of a program.
pub(super) struct Launch<'a> {
    pub(super) program: &'a Path,
    pub(super) arguments: Vec<CString>,
    /// What becomes descriptor 0, 1, 2 and so on; all others are closed.
    pub(super) descriptors: Vec<BorrowedFd<'a>>,
    /// Pause, whose network, IPC and UTS namespaces are joined.
    pub(super) sandbox: Option<BorrowedFd<'a>>,
    /// The program is killed when the shim dies.
    pub(super) dies_with_shim: bool,
}

impl Launch<'_> {
    pub(super) fn start(self, programs: &Programs) -> nix::Result<process::Child> {
        let path = CString::new(self.program.as_os_str().as_bytes()).map_err(|_| nix::Error::EINVAL)?;
        let work = Work {
            failure: format!("cannot execute {}", self.program.display()).into_bytes(),
            path,
            arguments: process::Vector::new(self.arguments),
            environment: &programs.environment,
            descriptors: self.descriptors.iter().map(AsRawFd::as_raw_fd).collect(),
            sandbox: self.sandbox,
            dies_with_shim: self.dies_with_shim,
        };
        process::spawn(CloneFlags::empty(), None, &work, run)
    }
}

struct Work<'a> {
    path: CString,
    arguments: process::Vector,
    environment: &'a process::Vector,
    descriptors: Vec<RawFd>,
    sandbox: Option<BorrowedFd<'a>>,
    dies_with_shim: bool,
    failure: Vec<u8>,
}

/// What a shell answers for a command that cannot be executed.
const CANNOT_EXECUTE: i32 = 127;

fn run(work: &Work<'_>) -> ! {
    if let Ok(()) = prepare(work) {
        process::execute(&work.path, &work.arguments, work.environment);
    }
    process::report(2, &work.failure);
    process::leave(CANNOT_EXECUTE)
}

fn prepare(work: &Work<'_>) -> nix::Result<()> {
    if work.dies_with_shim {
        process::die_with_parent(libc::SIGKILL)?;
    }
    if let Some(pause) = work.sandbox {
        let joined = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
        setns(pause, joined)?;
    }
    // In ascending order: a source with a number below 4 is still itself when its turn comes, since
    // sources 0 to 2 are never handed over and 3 is placed last.
    for (number, from) in work.descriptors.iter().enumerate() {
        descriptor::place_raw(*from, number as RawFd)?;
    }
    descriptor::close_on_exec_from(work.descriptors.len() as u32)?;
    process::default_signals();
    Ok(())
}

/// `--root R` if there is one, then the rest.
pub(super) fn arguments(program: &str, root: Option<&Path>, rest: &[&str]) -> Vec<CString> {
    let mut arguments = vec![program.as_bytes().to_vec()];
    if let Some(root) = root {
        arguments.push(b"--root".to_vec());
        arguments.push(root.as_os_str().as_bytes().to_vec());
    }
    arguments.extend(rest.iter().map(|one| one.as_bytes().to_vec()));
    // A null byte cannot come from a command line, nor from a task's name, which is checked.
    arguments.into_iter().filter_map(|one| CString::new(one).ok()).collect()
}

/// A copy of standard error, the pod's diagnostics, to hand on.
pub(super) fn diagnostics() -> std::io::Result<OwnedFd> {
    std::io::stderr().as_fd().try_clone_to_owned()
}

/// An errno in the middle of a message.
pub(super) fn reason(errno: nix::Error) -> String {
    lower(errno.desc())
}
