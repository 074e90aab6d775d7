//! The end of an instance: what is left of it is killed, its output drained, its exit recorded and told.

use super::Shim;
use super::instance::State;
use super::keeper::End;
use crate::sys::process;
use crate::wire::{Ended, InstanceId, Report};

impl Shim {
    /// The init of an instance ended. `zombie`, if it is our own child, is reaped when that is recorded and before
    /// it is told: a shim that is killed in between leaves it to its keeper.
    pub(super) fn instance_ended(&mut self, instance: &InstanceId, end: End, zombie: Option<i32>) {
        // A start whose outcome is in the pipe is answered before the end is told.
        self.start_event(instance);
        let Some(held) = self.instances.get_mut(instance) else {
            return zombie.into_iter().for_each(process::reap_pid);
        };
        // In a shared or the host's PID namespace the rest of the container outlives its init.
        if let Err(error) = held.group.kill() {
            super::complain(format_args!("{}", super::chain(&error)));
        }
        let ended = Ended {
            exit: end.exit,
            oom_killed: held.group.was_out_of_memory(),
            started_at: held.started_at,
            finished_at: end.at.max(held.started_at.unwrap_or(end.at)),
        };
        held.state = State::Exited(ended);
        (held.init, held.lost) = (None, None);
        held.stdin = None;
        held.start = None;
        self.drain(instance);
        self.record();
        if let Some(pid) = zombie {
            process::reap_pid(pid);
        }
        self.report(&Report::Exited { instance: instance.clone(), exit: ended });
        if self.sandbox.stopping.is_some() {
            self.continue_stop();
        }
    }
}
