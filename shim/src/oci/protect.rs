//! Keeps our own file from the containers that it makes and joins (CVE-2019-5736).
//!
//! Until `execve`, `/proc/<pid>/exe` of a container's process is this program, and an image may even execute it
//! (`#!/proc/self/exe`). So it first becomes a process whose file cannot be written:
//!
//! 1. Its file is exchanged for the same one on a read-only clone of the mount that holds it (`sys/image.rs`).
//! 2. Where the kernel does not do that, it executes itself from there.
//! 3. Where that cannot be, as for an ordinary user, it executes itself from a sealed file in memory.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::sys::statvfs::FsFlags;

use super::error::Error;
use crate::guard::{self, Guard};
use crate::harmless;
use crate::sys::image;
use crate::sys::process::{self, Vector};
use crate::unwritable::{is_forbidden, is_sealed, own_file, read_only_clone, reopen, sealed_copy};

const SELF: &str = "/proc/self/exe";

/// [`ensure()`] for a command line that is not read yet: what is mapped of the program by then is mapped twice. What fails is told
/// by the command itself.
pub(crate) fn early() {
    harmless(ensure());
}

/// Comes back in a process whose file nobody can write to.
pub(crate) fn ensure() -> Result<(), Error> {
    static IS_DONE: AtomicBool = AtomicBool::new(false);
    if IS_DONE.load(Ordering::Relaxed) {
        return Ok(());
    }
    let about = statfs(SELF).map_err(Error::kernel(format!("look at {SELF}")))?;
    if about.flags().contains(FsFlags::ST_RDONLY) || guard::is_off(Guard::OwnFile) {
        return Ok(());
    }
    let copy = match read_only_clone() {
        Some(clone) => clone,
        None => {
            let file = own_file().map_err(Error::kernel(format!("open {SELF}")))?;
            if about.filesystem_type() == TMPFS_MAGIC && is_sealed(&file) {
                // From where it was executed again.
                return Ok(());
            }
            sealed_copy(file).map_err(unsealed)?
        }
    };
    if exchange(&copy) {
        IS_DONE.store(true, Ordering::Relaxed);
        return Ok(());
    }
    let text = |text: &OsStr| CString::new(text.as_bytes()).unwrap_or_default();
    let arguments = std::env::args_os().map(|one| text(&one)).collect();
    let errno =
        process::execute_descriptor(copy.as_fd(), &Vector::new(arguments), &super::make::own_environment());
    Err(Error::Kernel("execute the protected program".to_owned(), errno))
}

fn unsealed(errno: Errno) -> Error {
    let forbidden = if is_forbidden(errno) { ", of which vm.memfd_noexec=2 lets none run" } else { "" };
    Error::Kernel(format!("copy the program to a file in memory{forbidden}"), errno)
}

/// Whether this process runs from `copy` now.
fn exchange(copy: &OwnedFd) -> bool {
    !guard::is_off(Guard::Exchange) && reopen(copy).is_ok_and(|file| image::run_from(file.as_fd()).is_ok())
}
