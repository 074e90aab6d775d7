//! One container: from `config.json` to a running process, and further processes inside it.
//!
//! `identity` and `program` turn a configuration into values ready for use; `transform` is the last
//! stretch of every process of a container, the same for its init and for whatever is exec'd in it;
//! `creator` builds the container through libcontainer up to that stretch; `exec` joins a running one.

pub mod capability;
#[cfg(not(without_pods))]
pub(crate) mod creator;
pub(crate) mod engine;
pub(crate) mod exec;
pub(crate) mod groups;
pub(crate) mod identity;
pub(crate) mod label;
pub(crate) mod multiplexer;
pub(crate) mod program;
pub(crate) mod scheduling;
pub mod seccomp;
pub(crate) mod spec;
pub(crate) mod transform;

/// Whether this kernel changes the attributes of a mount together with those of all that is mounted below it:
/// mount_setattr(2), of Linux 5.12.
#[must_use]
pub fn has_recursive_attributes() -> bool {
    crate::sys::mount::has_set_attributes()
}
