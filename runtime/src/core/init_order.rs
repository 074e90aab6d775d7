//! Which init containers and sidecars are due (reference 3).
//!
//! The list is read from its end: the *furthest* container with an instance tells how far initialisation
//! came. Before it only sidecars matter, which are kept running.
//!
//! ```text
//!  [done] [sidecar: keep running] [furthest: done? -> its successor starts] [absent] [absent]
//! ```

use super::action::ProbeKind;
use super::input::ContainerKind;
use super::kill::Cause;
use super::record::Seen;
use super::restart::{Verdict, init_verdict};
use super::turn::Turn;
use crate::manifest::pod::Container;

/// What is to be done with init containers.
#[derive(Debug, Default)]
pub(super) struct InitPlan {
    /// Main containers may be looked at.
    pub(super) initialised: bool,
    /// One failed for good: the pod is over.
    pub(super) kill_pod: bool,
    /// Sidecars to kill.
    pub(super) kills: Vec<(String, Cause)>,
    /// Positions of containers to start, in spec order.
    pub(super) starts: Vec<usize>,
}

/// How one init container stands towards its successor.
enum Progress {
    /// Its successor may start.
    Done,
    /// It is not done.
    Pending,
    /// It failed for good.
    Failed,
}

impl Turn<'_> {
    /// What is to be done with init containers.
    pub(super) fn plan_init(&self) -> InitPlan {
        let containers = &self.pod.spec.init_containers;
        let mut plan = InitPlan::default();
        let main_exists = self.main_exists();
        plan.initialised = main_exists || containers.is_empty();
        let mut later_seen = main_exists;
        for (position, container) in containers.iter().enumerate().rev() {
            let seen = self.seen(container);
            let is_sidecar = self.kind(container.name.as_str()) == Some(ContainerKind::Sidecar);
            if seen == Seen::Absent {
                if later_seen && is_sidecar {
                    plan.starts.push(position);
                }
                continue;
            }
            if later_seen && !is_sidecar {
                continue;
            }
            let progress = match is_sidecar {
                true => self.plan_sidecar(container, position, &mut plan),
                false => self.plan_plain(container, position, &mut plan),
            };
            match progress {
                Progress::Done if position + 1 == containers.len() => plan.initialised = true,
                Progress::Done if !later_seen => plan.starts.push(position + 1),
                Progress::Failed => {
                    return InitPlan { kill_pod: true, ..InitPlan::default() };
                }
                Progress::Done | Progress::Pending => {}
            }
            later_seen = true;
        }
        if !later_seen && !containers.is_empty() {
            plan.starts.push(0);
        }
        plan.starts.sort_unstable();
        plan
    }

    fn plan_plain(&self, container: &Container, position: usize, plan: &mut InitPlan) -> Progress {
        match self.seen(container) {
            Seen::Absent | Seen::Running(_) => Progress::Pending,
            Seen::Created => {
                plan.starts.push(position);
                Progress::Pending
            }
            Seen::Exited { code: 0, oom: false } => Progress::Done,
            Seen::Exited { code, .. } => match init_verdict(&self.pod.spec, container, code) {
                Verdict::Stay => Progress::Failed,
                Verdict::Restart | Verdict::RestartAll => {
                    plan.starts.push(position);
                    Progress::Pending
                }
            },
        }
    }

    fn plan_sidecar(&self, container: &Container, position: usize, plan: &mut InitPlan) -> Progress {
        let name = container.name.as_str();
        let Seen::Running(attempt) = self.seen(container) else {
            plan.starts.push(position);
            return Progress::Pending;
        };
        let mut replace = |cause| {
            plan.kills.push((name.to_owned(), cause));
            plan.starts.push(position);
        };
        if container.startup.is_some() {
            match self.probe_result(name, ProbeKind::Startup, attempt) {
                Some(true) => {}
                Some(false) => {
                    replace(Cause::Startup);
                    return Progress::Pending;
                }
                None => return Progress::Pending,
            }
        }
        if self.definition_changed(container) {
            replace(Cause::Definition);
        } else if self.probe_result(name, ProbeKind::Liveness, attempt) == Some(false) {
            replace(Cause::Liveness);
        }
        Progress::Done
    }

    /// A main container was created or runs, so initialisation is over whatever the init instances say.
    fn main_exists(&self) -> bool {
        let exists = |container: &Container| matches!(self.seen(container), Seen::Created | Seen::Running(_));
        self.pod.spec.containers.iter().any(exists)
    }

    /// A container as decisions see it.
    pub(super) fn seen(&self, container: &Container) -> Seen {
        self.state.records.get(container.name.as_str()).map_or(Seen::Absent, |record| record.seen())
    }
}
