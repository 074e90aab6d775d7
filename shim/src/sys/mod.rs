//! Every unsafe line of this crate: thin functions over single system calls that have no safe
//! wrapper elsewhere.
//!
//! Whatever runs between a fork and the `execve` or `_exit` that ends it uses only functions that
//! allocate nothing; their docs say so. The caller is a process of one thread (checked once by
//! [`process::has_one_thread`]), so a forked child inherits no lock held by somebody else.

pub(crate) mod ahead;
pub(crate) mod bpf;
pub(crate) mod capability;
pub(crate) mod clock;
pub(crate) mod descriptor;
pub(crate) mod environment;
pub(crate) mod heap;
pub(crate) mod image;
pub(crate) mod interface;
pub(crate) mod keyring;
pub(crate) mod memory;
pub(crate) mod mount;
pub(crate) mod namespace;
mod open;
pub(crate) mod pidfd;
pub(crate) mod process;
pub(crate) mod protect;
pub(crate) mod scheduling;
pub(crate) mod seccomp;
pub(crate) mod socket;
#[cfg(test)]
pub(crate) mod strict;
pub(crate) mod terminal;
pub(crate) mod vfork;

use nix::errno::Errno;

/// Turns the result of a raw system call into a `Result`.
fn check(result: libc::c_long) -> nix::Result<libc::c_long> {
    Errno::result(result)
}
