//! The end of an instance: what is left of it is killed, its output drained, its exit recorded and told.

use super::Shim;
use super::instance::State;
use crate::wire::{Ended, Exit, InstanceId, Report};

impl Shim {
    /// The init of an instance ended at the time `finished_at`.
    pub(super) fn instance_ended(&mut self, instance: &InstanceId, exit: Exit, finished_at: i64) {
        // A start whose outcome is in the pipe is answered before the end is told.
        self.start_event(instance);
        let Some(held) = self.instances.get_mut(instance) else {
            return;
        };
        // In a shared or the host's PID namespace the rest of the container outlives its init.
        if let Err(error) = held.group.kill() {
            super::complain(format_args!("{}", super::chain(&error)));
        }
        let ended = Ended {
            exit,
            oom_killed: held.group.was_out_of_memory(),
            started_at: held.started_at,
            finished_at: finished_at.max(held.started_at.unwrap_or(finished_at)),
        };
        held.state = State::Exited(ended);
        held.init = None;
        held.stdin = None;
        held.start = None;
        self.drain(instance);
        self.record();
        self.report(&Report::Exited { instance: instance.clone(), exit: ended });
        if self.sandbox.stopping.is_some() {
            self.continue_stop();
        }
    }
}
