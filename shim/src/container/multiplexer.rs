//! Opening the multiplexer of a container's terminals.
//!
//! The image, and whoever runs in the container, decides what `/dev/pts` is. Whoever opens `/dev/pts/ptmx` there does
//! it with the runtime's rights and outside of the container's device group, so anything but a multiplexer is not even
//! opened (CVE-2025-52565): the directory must be the root of a devpts, whose own entry `ptmx` is none but the
//! multiplexer, and nothing may be mounted over that.

use std::os::fd::{BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{fstat, major, minor};
use nix::sys::statfs::{DEVPTS_SUPER_MAGIC, fstatfs};

use crate::guard::{self, Guard};

/// `DEVPTS` has a root of this number, and a multiplexer of the next.
const ROOT: u64 = 1;
const MULTIPLEXER: (u64, u64, u64) = (ROOT + 1, 5, 2);

/// Opens it below the container's root directory, as the master of a new terminal. Allocates nothing.
pub(crate) fn open(root: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    let how = |flags: OFlag, resolve| OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve);
    let inside = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let master = OFlag::O_RDWR | OFlag::O_NOCTTY;
    if guard::is_off(Guard::Terminal) {
        return openat2(root, c"dev/pts/ptmx", how(master, inside));
    }
    let directory = openat2(root, c"dev/pts", how(OFlag::O_PATH | OFlag::O_DIRECTORY, inside))?;
    if fstatfs(&directory)?.filesystem_type() != DEVPTS_SUPER_MAGIC || fstat(&directory)?.st_ino != ROOT {
        return Err(Errno::ENODEV);
    }
    let itself =
        ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_XDEV | ResolveFlag::RESOLVE_NO_SYMLINKS;
    let master = openat2(directory, c"ptmx", how(master, itself))?;
    let status = fstat(&master)?;
    let found = (status.st_ino, major(status.st_rdev), minor(status.st_rdev));
    if found == MULTIPLEXER { Ok(master) } else { Err(Errno::ENODEV) }
}
