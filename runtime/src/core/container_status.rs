//! The status of one container (reference 8.3).
//!
//! ```text
//!  newest instance: none -> waiting   created -> waiting {}   running -> running   ended -> terminated
//!  to be restarted, and the newest attempt failed: waiting {why}; a terminated state moves to lastState
//! ```

use jiff::Timestamp;

use super::action::ProbeKind;
use super::events::whole_seconds;
use super::input::ContainerKind;
use super::record::{Life, Record};
use super::status::{ContainerState, ContainerStatus, Running, Terminated, Waiting};
use super::turn::Turn;
use super::worker::shown_id;
use crate::manifest::pod::Container;

/// A published timestamp from nanoseconds since the Unix epoch.
pub(super) fn moment(nanoseconds: i64) -> Timestamp {
    whole_seconds(Timestamp::from_nanosecond(nanoseconds.into()).unwrap_or(Timestamp::UNIX_EPOCH))
}

impl Turn<'_> {
    /// The status of one container as it is now.
    pub(super) fn container_status(&self, container: &Container) -> ContainerStatus {
        let name = container.name.as_str();
        let absent = Record::default();
        let record = self.state.records.get(name).unwrap_or(&absent);
        let newest = record.newest.as_ref();
        let (image, image_id) = match (&record.image, record.used) {
            (Some(image), Some(_)) => image.clone(),
            _ => (container.image.clone(), String::new()),
        };
        let mut status = ContainerStatus {
            name: name.to_owned(),
            state: self.container_state(record),
            last_state: record.last.clone().map(terminated).unwrap_or_default(),
            restart_count: record.restarts,
            image,
            image_id,
            container_id: newest.map(|newest| shown_id(&newest.id)),
            ..ContainerStatus::default()
        };
        self.show_trouble(container, record, &mut status);
        self.fill_readiness(container, record, &mut status);
        status
    }

    fn container_state(&self, record: &Record) -> ContainerState {
        match record.newest.as_ref().map(|newest| &newest.life) {
            None => {
                let reason = match self.pod.spec.init_containers.is_empty() {
                    true => "ContainerCreating",
                    false => "PodInitializing",
                };
                waiting(Some(reason.to_owned()), None)
            }
            Some(Life::Created) => waiting(None, None),
            Some(Life::Running { started_at, .. }) => ContainerState {
                running: Some(Running { started_at: *started_at }),
                ..ContainerState::default()
            },
            Some(Life::Exited { shown, .. }) => terminated(shown.clone()),
        }
    }

    /// A failed start is shown instead of what was before it.
    fn show_trouble(&self, container: &Container, record: &Record, status: &mut ContainerStatus) {
        let Some(trouble) = &record.error else { return };
        let is_init = self.pod.spec.is_init(&container.name);
        let has_succeeded = record.terminated().is_some_and(|shown| shown.exit_code == 0);
        let is_purged = record.newest.as_ref().is_some_and(|newest| newest.purged);
        if !self.should_restart(container) || (is_init && has_succeeded && !is_purged) {
            return;
        }
        if status.state.terminated.is_some() {
            status.last_state = std::mem::take(&mut status.state);
        }
        status.state = waiting(Some(trouble.reason.clone()), trouble.message.clone());
    }

    fn fill_readiness(&self, container: &Container, record: &Record, status: &mut ContainerStatus) {
        let name = container.name.as_str();
        let running = record.running().filter(|_| status.state.running.is_some());
        let passed = |kind, has_probe: bool| {
            running.is_some_and(|attempt| !has_probe || self.probe_result(name, kind, attempt) == Some(true))
        };
        let started = passed(ProbeKind::Startup, container.startup.is_some());
        status.started = Some(started);
        status.ready = match self.kind(name) {
            Some(ContainerKind::Init) | None => {
                status.state.terminated.as_ref().is_some_and(|shown| shown.exit_code == 0)
            }
            Some(ContainerKind::Sidecar | ContainerKind::Main) => {
                started && passed(ProbeKind::Readiness, container.readiness.is_some())
            }
        };
    }
}

fn waiting(reason: Option<String>, message: Option<String>) -> ContainerState {
    ContainerState { waiting: Some(Waiting { reason, message }), ..ContainerState::default() }
}

/// A terminated state.
pub(super) fn terminated(shown: Terminated) -> ContainerState {
    ContainerState { terminated: Some(shown), ..ContainerState::default() }
}
