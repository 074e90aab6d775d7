//! Rotation of logs (pod-lifecycle 10.4). One that has grown beyond its size is put aside by the host task `log-rotate`, which
//! also packs those from before and removes the oldest; then it is opened anew.
//!
//! The kubelet looks every ten seconds, at running containers alone. Here nobody looks: what is written is counted, and a
//! log that is large enough is rotated ten seconds later, if its container still runs: what one prints at once before it
//! ends stays together. What is written until it is opened anew goes to the old file.

use std::collections::BTreeMap;

use super::Shim;
use super::tasks::{Outcome, Purpose, Task};
use super::timers::Timer;
use crate::sys::clock;
use crate::wire::InstanceId;

/// Bytes from which on a log is rotated: the kubelet's `containerLogMaxSize`.
const SIZE: u64 = 10 << 20;
/// Milliseconds until then: the kubelet's `containerLogMonitorInterval`.
const PAUSE: u64 = 10_000;
const TASK: &str = "log-rotate";

impl Shim {
    /// Something was written to the log of an instance.
    pub(super) fn log_has_grown(&mut self, instance: &InstanceId) {
        let Some(held) = self.instances.get_mut(instance) else { return };
        let log = &mut held.output.log;
        if log.size >= SIZE && !std::mem::replace(&mut log.is_rotated, true) {
            self.timers.after(PAUSE, Timer::Rotation(instance.clone()));
        }
    }

    pub(super) fn rotate_log(&mut self, instance: &InstanceId) {
        let Some(held) = self.instances.get(instance).filter(|held| held.is_alive()) else { return };
        let now = clock::timestamp(clock::wall());
        let input = serde_json::json!({ "log": held.create.log, "now": now });
        if let Err(message) = self.start_task(TASK, &input, None, Purpose::LogRotate(instance.clone())) {
            self.rotation_ended(instance, Some(message));
        }
    }

    pub(super) fn log_is_rotated(&mut self, instance: &InstanceId, outcome: &Outcome) {
        self.rotation_ended(instance, outcome.failure(TASK));
        if self.sandbox.stopping.is_some() {
            self.continue_stop();
        }
    }

    /// Goes on with the file that is there now, whatever the task came to: it may have failed after it had put the old one
    /// aside. A log that is still too large is tried again when more is written to it; that of an ended instance, which
    /// may be about to go, is not made anew.
    fn rotation_ended(&mut self, instance: &InstanceId, failure: Option<String>) {
        let Some(held) = self.instances.get_mut(instance).filter(|held| held.is_alive()) else { return };
        held.output.log.is_rotated = false;
        let reopened = held.output.log.reopen().map(drop);
        if let Some(message) = failure.or_else(|| reopened.err().map(|error| error.to_string())) {
            super::complain(format_args!("rotate {}: {message}", held.create.log.display()));
        }
    }
}

/// Kills the rotations under way: once no sandbox is there the supervisor may remove the logs. Whether there is any to
/// wait for.
pub(super) fn end(tasks: &BTreeMap<u64, Task>) -> bool {
    tasks.values().filter(|task| task.is_log_rotation()).inspect(|task| task.kill()).count() > 0
}
