//! Kills that an earlier supervisor began (reference 13.8): no stop signal is sent twice, and no preStop hook runs twice.
//!
//! ```text
//!  preStop was a process --> never started: run it | runs: wait for it | ended: go on
//!          a sleep       --> sleep the rest
//!          a request     --> nobody knows whether it was made: it is given up, and the rest of the grace period stays
//! ```

use std::time::Duration;

use hull_shim::wire::{Exit, Instance as Known, PreStop};

use super::action::{Action, HookKind, HookRest};
use super::input::InstanceId;
use super::kill::KillStage;
use super::record::Life;
use super::time::Mono;
use super::turn::{Turn, instance};
use crate::manifest::pod::Handler;

impl Turn<'_> {
    /// Goes on with the kills under way, after a restart of the supervisor.
    pub(super) fn resume_kills(&mut self, known: &[Known]) {
        for (name, kill) in self.state.kills.clone() {
            let id = instance(&name, kill.attempt);
            let is_alive = self.newest_mut(&id).is_some_and(|it| !matches!(it.life, Life::Exited { .. }));
            match kill.stage {
                KillStage::PreStop { began } if !is_alive => self.enter_turn(&name, began),
                KillStage::PreStop { began } => self.resume_pre_stop(id, began, known),
                KillStage::Killed if is_alive => self.act(Action::Kill { instance: id }),
                KillStage::Turn { .. } | KillStage::Signalled { .. } | KillStage::Killed => {}
            }
        }
    }

    fn resume_pre_stop(&mut self, id: InstanceId, began: Mono, known: &[Known]) {
        let handler = self.container(&id.container).and_then(|container| container.pre_stop.as_ref());
        let process = known.iter().find(|known| known.instance == id).and_then(|known| known.pre_stop);
        match (handler, process) {
            (Some(Handler::Exec(_)), None) => {
                self.act(Action::RunHook { instance: id, hook: HookKind::PreStop });
            }
            (Some(Handler::Exec(_)), Some(PreStop::Running { exec })) => {
                self.act(Action::ResumeHook { instance: id, rest: HookRest::Process { exec } });
            }
            (Some(Handler::Exec(_)), Some(PreStop::Ended(Exit::Code(0) | Exit::Unknown))) => {
                self.hook_done(&id, HookKind::PreStop, Ok(()));
            }
            (Some(Handler::Exec(_)), Some(PreStop::Ended(exit))) => {
                self.hook_done(&id, HookKind::PreStop, Err(format!("exited with {}", exit.code())));
            }
            (Some(Handler::Sleep { seconds }), _) => {
                let left = Duration::from_secs((*seconds).into()).saturating_sub(self.now.mono.since(began));
                self.act(Action::ResumeHook { instance: id, rest: HookRest::Sleep(left) });
            }
            (Some(Handler::HttpGet(_) | Handler::TcpSocket { .. } | Handler::Grpc { .. }) | None, _) => {
                self.enter_turn(&id.container, began);
            }
        }
    }
}
