//! PURE: the whole lifecycle of a pod as one state machine.
//!
//! `step(pod, state, input, now) -> (state, actions)`. It knows `pod-lifecycle.md` of the reference
//! and nothing of Linux: no clock, file, process or random number. Time and identifiers come in as
//! values; effects go out as [`action::Action`]s, which the driver carries out and answers with [`input::Input`]s.
//! The same function serves a real pod, recovery (its state is the record on disk) and `hull simulate`.
//!
//! **Invariant:** state follows what was observed. Asking for a signal does not stop a container; its exit does.

pub mod action;
pub mod input;
pub mod status;
pub mod time;
