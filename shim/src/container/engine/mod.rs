//! The engine: from `config.json` to a container's init, by system calls alone.
//!
//! ```text
//!  maker (hull-shim, hull-oci)                     child, the container's init
//!  Plan::new          pure: a list of steps
//!  begin              open sources, clone3  ----->  perform each step; allocates nothing
//!  Making::advance    <- one Message per packet --  maps wanted | hooks due | failed at step N | ready
//!                     -- Go, one byte ----------->
//!  Created            <- ready, with descriptors -  waits at the gate (a FIFO)
//!  Gate::open         -- one byte through it ---->  transform: limits, user, seccomp, execve
//!                     <- a Problem, or the end ---  of the gate's second FIFO
//! ```
//!
//! **Decide, then act.** `Plan::new` holds every choice and makes no system call. What acts is
//! a loop over steps on both sides; each kind of step is performed in the file that is named for it.
//! A failure is the number of the step, what was tried, and an errno; the maker puts it into words with the
//! plan at hand.
//!
//! **Invariant:** the child allocates nothing, logs nothing, and ends in `execve` or `_exit`. It inherits no
//! descriptor but those of its job. What it made goes with its mount namespace; what the maker made
//! (the cgroup, its sources) the maker undoes, in reverse.
//!
//! **Invariant:** every path inside the root file system is opened by `openat2` with `RESOLVE_IN_ROOT`, and what was
//! opened is what is used: mounts go from descriptor to descriptor (oci-runtime.md section 7).

pub(crate) mod failed;
pub(crate) mod files;
