//! Removing the sandbox, in reverse of making it; each step waits for its event, and all can be taken again
//! by a successor.

use std::os::fd::AsFd;

use super::record::{Phase, SandboxRecord};
use super::sandbox::Goal;
use super::supervisor::Reply;
use super::tasks::{Outcome, Purpose};
use super::timers::Timer;
use super::{Shim, rotation};
use crate::cgroup::{Group, Removal};
use crate::harmless;
use crate::sandbox::mounts;
use crate::sys::pidfd;
use crate::wire::{Answer, Failure};

/// First pause before a busy cgroup is tried again, in milliseconds; it doubles.
const FIRST_RETRY: u64 = 5;
const LONGEST_RETRY: u64 = 500;
/// With the doubling above, half a minute in all.
const RETRIES: u32 = 64;

/// How far the removal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Instances,
    Network,
    Pause,
    Remains,
}

/// A removal under way.
#[derive(Debug)]
pub(super) struct Stopping {
    step: Step,
    goal: Goal,
    /// What could not be undone.
    failure: Option<String>,
}

impl Shim {
    pub(super) fn stop_sandbox(&mut self, reply: Option<Reply>) {
        if self.sandbox.is_changing() {
            let message = "a sandbox is being made or removed".to_owned();
            return self.answer(reply, Err(Failure::State { message }));
        }
        self.begin_stop(Goal::Stop(reply));
    }

    pub(super) fn begin_stop(&mut self, goal: Goal) {
        // A successor goes on towards the same goal.
        self.sandbox.record.phase = match goal {
            Goal::Make(attempt, _) => {
                self.sandbox.record.attempt = attempt;
                Phase::Making
            }
            Goal::Stop(_) | Goal::Failed(..) | Goal::Finish(_) => Phase::Stopping,
        };
        self.sandbox.stopping = Some(Stopping { step: Step::Instances, goal, failure: None });
        self.record();
        self.kill_instances();
        self.continue_stop();
    }

    pub(super) fn kill_instances(&mut self) {
        for held in self.instances.values().filter(|held| held.is_alive()) {
            if let Err(message) = held.kill() {
                self.complain(format_args!("{message}"));
            }
        }
    }

    /// Goes on as far as possible; called at every event that a step may have waited for.
    pub(super) fn continue_stop(&mut self) {
        while let Some(stopping) = &mut self.sandbox.stopping {
            match stopping.step {
                Step::Instances => {
                    let making = self.tasks.values().any(super::tasks::Task::is_network_up);
                    if making || self.instances.values().any(super::instance::Held::is_alive) {
                        return;
                    }
                    // No instance is there that could have another one started.
                    if rotation::end(&self.tasks) {
                        return;
                    }
                    stopping.step = Step::Network;
                    if self.start_network_down() {
                        return;
                    }
                }
                Step::Network => {
                    if self.tasks.values().any(super::tasks::Task::is_network_down) {
                        return;
                    }
                    stopping.step = Step::Pause;
                }
                Step::Pause => {
                    if let Some(pause) = &self.sandbox.pause {
                        // SIGKILL: as PID 1 of a shared PID namespace it takes the rest along.
                        harmless(pidfd::signal(pause.pidfd.as_fd(), libc::SIGKILL));
                        return;
                    }
                    stopping.step = Step::Remains;
                    self.sandbox.network_namespace = None;
                    self.unmount_shm();
                    return self.remove_pod_group(0);
                }
                Step::Remains => return,
            }
        }
    }

    fn start_network_down(&mut self) -> bool {
        let Some(input) = self.config.network.clone().filter(|_| self.sandbox.record.network_used) else {
            return false;
        };
        let namespace =
            self.sandbox.network_namespace.as_ref().and_then(|namespace| namespace.try_clone().ok());
        let namespace = namespace.or_else(|| self.open_network_namespace().ok());
        match self.start_task("network-down", &input, namespace, Purpose::NetworkDown) {
            Ok(()) => true,
            Err(message) => {
                self.undo_failed(message);
                false
            }
        }
    }

    pub(super) fn network_is_down(&mut self, outcome: &Outcome) {
        match outcome.failure("network-down") {
            Some(message) => self.undo_failed(message),
            None => {
                self.sandbox.record.network_used = false;
                self.record();
            }
        }
        self.continue_stop();
    }

    fn undo_failed(&mut self, message: String) {
        self.complain(format_args!("remove the sandbox: {message}"));
        if let Some(stopping) = &mut self.sandbox.stopping {
            stopping.failure.get_or_insert(message);
        }
    }

    fn unmount_shm(&mut self) {
        if let Err(error) = mounts::unmount_below(&self.pod.shm()) {
            self.undo_failed(super::chain(&error));
        }
    }

    /// Removes the pod's cgroup; as long as killed processes leave it, again a little later.
    pub(super) fn remove_pod_group(&mut self, attempt: u32) {
        let result = self.group.kill().and_then(|()| self.group.remove());
        match result {
            Ok(Removal::Gone) => {
                self.group.remove_empty_parent();
                self.stopped();
            }
            Ok(Removal::Busy) if attempt < RETRIES => {
                self.timers.after(retry_delay(attempt), Timer::PodGroup(attempt + 1));
            }
            Ok(Removal::Busy) => {
                self.undo_failed(format!("the cgroup {} stays busy", self.group.absolute().display()));
                self.stopped();
            }
            Err(error) => {
                self.undo_failed(super::chain(&error));
                self.stopped();
            }
        }
    }

    fn stopped(&mut self) {
        let Some(Stopping { goal, failure, .. }) = self.sandbox.stopping.take() else {
            return;
        };
        let record = &self.sandbox.record;
        self.sandbox.record = SandboxRecord {
            attempt: record.attempt,
            network_used: record.network_used,
            failure: record.failure.clone(),
            phase: if let Goal::Make(..) = goal { Phase::Making } else { Phase::Absent },
            ..SandboxRecord::default()
        };
        self.record();
        let outcome = failure.map_or(Ok(Answer::Ok), |message| Err(Failure::Other { message }));
        match goal {
            Goal::Stop(reply) => self.answer(reply, outcome),
            Goal::Make(attempt, reply) => self.begin_making(attempt, reply),
            Goal::Failed(message, reply) => self.answer(reply, Err(Failure::Other { message })),
            Goal::Finish(reply) => self.finish_now(reply, outcome),
        }
        self.start_supervisor_if_quiet();
    }

    /// Removes the cgroup of an instance or an exec'd process; a busy one is tried again for a while, and
    /// goes with the one above it at last.
    pub(super) fn remove_group(&mut self, group: &Group, attempt: u32) {
        match group.remove() {
            Ok(Removal::Gone) => {}
            Ok(Removal::Busy) if attempt < RETRIES => {
                self.timers.after(retry_delay(attempt), Timer::Remove(group.clone(), attempt + 1));
            }
            Ok(Removal::Busy) => {
                self.complain(format_args!("the cgroup {} stays busy", group.absolute().display()));
            }
            Err(error) => self.complain(format_args!("{}", super::chain(&error))),
        }
    }
}

fn retry_delay(attempt: u32) -> u64 {
    (FIRST_RETRY << attempt.min(8)).min(LONGEST_RETRY)
}
