//! Starting one container: back-off, image, create, start, postStart hook, one after another (reference 4.1).
//!
//! ```text
//!  back-off? --> image here? --> [pull] --> create --> start --> [postStart] --> done
//!     \-- CrashLoopBackOff  \-- image.rs    \-- error   \-- 128     \-- kill --> PostStartHookError
//! ```
//! A failure of a plain init container ends the pass; others go on with the next container.

use serde::{Deserialize, Serialize};

use super::action::{Action, HookKind, go_duration};
use super::backoff::Backoff;
use super::container_status::moment;
use super::input::{ContainerKind, InstanceId};
use super::kill::Cause;
use super::pass::Waiting;
use super::record::{Instance, Life};
use super::status::{EventType, Terminated};
use super::time::Mono;
use super::turn::{Turn, instance};
use crate::manifest::pod::Handler;

/// Why an image was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Errand {
    /// Is it here? It may be pulled if not.
    Look,
    /// It must be here.
    Only,
    /// Pull it.
    Pull,
}

impl Turn<'_> {
    /// Begins the start of a container.
    pub(super) fn begin_start(&mut self, name: &str, newest_end: Option<Mono>) {
        if self.state.deletion.is_some() || self.record_of(name).running().is_some() {
            return;
        }
        self.meet_image(name);
        if let Some(ended) = newest_end {
            let entry = self.record_of(name).backoff;
            if let Some(until) = Backoff::until(entry, ended, self.now.mono) {
                return self.put_off(name, until);
            }
            self.record_of(name).backoff = Some(Backoff::raise(entry, ended, self.now.mono));
        }
        self.discard_created(name);
        let next = instance(name, self.record_of(name).next());
        self.ask_image(next);
    }

    fn put_off(&mut self, name: &str, until: Mono) {
        let pod = self.pod.meta.full_name();
        let text = format!("Back-off restarting failed container {name} in pod {pod}");
        self.event(name, EventType::Warning, "BackOff", text);
        let wait = self.record_of(name).backoff.map(|entry| go_duration(entry.value)).unwrap_or_default();
        let message = format!("back-off {wait} restarting failed container={name} pod={pod}");
        self.fail_start(name, "CrashLoopBackOff", Some(message), Some(until));
    }

    /// Begins once more what was begun with an image that the manifest does not name any more.
    pub(super) fn begin_anew(&mut self, name: &str) {
        let newest_end = self.record_of(name).newest_end();
        self.begin_start(name, newest_end);
    }

    /// The image is there; the instance is to be created.
    pub(super) fn create(&mut self, id: &InstanceId, image: String) {
        if self.state.deletion.is_none() {
            self.act(Action::CreateContainer { instance: id.clone(), image });
            self.wait(Waiting::Create { instance: id.clone() });
        }
    }

    /// An instance was created.
    pub(super) fn created(&mut self, id: &InstanceId, container_id: String, stop_signal: Option<i32>) {
        if self.awaited() != Some(&Waiting::Create { instance: id.clone() }) {
            if !self.is_newest(id) {
                // Nobody waits for it: it must not be left behind.
                self.act(Action::Kill { instance: id.clone() });
            }
            return;
        }
        self.answered();
        let name = id.container.as_str();
        let sandbox = self.state.sandbox.attempt;
        let instance = Instance {
            attempt: id.attempt,
            id: container_id,
            image: self.record_of(name).asked.clone(),
            stop_signal,
            sandbox,
            life: Life::Created,
            purged: false,
        };
        if let Some(attempt) = self.record_of(name).begin(instance) {
            self.act(Action::RemoveLogs { instance: super::turn::instance(name, attempt) });
        }
        self.acted();
        self.event(name, EventType::Normal, "Created", "Container created".to_owned());
        if self.state.deletion.is_none() {
            self.act(Action::StartContainer { instance: id.clone() });
            self.wait(Waiting::Start { instance: id.clone() });
        }
    }

    /// An instance could not be created; its number stays free.
    pub(super) fn create_failed(&mut self, id: &InstanceId, config: bool, message: &str) {
        if self.awaited() != Some(&Waiting::Create { instance: id.clone() }) {
            return;
        }
        self.answered();
        let reason = if config { "CreateContainerConfigError" } else { "CreateContainerError" };
        self.event(&id.container, EventType::Warning, "Failed", format!("Error: {message}"));
        self.fail_start(&id.container, reason, Some(message.to_owned()), None);
    }

    /// An instance runs.
    pub(super) fn started(&mut self, id: &InstanceId, started_at: i64) {
        let since = self.moment_of(started_at);
        if let Some(newest) = self.newest_mut(id)
            && newest.life == Life::Created
        {
            newest.life = Life::Running { since, started_at: moment(started_at) };
        }
        if self.awaited() == Some(&Waiting::Start { instance: id.clone() }) {
            self.after_start(id);
        }
    }

    /// The start succeeded; the hook comes next.
    pub(super) fn after_start(&mut self, id: &InstanceId) {
        self.answered();
        let name = id.container.as_str();
        self.event(name, EventType::Normal, "Started", "Container started".to_owned());
        let has_hook = self.container(name).is_some_and(|container| container.post_start.is_some());
        if has_hook && self.state.deletion.is_none() && self.record_of(name).running().is_some() {
            self.act(Action::RunHook { instance: id.clone(), hook: HookKind::PostStart });
            self.wait(Waiting::PostStart { instance: id.clone() });
        } else {
            self.start_done(name);
        }
    }

    /// An instance's process could not be executed: it ended with 128 without having run.
    pub(super) fn start_failed(&mut self, id: &InstanceId, message: &str) {
        let shown = Terminated {
            exit_code: 128,
            reason: Some("StartError".to_owned()),
            message: self.cut_message(message),
            started_at: None,
            finished_at: Some(super::events::whole_seconds(self.now.wall)),
            container_id: None,
        };
        let finished = self.now.mono;
        if let Some(newest) = self.newest_mut(id)
            && newest.life == Life::Created
        {
            let container_id = Some(format!("hull://{}", newest.id));
            newest.life = Life::Exited { finished, shown: Terminated { container_id, ..shown } };
            self.act(Action::Release { instance: id.clone() });
        }
        if self.awaited() == Some(&Waiting::Start { instance: id.clone() }) {
            self.start_did_not_run(id, message);
        }
    }

    /// The awaited start came to nothing.
    pub(super) fn start_did_not_run(&mut self, id: &InstanceId, message: &str) {
        self.answered();
        self.acted();
        self.event(&id.container, EventType::Warning, "Failed", format!("Error: {message}"));
        self.fail_start(&id.container, "RunContainerError", Some(message.to_owned()), None);
    }

    /// The postStart hook ended.
    pub(super) fn post_start_done(&mut self, id: &InstanceId, result: Result<(), String>) {
        if self.awaited() != Some(&Waiting::PostStart { instance: id.clone() }) {
            return;
        }
        self.answered();
        let name = id.container.as_str();
        let Err(error) = result else {
            return self.start_done(name);
        };
        self.acted();
        self.event(name, EventType::Warning, "FailedPostStartHook", "PostStartHook failed".to_owned());
        let message = self.hook_message(name, &error);
        self.begin_kill(name, Cause::PostStart);
        self.wait(Waiting::PostStartKill { container: name.to_owned(), message });
    }

    /// Reference 6.3.
    fn hook_message(&self, name: &str, error: &str) -> String {
        let hook = match self.container(name).and_then(|container| container.post_start.as_ref()) {
            Some(Handler::Exec(command)) => format!("Exec lifecycle hook ([{}])", command.join(" ")),
            Some(Handler::HttpGet(get)) => format!("HTTP lifecycle hook ({})", get.path),
            Some(Handler::Sleep { seconds }) => format!("Sleep lifecycle hook ({seconds})"),
            Some(Handler::TcpSocket { .. } | Handler::Grpc { .. }) | None => return error.to_owned(),
        };
        let pod = self.pod.meta.full_name();
        format!("{hook} for Container \"{name}\" in Pod \"{pod}\" failed - error: {error}")
    }

    fn start_done(&mut self, name: &str) {
        self.record_of(name).error = None;
        self.acted();
    }

    /// The start failed; `until` is the end of a back-off.
    pub(super) fn fail_start(
        &mut self,
        name: &str,
        reason: &str,
        message: Option<String>,
        until: Option<Mono>,
    ) {
        self.set_trouble(name, reason, message);
        self.failed(until);
        if self.kind(name) == Some(ContainerKind::Init) {
            self.with_pass(|pass| pass.queue.clear());
        }
    }

    /// The newest instance, if it is this one.
    pub(super) fn newest_mut(&mut self, id: &InstanceId) -> Option<&mut Instance> {
        let record = self.state.records.get_mut(&id.container)?;
        record.newest.as_mut().filter(|newest| newest.attempt == id.attempt)
    }

    /// Whether this is the newest instance of its container.
    pub(super) fn is_newest(&self, id: &InstanceId) -> bool {
        let record = self.state.records.get(&id.container);
        let newest = record.and_then(|record| record.newest.as_ref());
        newest.is_some_and(|newest| newest.attempt == id.attempt)
    }
}
