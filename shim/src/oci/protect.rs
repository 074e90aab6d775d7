//! Keeps our own file from the containers that it makes and joins (CVE-2019-5736).
//!
//! Until `execve`, `/proc/<pid>/exe` of a container's process is this program, and an image may even execute it
//! (`#!/proc/self/exe`). So it first executes itself from a copy that cannot be written: a read-only clone of the
//! mount that holds its file, or where that is not allowed a sealed file in memory.

use std::ffi::{CString, OsStr};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::statvfs::{FsFlags, fstatvfs};

use super::error::Error;
use crate::guard::{self, Guard};
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
        Ok(tree) if !guard::is_off(Guard::ReadOnlySelf) => tree,
        // No right to clone mounts, as an ordinary user.
        Ok(_) | Err(_) => sealed_copy(file).map_err(Error::kernel("copy the program to memory"))?,
    };
    let text = |text: &OsStr| CString::new(text.as_bytes()).unwrap_or_default();
    let arguments = std::env::args_os().map(|one| text(&one)).collect();
    let errno =
        process::execute_descriptor(copy.as_fd(), &Vector::new(arguments), &super::make::own_environment());
    Err(Error::Kernel("execute the protected program".to_owned(), errno))
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
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&copy));
    Ok(std::fs::File::open(path).map_err(failed)?.into())
}
