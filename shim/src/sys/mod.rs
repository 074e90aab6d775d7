//! Every unsafe line of this crate: thin functions over single system calls that have no safe
//! wrapper elsewhere.
//!
//! Whatever runs between a fork and the `execve` or `_exit` that ends it uses only functions that
//! allocate nothing; their docs say so. The caller is a process of one thread (checked once by
//! [`process::has_one_thread`]), so a forked child inherits no lock held by somebody else.

pub mod capability;
pub mod clock;
pub mod descriptor;
pub mod environment;
pub mod interface;
pub mod pidfd;
pub mod process;
pub mod protect;
pub mod seccomp;
pub mod socket;
pub mod terminal;

use nix::errno::Errno;

/// Turns the result of a raw system call into a `Result`.
fn check(result: libc::c_long) -> nix::Result<libc::c_long> {
    Errno::result(result)
}
