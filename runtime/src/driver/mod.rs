//! EFFECTS: one task per pod that feeds observations to `core` and carries its actions out.
//!
//! **Invariant:** only the driver changes a pod's state; every front door translates and waits.

pub mod clock;
pub mod handle;
pub mod shim;
