//! The maker's procfs, by a descriptor that was verified: what is written below it lands in that very file, whatever is mounted
//! over a `/proc` meanwhile (CVE-2025-52881). Its `self` is the process that opens it. Nothing here allocates once it is open, unless it says so.
//!
//! It is a copy of the mount, in no namespace: `..` leads out of it to nowhere.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::{Mode, fstat};
use nix::sys::statfs::{FsType, fstatfs};

use crate::guard::{self, Guard};
use crate::sys::mount::{self, Reach};

const PROC: FsType = FsType(0x9fa0);
const ROOT: u64 = 1;

/// Its root for one child.
pub(crate) enum Procfs {
    /// Opened for that child.
    Own(OwnedFd),
    /// Of a maker that makes more than one: to take the copy of the mount apart again, the kernel waits for an RCU grace period.
    Shared(Rc<OwnedFd>),
}

impl Procfs {
    /// The maker's, where it has one.
    pub(crate) fn of(maker: Option<&Rc<OwnedFd>>) -> nix::Result<Self> {
        maker.map_or_else(|| root().map(Self::Own), |shared| Ok(Self::Shared(Rc::clone(shared))))
    }

    /// For the maker to close once it has the child.
    pub(super) fn own(self) -> Option<OwnedFd> {
        match self {
            Self::Own(root) => Some(root),
            Self::Shared(_) => None,
        }
    }

    /// The number of that.
    pub(super) fn own_number(&self) -> Option<RawFd> {
        match self {
            Self::Own(root) => Some(root.as_raw_fd()),
            Self::Shared(_) => None,
        }
    }
}

impl AsFd for Procfs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Own(root) => root.as_fd(),
            Self::Shared(root) => root.as_fd(),
        }
    }
}

/// Opens the root of `/proc`.
pub(crate) fn root() -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let root = match mount::copy_unfollowed(c"/proc", Reach::One) {
        // An ordinary user may copy no mount, and root of a user namespace none with mounts below that it may not
        // remove. Neither has anything of the host's root to lose.
        Err(Errno::EPERM | Errno::EINVAL | Errno::ENOSYS) => open("/proc", flags, Mode::empty())?,
        root => root?,
    };
    let is_root = fstatfs(&root)?.filesystem_type() == PROC && fstat(&root)?.st_ino == ROOT;
    if !is_root && !guard::is_off(Guard::PrivateProcfs) {
        return Err(Errno::EXDEV);
    }
    Ok(root)
}

/// Opens a file of it.
pub(crate) fn open_below(root: BorrowedFd<'_>, file: &CStr, access: OFlag) -> nix::Result<OwnedFd> {
    if guard::is_off(Guard::PrivateProcfs) {
        let present = open("/proc", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
        return nix::fcntl::openat(present, file, access | OFlag::O_CLOEXEC, Mode::empty());
    }
    let how = OpenHow::new().flags(access | OFlag::O_CLOEXEC).resolve(
        ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_XDEV | ResolveFlag::RESOLVE_NO_MAGICLINKS,
    );
    openat2(root, file, how)
}

/// Opens a namespace that a link of it leads to.
pub(crate) fn open_namespace(root: BorrowedFd<'_>, link: &CStr) -> nix::Result<OwnedFd> {
    nix::fcntl::openat(root, link, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
}

/// Sets the `oom_score_adj` of `process`, a pid or `self`. Lowering below our own value needs CAP_SYS_RESOURCE, or is EACCES: then
/// it keeps ours, the nearest that is permitted. Allocates.
pub(super) fn set_oom_score(root: BorrowedFd<'_>, process: &str, value: i32) -> nix::Result<()> {
    let file = CString::new(format!("{process}/oom_score_adj")).map_err(|_| Errno::EINVAL)?;
    match write(root, &file, value.to_string().as_bytes()) {
        Err(Errno::EACCES) => Ok(()),
        written => written,
    }
}

/// Writes a value in one call.
pub(crate) fn write(root: BorrowedFd<'_>, file: &CStr, value: &[u8]) -> nix::Result<()> {
    let file = open_below(root, file, OFlag::O_WRONLY)?;
    nix::unistd::write(file, value).map(drop)
}
