//! The engine: from `config.json` to a container's init, by system calls alone.
//!
//! ```text
//!  maker (hull-shim, hull-oci)                     child, the container's init
//!  Plan::new          pure: a list of steps
//!  begin              open sources, clone3  ----->  perform each step; allocates nothing
//!                     -- Go, with the pid -->       (new user namespace: the maps are written)
//!  Making::advance    <- one Message per packet --  hooks due | failed at step N | ready
//!                     -- Go --------------------->  (hooks have run)
//!  Created            <- ready, with descriptors -
//!  Created::release   -- Go, it is on disk ----->   Released; a pod's init does without: it has a successor of its maker
//!                                                  waits at the gate (a FIFO)
//!  Gate::open         -- one byte through it ---->  startContainer hooks; transform: limits, user, seccomp, execve
//!                     <- a Problem, or the end ---  of the gate's second FIFO
//! ```
//!
//! Where its maker starts a container as soon as it is made and nobody else has a part in it, there are no messages and no
//! gate: [`at_once`].
//!
//! **Decide, then act.** `Plan::new` holds every choice and makes no system call. What acts is
//! a loop over steps on both sides; each kind of step is performed in the file that is named for it.
//! A failure is the number of the step, what was tried, and an errno; the maker puts it into words with the
//! plan at hand.
//!
//! **Invariant:** the child, unless it has its maker's memory, allocates nothing; it logs nothing, and ends in `execve` or `_exit`. It inherits no
//! descriptor but those of its job. What it made goes with its mount namespace; what the maker made
//! (the cgroup, its sources) the maker undoes, in reverse.
//!
//! **Invariant:** every path inside the root file system is opened by `openat2` with `RESOLVE_IN_ROOT`, and what was
//! opened is what is used: mounts go from descriptor to descriptor .
//!
//! **Invariant:** a maker that dies takes a child along that nobody has recorded: until `Created::release` the child dies
//! with its parent. A pod's shim has a successor, which kills what its predecessor did not record: there the child is its
//! own from the moment it is ready, so that no record ever names an init that dies with whoever wrote it.

pub(crate) mod at_once;
mod between;
pub(crate) mod check;
pub(crate) mod child;
pub(crate) mod console;
pub(crate) mod created;
pub(crate) mod devices;
pub(crate) mod failed;
pub(crate) mod failure;
pub(crate) mod files;
pub(crate) mod gate;
pub(crate) mod hook;
mod keep;
pub(crate) mod kernel;
pub(crate) mod listener;
mod lookup;
pub(crate) mod maker;
pub(crate) mod message;
pub(crate) mod namespace;
mod netlink;
pub(crate) mod plan;
pub(crate) mod procfs;
pub(crate) mod request;
mod sources;
mod start_hooks;
pub(crate) mod step;
#[cfg(test)]
mod tests;
pub(crate) mod trimmed;
pub(crate) mod user;
mod work;

pub(crate) use created::Created;
pub(crate) use gate::Gate;
pub(crate) use maker::{Making, Progress, begin};
pub(crate) use plan::{Known, Plan};
pub(crate) use request::{Request, Stdio};
