//! A copy of this program that nobody can write to, to be executed from it (CVE-2019-5736): a read-only clone of the
//! mount that holds its file, which costs nothing, or where that cannot be a sealed file in memory; memfd_create(2).

use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl, open};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::Mode;

use crate::guard::{self, Guard};
use crate::sys::protect::read_only_self;

/// This program in a form that nobody can write to.
pub(crate) fn unwritable() -> nix::Result<OwnedFd> {
    read_only_clone().map_or_else(|| sealed_copy(own_file()?), Ok)
}

/// This program's file on a mount of its own. None without the right to clone mounts, as for an ordinary user; on a kernel before
/// 5.12, which cannot make the clone read-only; and of a file in memory, which is on no mount that can be cloned.
pub(crate) fn read_only_clone() -> Option<OwnedFd> {
    read_only_self().ok().filter(|_| !guard::is_off(Guard::ReadOnlySelf))
}

/// The file that this program runs from.
pub(crate) fn own_file() -> nix::Result<std::fs::File> {
    open("/proc/self/exe", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).map(Into::into)
}

/// Opens the file behind a descriptor for reading.
pub(crate) fn reopen(file: &OwnedFd) -> nix::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    open(path.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
}

fn seals() -> SealFlag {
    SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE
}

/// Whether a file is such a copy.
pub(crate) fn is_sealed(file: &std::fs::File) -> bool {
    let there = fcntl(file, FcntlArg::F_GET_SEALS).map(SealFlag::from_bits_truncate);
    there.is_ok_and(|there| there.contains(seals()))
}

/// `MFD_EXEC` of Linux 6.3, which nix does not name: a file that may be executed, whatever `vm.memfd_noexec` makes of others.
const MFD_EXEC: MFdFlags = MFdFlags::from_bits_retain(0x10);

/// An empty file in memory that may be executed.
fn executable() -> nix::Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    match memfd_create(c"hull-oci", flags | MFD_EXEC) {
        Err(Errno::EINVAL) => memfd_create(c"hull-oci", flags),
        made => made,
    }
}

/// Whether the host's administrator lets no file in memory be executed.
pub(crate) fn is_forbidden(errno: Errno) -> bool {
    let set = || std::fs::read_to_string("/proc/sys/vm/memfd_noexec").unwrap_or_default();
    errno == Errno::EACCES && set().trim() == "2"
}

/// The content of a file in a sealed one in memory.
pub(crate) fn sealed_copy(mut file: std::fs::File) -> nix::Result<OwnedFd> {
    let mut copy = std::fs::File::from(executable()?);
    let failed = |error: std::io::Error| nix::Error::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
    std::io::copy(&mut file, &mut copy).and_then(|_| copy.flush()).map_err(failed)?;
    fcntl(&copy, FcntlArg::F_ADD_SEALS(seals()))?;
    // For reading only: nothing that can be executed may be open for writing.
    reopen(&copy.into())
}
