//! Is an ended container started again: policies and rules (reference 4.3, 12.2).

use super::action::Action;
use super::kill::Cause;
use super::pass::Step;
use super::record::{Life, Seen};
use super::status::Terminated;
use super::turn::Turn;
use crate::manifest::pod::{Container, PodSpec, RestartAction, RestartPolicy};

/// Reason of containers that wait for, or were killed by, `RestartAllContainers`.
pub(super) const RESTARTING_ALL: &str = "RestartingAllContainers";
const RESTARTING_ALL_MESSAGE: &str = "The container is removed because RestartAllContainers in place";

/// What follows from an exit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It stays ended.
    Stay,
    /// It is started again.
    Restart,
    /// All containers are.
    RestartAll,
}

/// The container's own policy, or the pod's.
pub(super) fn policy(spec: &PodSpec, container: &Container) -> RestartPolicy {
    container.restart_policy.unwrap_or(spec.restart_policy)
}

/// What follows from an exit with this code.
pub(super) fn verdict(spec: &PodSpec, container: &Container, code: i32) -> Verdict {
    if container.restart_policy.is_some()
        && let Some(rule) = container.restart_rules.iter().find(|rule| rule.matches(code))
    {
        return match rule.action {
            RestartAction::Restart => Verdict::Restart,
            RestartAction::RestartAllContainers => Verdict::RestartAll,
        };
    }
    let again = match policy(spec, container) {
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure => code != 0,
        RestartPolicy::Never => false,
    };
    if again { Verdict::Restart } else { Verdict::Stay }
}

/// What follows from a failed plain init container: without a policy of its own, a retry unless the pod's is
/// `Never` (even where it ended with 0, out of memory).
pub(super) fn init_verdict(spec: &PodSpec, container: &Container, code: i32) -> Verdict {
    match (container.restart_policy, spec.restart_policy) {
        (Some(_), _) => verdict(spec, container, code),
        (None, RestartPolicy::Never) => Verdict::Stay,
        (None, RestartPolicy::Always | RestartPolicy::OnFailure) => Verdict::Restart,
    }
}

/// Whether any container of the pod has a `RestartAllContainers` rule.
pub(super) fn has_restart_all(spec: &PodSpec) -> bool {
    let has_rule = |container: &Container| {
        container.restart_rules.iter().any(|rule| rule.action == RestartAction::RestartAllContainers)
    };
    spec.all_containers().any(has_rule)
}

impl Turn<'_> {
    /// Whether an ended, failed or missing container is to be started (again); false for a running one.
    pub(super) fn should_restart(&self, container: &Container) -> bool {
        if self.state.deletion.is_some() {
            return false;
        }
        let seen = self.state.records.get(container.name.as_str()).map_or(Seen::Absent, |it| it.seen());
        match seen {
            Seen::Absent | Seen::Created => true,
            Seen::Running(_) => false,
            Seen::Exited { code, .. } => verdict(&self.pod.spec, container, code) != Verdict::Stay,
        }
    }

    /// The container whose exit restarts all of them, if there is one.
    pub(super) fn restart_all_trigger(&self) -> Option<String> {
        let fires = |container: &&Container| match self.state.records.get(container.name.as_str())?.seen() {
            Seen::Exited { code, .. } => {
                (verdict(&self.pod.spec, container, code) == Verdict::RestartAll).then_some(())
            }
            Seen::Absent | Seen::Created | Seen::Running(_) => None,
        };
        let trigger = self.pod.spec.all_containers().find(|container| fires(container).is_some())?;
        Some(trigger.name.as_str().to_owned())
    }

    /// Steps of `RestartAllContainers`: main containers, then init ones, are killed and all are forgotten.
    pub(super) fn restart_all(&mut self) -> Vec<Step> {
        self.state.restarting_all = true;
        self.publish_now();
        let spec = &self.pod.spec;
        let running = |name: &str| self.state.records.get(name).is_some_and(|it| it.running().is_some());
        let killed: Vec<String> = spec
            .containers
            .iter()
            .chain(&spec.init_containers)
            .map(|container| container.name.as_str().to_owned())
            .filter(|name| running(name))
            .collect();
        let kill = |container: &String| Step::Kill { container: container.clone(), cause: Cause::RestartAll };
        let mut steps: Vec<Step> = killed.iter().map(kill).collect();
        steps.push(Step::ForgetAll { killed });
        steps
    }

    /// Every instance is removed; the pod starts over in the same sandbox.
    pub(super) fn forget_all(&mut self, killed: &[String]) {
        for container in self.pod.spec.all_containers() {
            let name = container.name.as_str();
            let record = self.record_of(name);
            if record.used.is_none() {
                continue;
            }
            record.older = None;
            record.restarts = record.next();
            if let Some(newest) = record.newest.take()
                && let Life::Exited { shown, .. } = newest.life
            {
                record.last = Some(match killed.iter().any(|killed| killed == name) {
                    true => killed_by_restart(shown),
                    false => shown,
                });
            }
            self.set_trouble(name, RESTARTING_ALL, Some(RESTARTING_ALL_MESSAGE.to_owned()));
        }
        self.state.restarting_all = false;
        self.acted();
    }

    /// A created instance that was never started cannot be used any more.
    pub(super) fn discard_created(&mut self, name: &str) {
        let record = self.record_of(name);
        if record.seen() == Seen::Created
            && let Some(newest) = record.newest.take()
        {
            self.act(Action::Kill { instance: super::turn::instance(name, newest.attempt) });
        }
    }
}

fn killed_by_restart(shown: Terminated) -> Terminated {
    Terminated {
        exit_code: 137,
        reason: Some(RESTARTING_ALL.to_owned()),
        message: Some(RESTARTING_ALL_MESSAGE.to_owned()),
        ..shown
    }
}
