//! A pod's life in simulated time: a runtime of the mind that answers the core's actions by script.
//!
//! `hull simulate` prints what comes out; the core's tests look at it. An hour of back-off takes a millisecond.
//!
//! ```text
//!  agenda (time, input) --> State::step --> actions --> script --> agenda
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hull_shim::wire::{Ended, Exit, Instance, InstanceState, PreStop};
use jiff::Timestamp;

use super::State;
use super::action::{Action, HookKind, HookRest, ProbeKind};
use super::input::{ImageFailure, Input, InstanceId, Outcome};
use super::status::{Event, PodStatus};
use super::time::{Mono, Now};
use crate::manifest::pod::{Handler, Pod};

/// The simulation begins at this second of the wall clock.
pub const EPOCH: i64 = 1_700_000_000;
/// Steps at one and the same instant after which a life is called endless.
const MOST_STEPS: u32 = 10_000;

/// How the instances of one container behave.
pub struct Script {
    /// What the instance of this number does.
    pub run: Box<dyn Fn(u32) -> Run>,
    /// What a probe brings.
    pub probe: Box<dyn Fn(Attempt) -> Outcome>,
    /// How long an attempt to probe takes.
    pub probe_takes: Duration,
    /// How the postStart hook ends.
    pub post_start: Reply,
    /// How the preStop hook ends.
    pub pre_stop: Reply,
    /// Whether the image is missing at this time since the beginning, and why.
    pub image: Box<dyn Fn(Duration) -> Option<(ImageFailure, String)>>,
    /// Whether an instance cannot be created at this time since the beginning, and why.
    pub config: Box<dyn Fn(Duration) -> Option<String>>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            run: Box::new(|_| Run::default()),
            probe: Box::new(|_| Outcome::Success),
            probe_takes: Duration::ZERO,
            post_start: Reply::default(),
            pre_stop: Reply::default(),
            image: Box::new(|_| None),
            config: Box::new(|_| None),
        }
    }
}

/// One run of one instance.
#[derive(Debug, Clone)]
pub struct Run {
    /// It cannot be executed.
    pub start_error: Option<String>,
    /// It ends by itself after this time in this way.
    pub ends: Option<(Duration, Exit)>,
    /// It ends after the stop signal: after this time in this way; none ignores the signal.
    pub stops: Option<(Duration, Exit)>,
    /// Its end is the out-of-memory killer's work.
    pub oom: bool,
    /// Its termination message.
    pub message: String,
}

impl Default for Run {
    fn default() -> Self {
        Self {
            start_error: None,
            ends: None,
            stops: Some((Duration::ZERO, Exit::Signaled(15))),
            oom: false,
            message: String::new(),
        }
    }
}

/// How a hook ends.
#[derive(Debug, Clone)]
pub struct Reply {
    /// When.
    pub after: Duration,
    /// How.
    pub result: Result<(), String>,
}

impl Default for Reply {
    fn default() -> Self {
        Self { after: Duration::ZERO, result: Ok(()) }
    }
}

/// One attempt to probe.
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    /// Which probe.
    pub kind: ProbeKind,
    /// Number of the instance.
    pub instance: u32,
    /// Time since the instance's start.
    pub age: Duration,
    /// Time since the beginning.
    pub at: Duration,
}

/// What came out at one moment.
#[derive(Debug, Clone, PartialEq)]
pub enum Sight {
    /// The core asked for this.
    Action(Action),
    /// The status changed to this.
    Status(Box<PodStatus>),
}

/// A simulated pod.
pub struct Simulation {
    /// The pod.
    pub pod: Pod,
    /// Where it stands.
    pub state: State,
    /// Everything that came out, with the time since the beginning.
    pub sights: Vec<(Duration, Sight)>,
    /// Newest row of each event, oldest first.
    pub events: Vec<Event>,
    now: Duration,
    agenda: BTreeMap<(Duration, u64), Input>,
    planned: u64,
    scripts: BTreeMap<String, Script>,
    living: BTreeMap<InstanceId, Living>,
    answered: BTreeSet<(InstanceId, HookKind)>,
    sandboxes: u32,
    steps_now: u32,
}

struct Living {
    started: Option<Duration>,
    id: String,
    /// When and how its preStop hook ends, if that is a process.
    pre_stop: Option<(Duration, Exit)>,
}

impl Simulation {
    /// A pod whose first sandbox stands at once.
    #[must_use]
    pub fn new(pod: Pod, scripts: BTreeMap<String, Script>) -> Self {
        let (state, actions) = State::new(&pod, "node1", clock(Duration::ZERO));
        let mut simulation = Self {
            pod,
            state,
            sights: Vec::new(),
            events: Vec::new(),
            now: Duration::ZERO,
            agenda: BTreeMap::new(),
            planned: 0,
            scripts,
            living: BTreeMap::new(),
            answered: BTreeSet::new(),
            sandboxes: 0,
            steps_now: 0,
        };
        simulation.see(actions, None);
        simulation.sandbox_up(0);
        simulation
    }

    /// The time since the beginning.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.now
    }

    /// Plans an input for a moment from now.
    pub fn plan(&mut self, after: Duration, input: Input) {
        self.planned += 1;
        self.agenda.insert((self.now + after, self.planned), input);
    }

    /// Forgets what was planned: the supervisor died. Instances live on.
    pub fn forget_plans(&mut self) {
        let is_of_the_world = |input: &mut Input| matches!(input, Input::Exited { .. });
        self.agenda.retain(|_, input| is_of_the_world(input));
        self.answered.clear();
    }

    /// What the shim would tell a new supervisor.
    #[must_use]
    pub fn instances(&self) -> Vec<Instance> {
        let tell = |(instance, living): (&InstanceId, &Living)| Instance {
            instance: instance.clone(),
            id: living.id.clone(),
            pid: 1,
            state: match living.started {
                Some(started) => InstanceState::Running { started_at: nanoseconds(started) },
                None => InstanceState::Created,
            },
            pre_stop: living.pre_stop.map(|(until, exit)| match until > self.now {
                true => PreStop::Running { exec: 0 },
                false => PreStop::Ended(exit),
            }),
        };
        self.living.iter().map(tell).collect()
    }

    /// An instance vanishes without a trace.
    pub fn lose(&mut self, instance: &InstanceId) {
        self.living.remove(instance);
    }

    /// Lets time pass until this moment, or until nothing is to happen any more.
    pub fn run_until(&mut self, moment: Duration) {
        while self.step_until(moment) {}
        self.now = self.now.max(moment);
    }

    /// Takes one step; false if nothing is to happen until this moment.
    pub fn step_until(&mut self, moment: Duration) -> bool {
        let Some((at, input)) = self.next(moment) else {
            return false;
        };
        self.now = at;
        self.give(input);
        true
    }

    /// Takes at most this many steps; fewer if nothing is to happen any more.
    pub fn run_steps(&mut self, steps: usize) {
        for _ in 0..steps {
            if !self.step_until(Duration::MAX) {
                return;
            }
        }
    }

    fn next(&mut self, moment: Duration) -> Option<(Duration, Input)> {
        let planned = self.agenda.first_key_value().map(|((at, _), _)| *at);
        let wake = self.state.wake(&self.pod).map(|wake| wake.0.max(self.now));
        let at = planned.into_iter().chain(wake).min().filter(|at| *at <= moment)?;
        self.steps_now = if at > self.now { 0 } else { self.steps_now + 1 };
        if self.steps_now > MOST_STEPS {
            return None;
        }
        if planned == Some(at) {
            let (_, input) = self.agenda.pop_first()?;
            return self.is_news(&input).then_some((at, input)).or_else(|| self.next(moment));
        }
        Some((at, Input::Tick))
    }

    /// An instance ends once, whatever was planned for it.
    fn is_news(&mut self, input: &Input) -> bool {
        match input {
            Input::Exited { instance, .. } => self.living.remove(instance).is_some(),
            Input::HookDone { instance, hook, .. } => self.answered.insert((instance.clone(), *hook)),
            _ => true,
        }
    }

    /// Gives an input now.
    pub fn give(&mut self, input: Input) {
        let before = self.state.generation();
        let state = self.state.clone();
        let (state, actions) = state.step(&self.pod, input, clock(self.now));
        self.state = state;
        let status = (self.state.generation() != before).then(|| self.state.status(&self.pod));
        self.see(actions, status);
    }

    fn see(&mut self, actions: Vec<Action>, status: Option<PodStatus>) {
        for action in actions {
            self.sights.push((self.now, Sight::Action(action.clone())));
            self.answer(action);
        }
        if let Some(status) = status {
            self.sights.push((self.now, Sight::Status(Box::new(status))));
        }
    }

    fn answer(&mut self, action: Action) {
        let now = Duration::ZERO;
        match action {
            Action::Record(event) => self.note(*event),
            Action::PrepareVolumes => self.plan(now, Input::VolumesReady),
            Action::CreateSandbox { attempt } => self.sandbox_up(attempt),
            Action::StopSandbox => self.stop_sandbox(),
            Action::EnsureImage { instance, image, .. } => self.answer_image(instance, image),
            Action::CreateContainer { instance, .. } => self.answer_create(instance),
            Action::StartContainer { instance } => self.answer_start(instance),
            Action::RunHook { instance, hook } => self.answer_hook(instance, hook),
            Action::ResumeHook { instance, rest } => self.answer_rest(instance, rest),
            Action::RunProbe { instance, probe } => self.answer_probe(instance, probe),
            Action::Signal { instance, .. } => {
                if let Some((after, exit)) = self.run_of(&instance).stops {
                    self.plan_exit(&instance, after, exit);
                }
            }
            Action::Kill { instance } => self.plan_exit(&instance, now, Exit::Signaled(9)),
            Action::AbandonHook { .. }
            | Action::RefreshVolumes
            | Action::Release { .. }
            | Action::RemoveLogs { .. }
            | Action::Finish => {}
        }
    }

    fn note(&mut self, event: Event) {
        match self.events.iter_mut().find(|before| before.name == event.name) {
            Some(before) => *before = event,
            None => self.events.push(event),
        }
    }

    fn sandbox_up(&mut self, attempt: u32) {
        self.sandboxes += 1;
        let last = u8::try_from(self.sandboxes % 250).unwrap_or_default();
        let ips = vec![std::net::IpAddr::from([10, 244, 0, last])];
        let host_ips = vec![std::net::IpAddr::from([10, 244, 0, 254])];
        self.plan(Duration::ZERO, Input::SandboxUp { attempt, ips, host_ips });
    }

    fn stop_sandbox(&mut self) {
        let left: Vec<InstanceId> = self.living.keys().cloned().collect();
        for instance in left {
            self.plan_exit(&instance, Duration::ZERO, Exit::Signaled(9));
        }
        self.plan(Duration::ZERO, Input::SandboxStopped);
    }

    fn script<T>(&self, container: &str, look: impl FnOnce(&Script) -> T) -> T {
        match self.scripts.get(container) {
            Some(script) => look(script),
            None => look(&Script::default()),
        }
    }

    fn run_of(&self, instance: &InstanceId) -> Run {
        self.script(&instance.container, |script| (script.run)(instance.attempt))
    }

    fn answer_image(&mut self, instance: InstanceId, image: String) {
        let failure = self.script(&instance.container, |script| (script.image)(self.now));
        let input = match failure {
            Some((reason, message)) => Input::ImageFailed { instance, reason, message },
            None => {
                let image_id = format!("{image}@sha256:0");
                Input::ImageReady { instance, image, image_id, pulled: None }
            }
        };
        self.plan(Duration::ZERO, input);
    }

    fn answer_create(&mut self, instance: InstanceId) {
        let failure = self.script(&instance.container, |script| (script.config)(self.now));
        let input = match failure {
            Some(message) => Input::CreateFailed { instance, config: true, message },
            None => {
                let id = format!("{:064x}", self.planned);
                self.living
                    .insert(instance.clone(), Living { started: None, id: id.clone(), pre_stop: None });
                Input::Created { instance, id, stop_signal: None }
            }
        };
        self.plan(Duration::ZERO, input);
    }

    fn answer_start(&mut self, instance: InstanceId) {
        let run = self.run_of(&instance);
        if let Some(message) = run.start_error {
            self.living.remove(&instance);
            return self.plan(Duration::ZERO, Input::StartFailed { instance, message });
        }
        if let Some(living) = self.living.get_mut(&instance) {
            living.started = Some(self.now);
        }
        let started_at = nanoseconds(self.now);
        self.plan(Duration::ZERO, Input::Started { instance: instance.clone(), started_at });
        if let Some((after, exit)) = run.ends {
            self.plan_exit(&instance, after, exit);
        }
    }

    fn plan_exit(&mut self, instance: &InstanceId, after: Duration, exit: Exit) {
        let Some(living) = self.living.get(instance) else {
            return;
        };
        let run = self.run_of(instance);
        let ended = Ended {
            exit,
            oom_killed: run.oom,
            started_at: living.started.map(nanoseconds),
            finished_at: nanoseconds(self.now + after),
        };
        let input = Input::Exited { instance: instance.clone(), ended, message: run.message };
        self.plan(after, input);
    }

    fn answer_hook(&mut self, instance: InstanceId, hook: HookKind) {
        self.answered.remove(&(instance.clone(), hook));
        let reply = self.script(&instance.container, |script| match hook {
            HookKind::PostStart => script.post_start.clone(),
            HookKind::PreStop => script.pre_stop.clone(),
        });
        let container = self.pod.spec.container(&instance.container);
        let pre_stop = container.and_then(|container| container.pre_stop.as_ref());
        if hook == HookKind::PreStop
            && matches!(pre_stop, Some(Handler::Exec(_)))
            && let Some(living) = self.living.get_mut(&instance)
        {
            let exit = Exit::Code(u8::from(reply.result.is_err()));
            living.pre_stop = Some((self.now + reply.after, exit));
        }
        self.plan(reply.after, Input::HookDone { instance, hook, result: reply.result });
    }

    fn answer_rest(&mut self, instance: InstanceId, rest: HookRest) {
        let hook = HookKind::PreStop;
        self.answered.remove(&(instance.clone(), hook));
        let result = self.script(&instance.container, |script| script.pre_stop.result.clone());
        let process = self.living.get(&instance).and_then(|living| living.pre_stop);
        let after = match (rest, process) {
            (HookRest::Sleep(left), _) => left,
            (HookRest::Process { .. }, process) => {
                process.map(|(until, _)| until.saturating_sub(self.now)).unwrap_or_default()
            }
        };
        self.plan(after, Input::HookDone { instance, hook, result });
    }

    fn answer_probe(&mut self, instance: InstanceId, probe: ProbeKind) {
        let started = self.living.get(&instance).and_then(|living| living.started).unwrap_or(self.now);
        let attempt = Attempt {
            kind: probe,
            instance: instance.attempt,
            age: self.now.saturating_sub(started),
            at: self.now,
        };
        let (outcome, takes) =
            self.script(&instance.container, |script| ((script.probe)(attempt), script.probe_takes));
        self.plan(takes, Input::ProbeDone { instance, probe, outcome });
    }
}

/// Both clocks at a time since the beginning.
#[must_use]
pub fn clock(since: Duration) -> Now {
    let wall = Timestamp::from_nanosecond(nanoseconds(since).into()).unwrap_or(Timestamp::UNIX_EPOCH);
    Now { mono: Mono(since), wall }
}

fn nanoseconds(since: Duration) -> i64 {
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX).saturating_add(EPOCH * 1_000_000_000)
}
