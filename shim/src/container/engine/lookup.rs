//! What is certain to keep a container from starting, looked for when it is made: callers of runc expect a program that is not
//! there to fail `create` (docker's and podman's exit statuses 126 and 127 come from its text). What counts is what happens at
//! the start; this only tells sooner what is certain. The init looks, in its root and with its maker's rights still.

use std::ffi::CStr;

use nix::errno::Errno;
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::chdir;

use crate::container::identity::Identity;
use crate::container::program::Program;
use crate::container::transform::{Problem, Step};
use crate::sys::{mount, process};

/// The first candidate that may be executed, or why none can be. Changes its working directory. Allocates nothing.
pub(super) fn first(identity: &Identity, program: &Program) -> Result<usize, Problem> {
    let is_relative = program.candidates.iter().any(|one| !is_absolute(one));
    let entered = || chdir(identity.directory.as_c_str()).is_ok() && process::is_inside_root();
    if is_relative && !entered() {
        // What is wrong with it is told by the change that counts.
        return Ok(0);
    }
    let mut worst = Errno::ENOENT;
    for (index, candidate) in program.candidates.iter().enumerate() {
        match look(candidate) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            Err(Errno::EACCES) => worst = Errno::EACCES,
            // It is there, or cannot be judged from here.
            Ok(()) | Err(_) => return Ok(index),
        }
    }
    Err(Problem { step: Step::Execute, errno: worst })
}

fn is_absolute(path: &CStr) -> bool {
    path.to_bytes().first() == Some(&b'/')
}

fn look(candidate: &CStr) -> nix::Result<()> {
    if candidate.to_bytes().starts_with(b"/proc") {
        // It shows each process something else.
        return Ok(());
    }
    // What leads out by one of our own descriptors is not followed.
    let found = mount::open_here(candidate, libc::O_PATH, libc::RESOLVE_NO_MAGICLINKS)?;
    let status = fstat(found)?;
    let is_file = status.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFREG.bits();
    if is_file && status.st_mode & 0o111 != 0 { Ok(()) } else { Err(Errno::EACCES) }
}
