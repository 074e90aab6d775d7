//! Session keyrings; keyctl(2). Nothing here allocates.

use std::ffi::CStr;

use nix::errno::Errno;

use super::check;

const JOIN_SESSION_KEYRING: libc::c_long = 1;
const SETPERM: libc::c_long = 5;
/// All to the possessor; view, read and search to the user. Search is what a new keyring lacks, and what joined processes
/// need to find keys in it.
const PERMISSIONS: libc::c_long = 0x3f1b_0000;

/// Gives this process a new session keyring. A kernel without keyrings is no error.
pub(crate) fn join_session(name: &CStr) -> nix::Result<()> {
    // SAFETY: keyctl reads a name that ends in a null byte and outlives the call.
    let joined = check(unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, name.as_ptr()) });
    let serial = match joined {
        Err(Errno::ENOSYS) => return Ok(()),
        result => result?,
    };
    // SAFETY: KEYCTL_SETPERM takes integers.
    check(unsafe { libc::syscall(libc::SYS_keyctl, SETPERM, serial, PERMISSIONS) }).map(drop)
}
