//! What tests ask of a simulation.

use std::collections::BTreeMap;
use std::time::Duration;

use hull_shim::wire::Exit;

use crate::core::action::{Action, HookKind, ProbeKind};
use crate::core::input::{Input, Outcome};
use crate::core::simulate::{Attempt, Run, Script, Sight, Simulation};
use crate::core::status::{Condition, ContainerStatus, Phase, PodStatus};
use crate::manifest::pod::Pod;

pub(super) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) fn simulate<const N: usize>(pod: Pod, scripts: [(&str, Script); N]) -> Simulation {
    let scripts: BTreeMap<String, Script> =
        scripts.into_iter().map(|(name, script)| (name.to_owned(), script)).collect();
    Simulation::new(pod, scripts)
}

/// Ends by itself after these seconds with this code, each time.
pub(super) fn exits(after: u64, code: u8) -> Script {
    Script { run: Box::new(move |_| ends(after, code)), ..Script::default() }
}

pub(super) fn ends(after: u64, code: u8) -> Run {
    Run { ends: Some((secs(after), Exit::Code(code))), ..Run::default() }
}

/// Ignores the stop signal.
pub(super) fn stubborn() -> Script {
    Script { run: Box::new(|_| Run { stops: None, ..Run::default() }), ..Script::default() }
}

/// Ends these seconds after the stop signal with this code.
pub(super) fn stops(after: u64, code: u8) -> Script {
    let run = move |_| Run { stops: Some((secs(after), Exit::Code(code))), ..Run::default() };
    Script { run: Box::new(run), ..Script::default() }
}

pub(super) fn probed(probe: impl Fn(Attempt) -> Outcome + 'static) -> Script {
    Script { probe: Box::new(probe), ..Script::default() }
}

pub(super) fn failure() -> Outcome {
    Outcome::Failure("no".to_owned())
}

impl Simulation {
    pub(super) fn status(&self) -> PodStatus {
        self.state.status(&self.pod)
    }

    pub(super) fn phase(&self) -> Phase {
        self.status().phase
    }

    pub(super) fn of(&self, name: &str) -> ContainerStatus {
        let status = self.status();
        let mut all = status.init_container_statuses.into_iter().chain(status.container_statuses);
        all.find(|status| status.name == name).expect("a container of the pod")
    }

    pub(super) fn condition(&self, kind: &str) -> Condition {
        self.status().conditions.into_iter().find(|it| it.kind == kind).expect("a condition of the pod")
    }

    /// The state of a container in one word: its reason, or `Running`.
    pub(super) fn word(&self, name: &str) -> String {
        word(&self.of(name))
    }

    /// The words of a container over time, without repetitions.
    pub(super) fn words(&self, name: &str) -> Vec<String> {
        let mut words: Vec<String> = Vec::new();
        for (_, status) in self.statuses() {
            let mut all = status.init_container_statuses.iter().chain(&status.container_statuses);
            words.extend(all.find(|status| status.name == name).map(word));
        }
        words.dedup();
        words
    }

    pub(super) fn statuses(&self) -> impl Iterator<Item = (Duration, &PodStatus)> {
        self.sights.iter().filter_map(|(at, sight)| match sight {
            Sight::Status(status) => Some((*at, &**status)),
            Sight::Action(_) => None,
        })
    }

    pub(super) fn actions(&self) -> impl Iterator<Item = (u64, &Action)> {
        self.sights.iter().filter_map(|(at, sight)| match sight {
            Sight::Action(action) => Some((at.as_secs(), action)),
            Sight::Status(_) => None,
        })
    }

    /// Seconds at which a container was started.
    pub(super) fn starts(&self, name: &str) -> Vec<u64> {
        let of = |action: &Action| matches!(action, Action::StartContainer { instance } if instance.container == name);
        self.actions().filter(|(_, action)| of(action)).map(|(at, _)| at).collect()
    }

    /// Seconds at which a container got its stop signal.
    pub(super) fn signals(&self, name: &str) -> Vec<u64> {
        let of =
            |action: &Action| matches!(action, Action::Signal { instance, .. } if instance.container == name);
        self.actions().filter(|(_, action)| of(action)).map(|(at, _)| at).collect()
    }

    /// Seconds at which a container got SIGKILL.
    pub(super) fn kills(&self, name: &str) -> Vec<u64> {
        let of = |action: &Action| matches!(action, Action::Kill { instance } if instance.container == name);
        self.actions().filter(|(_, action)| of(action)).map(|(at, _)| at).collect()
    }

    /// Seconds at which a container was probed.
    pub(super) fn probes(&self, name: &str, kind: ProbeKind) -> Vec<u64> {
        let of = |action: &Action| matches!(action, Action::RunProbe { instance, probe } if instance.container == name && *probe == kind);
        self.actions().filter(|(_, action)| of(action)).map(|(at, _)| at).collect()
    }

    /// Seconds at which a hook was run.
    pub(super) fn hooks(&self, name: &str, kind: HookKind) -> Vec<u64> {
        let of = |action: &Action| matches!(action, Action::RunHook { instance, hook } if instance.container == name && *hook == kind);
        self.actions().filter(|(_, action)| of(action)).map(|(at, _)| at).collect()
    }

    /// Messages of all events with a reason, each as often as it counts.
    pub(super) fn told(&self, reason: &str) -> Vec<String> {
        let rows = self.events.iter().filter(|event| event.reason == reason);
        rows.flat_map(|event| vec![event.message.clone(); event.count as usize]).collect()
    }

    /// The reasons of all events, by row.
    pub(super) fn reasons(&self) -> Vec<&str> {
        self.events.iter().map(|event| event.reason.as_str()).collect()
    }

    pub(super) fn delete(&mut self, grace_seconds: Option<i64>) {
        self.plan(Duration::ZERO, Input::Delete { grace_seconds });
    }

    pub(super) fn finished_at(&self) -> Option<u64> {
        self.actions().find(|(_, action)| **action == Action::Finish).map(|(at, _)| at)
    }

    /// The supervisor dies and a new one takes over from the record on disk.
    pub(super) fn restart_supervisor(&mut self) {
        self.forget_plans();
        let text = serde_json::to_string(&self.state).expect("states are written as JSON");
        self.state = serde_json::from_str(&text).expect("and read back");
        let instances = self.instances();
        self.plan(Duration::ZERO, Input::Recovered { sandbox: Some(0), instances });
        let address = std::net::IpAddr::from([10, 244, 0, 1]);
        let up = Input::SandboxUp { attempt: 0, ips: vec![address], host_ips: vec![address] };
        self.plan(Duration::ZERO, up);
    }
}

fn word(status: &ContainerStatus) -> String {
    let state = &status.state;
    if state.running.is_some() {
        return "Running".to_owned();
    }
    let waiting = state.waiting.as_ref().and_then(|waiting| waiting.reason.clone());
    let terminated = state.terminated.as_ref().and_then(|terminated| terminated.reason.clone());
    waiting.or(terminated).unwrap_or_default()
}
