//! What readers see: the status as a whole, and when it changes (reference 0, 8).

use super::exits::located_nowhere;
use super::input::ContainerKind;
use super::phase::{Facts, phase};
use super::qos::qos_class;
use super::state::Stage;
use super::status::{ContainerStatus, Phase, PodStatus};
use super::turn::Turn;

/// Message of a pod that was too long active.
pub(super) const DEADLINE_MESSAGE: &str = "Pod was active on the node longer than the specified deadline";
const DEADLINE: &str = "DeadlineExceeded";
const LOST: &str = "The container could not be located when the pod was terminated";

impl Turn<'_> {
    /// The status as it is now; `over` when nothing will run any more.
    pub(super) fn compute(&self, over: bool) -> PodStatus {
        let spec = &self.pod.spec;
        let published = &self.state.published;
        let init = spec.init_containers.iter().map(|container| self.container_status(container)).collect();
        let mut main: Vec<ContainerStatus> =
            spec.containers.iter().map(|container| self.container_status(container)).collect();
        main.sort_by(|one, other| one.name.cmp(&other.name));
        let mut status = PodStatus {
            init_container_statuses: init,
            container_statuses: main,
            start_time: Some(self.state.start_time),
            qos_class: qos_class(spec).to_owned(),
            observed_generation: self.pod.meta.generation,
            ..PodStatus::default()
        };
        self.fill_addresses(&mut status);
        status.phase = match published.phase.is_terminal() {
            true => published.phase,
            false => self.phase(&status, over),
        };
        if status.phase == published.phase {
            status.reason.clone_from(&published.reason);
            status.message.clone_from(&published.message);
        }
        if self.state.deadline_passed {
            status.phase = Phase::Failed;
            status.reason = Some(DEADLINE.to_owned());
            status.message = Some(DEADLINE_MESSAGE.to_owned());
        }
        self.fill_conditions(&mut status);
        status
    }

    fn phase(&self, status: &PodStatus, over: bool) -> Phase {
        let main_created = self.pod.spec.containers.iter().any(|container| {
            let newest = self.state.records.get(container.name.as_str()).and_then(|it| it.newest.as_ref());
            newest.is_some_and(|newest| newest.sandbox == self.state.sandbox.attempt)
        });
        phase(&Facts {
            spec: &self.pod.spec,
            init: &status.init_container_statuses,
            main: &status.container_statuses,
            over,
            main_created,
        })
    }

    /// Shows a status. A terminal phase is held back until nothing can be running.
    pub(super) fn publish(&mut self, mut status: PodStatus) {
        let before = &self.state.published;
        let may_run = !matches!(self.state.stage, Stage::Terminated | Stage::Finished);
        if may_run && status.phase.is_terminal() && !before.phase.is_terminal() {
            status.phase = before.phase;
            status.reason.clone_from(&before.reason);
            status.message.clone_from(&before.message);
        }
        if status != *before {
            self.state.published = status;
            self.state.generation += 1;
        }
        self.meet_instances();
    }

    /// Shows the status as it is now.
    pub(super) fn publish_now(&mut self) {
        let status = self.compute(false);
        self.publish(status);
    }

    /// Nothing runs any more: the final status (reference 8.5).
    pub(super) fn conclude(&mut self) {
        self.state.workers.clear();
        let mut status = self.compute(true);
        if self.was_initialised(&status) {
            status.container_statuses.iter_mut().for_each(end_for_good);
        }
        let started =
            |init: &ContainerStatus| init.state.waiting.is_none() || init.last_state.terminated.is_some();
        let furthest = status.init_container_statuses.iter().rposition(started).unwrap_or(0);
        status.init_container_statuses.iter_mut().take(furthest + 1).for_each(end_for_good);
        if !status.phase.is_terminal() {
            status.phase = Phase::Failed;
        }
        self.refresh_readiness(&mut status);
        self.state.stage = Stage::Terminated;
        self.state.pass = None;
        self.publish(status);
    }

    fn was_initialised(&self, status: &PodStatus) -> bool {
        let left_waiting =
            |main: &ContainerStatus| main.state.waiting.is_none() || main.last_state.terminated.is_some();
        let Some(last) = status.init_container_statuses.last() else {
            return true;
        };
        let is_done = match self.kind(&last.name) {
            Some(ContainerKind::Sidecar) => last.started == Some(true),
            Some(ContainerKind::Init | ContainerKind::Main) | None => {
                let ends = last.state.terminated.iter().chain(&last.last_state.terminated);
                ends.into_iter().any(|end| end.exit_code == 0)
            }
        };
        is_done || status.container_statuses.iter().any(left_waiting)
    }
}

fn end_for_good(container: &mut ContainerStatus) {
    if container.state.terminated.is_none() {
        container.state = super::container_status::terminated(located_nowhere(LOST));
        container.ready = false;
        container.started = Some(false);
    }
}
