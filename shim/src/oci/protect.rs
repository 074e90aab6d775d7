//! Keeps our own file from the containers that it makes and joins (CVE-2019-5736).
//!
//! Until `execve`, `/proc/<pid>/exe` of a container's process is this program, and an image may even execute it
//! (`#!/proc/self/exe`). So it first becomes a process whose file cannot be written:
//!
//! 1. Its file is exchanged for the same one on a read-only clone of the mount that holds it (`sys/image.rs`).
//! 2. Where the kernel does not do that, it executes itself from there.
//! 3. Where cloning mounts is not allowed, as for an ordinary user, it executes itself from a sealed file in memory.

use std::ffi::{CString, OsStr};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::Mode;
use nix::sys::statvfs::{FsFlags, fstatvfs};

use super::error::Error;
use crate::guard::{self, Guard};
use crate::sys::image;
use crate::sys::process::{self, Vector};
use crate::sys::protect::read_only_self;

const SELF: &str = "/proc/self/exe";

/// Comes back in a process whose file nobody can write to.
pub(crate) fn ensure() -> Result<(), Error> {
    let file = std::fs::File::open(SELF).map_err(Error::file("open", SELF.as_ref()))?;
    let is_read_only = fstatvfs(&file).is_ok_and(|about| about.flags().contains(FsFlags::ST_RDONLY));
    if is_read_only || is_sealed(&file) || guard::is_off(Guard::OwnFile) {
        return Ok(());
    }
    let copy = match read_only_self() {
        Ok(tree) if !guard::is_off(Guard::ReadOnlySelf) => {
            if exchange(&tree) {
                return Ok(());
            }
            tree
        }
        // No right to clone mounts, as an ordinary user.
        Ok(_) | Err(_) => sealed_copy(file).map_err(Error::kernel("copy the program to memory"))?,
    };
    let text = |text: &OsStr| CString::new(text.as_bytes()).unwrap_or_default();
    let arguments = std::env::args_os().map(|one| text(&one)).collect();
    let errno =
        process::execute_descriptor(copy.as_fd(), &Vector::new(arguments), &super::make::own_environment());
    Err(Error::Kernel("execute the protected program".to_owned(), errno))
}

/// Whether this process runs from `tree` now, the second way being left where it does not.
fn exchange(tree: &OwnedFd) -> bool {
    !guard::is_off(Guard::Exchange) && reopen(tree).is_ok_and(|file| image::run_from(file.as_fd()).is_ok())
}

/// Opens the file behind a descriptor for reading.
fn reopen(file: &OwnedFd) -> nix::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    nix::fcntl::open(path.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
}

fn seals() -> SealFlag {
    SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE
}

fn is_sealed(file: &std::fs::File) -> bool {
    let there = fcntl(file, FcntlArg::F_GET_SEALS).map(SealFlag::from_bits_truncate);
    there.is_ok_and(|there| there.contains(seals()))
}

fn sealed_copy(mut file: std::fs::File) -> nix::Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let mut copy = std::fs::File::from(memfd_create(c"hull-oci", flags)?);
    let failed = |error: std::io::Error| nix::Error::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
    std::io::copy(&mut file, &mut copy).and_then(|_| copy.flush()).map_err(failed)?;
    fcntl(&copy, FcntlArg::F_ADD_SEALS(seals()))?;
    // For reading only: nothing that can be executed may be open for writing.
    reopen(&copy.into())
}
