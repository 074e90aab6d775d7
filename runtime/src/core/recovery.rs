//! A new supervisor took over (reference 8.3, design section 9).
//!
//! ```text
//!  record on disk + what the shim knows
//!    - alive in the record, unknown to the shim  -> vanished
//!    - known to the shim, not to the record      -> killed and released
//!    - asked for and not answered                -> asked again
//!    - sent by the very last step                -> sent again (it may not have got through)
//! ```
//! Restart counts, back-off, probe runs and event counts are in the record and go on.

use hull_shim::wire::{Instance as Known, InstanceState};

use super::action::{Action, HookKind};
use super::input::InstanceId;
use super::pass::Waiting;
use super::record::{Life, Seen};
use super::start::Errand;
use super::state::{Stage, Standing};
use super::turn::{Turn, instance};
use crate::manifest::pod::PullPolicy;

impl Turn<'_> {
    /// Takes up the pod where the last supervisor left it.
    pub(super) fn recovered(&mut self, sandbox: Option<u32>, known: &[Known]) {
        self.send_again(known);
        if self.state.stage == Stage::Finished {
            return self.act_once(Action::Finish);
        }
        // Objects may have changed while nobody looked.
        self.refresh_volumes();
        self.find_vanished(known);
        self.clear_unknown(known);
        if self.state.sandbox.standing == Standing::Up && sandbox != Some(self.state.sandbox.attempt) {
            self.sandbox_died();
        }
        self.resume_kills(known);
        self.resume_workers();
        self.meet_changes();
        if let Some(waiting) = self.awaited().cloned() {
            self.ask_again(waiting, sandbox, known);
        }
    }

    fn send_again(&mut self, known: &[Known]) {
        let is_alive =
            |id: &InstanceId| find(known, id).is_some_and(|it| !matches!(it, InstanceState::Exited(_)));
        for action in std::mem::take(&mut self.state.unconfirmed) {
            let makes_sense = match &action {
                Action::Signal { instance, .. } | Action::Kill { instance } => is_alive(instance),
                Action::AbandonHook { .. } => false,
                _ => true,
            };
            if makes_sense {
                self.act_once(action);
            }
        }
    }

    fn find_vanished(&mut self, known: &[Known]) {
        let pod = self.pod;
        for container in pod.spec.all_containers() {
            let name = container.name.as_str();
            let is_alive = matches!(self.seen(container), Seen::Created | Seen::Running(_));
            let attempt = self.record_of(name).newest.as_ref().map(|newest| newest.attempt);
            let Some(id) = attempt.filter(|_| is_alive).map(|attempt| instance(name, attempt)) else {
                continue;
            };
            if find(known, &id).is_none() {
                self.vanished(name);
                if self.awaited() == Some(&Waiting::Start { instance: id }) {
                    self.answered();
                    self.acted();
                }
            }
        }
    }

    /// Instances that the record does not know, or knows to have ended.
    fn clear_unknown(&mut self, known: &[Known]) {
        for Known { instance: id, state, .. } in known {
            let is_awaited = self.awaited() == Some(&Waiting::Create { instance: id.clone() });
            let life = self.newest_mut(id).map(|newest| newest.life.clone());
            let is_over = matches!(life, None | Some(Life::Exited { .. })) && !is_awaited;
            match state {
                InstanceState::Exited(_) if is_over => {
                    self.act_once(Action::Release { instance: id.clone() });
                }
                InstanceState::Created | InstanceState::Running { .. } if is_over => {
                    self.act_once(Action::Kill { instance: id.clone() });
                }
                InstanceState::Created | InstanceState::Running { .. } | InstanceState::Exited(_) => {}
            }
        }
    }

    fn ask_again(&mut self, waiting: Waiting, sandbox: Option<u32>, known: &[Known]) {
        match waiting {
            Waiting::Volumes => self.act(Action::PrepareVolumes),
            Waiting::Sandbox { attempt } if sandbox == Some(attempt) => {}
            Waiting::Sandbox { attempt } => self.act(Action::CreateSandbox { attempt }),
            Waiting::SandboxStop => self.act(Action::StopSandbox),
            Waiting::Image { instance, errand } => self.ask_image_again(instance, errand),
            Waiting::Create { instance } if self.state.deletion.is_some() => {
                self.answered();
                if find(known, &instance).is_some() {
                    self.act(Action::Kill { instance });
                }
            }
            Waiting::Create { instance } => self.ask_create_again(instance, known),
            Waiting::Start { instance } => self.ask_start_again(instance, known),
            Waiting::PostStart { instance } => {
                let attempt = self.record_of(&instance.container).running();
                match attempt == Some(instance.attempt) {
                    true => self.act(Action::RunHook { instance, hook: HookKind::PostStart }),
                    false => self.post_start_done(&instance, Ok(())),
                }
            }
            Waiting::Kill { .. } | Waiting::KillPod | Waiting::PostStartKill { .. } => {}
        }
    }

    fn ask_image_again(&mut self, id: InstanceId, errand: Errand) {
        let Some(container) = self.container(&id.container) else {
            return;
        };
        let policy = match errand {
            Errand::Look | Errand::Only => PullPolicy::Never,
            Errand::Pull => container.pull_policy,
        };
        let image = container.image.clone();
        self.record_of(&id.container).asked = Some(image.clone());
        self.act(Action::EnsureImage { instance: id, image, policy });
    }

    /// An instance that is there has the image that it was asked for with; one that is not may begin with the newest.
    fn ask_create_again(&mut self, id: InstanceId, known: &[Known]) {
        let name = id.container.as_str();
        if find(known, &id).is_none() && self.asked_for_another(name) {
            self.answered();
            return self.begin_anew(name);
        }
        let named = self.image_named(name);
        let asked = &mut self.record_of(name).asked;
        if let Some(image) = asked.take().or(named) {
            *asked = Some(image.clone());
            self.act(Action::CreateContainer { instance: id, image });
        }
    }

    fn ask_start_again(&mut self, id: InstanceId, known: &[Known]) {
        match find(known, &id) {
            Some(InstanceState::Running { started_at }) => self.started(&id, *started_at),
            // Its exit is reported to each new supervisor; that input ends the wait.
            Some(InstanceState::Exited(_)) => {}
            // It is killed with the pod.
            Some(InstanceState::Created) | None if self.state.deletion.is_some() => drop(self.answered()),
            Some(InstanceState::Created) | None => self.act(Action::StartContainer { instance: id }),
        }
    }

    /// Asks for something that may have been asked for in this step already.
    pub(super) fn act_once(&mut self, action: Action) {
        if !self.has_asked(&action) {
            self.act(action);
        }
    }
}

fn find<'a>(known: &'a [Known], id: &InstanceId) -> Option<&'a InstanceState> {
    known.iter().find(|known| known.instance == *id).map(|known| &known.state)
}
