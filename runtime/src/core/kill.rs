//! Killing containers: preStop, turn, stop signal, SIGKILL (reference 7.2, 7.3).
//!
//! ```text
//!  running --> [preStop, at most G] --> [sidecar: wait for its turn, at most the rest] --> stop signal
//!          --> wait the rest, at least 2 s --> SIGKILL --> wait for the exit
//! ```
//! Kills of a pod run in parallel. Each one counts whole seconds only.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::action::{Action, HookKind};
use super::input::{ContainerKind, InstanceId};
use super::record::Seen;
use super::state::{Stage, State};
use super::status::EventType;
use super::time::Mono;
use super::turn::{Turn, instance};
use crate::manifest::pod::RestartPolicy;

const LEAST: u64 = 2;
const SIGTERM: i32 = 15;

/// Why a container is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Cause {
    /// The pod is killed.
    Pod,
    /// Its liveness probe failed.
    Liveness,
    /// Its startup probe failed.
    Startup,
    /// Its postStart hook failed.
    PostStart,
    /// `RestartAllContainers`.
    RestartAll,
    /// The manifest has another image.
    Definition,
}

/// A kill under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Kill {
    pub(super) attempt: u32,
    /// Whole seconds of grace that were left when the present stage began.
    left: u64,
    pub(super) stage: KillStage,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum KillStage {
    PreStop { began: Mono },
    Turn { began: Mono },
    Signalled { kill_at: Mono },
    Killed,
}

impl State {
    /// When the next kill goes on by itself.
    pub(super) fn kill_wake(&self) -> Option<Mono> {
        self.kills.values().filter_map(Kill::deadline).min()
    }
}

impl Kill {
    fn deadline(&self) -> Option<Mono> {
        match self.stage {
            KillStage::PreStop { began } | KillStage::Turn { began } => {
                Some(began + Duration::from_secs(self.left))
            }
            KillStage::Signalled { kill_at } => Some(kill_at),
            KillStage::Killed => None,
        }
    }
}

impl Turn<'_> {
    /// Begins to kill everything that runs, in parallel.
    pub(super) fn begin_pod_kill(&mut self) {
        let pod = self.pod;
        for container in pod.spec.all_containers() {
            let name = container.name.as_str();
            if self.seen(container) == Seen::Created {
                let attempt = self.record_of(name).used.unwrap_or_default();
                self.act(Action::Kill { instance: instance(name, attempt) });
                self.state.kills.insert(name.to_owned(), Kill { attempt, left: 0, stage: KillStage::Killed });
            } else if !self.state.kills.contains_key(name) {
                self.begin_kill(name, Cause::Pod);
            }
        }
    }

    /// Begins to kill one container, if it runs.
    pub(super) fn begin_kill(&mut self, name: &str, cause: Cause) {
        let Some(attempt) = self.record_of(name).running() else {
            return;
        };
        let message = self.kill_message(name, cause);
        self.event(name, EventType::Normal, "Killing", message);
        self.acted();
        let left = self.grace(name, cause);
        let has_hook = self.container(name).is_some_and(|container| container.pre_stop.is_some());
        let began = self.now.mono;
        let stage = if left > 0 && has_hook {
            self.act(Action::RunHook { instance: instance(name, attempt), hook: HookKind::PreStop });
            KillStage::PreStop { began }
        } else {
            KillStage::Turn { began }
        };
        self.state.kills.insert(name.to_owned(), Kill { attempt, left, stage });
    }

    fn kill_message(&self, name: &str, cause: Cause) -> String {
        let probe = match cause {
            Cause::Pod => return format!("Stopping container {name}"),
            Cause::PostStart => return "FailedPostStartHook".to_owned(),
            Cause::RestartAll => return "killing".to_owned(),
            Cause::Definition => return self.definition_message(name),
            Cause::Liveness => "liveness",
            Cause::Startup => "startup",
        };
        if self.kind(name) == Some(ContainerKind::Sidecar) {
            return format!("Init container {name} failed {probe} probe");
        }
        let policy = self.container(name).map(|container| super::restart::policy(&self.pod.spec, container));
        match policy {
            Some(RestartPolicy::Never) => format!("Container {name} failed {probe} probe"),
            _ => format!("Container {name} failed {probe} probe, will be restarted"),
        }
    }

    /// Whole seconds of grace of a kill.
    fn grace(&self, name: &str, cause: Cause) -> u64 {
        let own = u64::from(self.pod.spec.grace_seconds);
        if cause == Cause::RestartAll {
            return 0;
        }
        if let Some(deletion) = self.state.deletion {
            return u64::try_from(deletion.grace_seconds).unwrap_or(0).max(1);
        }
        if self.state.stage != Stage::Syncing {
            return own.max(1);
        }
        let container = self.container(name);
        let probe = match cause {
            Cause::Liveness => container.and_then(|container| container.liveness.as_ref()),
            Cause::Startup => container.and_then(|container| container.startup.as_ref()),
            Cause::Pod | Cause::PostStart | Cause::RestartAll | Cause::Definition => None,
        };
        probe.and_then(|probe| probe.grace_seconds).map_or(own, u64::from)
    }

    /// Deletion shortens what is under way to its own grace period.
    pub(super) fn shorten_kills(&mut self, grace: u64) {
        let now = self.now.mono;
        for kill in self.state.kills.values_mut() {
            match &mut kill.stage {
                KillStage::PreStop { began } | KillStage::Turn { began } => {
                    kill.left = kill.left.min(now.since(*began).as_secs().saturating_add(grace));
                }
                KillStage::Signalled { kill_at } => {
                    *kill_at = (*kill_at).min(now + Duration::from_secs(grace.max(LEAST)));
                }
                KillStage::Killed => {}
            }
        }
    }

    /// Carries all kills on as far as they go.
    pub(super) fn progress_kills(&mut self) {
        loop {
            let names: Vec<String> = self.state.kills.keys().cloned().collect();
            let moved = names.iter().filter(|name| self.progress_kill(name)).count();
            if moved == 0 {
                return;
            }
        }
    }

    /// Carries one kill on; whether anything changed.
    fn progress_kill(&mut self, name: &str) -> bool {
        let Some(kill) = self.state.kills.get(name).cloned() else {
            return false;
        };
        let id = instance(name, kill.attempt);
        let is_running = self.record_of(name).running() == Some(kill.attempt);
        let is_created = self.is_newest(&id) && self.record_of(name).seen() == Seen::Created;
        let is_late = kill.deadline().is_some_and(|deadline| deadline <= self.now.mono);
        match kill.stage {
            KillStage::PreStop { began } if is_late => {
                self.act(Action::AbandonHook { instance: id, hook: HookKind::PreStop });
                self.enter_turn(name, began);
                true
            }
            KillStage::PreStop { .. } => false,
            KillStage::Turn { .. } | KillStage::Signalled { .. } | KillStage::Killed
                if !is_running && !is_created =>
            {
                self.state.kills.remove(name);
                true
            }
            KillStage::Turn { began } if is_late || self.is_its_turn(name) => {
                let left = kill.left.saturating_sub(self.now.mono.since(began).as_secs()).max(LEAST);
                let signal = self.stop_signal(&id);
                self.act(Action::Signal { instance: id, signal });
                let kill_at = self.now.mono + Duration::from_secs(left);
                self.set_kill_stage(name, KillStage::Signalled { kill_at });
                true
            }
            KillStage::Signalled { .. } if is_late => {
                self.act(Action::Kill { instance: id });
                self.set_kill_stage(name, KillStage::Killed);
                true
            }
            KillStage::Turn { .. } | KillStage::Signalled { .. } | KillStage::Killed => false,
        }
    }

    fn stop_signal(&mut self, id: &InstanceId) -> i32 {
        self.newest_mut(id).and_then(|newest| newest.stop_signal).unwrap_or(SIGTERM)
    }

    fn set_kill_stage(&mut self, name: &str, stage: KillStage) {
        if let Some(kill) = self.state.kills.get_mut(name) {
            kill.stage = stage;
        }
    }

    /// The preStop hook is over: what it took is subtracted in whole seconds.
    pub(super) fn enter_turn(&mut self, name: &str, hook_began: Mono) {
        let now = self.now.mono;
        if let Some(kill) = self.state.kills.get_mut(name) {
            kill.left = kill.left.saturating_sub(now.since(hook_began).as_secs());
            kill.stage = KillStage::Turn { began: now };
        }
    }

    /// A sidecar of a pod that is killed waits for all main containers and the next later sidecar.
    fn is_its_turn(&self, name: &str) -> bool {
        let killing_pod = self.awaited() == Some(&super::pass::Waiting::KillPod);
        if !killing_pod || self.kind(name) != Some(ContainerKind::Sidecar) {
            return true;
        }
        let under_way = |name: &str| self.state.kills.contains_key(name);
        let spec = &self.pod.spec;
        let mut later_sidecars = spec
            .init_containers
            .iter()
            .map(|container| container.name.as_str())
            .skip_while(|other| *other != name)
            .skip(1)
            .filter(|other| self.kind(other) == Some(ContainerKind::Sidecar));
        let main_runs = spec.containers.iter().any(|container| under_way(container.name.as_str()));
        !main_runs && !later_sidecars.next().is_some_and(under_way)
    }

    /// A hook ended.
    pub(super) fn hook_done(&mut self, id: &InstanceId, hook: HookKind, result: Result<(), String>) {
        if hook == HookKind::PostStart {
            return self.post_start_done(id, result);
        }
        let Some(Kill { attempt, stage: KillStage::PreStop { began }, .. }) =
            self.state.kills.get(&id.container).cloned()
        else {
            return;
        };
        if attempt != id.attempt {
            return;
        }
        if result.is_err() {
            let text = "PreStopHook failed".to_owned();
            self.event(&id.container, EventType::Warning, "FailedPreStopHook", text);
        }
        self.enter_turn(&id.container, began);
    }

    /// A hook's request went another way than asked for (reference 6.2).
    pub(super) fn hook_fell_back(&mut self, address: &str) {
        let text =
            format!("request to HTTPS lifecycle hook {address} got HTTP response, retry with HTTP succeeded");
        self.pod_event(EventType::Warning, "LifecycleHTTPFallback", text);
    }
}
