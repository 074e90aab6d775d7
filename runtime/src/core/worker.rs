//! Probe workers: when an attempt is made, and what its results amount to (reference 5).
//!
//! ```text
//!  tick or poke --> published running, same instance, not on hold, past its delay, startup gate --> RunProbe
//!  ProbeDone --> count the run --> below threshold: nothing; else: store the result, tell the pass
//! ```
//! Ticks stay aligned to the worker's beginning (or to the newest poke). Those that pass while nothing could
//! be probed are not waited for, only counted off. Last result and run length outlive the container.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::action::{Action, ProbeKind};
use super::input::{InstanceId, Outcome};
use super::record::{Instance, Life};
use super::state::{Stage, State};
use super::status::{ContainerStatus, EventType};
use super::time::Mono;
use super::turn::{Turn, instance};
use crate::manifest::pod::{Container, Pod, Probe};

/// One probe of one container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Worker {
    container: String,
    kind: ProbeKind,
    /// The next tick.
    next: Mono,
    /// An attempt out of turn is due.
    poked: bool,
    /// The instance of the attempt under way.
    in_flight: Option<u32>,
    /// The instance that it last dealt with, and the decided result for it.
    seen: Option<u32>,
    result: Option<bool>,
    /// Until a new instance appears.
    on_hold: bool,
    /// The newest countable result, and how often it came in a row.
    newest: Option<bool>,
    run: u32,
}

impl Worker {
    /// Without what a new supervisor makes up anew.
    pub(super) fn settled(&self) -> Self {
        Self { next: Mono::default(), poked: false, in_flight: None, ..self.clone() }
    }

    fn skip_ticks_before(&mut self, moment: Mono, period: Duration) {
        let missed = moment.since(self.next).as_nanos().div_ceil(period.as_nanos().max(1));
        self.next = self.next + times(period, missed);
    }

    /// The first tick at or after a moment.
    fn tick_at(&self, moment: Mono, period: Duration) -> Mono {
        let missed = moment.since(self.next).as_nanos().div_ceil(period.as_nanos().max(1));
        self.next + times(period, missed)
    }
}

fn times(period: Duration, count: u128) -> Duration {
    period.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX))
}

fn period(probe: &Probe) -> Duration {
    Duration::from_secs(probe.period_seconds.max(1).into())
}

/// The probe of this kind.
fn probe_of(container: &Container, kind: ProbeKind) -> Option<&Probe> {
    match kind {
        ProbeKind::Startup => container.startup.as_ref(),
        ProbeKind::Readiness => container.readiness.as_ref(),
        ProbeKind::Liveness => container.liveness.as_ref(),
    }
}

fn find<'a>(pod: &'a Pod, worker: &Worker) -> Option<&'a Probe> {
    let container = pod.spec.all_containers().find(|it| it.name.as_str() == worker.container)?;
    probe_of(container, worker.kind)
}

impl State {
    /// The moment of the next attempt.
    pub(super) fn worker_wake(&self, pod: &Pod) -> Option<Mono> {
        let wake = |worker: &Worker| {
            let probe = find(pod, worker)?;
            Some(worker.tick_at(self.ready_at(worker, probe)?, period(probe)))
        };
        self.workers.iter().filter_map(wake).min()
    }

    /// From when on the worker may probe its instance; none while something else must happen first.
    fn ready_at(&self, worker: &Worker, probe: &Probe) -> Option<Mono> {
        let status = self.shown(&worker.container)?;
        let (attempt, since) = self.visible(&worker.container, status)?;
        let gate_is_open = (status.started == Some(true)) != (worker.kind == ProbeKind::Startup);
        let may_probe =
            worker.in_flight.is_none() && !worker.on_hold && worker.seen == Some(attempt) && gate_is_open;
        may_probe.then(|| since + Duration::from_secs(probe.initial_delay_seconds.into()))
    }

    /// The published status of a container.
    pub(super) fn shown(&self, name: &str) -> Option<&ContainerStatus> {
        let status = &self.published;
        let mut all = status.init_container_statuses.iter().chain(&status.container_statuses);
        all.find(|status| status.name == name)
    }

    /// The running instance, if the published status shows it.
    fn visible(&self, name: &str, status: &ContainerStatus) -> Option<(u32, Mono)> {
        let newest = self.records.get(name)?.newest.as_ref()?;
        let Instance { attempt, life: Life::Running { since, .. }, purged: false, .. } = newest else {
            return None;
        };
        let is_shown = status.state.running.is_some() && status.container_id == Some(shown_id(&newest.id));
        is_shown.then_some((*attempt, *since))
    }
}

/// A container's id as the status shows it.
pub(super) fn shown_id(id: &str) -> String {
    format!("hull://{id}")
}

impl Turn<'_> {
    /// Makes the workers of the pod, once.
    pub(super) fn ensure_workers(&mut self) {
        let pod = self.pod;
        if !self.state.workers.is_empty() {
            return;
        }
        for container in pod.spec.all_containers() {
            for kind in [ProbeKind::Startup, ProbeKind::Readiness, ProbeKind::Liveness] {
                if probe_of(container, kind).is_some() {
                    self.state.workers.push(Worker {
                        container: container.name.as_str().to_owned(),
                        kind,
                        next: self.now.mono,
                        poked: false,
                        in_flight: None,
                        seen: None,
                        result: None,
                        on_hold: false,
                        newest: None,
                        run: 0,
                    });
                }
            }
        }
    }

    /// Liveness and startup of main containers end when the pod does.
    pub(super) fn stop_main_workers(&mut self) {
        let pod = self.pod;
        let is_main = |name: &str| pod.spec.containers.iter().any(|main| main.name.as_str() == name);
        self.state
            .workers
            .retain(|worker| worker.kind == ProbeKind::Readiness || !is_main(&worker.container));
    }

    /// Counts off the ticks that went by while nothing could be probed. Comes before an input is looked at.
    pub(super) fn settle_workers(&mut self) {
        for position in 0..self.state.workers.len() {
            let Some(worker) = self.state.workers.get(position) else {
                return;
            };
            let Some(probe) = find(self.pod, worker) else {
                continue;
            };
            let waits_for_answer = worker.in_flight.is_some();
            let bound = match self.state.ready_at(worker, probe) {
                Some(ready_at) => ready_at.min(self.now.mono),
                None if waits_for_answer => continue,
                None => self.now.mono,
            };
            if let Some(worker) = self.state.workers.get_mut(position) {
                worker.skip_ticks_before(bound, period(probe));
            }
        }
    }

    /// A pass saw started, running containers that are not ready: they are probed out of turn.
    pub(super) fn poke_readiness(&mut self) {
        let state = &self.state;
        let waits = |worker: &Worker| {
            let status = state.shown(&worker.container);
            worker.kind == ProbeKind::Readiness
                && status
                    .is_some_and(|it| it.state.running.is_some() && it.started == Some(true) && !it.ready)
        };
        let pokes: Vec<bool> = state.workers.iter().map(waits).collect();
        for (worker, poke) in self.state.workers.iter_mut().zip(pokes) {
            worker.poked |= poke;
        }
    }

    /// New instances get the initial result. Comes after each publication.
    pub(super) fn meet_instances(&mut self) {
        let state = &self.state;
        let met = |worker: &Worker| {
            let status = state.shown(&worker.container)?;
            state.visible(&worker.container, status).map(|(attempt, _)| attempt)
        };
        let met: Vec<Option<u32>> = state.workers.iter().map(met).collect();
        for (worker, met) in self.state.workers.iter_mut().zip(met) {
            if met.is_some() && worker.seen != met && worker.in_flight.is_none() {
                worker.seen = met;
                worker.on_hold = false;
                worker.result = match worker.kind {
                    ProbeKind::Startup => None,
                    ProbeKind::Readiness => Some(false),
                    ProbeKind::Liveness => Some(true),
                };
            }
        }
    }

    /// Makes the attempts that are due.
    pub(super) fn run_workers(&mut self) {
        if matches!(self.state.stage, Stage::Terminated | Stage::Finished) {
            return;
        }
        for position in 0..self.state.workers.len() {
            let Some(worker) = self.state.workers.get(position) else {
                return;
            };
            let Some(probe) = find(self.pod, worker) else {
                continue;
            };
            let may_probe = self.state.ready_at(worker, probe).is_some_and(|ready| ready <= self.now.mono);
            let waits_for_answer = worker.in_flight.is_some();
            let Some(worker) = self.state.workers.get_mut(position) else {
                return;
            };
            if waits_for_answer {
                continue;
            }
            let is_due = worker.poked || worker.next <= self.now.mono;
            if worker.poked {
                worker.next = self.now.mono + period(probe);
            } else {
                worker.skip_ticks_before(self.now.mono + Duration::from_nanos(1), period(probe));
            }
            worker.poked = false;
            if let (true, true, Some(attempt)) = (is_due, may_probe, worker.seen) {
                worker.in_flight = Some(attempt);
                let (instance, probe) = (instance(&worker.container, attempt), worker.kind);
                self.act(Action::RunProbe { instance, probe });
            }
        }
    }

    /// An attempt was made.
    pub(super) fn probe_done(&mut self, id: &InstanceId, kind: ProbeKind, outcome: Outcome) {
        let position = self.state.workers.iter().position(|worker| {
            worker.container == id.container && worker.kind == kind && worker.in_flight == Some(id.attempt)
        });
        let Some(position) = position else { return };
        self.probe_event(&id.container, kind, &outcome);
        let threshold = self.thresholds(position);
        let Some(worker) = self.state.workers.get_mut(position) else {
            return;
        };
        worker.in_flight = None;
        let success = match outcome {
            Outcome::Success | Outcome::Warning(_) => Some(true),
            Outcome::Failure(_) => Some(false),
            Outcome::Error(_) => None,
        };
        let changed = success.and_then(|success| worker.count(success, threshold));
        match changed {
            Some(success) => self.tell_result(&id.container, kind, id.attempt, success),
            None => self.meet_instances(),
        }
    }

    fn thresholds(&self, position: usize) -> (u32, u32) {
        let probe = self.state.workers.get(position).and_then(|worker| find(self.pod, worker));
        probe.map_or((1, 1), |probe| (probe.success_threshold, probe.failure_threshold))
    }

    fn probe_event(&mut self, name: &str, kind: ProbeKind, outcome: &Outcome) {
        let probe = match kind {
            ProbeKind::Startup => "Startup",
            ProbeKind::Readiness => "Readiness",
            ProbeKind::Liveness => "Liveness",
        };
        let (reason, text) = match outcome {
            Outcome::Success => return,
            Outcome::Warning(output) => ("ProbeWarning", format!("{probe} probe warning: {output}")),
            Outcome::Failure(output) => ("Unhealthy", format!("{probe} probe failed: {output}")),
            Outcome::Error(error) => {
                ("Unhealthy", format!("{probe} probe errored and resulted in unknown state: {error}"))
            }
        };
        self.event(name, EventType::Warning, reason, text);
    }

    /// A decided result changed: readers see it at once, and a pass looks at it.
    fn tell_result(&mut self, name: &str, kind: ProbeKind, attempt: u32, success: bool) {
        let mut status = self.state.published.clone();
        let is_shown = self.state.shown(name).and_then(|shown| self.state.visible(name, shown));
        let is_shown = is_shown.is_some_and(|(shown, _)| shown == attempt);
        let mut all = status.init_container_statuses.iter_mut().chain(&mut status.container_statuses);
        if let (true, Some(container)) = (is_shown, all.find(|status| status.name == name)) {
            match kind {
                ProbeKind::Readiness => container.ready = success && container.started == Some(true),
                ProbeKind::Startup => container.started = Some(success),
                ProbeKind::Liveness => {}
            }
        }
        if kind == ProbeKind::Readiness {
            self.refresh_readiness(&mut status);
        }
        self.publish(status);
        self.meet_instances();
        self.state.again |= kind != ProbeKind::Liveness || !success;
    }

    /// The decided result for an instance.
    pub(super) fn probe_result(&self, name: &str, kind: ProbeKind, attempt: u32) -> Option<bool> {
        let mut workers = self.state.workers.iter();
        let worker = workers.find(|worker| worker.container == name && worker.kind == kind)?;
        (worker.seen == Some(attempt)).then_some(worker.result)?
    }

    /// After a restart of the supervisor nobody answers the attempts under way.
    pub(super) fn resume_workers(&mut self) {
        for worker in &mut self.state.workers {
            if worker.in_flight.take().is_some() {
                worker.next = worker.next.min(self.now.mono);
            }
        }
        self.meet_instances();
    }
}

impl Worker {
    /// Counts a result; the decided result, if it is decided now and was another before.
    fn count(&mut self, success: bool, (successes, failures): (u32, u32)) -> Option<bool> {
        self.run = match self.newest == Some(success) {
            true => self.run.saturating_add(1),
            false => 1,
        };
        self.newest = Some(success);
        // A longer run than the threshold says nothing more.
        let threshold = if success { successes } else { failures };
        self.run = self.run.min(threshold);
        if self.run < threshold {
            return None;
        }
        let changed = self.result != Some(success);
        self.result = Some(success);
        if self.kind == ProbeKind::Startup || (self.kind == ProbeKind::Liveness && !success) {
            self.on_hold = true;
            self.run = 0;
        }
        changed.then_some(success)
    }
}
