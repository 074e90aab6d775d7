//! hull's shim: joins containers into a pod's sandbox, owns them as their parent, and knows how each
//! ended. See `ARCHITECTURE.md`.

pub mod cgroup;
pub mod confine;
pub mod container;
mod guard;
pub mod layout;
pub mod oci;
mod procfs;
mod resctrl;
#[cfg(not(without_pods))]
pub mod resident;
pub mod sandbox;
mod sys;
pub mod tree;
mod unwritable;
pub mod wire;

pub use sys::descriptor::inherited;
pub use sys::heap::Heap;

/// Says of an operation that its failure changes nothing here; the comment beside the call says why.
pub(crate) fn harmless<T, E>(_: Result<T, E>) {}
