//! The conditions of a pod (reference 8.4).

use super::events::whole_seconds;
use super::input::ContainerKind;
use super::restart::has_restart_all;
use super::state::Standing;
use super::status::{Condition, ContainerStatus, Phase, PodStatus};
use super::turn::Turn;

const SANDBOX: &str = "PodReadyToStartContainers";
const INITIALIZED: &str = "Initialized";
const READY: &str = "Ready";
const CONTAINERS_READY: &str = "ContainersReady";
const SCHEDULED: &str = "PodScheduled";
const RESTARTING: &str = "AllContainersRestarting";

/// A condition's value: true or why not; a true one may have a reason too.
struct Value {
    is_true: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Value {
    fn plain(is_true: bool) -> Self {
        Self { is_true, reason: None, message: None }
    }

    fn with(is_true: bool, reason: &'static str, message: Option<String>) -> Self {
        Self { is_true, reason: Some(reason), message }
    }
}

impl Turn<'_> {
    /// Writes all conditions into a status whose phase and containers are there.
    pub(super) fn fill_conditions(&self, status: &mut PodStatus) {
        let containers_ready = self.containers_ready(status);
        let ready = self.ready(&containers_ready);
        let mut conditions = vec![
            self.condition(SANDBOX, Value::plain(self.state.sandbox.standing == Standing::Up)),
            self.condition(INITIALIZED, self.initialized(status)),
            self.condition(READY, ready),
            self.condition(CONTAINERS_READY, containers_ready),
            self.condition(SCHEDULED, Value::plain(true)),
        ];
        if has_restart_all(&self.pod.spec) {
            let message = || Some("container exited with restart policy rule".to_owned());
            conditions.push(match self.state.restarting_all {
                true => {
                    self.condition(RESTARTING, Value::with(true, "RestartAllContainersStarted", message()))
                }
                false => self.condition(RESTARTING, Value::plain(false)),
            });
        }
        status.conditions = conditions;
    }

    /// Writes `Ready` and `ContainersReady` anew, after a container's readiness changed.
    pub(super) fn refresh_readiness(&self, status: &mut PodStatus) {
        let containers_ready = self.containers_ready(status);
        let ready = self.ready(&containers_ready);
        replace(status, self.condition(READY, ready));
        replace(status, self.condition(CONTAINERS_READY, containers_ready));
    }

    /// Writes `PodReadyToStartContainers` anew.
    pub(super) fn refresh_sandbox_condition(&self, status: &mut PodStatus) {
        let value = Value::plain(self.state.sandbox.standing == Standing::Up);
        replace(status, self.condition(SANDBOX, value));
    }

    fn condition(&self, kind: &str, value: Value) -> Condition {
        let status = if value.is_true { "True" } else { "False" };
        let mut before = self.state.published.conditions.iter();
        let before = before.find(|before| before.kind == kind && before.status == status);
        Condition {
            kind: kind.to_owned(),
            status: status.to_owned(),
            last_transition_time: before
                .map_or_else(|| whole_seconds(self.now.wall), |before| before.last_transition_time),
            reason: value.reason.map(str::to_owned),
            message: value.message,
            observed_generation: self.pod.meta.generation,
        }
    }

    fn initialized(&self, status: &PodStatus) -> Value {
        if status.phase == Phase::Succeeded {
            return Value::with(true, "PodCompleted", None);
        }
        let has_begun =
            |main: &ContainerStatus| main.state.running.is_some() || main.state.terminated.is_some();
        let was_true =
            self.state.published.conditions.iter().any(|it| it.kind == INITIALIZED && it.status == "True");
        if was_true || status.container_statuses.iter().any(has_begun) {
            return Value::plain(true);
        }
        let is_incomplete = |init: &&ContainerStatus| match self.kind(&init.name) {
            Some(ContainerKind::Sidecar) => init.started != Some(true),
            Some(ContainerKind::Init | ContainerKind::Main) | None => !init.ready,
        };
        let names: Vec<&str> = status
            .init_container_statuses
            .iter()
            .filter(is_incomplete)
            .map(|init| init.name.as_str())
            .collect();
        if names.is_empty() {
            return Value::plain(true);
        }
        let message = format!("containers with incomplete status: [{}]", names.join(" "));
        Value::with(false, "ContainersNotInitialized", Some(message))
    }

    fn containers_ready(&self, status: &PodStatus) -> Value {
        match status.phase {
            Phase::Succeeded => return Value::with(false, "PodCompleted", None),
            Phase::Failed => return Value::with(false, "PodFailed", None),
            Phase::Pending | Phase::Running => {}
        }
        let spec = &self.pod.spec;
        let is_ready = |name: &str| {
            let mut all = status.init_container_statuses.iter().chain(&status.container_statuses);
            all.any(|status| status.name == name && status.ready)
        };
        let names: Vec<&str> = spec
            .all_containers()
            .map(|container| container.name.as_str())
            .filter(|name| self.kind(name) != Some(ContainerKind::Init) && !is_ready(name))
            .collect();
        if names.is_empty() {
            return Value::plain(true);
        }
        let message = format!("containers with unready status: [{}]", names.join(" "));
        Value::with(false, "ContainersNotReady", Some(message))
    }

    /// Nothing ever sets the conditions of readiness gates, so each of them is missing.
    fn ready(&self, containers: &Value) -> Value {
        if !containers.is_true {
            return Value { reason: containers.reason, message: containers.message.clone(), ..*containers };
        }
        let missing = |gate: &String| {
            format!("corresponding condition of pod readiness gate \"{gate}\" does not exist.")
        };
        let messages: Vec<String> = self.pod.spec.readiness_gates.iter().map(missing).collect();
        match messages.is_empty() {
            true => Value::plain(true),
            false => Value::with(false, "ReadinessGatesNotReady", Some(messages.join(", "))),
        }
    }
}

fn replace(status: &mut PodStatus, condition: Condition) {
    if let Some(place) = status.conditions.iter_mut().find(|place| place.kind == condition.kind) {
        *place = condition;
    }
}
