//! The kubelet's serial pass, as a queue of steps of which one at a time waits for its answer (reference 0).
//!
//! ```text
//!  due --> publish status --+--> [volumes] decide --> kills, sandbox, starts ... --> end --(acted)--> due at once
//!                           |                                                         \--(failed)--> due in 10 s
//!                           +--> pod over: kill pod, stop sandbox, conclude
//! ```
//! While a pass is blocked the published status is that of its beginning. Deletion drops the steps that have
//! not begun; the one that is under way must return first.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::action::Action;
use super::input::InstanceId;
use super::kill::Cause;
use super::start::Errand;
use super::state::{Stage, Standing, State};
use super::status::EventType;
use super::time::Mono;
use super::turn::Turn;
use crate::manifest::pod::Pod;

const RETRY: Duration = Duration::from_secs(10);
const LONGEST_RETRY: Duration = Duration::from_secs(60);
const RELIST: Duration = Duration::from_secs(1);

/// A pass under way.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Pass {
    pub(super) queue: VecDeque<Step>,
    pub(super) waiting: Option<Waiting>,
    pub(super) failed: bool,
    /// Earliest moment at which a failure is worth another try.
    retry: Option<Mono>,
    /// Something was started or stopped: another pass follows at once.
    pub(super) acted: bool,
}

/// One thing that a pass does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Step {
    Volumes,
    Decide,
    Kill {
        container: String,
        cause: Cause,
    },
    KillPod,
    StopSandbox,
    PurgeInit,
    CreateSandbox {
        attempt: u32,
    },
    /// With the end of the newest exited instance when this was decided.
    Start {
        container: String,
        newest_end: Option<Mono>,
    },
    /// All instances are removed (`RestartAllContainers`); these were running.
    ForgetAll {
        killed: Vec<String>,
    },
    Conclude,
}

/// What a pass waits for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Waiting {
    Volumes,
    Sandbox {
        attempt: u32,
    },
    SandboxStop,
    Kill {
        container: String,
    },
    KillPod,
    Image {
        instance: InstanceId,
        errand: Errand,
    },
    Create {
        instance: InstanceId,
    },
    Start {
        instance: InstanceId,
    },
    PostStart {
        instance: InstanceId,
    },
    /// The kill after a failed postStart hook, with the hook's error.
    PostStartKill {
        container: String,
        message: String,
    },
}

impl State {
    /// When a pass, or showing the outcome of one, is due.
    pub(super) fn pass_wake(&self, pod: &Pod) -> Option<Mono> {
        if self.pass.is_some() || self.stage != Stage::Syncing || self.sandbox.standing == Standing::Coming {
            return None;
        }
        if self.again {
            return Some(self.last);
        }
        [self.retry_at, self.show_at, self.deadline(pod)].into_iter().flatten().min()
    }

    /// When `activeDeadlineSeconds` is over.
    pub(super) fn deadline(&self, pod: &Pod) -> Option<Mono> {
        let seconds = pod.spec.active_deadline_seconds?;
        Some(self.since + Duration::from_secs(seconds.into()))
    }
}

impl Turn<'_> {
    /// Whether a pass is to begin now.
    pub(super) fn pass_is_due(&self) -> bool {
        let state = &self.state;
        if state.pass.is_some() || state.stage != Stage::Syncing {
            return false;
        }
        let is_past = |moment: Option<Mono>| moment.is_some_and(|moment| moment <= self.now.mono);
        let due = state.again || is_past(state.retry_at) || is_past(state.deadline(self.pod));
        state.deletion.is_some() || (state.sandbox.standing != Standing::Coming && due)
    }

    /// Begins a pass: publishes the status and decides which way it goes.
    pub(super) fn begin_pass(&mut self) {
        self.state.again = false;
        self.state.retry_at = None;
        self.state.show_at = None;
        self.ensure_workers();
        self.check_deadline();
        let status = self.compute(false);
        let over = status.phase.is_terminal() || self.state.deletion.is_some();
        self.publish(status);
        self.poke_readiness();
        let mut queue = VecDeque::new();
        if over {
            self.state.stage = Stage::Terminating;
            self.stop_main_workers();
            queue.extend([Step::KillPod, Step::StopSandbox, Step::Conclude]);
        } else {
            if !self.state.volumes_ready {
                queue.push_back(Step::Volumes);
            }
            queue.push_back(Step::Decide);
        }
        self.state.pass = Some(Pass { queue, ..Pass::default() });
        self.progress_pass();
    }

    fn check_deadline(&mut self) {
        let over = self.state.deadline(self.pod).is_some_and(|deadline| deadline <= self.now.mono);
        if over && !self.state.deadline_passed {
            self.state.deadline_passed = true;
            self.pod_event(
                EventType::Normal,
                "DeadlineExceeded",
                super::publish::DEADLINE_MESSAGE.to_owned(),
            );
        }
    }

    /// Carries the pass on as far as it goes without a further answer.
    pub(super) fn progress_pass(&mut self) {
        loop {
            self.progress_kills();
            self.collect_kills();
            let dropped = self.state.deletion.is_some() && self.state.stage == Stage::Syncing;
            let Some(pass) = &mut self.state.pass else { return };
            if pass.waiting.is_some() {
                return;
            }
            if dropped {
                pass.queue.clear();
            }
            match pass.queue.pop_front() {
                Some(step) => self.begin_step(step),
                None => return self.end_pass(),
            }
        }
    }

    fn begin_step(&mut self, step: Step) {
        match step {
            Step::Volumes => {
                self.act(Action::PrepareVolumes);
                self.wait(Waiting::Volumes);
            }
            Step::Decide => {
                let steps = self.decide();
                self.with_pass(|pass| pass.queue.extend(steps));
            }
            Step::Kill { container, cause } => {
                self.begin_kill(&container, cause);
                self.wait(Waiting::Kill { container });
            }
            Step::KillPod => {
                self.begin_pod_kill();
                self.wait(Waiting::KillPod);
            }
            Step::StopSandbox => self.begin_sandbox_stop(),
            Step::PurgeInit => self.purge_init(),
            Step::CreateSandbox { attempt } => {
                self.act(Action::CreateSandbox { attempt });
                self.wait(Waiting::Sandbox { attempt });
            }
            Step::Start { container, newest_end } => self.begin_start(&container, newest_end),
            Step::ForgetAll { killed } => self.forget_all(&killed),
            Step::Conclude => self.conclude(),
        }
    }

    fn end_pass(&mut self) {
        let Some(pass) = self.state.pass.take() else {
            return;
        };
        if self.state.stage != Stage::Syncing {
            return;
        }
        if pass.failed {
            let longest = self.now.mono + LONGEST_RETRY;
            self.state.retry_at = Some(pass.retry.unwrap_or(self.now.mono + RETRY).min(longest));
            self.state.show_at = Some(self.now.mono + RELIST);
        }
        self.state.again |= pass.acted;
    }

    /// Publishes what a failed pass left behind, a moment after it: until then readers see the exit itself.
    pub(super) fn show_outcome(&mut self) {
        if self.state.pass.is_none() && self.state.show_at.is_some_and(|moment| moment <= self.now.mono) {
            self.state.show_at = None;
            self.publish_now();
        }
    }

    /// Ends waits for kills that are done.
    fn collect_kills(&mut self) {
        let Some(pass) = &self.state.pass else { return };
        let done = match &pass.waiting {
            Some(Waiting::Kill { container } | Waiting::PostStartKill { container, .. }) => {
                !self.state.kills.contains_key(container)
            }
            Some(Waiting::KillPod) => self.state.kills.is_empty(),
            _ => false,
        };
        if !done {
            return;
        }
        if let Some(Waiting::PostStartKill { container, message }) = self.answered() {
            self.fail_start(&container, "PostStartHookError", Some(message), None);
        }
    }

    /// The step under way waits for this.
    pub(super) fn wait(&mut self, waiting: Waiting) {
        self.with_pass(|pass| pass.waiting = Some(waiting));
    }

    /// What the pass waits for.
    pub(super) fn awaited(&self) -> Option<&Waiting> {
        self.state.pass.as_ref().and_then(|pass| pass.waiting.as_ref())
    }

    /// What the pass waited for has come.
    pub(super) fn answered(&mut self) -> Option<Waiting> {
        self.state.pass.as_mut().and_then(|pass| pass.waiting.take())
    }

    /// Changes the pass, if there is one.
    pub(super) fn with_pass(&mut self, change: impl FnOnce(&mut Pass)) {
        if let Some(pass) = &mut self.state.pass {
            change(pass);
        }
    }

    /// The pass did something: look again when it is over.
    pub(super) fn acted(&mut self) {
        self.with_pass(|pass| pass.acted = true);
    }

    /// The pass failed; the next comes in 10 s, or at the end of a back-off.
    pub(super) fn failed(&mut self, until: Option<Mono>) {
        let retry = until.unwrap_or(self.now.mono + RETRY);
        self.with_pass(|pass| {
            pass.failed = true;
            pass.retry = Some(pass.retry.map_or(retry, |before| before.min(retry)));
        });
    }

    /// The pass failed so that its other steps make no sense.
    pub(super) fn abort(&mut self) {
        self.failed(None);
        self.with_pass(|pass| pass.queue.clear());
    }
}
