//! What is certain to keep a container from starting, asked when it is made: callers of runc expect a program that is not
//! there to fail `create` (docker's and podman's exit statuses 126 and 127 come from its text). What counts is what happens at the start; this only tells sooner what is certain.

use std::ffi::{CStr, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::{Mode, SFlag, fstat};

use crate::container::identity::Identity;
use crate::container::program::Program;
use crate::container::transform::{Problem, Step};

/// What is certain to be wrong with the program of the init `pid`, which waits in its root directory.
pub(crate) fn problem(pid: i32, identity: &Identity, program: &Program) -> Option<Problem> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = open(Path::new(&format!("/proc/{pid}/root")), flags, Mode::empty()).ok()?;
    let mut worst = Errno::ENOENT;
    for candidate in &program.candidates {
        match look(&root, identity, candidate) {
            Err(errno @ (Errno::ENOENT | Errno::ENOTDIR)) => {
                worst = if worst == Errno::EACCES { worst } else { errno }
            }
            Err(Errno::EACCES) => worst = Errno::EACCES,
            // It is there, or cannot be judged from here.
            Ok(()) | Err(_) => return None,
        }
    }
    Some(Problem { step: Step::Execute, errno: if worst == Errno::ENOTDIR { Errno::ENOENT } else { worst } })
}

fn look(root: &OwnedFd, identity: &Identity, candidate: &CStr) -> Result<(), Errno> {
    let path = absolute(identity, candidate);
    if path.starts_with("/proc") {
        // It shows each process something else.
        return Ok(());
    }
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let inside = path.strip_prefix("/").unwrap_or(&path);
    let status = fstat(openat2(root, inside, how)?)?;
    let is_file = status.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFREG.bits();
    if is_file && status.st_mode & 0o111 != 0 { Ok(()) } else { Err(Errno::EACCES) }
}

fn absolute(identity: &Identity, candidate: &CStr) -> PathBuf {
    let directory = Path::new(OsStr::from_bytes(identity.directory.to_bytes()));
    directory.join(OsStr::from_bytes(candidate.to_bytes()))
}
