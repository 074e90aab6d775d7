//! One step in the making: the state, what is known with it, and the actions gathered so far.
//!
//! The other files of `core` add to [`Turn`] what belongs to their concept.

use super::action::Action;
use super::events::News;
use super::input::{ContainerKind, Input, InstanceId};
use super::record::{Record, Trouble};
use super::state::{Stage, State};
use super::status::EventType;
use super::time::Now;
use crate::manifest::pod::{Container, Pod};

/// One step in the making.
pub(super) struct Turn<'a> {
    pub(super) state: State,
    pub(super) pod: &'a Pod,
    pub(super) now: Now,
    actions: Vec<Action>,
}

impl<'a> Turn<'a> {
    /// Time never runs backwards here.
    pub(super) fn new(state: State, pod: &'a Pod, now: Now) -> Self {
        let now = Now { mono: now.mono.max(state.last), wall: now.wall };
        Self { state, pod, now, actions: Vec::new() }
    }

    /// The end of the step.
    pub(super) fn finish(mut self) -> (State, Vec<Action>) {
        self.state.last = self.now.mono;
        self.state.unconfirmed =
            self.actions.iter().filter(|action| is_unanswered(action)).cloned().collect();
        (self.state, self.actions)
    }

    /// Asks for something.
    pub(super) fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    /// Whether this step asks for it already.
    pub(super) fn has_asked(&self, action: &Action) -> bool {
        self.actions.contains(action)
    }

    /// Takes one input in; what follows from it is done by [`Turn::advance`].
    pub(super) fn take(&mut self, input: Input) {
        match input {
            Input::Tick => {}
            Input::SandboxUp { attempt, ips, host_ips } => self.sandbox_up(attempt, ips, host_ips),
            Input::ResolvConfWarnings { attempt, warnings } => self.resolv_conf_warnings(attempt, warnings),
            Input::SandboxFailed { message } => self.sandbox_failed(&message),
            Input::SandboxDied => self.sandbox_died(),
            Input::SandboxStopped => self.sandbox_stopped(),
            Input::VolumesReady => self.volumes_ready(),
            Input::VolumesFailed { volume, message } => self.volumes_failed(&volume, &message),
            Input::VolumesStale => self.refresh_volumes(),
            Input::ImageReady { instance, image, image_id, pulled } => {
                self.image_ready(&instance, (image, image_id), pulled);
            }
            Input::ImageFailed { instance, reason, message } => {
                self.image_failed(&instance, reason, &message)
            }
            Input::Created { instance, id, stop_signal } => self.created(&instance, id, stop_signal),
            Input::CreateFailed { instance, config, message } => {
                self.create_failed(&instance, config, &message);
            }
            Input::Started { instance, started_at } => self.started(&instance, started_at),
            Input::StartFailed { instance, message } => self.start_failed(&instance, &message),
            Input::Exited { instance, ended, message } => self.exited(&instance, ended, &message),
            Input::HookDone { instance, hook, result } => self.hook_done(&instance, hook, result),
            Input::HookFellBack { address } => self.hook_fell_back(&address),
            Input::ProbeDone { instance, probe, outcome } => self.probe_done(&instance, probe, outcome),
            Input::Delete { grace_seconds } => self.delete(grace_seconds),
            Input::Recovered { sandbox, instances } => self.recovered(sandbox, &instances),
            Input::PodChanged => self.pod_changed(),
            Input::ObjectsChanged => self.objects_changed(),
        }
    }

    /// Does everything that can be done now.
    pub(super) fn advance(&mut self) {
        self.progress_pass();
        while self.pass_is_due() {
            self.begin_pass();
        }
        self.show_outcome();
        self.run_workers();
    }

    /// Whether the pod's object may go at the end of this step: its final status was published earlier.
    pub(super) fn may_finish(&self) -> bool {
        self.state.stage == Stage::Terminated && self.state.deletion.is_some()
    }

    /// Ends the pod's life.
    pub(super) fn let_go(&mut self) {
        self.state.stage = Stage::Finished;
        self.act(Action::Finish);
    }

    /// The `Scheduled` event, in the scheduler's name.
    pub(super) fn scheduled(&mut self) {
        let meta = &self.pod.meta;
        let message =
            format!("Successfully assigned {}/{} to {}", meta.namespace, meta.name, self.state.node);
        self.record(News {
            kind: EventType::Normal,
            reason: "Scheduled",
            message,
            field_path: String::new(),
            source: "default-scheduler",
        });
    }

    /// An event about the pod.
    pub(super) fn pod_event(&mut self, kind: EventType, reason: &'static str, message: String) {
        self.record(News { kind, reason, message, field_path: String::new(), source: "kubelet" });
    }

    /// An event about one of its containers.
    pub(super) fn event(&mut self, name: &str, kind: EventType, reason: &'static str, message: String) {
        let list = match self.pod.spec.init_containers.iter().any(|init| init.name.as_str() == name) {
            true => "spec.initContainers",
            false => "spec.containers",
        };
        let id = self.record_of(name).newest.as_ref().map(|instance| instance.id.clone());
        let message = match id.filter(|id| !id.is_empty()) {
            Some(id) => message.replace(&id, name),
            None => message,
        };
        self.record(News {
            kind,
            reason,
            message,
            field_path: format!("{list}{{{name}}}"),
            source: "kubelet",
        });
    }

    fn record(&mut self, news: News) {
        if let Some(event) = self.state.events.count(&self.pod.meta.name, news, self.now) {
            self.act(Action::Record(Box::new(event)));
        }
    }

    /// A container of the pod by name.
    pub(super) fn container(&self, name: &str) -> Option<&'a Container> {
        self.pod.spec.container(name)
    }

    /// The kind of a container of the pod.
    pub(super) fn kind(&self, name: &str) -> Option<ContainerKind> {
        self.container(name).and_then(|container| ContainerKind::of(&self.pod.spec, &container.name))
    }

    /// What is known of a container.
    pub(super) fn record_of(&mut self, name: &str) -> &mut Record {
        self.state.records.entry(name.to_owned()).or_default()
    }

    /// Remembers why a container does not run.
    pub(super) fn set_trouble(&mut self, name: &str, reason: &str, message: Option<String>) {
        self.record_of(name).error = Some(Trouble { reason: reason.to_owned(), message });
    }
}

/// The name of one instance.
pub(super) fn instance(name: &str, attempt: u32) -> InstanceId {
    InstanceId { container: name.to_owned(), attempt }
}

fn is_unanswered(action: &Action) -> bool {
    match action {
        Action::Record(_)
        | Action::AbandonHook { .. }
        | Action::Signal { .. }
        | Action::Kill { .. }
        | Action::Release { .. }
        | Action::RemoveLogs { .. }
        | Action::RefreshVolumes
        | Action::Finish => true,
        Action::PrepareVolumes
        | Action::CreateSandbox { .. }
        | Action::StopSandbox
        | Action::EnsureImage { .. }
        | Action::CreateContainer { .. }
        | Action::StartContainer { .. }
        | Action::RunHook { .. }
        | Action::ResumeHook { .. }
        | Action::RunProbe { .. } => false,
    }
}
