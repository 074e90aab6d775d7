//! What the containers of a simulated pod do, as flags tell it: `CONTAINER=…`; pure.

use std::collections::BTreeMap;
use std::time::Duration;

use hull_shim::wire::Exit;

use crate::cli::{Error, Result, duration};
use crate::core::action::ProbeKind;
use crate::core::input::{ImageFailure, Outcome};
use crate::core::simulate::{Attempt, Reply, Run, Script};
use crate::manifest::pod::{Pod, RestartPolicy};

const SIGKILL: u8 = 9;

/// Flags that tell how containers behave.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Behaviour {
    /// A run ends by itself: after a time, with exit code 0 or CODE, or `oom`. Given again, it tells of the next run; the last holds
    /// for all that follow. Without it containers run for ever, and init containers end at once.
    #[arg(long, value_name = "CONTAINER=AFTER[:CODE]")]
    exit: Vec<String>,
    /// A probe (startup, readiness, liveness) fails while the container's age is in this span; without one, always.
    #[arg(long, value_name = "CONTAINER/PROBE[=FROM[-UNTIL]]")]
    fail_probe: Vec<String>,
    /// A hook (postStart, preStop) takes this long, and fails with `:fail`.
    #[arg(long, value_name = "CONTAINER/HOOK=AFTER[:fail]")]
    hook: Vec<String>,
    /// How long a container takes to end after its stop signal, or `never`. Without it, it ends at once.
    #[arg(long, value_name = "CONTAINER=AFTER")]
    stop: Vec<String>,
    /// The image cannot be pulled until this time of the pod's life; without one, never.
    #[arg(long, value_name = "CONTAINER[=UNTIL]")]
    no_image: Vec<String>,
}

/// What was told of one container.
#[derive(Debug, Clone, Default)]
struct Told {
    /// Nobody needs to say that init containers end.
    ends_at_once: bool,
    exits: Vec<(Duration, Ending)>,
    failing: Vec<(ProbeKind, Span)>,
    post_start: Reply,
    pre_stop: Reply,
    stop: Stop,
    no_image: Option<Span>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Code(u8),
    OutOfMemory,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    After(Duration),
    Never,
}

impl Default for Stop {
    fn default() -> Self {
        Self::After(Duration::ZERO)
    }
}

/// From a time, until before another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    from: Duration,
    until: Duration,
}

impl Span {
    fn has(self, time: Duration) -> bool {
        self.from <= time && time < self.until
    }
}

impl Behaviour {
    /// A script for each container of the pod.
    pub(super) fn scripts(&self, pod: &Pod) -> Result<BTreeMap<String, Script>> {
        let mut told = Tellings::new(pod);
        for text in &self.exit {
            let (name, value) = halves("--exit", text)?;
            let exit = exit(value).ok_or_else(|| wrong("--exit", text, "app=20s:1, app=5s or app=1m:oom"))?;
            told.of(name)?.exits.push(exit);
        }
        for text in &self.fail_probe {
            let (path, span) = text.split_once('=').unwrap_or((text, "0"));
            let (name, probe) = path.split_once('/').unwrap_or((path, ""));
            let failing = probe_kind(probe).zip(span_of(span));
            let failing =
                failing.ok_or_else(|| wrong("--fail-probe", text, "app/readiness or app/liveness=30s-2m"))?;
            told.of(name)?.failing.push(failing);
        }
        for text in &self.hook {
            let (path, value) = halves("--hook", text)?;
            let (name, hook) = path.split_once('/').unwrap_or((path, ""));
            let example = || wrong("--hook", text, "app/postStart=2s or app/preStop=5s:fail");
            let reply = reply(value).ok_or_else(example)?;
            match hook {
                "postStart" => told.of(name)?.post_start = reply,
                "preStop" => told.of(name)?.pre_stop = reply,
                _ => return Err(example()),
            }
        }
        for text in &self.stop {
            let (name, value) = halves("--stop", text)?;
            told.of(name)?.stop = match (value, duration::parse(value)) {
                ("never", _) => Stop::Never,
                (_, Ok(after)) => Stop::After(after),
                (_, Err(_)) => return Err(wrong("--stop", text, "app=5s or app=never")),
            };
        }
        for text in &self.no_image {
            let (name, until) =
                text.split_once('=').map_or((text.as_str(), None), |(name, until)| (name, Some(until)));
            let until = until.map(duration::parse).unwrap_or(Ok(Duration::MAX));
            let until = until.map_err(|_| wrong("--no-image", text, "app or app=90s"))?;
            told.of(name)?.no_image = Some(Span { from: Duration::ZERO, until });
        }
        Ok(told.0.into_iter().map(|(name, told)| (name, told.script())).collect())
    }
}

/// What was told, by container.
struct Tellings(BTreeMap<String, Told>);

impl Tellings {
    fn new(pod: &Pod) -> Self {
        let mut all: BTreeMap<String, Told> = BTreeMap::new();
        for container in &pod.spec.containers {
            all.insert(container.name.as_str().to_owned(), Told::default());
        }
        for init in &pod.spec.init_containers {
            let told = all.entry(init.name.as_str().to_owned()).or_default();
            told.ends_at_once = init.restart_policy != Some(RestartPolicy::Always);
        }
        Self(all)
    }

    fn of(&mut self, name: &str) -> Result<&mut Told> {
        let known: Vec<String> = self.0.keys().cloned().collect();
        self.0.get_mut(name).ok_or_else(|| {
            Error::Usage(format!("container {name} is not one of the pod's: {}", known.join(", ")))
        })
    }
}

impl Told {
    fn script(self) -> Script {
        let Self { ends_at_once, mut exits, failing, post_start, pre_stop, stop, no_image } = self;
        if exits.is_empty() && ends_at_once {
            exits.push((Duration::ZERO, Ending::Code(0)));
        }
        Script {
            run: Box::new(move |attempt| run(&exits, attempt, stop)),
            probe: Box::new(move |attempt: Attempt| {
                let fails = failing.iter().any(|(kind, span)| *kind == attempt.kind && span.has(attempt.age));
                if fails { Outcome::Failure("simulated failure".to_owned()) } else { Outcome::Success }
            }),
            post_start,
            pre_stop,
            image: Box::new(move |at| {
                let missing = no_image.filter(|span| span.has(at));
                missing.map(|_| (ImageFailure::Pull, "simulated: there is no such image".to_owned()))
            }),
            ..Script::default()
        }
    }
}

/// The run of this number; after the last that was told of, all are like it.
fn run(exits: &[(Duration, Ending)], attempt: u32, stop: Stop) -> Run {
    let number = usize::try_from(attempt).unwrap_or(usize::MAX);
    let end = exits.get(number).or(exits.last()).copied();
    Run {
        ends: end.map(|(after, ending)| match ending {
            Ending::Code(code) => (after, Exit::Code(code)),
            Ending::OutOfMemory => (after, Exit::Signaled(SIGKILL)),
        }),
        oom: end.is_some_and(|(_, ending)| ending == Ending::OutOfMemory),
        stops: match stop {
            Stop::After(after) => Some((after, Exit::Signaled(15))),
            Stop::Never => None,
        },
        ..Run::default()
    }
}

fn halves<'a>(flag: &str, text: &'a str) -> Result<(&'a str, &'a str)> {
    text.split_once('=').ok_or_else(|| wrong(flag, text, "CONTAINER=…"))
}

fn wrong(flag: &str, text: &str, example: &str) -> Error {
    Error::Hinted {
        message: format!("{flag} {text} is not understood"),
        hint: format!("for example {flag} {example}"),
    }
}

fn exit(text: &str) -> Option<(Duration, Ending)> {
    let (after, ending) = text.split_once(':').unwrap_or((text, "0"));
    let ending = match ending {
        "oom" => Ending::OutOfMemory,
        code => Ending::Code(code.parse().ok()?),
    };
    Some((duration::parse(after).ok()?, ending))
}

fn reply(text: &str) -> Option<Reply> {
    let (after, result) = match text.split_once(':') {
        None => (text, Ok(())),
        Some((after, "fail")) => (after, Err("simulated failure".to_owned())),
        Some(_) => return None,
    };
    Some(Reply { after: duration::parse(after).ok()?, result })
}

fn probe_kind(text: &str) -> Option<ProbeKind> {
    match text {
        "startup" => Some(ProbeKind::Startup),
        "readiness" => Some(ProbeKind::Readiness),
        "liveness" => Some(ProbeKind::Liveness),
        _ => None,
    }
}

fn span_of(text: &str) -> Option<Span> {
    let (from, until) = text.split_once('-').map_or((text, None), |(from, until)| (from, Some(until)));
    let until = match until {
        Some(until) => duration::parse(until).ok()?,
        None => Duration::MAX,
    };
    Some(Span { from: duration::parse(from).ok()?, until })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_times_with_endings() {
        assert_eq!(exit("20s:3"), Some((Duration::from_secs(20), Ending::Code(3))));
        assert_eq!(exit("1m:oom"), Some((Duration::from_secs(60), Ending::OutOfMemory)));
        for wrong in ["", "x", "5s:256", "5s:", "-1s"] {
            assert_eq!(exit(wrong), None, "{wrong}");
        }
        let span = span_of("30s-2m").unwrap();
        assert!(!span.has(Duration::from_secs(29)) && span.has(Duration::from_secs(30)));
        assert!(!span.has(Duration::from_secs(120)) && span_of("0").unwrap().has(Duration::from_secs(9999)));
    }

    #[test]
    fn the_last_run_that_was_told_of_holds_for_the_others() {
        let exits = [(Duration::ZERO, Ending::Code(1)), (Duration::from_secs(5), Ending::Code(0))];
        let ends = |attempt| run(&exits, attempt, Stop::Never).ends;
        assert_eq!(ends(0), Some((Duration::ZERO, Exit::Code(1))));
        assert_eq!((ends(1), ends(1)), (ends(9), Some((Duration::from_secs(5), Exit::Code(0)))));
        assert_eq!(run(&[], 0, Stop::Never).ends, None);
    }
}
