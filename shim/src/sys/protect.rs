//! Keeps the shim's own file safe from the containers that it executes (CVE-2019-5736).
//!
//! Between joining a container and `execve`, `/proc/<pid>/exe` of the joiner is the shim's binary, and an
//! image may even execute it (`#!/proc/self/exe`). The shim therefore runs from a read-only clone of
//! the mount that holds its file: opening it for writing through `/proc` fails with EROFS.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::check;

/// Opens our own executable on a read-only mount that no namespace contains; open_tree(2), mount_setattr(2).
pub(crate) fn read_only_self() -> nix::Result<OwnedFd> {
    read_only(c"/proc/self/exe")
}

/// The same of another program.
pub(crate) fn read_only(path: &CStr) -> nix::Result<OwnedFd> {
    let flags = libc::OPEN_TREE_CLONE as libc::c_long | libc::O_CLOEXEC as libc::c_long;
    // SAFETY: open_tree reads a path that ends in a null byte and outlives the call.
    let number = check(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) })?;
    // SAFETY: the kernel made this descriptor for us just now, nobody else owns it.
    let tree = unsafe { OwnedFd::from_raw_fd(number as i32) };
    let attributes =
        libc::mount_attr { attr_set: libc::MOUNT_ATTR_RDONLY, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: reads an empty path, and one mount_attr of the size given; both outlive the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of_val(&attributes),
        )
    })?;
    Ok(tree)
}
