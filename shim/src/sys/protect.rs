//! Keeps the shim's own file safe from the containers that it executes (CVE-2019-5736).
//!
//! Between joining a container and `execve`, `/proc/<pid>/exe` of the joiner is the shim's binary, and an
//! image may even execute it (`#!/proc/self/exe`). The shim therefore runs from a read-only clone of
//! the mount that holds its file: opening it for writing through `/proc` fails with EROFS.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;

use super::mount::{self, Reach};

/// Opens our own executable on a read-only mount that no namespace contains; open_tree_attr(2), or open_tree(2) and mount_setattr(2).
pub(crate) fn read_only_self() -> nix::Result<OwnedFd> {
    read_only(c"/proc/self/exe")
}

/// The same of another program.
pub(crate) fn read_only(path: &CStr) -> nix::Result<OwnedFd> {
    match mount::copy_with(path, (mount::RDONLY, 0)) {
        Err(Errno::ENOSYS | Errno::EPERM) => {}
        copy => return copy,
    }
    let tree = mount::copy(path, Reach::One)?;
    mount::set(tree.as_fd(), Reach::One, (mount::RDONLY, 0), None)?;
    Ok(tree)
}
