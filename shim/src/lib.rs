//! hull's shim: joins containers into a pod's sandbox, owns them as their parent, and knows how each
//! ended. See `ARCHITECTURE.md`.

pub mod container;
pub mod layout;
pub mod wire;
