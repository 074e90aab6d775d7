//! Ends of instances: by exit, or by vanishing (reference 7.8, 8.3, 8.6).

use hull_shim::wire::{Ended, Exit};

use super::action::Action;
use super::container_status::moment;
use super::input::InstanceId;
use super::pass::Waiting;
use super::record::{Instance, Life};
use super::status::Terminated;
use super::turn::{Turn, instance};
use super::worker::shown_id;

/// All termination messages of a pod together.
const MESSAGES: usize = 12 * 1024;
const UNKNOWN: &str = "ContainerStatusUnknown";
const VANISHED: &str =
    "The container could not be located when the pod was deleted.  The container used to be Running";

impl Turn<'_> {
    /// An instance's process ended. Whatever the core knows of it, it can be released now.
    pub(super) fn exited(&mut self, id: &InstanceId, ended: Ended, message: &str) {
        self.act(Action::Release { instance: id.clone() });
        let finished = self.moment_of(ended.finished_at);
        let message = self.cut_message(message);
        let Some(newest) = self.newest_mut(id) else { return };
        let started_at = match &newest.life {
            Life::Exited { .. } => return,
            Life::Running { started_at, .. } => Some(*started_at),
            Life::Created => ended.started_at.map(moment),
        };
        let shown = Terminated {
            exit_code: ended.exit.code(),
            reason: Some(reason(ended).to_owned()),
            message,
            started_at,
            finished_at: Some(moment(ended.finished_at)),
            container_id: Some(shown_id(&newest.id)),
        };
        newest.life = Life::Exited { finished, shown };
        self.state.again = true;
        if self.awaited() == Some(&Waiting::Start { instance: id.clone() }) {
            match ended.started_at {
                Some(_) => self.after_start(id),
                None => self.start_did_not_run(id, "the container ended before it was started"),
            }
        }
    }

    /// The runtime does not know the newest instance of a container any more.
    pub(super) fn vanished(&mut self, name: &str) {
        let deleted = self.state.deletion.is_some();
        let record = self.record_of(name);
        let Some(newest) = record.newest.clone() else {
            return;
        };
        match newest {
            Instance { life: Life::Exited { .. }, .. } => return,
            Instance { life: Life::Created, .. } => record.newest = None,
            Instance { life: Life::Running { .. }, .. } => {
                let shown = located_nowhere(VANISHED);
                record.lose(shown, !deleted);
            }
        }
        self.act(Action::Release { instance: instance(name, newest.attempt) });
        self.state.again = true;
    }

    /// The share of a container in the pod's termination messages; its head is kept.
    pub(super) fn cut_message(&self, message: &str) -> Option<String> {
        let share = MESSAGES / self.pod.spec.all_containers().count().max(1);
        let cut = (0..=share.min(message.len())).rev().find_map(|end| message.get(..end));
        cut.filter(|cut| !cut.is_empty()).map(str::to_owned)
    }
}

/// The state of a container that nobody knows how it ended.
pub(super) fn located_nowhere(message: &str) -> Terminated {
    Terminated {
        exit_code: 137,
        reason: Some(UNKNOWN.to_owned()),
        message: Some(message.to_owned()),
        started_at: None,
        finished_at: None,
        container_id: None,
    }
}

fn reason(ended: Ended) -> &'static str {
    match (ended.oom_killed, ended.exit) {
        (true, _) => "OOMKilled",
        (false, Exit::Code(0)) => "Completed",
        (false, Exit::Code(_) | Exit::Signaled(_)) => "Error",
        (false, Exit::Unknown) => "Unknown",
    }
}
