//! PURE: the whole lifecycle of a pod as one state machine.
//!
//! `step(state, pod, input, now) -> (state, actions)`. It knows `pod-lifecycle.md` of the reference
//! and nothing of Linux: no clock, file, process or random number. Time and identifiers come in as
//! values; effects go out as [`action::Action`]s, which the driver carries out and answers with [`input::Input`]s.
//! The same function serves a real pod, recovery (its state is the record on disk) and `hull simulate`.
//!
//! **Invariant:** state follows what was observed. Asking for a signal does not stop a container; its exit does.
//!
//! # Contract between driver and core
//!
//! For each input the driver (1) calls [`State::step`], (2) writes the new state to disk if it differs from
//! the old one ([`State::must_be_written`]), (3) carries the actions out in their order, handing each to whoever does it before it calls
//! `step` again, (4) publishes [`State::status`] and [`State::deletion`] if [`State::generation`] grew. It sends
//! [`input::Input::Tick`] at the moment that [`State::wake`] names; a moment that has passed means at once.
//!
//! - **Beginning.** [`State::new`], then `SandboxUp` or `SandboxFailed` unasked. Nothing happens before.
//! - **Answers.** Each action that names an answer in its doc gets exactly one. An answer that nobody waits for any
//!   more is harmless. At most one of volumes, sandbox, image, create, start and postStart is under way at a time;
//!   probes, preStop hooks and kills run beside it.
//! - **Images.** `EnsureImage` with `PullPolicy::Never` means "look only": the answer for an absent image is
//!   `ImageFailed` with `NeverPull`. An image that may be pulled is asked for a second time with its own policy.
//! - **Create.** An instance is created with the image that its action names, whatever the newest manifest says. After `CreateFailed`
//!   the driver has undone what it made; the number is used again.
//! - **Start.** `StartFailed` ends the instance; it is released and no `Exited` is expected.
//! - **Exits.** `Exited` is answered with `Release`, also for instances that the core does not know and for a
//!   repeated report. `Release` means: the exit is on disk.
//! - **Hooks.** A failed hook's text is the `<err>` of reference 6.3 with its message, such as
//!   `command 'x' exited with 1: text, message: "text"`; the core adds the words before it. An exec hook whose
//!   container ends must be answered too: a kill waits for its preStop hook.
//! - **Sandboxes.** `StopSandbox` and `CreateSandbox` may be asked for when there is nothing to stop, or half a
//!   sandbox: both begin by clearing away. A new sandbox restarts the supervisor: `Recovered`, then `SandboxUp`.
//! - **Recovery.** A new driver reads the state and sends `Recovered` first, then `SandboxUp` if there is one
//!   (before it: `SandboxFailed` if the shim has a failure), then the exits that the shim reports. What had no answer
//!   is asked again, so `PrepareVolumes`, `RefreshVolumes`, `CreateContainer`, `StartContainer`, `RunHook`, `Kill`, `Release`, `Record` and
//!   `RemoveLogs` must bear repetition: for what exists already they answer from it.
//! - **End.** `Finish` comes at the earliest one step after the final status was published. [`State::wake`]
//!   asks for that step.

pub mod action;
mod backoff;
mod change;
mod conditions;
mod container_status;
mod decide;
mod deletion;
mod events;
mod exits;
mod image;
mod init_order;
pub mod input;
mod kill;
mod pass;
mod phase;
mod publish;
mod qos;
mod record;
mod recovery;
mod restart;
mod resume;
mod sandbox;
pub mod simulate;
mod start;
mod state;
pub mod status;
pub mod time;
mod turn;
mod worker;

#[cfg(test)]
mod tests;

pub use state::State;
