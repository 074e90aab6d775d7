//! Whatever comes, in any order: what must always hold.

use hull_shim::wire::{Ended, Exit, Instance, InstanceId, InstanceState, PreStop};
use proptest::prelude::*;

use super::build::{container, hook, pod, probe, rule, sidecar, with_init};
use super::world::secs;
use crate::core::State;
use crate::core::action::{Action, HookKind, ProbeKind};
use crate::core::input::{DnsWarning, ImageFailure, Input, Outcome};
use crate::core::simulate::clock;
use crate::core::status::PodStatus;
use crate::manifest::pod::{Container, Pod, RestartAction, RestartPolicy};

fn rich_pod(policy: RestartPolicy) -> Pod {
    let app = Container {
        liveness: Some(probe(3, 2)),
        readiness: Some(probe(2, 1)),
        startup: Some(probe(1, 2)),
        post_start: hook(&["x"]),
        pre_stop: hook(&["x"]),
        ..container("app")
    };
    let other = Container {
        restart_policy: Some(RestartPolicy::OnFailure),
        restart_rules: vec![rule(RestartAction::RestartAllContainers, 3)],
        ..container("other")
    };
    let side = Container { startup: Some(probe(1, 2)), pre_stop: hook(&["x"]), ..sidecar("side") };
    let mut web = with_init(pod(policy, vec![app, other]), vec![container("init"), side]);
    web.spec.active_deadline_seconds = Some(400);
    web
}

fn any_instance() -> impl Strategy<Value = InstanceId> {
    (prop::sample::select(vec!["init", "side", "app", "other", "stranger"]), 0..4_u32)
        .prop_map(|(name, attempt)| InstanceId { container: name.to_owned(), attempt })
}

fn any_ended() -> impl Strategy<Value = Ended> {
    (0..5_u8, any::<bool>(), any::<bool>(), 0..200_i64).prop_map(|(code, oom_killed, started, at)| Ended {
        exit: if code == 4 { Exit::Signaled(9) } else { Exit::Code(code) },
        oom_killed,
        started_at: started.then_some(at),
        finished_at: at * 1_000_000_000,
    })
}

fn any_outcome() -> impl Strategy<Value = Outcome> {
    prop::sample::select(vec![
        Outcome::Success,
        Outcome::Warning("w".to_owned()),
        Outcome::Failure("f".to_owned()),
        Outcome::Error("e".to_owned()),
    ])
}

fn any_probe() -> impl Strategy<Value = ProbeKind> {
    prop::sample::select(vec![ProbeKind::Startup, ProbeKind::Readiness, ProbeKind::Liveness])
}

fn any_result() -> impl Strategy<Value = Result<(), String>> {
    any::<bool>().prop_map(|good| if good { Ok(()) } else { Err("x".to_owned()) })
}

fn any_known() -> impl Strategy<Value = Instance> {
    (any_instance(), 0..3_u8, any_ended()).prop_map(|(instance, state, ended)| Instance {
        instance,
        id: "id".to_owned(),
        pid: 1,
        state: match state {
            0 => InstanceState::Created,
            1 => InstanceState::Running { started_at: 1 },
            _ => InstanceState::Exited(ended),
        },
        pre_stop: [None, Some(PreStop::Running { exec: 1 }), Some(PreStop::Ended(Exit::Code(1)))]
            [usize::from(state)],
    })
}

fn any_input() -> impl Strategy<Value = Input> {
    let message = || "message".to_owned();
    prop_oneof![
        4 => Just(Input::Tick),
        1 => (0..4_u32).prop_map(|attempt| Input::SandboxUp { attempt, ips: vec![], host_ips: vec![] }),
        1 => (0..4_u32).prop_map(|attempt| Input::ResolvConfWarnings {
            attempt,
            warnings: vec![(DnsWarning::MissingClusterDns, "message".to_owned())],
        }),
        1 => Just(Input::SandboxFailed { message: message() }),
        1 => Just(Input::SandboxDied),
        1 => Just(Input::SandboxStopped),
        1 => Just(Input::VolumesReady),
        1 => Just(Input::VolumesStale),
        1 => Just(Input::VolumesFailed { volume: "v".to_owned(), message: message() }),
        1 => any_instance().prop_map(|instance| Input::StartFailed { instance, message: "m".to_owned() }),
        1 => (any_instance(), any::<bool>())
            .prop_map(|(instance, config)| Input::CreateFailed { instance, config, message: "m".to_owned() }),
        1 => any_instance().prop_map(|instance| Input::Created {
            instance,
            id: "0".repeat(64),
            stop_signal: Some(3)
        }),
        1 => any_instance().prop_map(|instance| Input::Started { instance, started_at: 5 }),
        1 => any_instance().prop_map(|instance| Input::ImageFailed {
            instance,
            reason: ImageFailure::Pull,
            message: "m".to_owned()
        }),
        1 => (any_instance(), any_ended())
            .prop_map(|(instance, ended)| Input::Exited { instance, ended, message: "m".to_owned() }),
        1 => (any_instance(), any::<bool>(), any_result()).prop_map(|(instance, stop, result)| Input::HookDone {
            instance,
            hook: if stop { HookKind::PreStop } else { HookKind::PostStart },
            result
        }),
        1 => (any_instance(), any_probe(), any_outcome())
            .prop_map(|(instance, probe, outcome)| Input::ProbeDone { instance, probe, outcome }),
        1 => (-1..40_i64).prop_map(|grace| Input::Delete { grace_seconds: (grace > 0).then_some(grace) }),
        1 => (prop::option::of(0..3_u32), prop::collection::vec(any_known(), 0..4))
            .prop_map(|(sandbox, instances)| Input::Recovered { sandbox, instances }),
        1 => Just(Input::ObjectsChanged),
        1 => Just(Input::HookFellBack { address: "a:1".to_owned() }),
    ]
}

/// Either an arbitrary input, or a fitting answer to one of the open requests.
#[derive(Debug, Clone)]
enum Move {
    Arbitrary(Input),
    Answer { which: usize, well: bool, outcome: Outcome, ended: Ended },
    Wait(u64),
}

fn any_move() -> impl Strategy<Value = Move> {
    prop_oneof![
        1 => any_input().prop_map(Move::Arbitrary),
        8 => (any::<usize>(), prop::bool::weighted(0.85), any_outcome(), any_ended())
            .prop_map(|(which, well, outcome, ended)| Move::Answer { which, well, outcome, ended }),
        2 => (0..40_u64).prop_map(Move::Wait),
    ]
}

/// Nothing that a sound driver would not send.
fn any_fair_move() -> impl Strategy<Value = Move> {
    prop_oneof![
        10 => (any::<usize>(), prop::bool::weighted(0.85), any_outcome(), any_ended())
            .prop_map(|(which, well, outcome, ended)| Move::Answer { which, well, outcome, ended }),
        2 => (0..40_u64).prop_map(Move::Wait),
        1 => prop::sample::select(vec![Input::SandboxDied, Input::ObjectsChanged]).prop_map(Move::Arbitrary),
    ]
}

fn answer(action: &Action, well: bool, outcome: Outcome, ended: Ended) -> Option<Input> {
    let message = "m".to_owned();
    Some(match action.clone() {
        Action::PrepareVolumes if well => Input::VolumesReady,
        Action::PrepareVolumes => Input::VolumesFailed { volume: "v".to_owned(), message },
        Action::CreateSandbox { attempt } if well => {
            Input::SandboxUp { attempt, ips: vec![], host_ips: vec![] }
        }
        Action::CreateSandbox { .. } => Input::SandboxFailed { message },
        Action::StopSandbox => Input::SandboxStopped,
        Action::EnsureImage { instance, image, .. } if well => {
            Input::ImageReady { instance, image, image_id: "id".to_owned(), pulled: None }
        }
        Action::EnsureImage { instance, .. } => {
            Input::ImageFailed { instance, reason: ImageFailure::NeverPull, message }
        }
        Action::CreateContainer { instance, .. } if well => {
            Input::Created { instance, id: "1".repeat(64), stop_signal: None }
        }
        Action::CreateContainer { instance, .. } => Input::CreateFailed { instance, config: true, message },
        Action::StartContainer { instance } if well => Input::Started { instance, started_at: 5 },
        Action::StartContainer { instance } => Input::StartFailed { instance, message },
        Action::RunHook { instance, hook } => {
            Input::HookDone { instance, hook, result: if well { Ok(()) } else { Err(message) } }
        }
        Action::ResumeHook { instance, .. } => Input::HookDone {
            instance,
            hook: HookKind::PreStop,
            result: if well { Ok(()) } else { Err(message) },
        },
        Action::RunProbe { instance, probe } => Input::ProbeDone { instance, probe, outcome },
        Action::Signal { instance, .. } | Action::Kill { instance } => {
            Input::Exited { instance, ended, message }
        }
        _ => return None,
    })
}

struct Checked {
    pod: Pod,
    state: State,
    at: u64,
    open: Vec<Action>,
}

impl Checked {
    fn take(&mut self, input: Input) -> Result<(), TestCaseError> {
        let before = self.state.clone();
        let text = serde_json::to_string(&before).expect("states are written as JSON");
        let copy: State = serde_json::from_str(&text).expect("and read back");
        prop_assert_eq!(&copy, &before);
        let (after, actions) = copy.step(&self.pod, input.clone(), clock(secs(self.at)));
        let (same, same_actions) = before.clone().step(&self.pod, input, clock(secs(self.at)));
        prop_assert_eq!((&after, &actions), (&same, &same_actions));
        self.check(&before, &after, &actions)?;
        self.open.extend(actions);
        self.state = after;
        Ok(())
    }

    fn check(&self, before: &State, after: &State, actions: &[Action]) -> Result<(), TestCaseError> {
        let (old, new) = (before.status(&self.pod), after.status(&self.pod));
        prop_assert!(after.generation() >= before.generation());
        if old != new || before.deletion() != after.deletion() {
            prop_assert!(after.generation() > before.generation());
        }
        if old.phase.is_terminal() {
            prop_assert_eq!(old.phase, new.phase);
        }
        for (old, new) in all(&old).zip(all(&new)) {
            prop_assert!(new.restart_count >= old.restart_count, "{} of {}", new.restart_count, new.name);
        }
        for action in actions {
            let begins = matches!(action, Action::StartContainer { .. } | Action::CreateContainer { .. });
            prop_assert!(!begins || after.deletion().is_none(), "{:?} after deletion", action);
            prop_assert!(!before.is_finished() || *action == Action::Finish || !begins);
        }
        Ok(())
    }
}

fn all(status: &PodStatus) -> impl Iterator<Item = &crate::core::status::ContainerStatus> {
    status.init_container_statuses.iter().chain(&status.container_statuses)
}

impl Checked {
    fn new(policy: RestartPolicy) -> Result<Self, TestCaseError> {
        let pod = rich_pod(policy);
        let (state, open) = State::new(&pod, "node1", clock(secs(0)));
        let mut life = Self { pod, state, at: 0, open };
        life.take(Input::SandboxUp { attempt: 0, ips: vec![], host_ips: vec![] })?;
        Ok(life)
    }

    fn perform(&mut self, moves: Vec<Move>) -> Result<(), TestCaseError> {
        for next in moves {
            match next {
                Move::Arbitrary(input) => self.take(input)?,
                Move::Wait(seconds) => {
                    self.at += seconds;
                    self.take(Input::Tick)?;
                }
                Move::Answer { which, well, outcome, ended } => self.answer(which, well, outcome, ended)?,
            }
        }
        Ok(())
    }

    fn answer(
        &mut self,
        which: usize,
        well: bool,
        outcome: Outcome,
        ended: Ended,
    ) -> Result<(), TestCaseError> {
        self.open.retain(|action| answer(action, well, outcome.clone(), ended).is_some());
        if self.open.is_empty() {
            return Ok(());
        }
        let action = self.open.remove(which % self.open.len());
        answer(&action, well, outcome, ended).map_or(Ok(()), |input| self.take(input))
    }

    /// Answers everything and lets time pass, until the pod is gone.
    fn wind_up(&mut self) -> Result<(), TestCaseError> {
        let ended = Ended { exit: Exit::Code(0), oom_killed: false, started_at: Some(1), finished_at: 2 };
        self.take(Input::Delete { grace_seconds: Some(5) })?;
        for _ in 0..1000 {
            if self.state.is_finished() {
                return Ok(());
            }
            self.answer(0, true, Outcome::Success, ended)?;
            if let (true, Some(wake)) = (self.open.is_empty(), self.state.wake(&self.pod)) {
                self.at = self.at.max(wake.0.as_secs() + 1);
                self.take(Input::Tick)?;
            }
        }
        Err(TestCaseError::fail(format!("it never ends: {:?}", self.state)))
    }
}

fn any_policy() -> impl Strategy<Value = RestartPolicy> {
    prop::sample::select(vec![RestartPolicy::Always, RestartPolicy::OnFailure, RestartPolicy::Never])
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_order_of_inputs_breaks_the_rules(
        policy in any_policy(),
        moves in prop::collection::vec(any_move(), 0..120),
    ) {
        Checked::new(policy)?.perform(moves)?;
    }

    #[test]
    fn every_deleted_pod_ends(
        policy in any_policy(),
        moves in prop::collection::vec(any_fair_move(), 0..80),
    ) {
        let mut life = Checked::new(policy)?;
        life.perform(moves)?;
        life.wind_up()?;
    }
}
