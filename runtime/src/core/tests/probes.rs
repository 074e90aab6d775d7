//! Vectors 11 to 17, 24, 40: probes.

use super::build::{container, pod, probe, sidecar, with_init};
use super::world::{exits, failure, probed, secs, simulate, stubborn};
use crate::core::action::ProbeKind::{self, Liveness, Readiness, Startup};
use crate::core::input::Outcome;
use crate::core::simulate::{Attempt, Script, Simulation};
use crate::core::status::Phase;
use crate::manifest::pod::{Container, Probe, RestartPolicy::*};

fn app(readiness: Option<Probe>, liveness: Option<Probe>, startup: Option<Probe>) -> Container {
    Container { readiness, liveness, startup, ..container("app") }
}

fn only(kind: ProbeKind, fails: impl Fn(Attempt) -> bool + 'static) -> Script {
    probed(move |attempt| match attempt.kind == kind && fails(attempt) {
        true => failure(),
        false => Outcome::Success,
    })
}

#[test]
fn v11_a_failing_readiness_probe_keeps_the_pod_unready_and_running() {
    let web = pod(Always, vec![app(Some(probe(10, 3)), None, None)]);
    let output = "HTTP probe failed with statuscode: 404";
    let mut life = simulate(web, [("app", probed(move |_| Outcome::Failure(output.to_owned())))]);
    life.run_until(secs(60));
    let text = "Readiness probe failed: HTTP probe failed with statuscode: 404";
    assert!(life.told("Unhealthy").iter().all(|told| told == text));
    assert_eq!((life.word("app").as_str(), life.of("app").ready), ("Running", false));
    let condition = life.condition("Ready");
    assert_eq!(condition.reason.as_deref(), Some("ContainersNotReady"));
    assert_eq!(condition.message.as_deref(), Some("containers with unready status: [app]"));
}

#[test]
fn v12_three_liveness_failures_restart_without_waiting() {
    let web = pod(Always, vec![app(None, Some(probe(5, 3)), None)]);
    let mut life = simulate(web, [("app", only(Liveness, |attempt| attempt.instance == 0))]);
    life.run_until(secs(40));
    assert_eq!(life.probes("app", Liveness)[..3], [5, 10, 15]);
    assert_eq!(life.told("Unhealthy").len(), 3);
    assert_eq!(life.told("Killing"), ["Container app failed liveness probe, will be restarted"]);
    assert_eq!((life.starts("app"), life.of("app").restart_count), (vec![0, 15], 1));
    assert_eq!(life.of("app").last_state.terminated.map(|end| end.exit_code), Some(143));
    let tail: Vec<&str> = life.reasons();
    assert_eq!(tail, ["Scheduled", "Pulled", "Created", "Started", "Unhealthy", "Killing"]);
    assert_eq!(life.told("Started").len(), 2);
}

#[test]
fn v13_an_errored_probe_never_kills() {
    let web = pod(Always, vec![app(None, Some(probe(1, 1)), None)]);
    let mut life = simulate(web, [("app", probed(|_| Outcome::Error("no such file".to_owned())))]);
    life.run_until(secs(100));
    let text = "Liveness probe errored and resulted in unknown state: no such file";
    assert_eq!(life.told("Unhealthy").first().map(String::as_str), Some(text));
    assert_eq!((life.starts("app"), life.word("app").as_str()), (vec![0], "Running"));
}

#[test]
fn v14_a_warning_is_a_success_with_an_event() {
    let web = pod(Always, vec![app(Some(probe(10, 1)), None, None)]);
    let output = "Probe terminated redirects, Response body: x";
    let mut life = simulate(web, [("app", probed(move |_| Outcome::Warning(output.to_owned())))]);
    life.run_until(secs(5));
    assert!(life.of("app").ready);
    assert_eq!(life.told("ProbeWarning"), [format!("Readiness probe warning: {output}")]);
}

#[test]
fn v15_the_startup_probe_gates_the_others() {
    let web = pod(Always, vec![app(Some(probe(1, 1)), Some(probe(1, 1)), Some(probe(1, 30)))]);
    let mut life = simulate(web, [("app", only(Startup, |attempt| attempt.age < secs(10)))]);
    life.run_until(secs(9));
    assert_eq!((life.of("app").started, life.of("app").ready), (Some(false), false));
    assert!(life.probes("app", Liveness).is_empty() && life.probes("app", Readiness).is_empty());
    life.run_until(secs(30));
    assert_eq!((life.of("app").started, life.of("app").ready), (Some(true), true));
    assert_eq!(life.probes("app", Startup), (1..=10).collect::<Vec<u64>>());
    assert_eq!(life.probes("app", Readiness).first(), Some(&10));
    assert_eq!(life.probes("app", Liveness).first(), Some(&11));
}

#[test]
fn v16_a_failed_startup_probe_restarts_the_container() {
    let web = pod(Always, vec![app(None, None, Some(probe(1, 5)))]);
    let mut life = simulate(web, [("app", only(Startup, |attempt| attempt.instance == 0))]);
    life.run_until(secs(20));
    assert_eq!(life.told("Killing"), ["Container app failed startup probe, will be restarted"]);
    assert_eq!((life.starts("app"), life.of("app").started), (vec![0, 5], Some(true)));
}

#[test]
fn v17_readiness_needs_as_many_successes_in_a_row_as_asked() {
    let readiness = Probe { success_threshold: 3, ..probe(5, 1) };
    let web = pod(Always, vec![app(Some(readiness), None, None)]);
    let fails = |attempt: Attempt| attempt.at == secs(5) || attempt.at < secs(5) && attempt.at > secs(0);
    let mut life = simulate(web, [("app", only(Readiness, fails))]);
    life.run_until(secs(19));
    assert!(!life.of("app").ready);
    life.run_until(secs(20));
    assert!(life.of("app").ready, "{:?}", life.probes("app", Readiness));
}

#[test]
fn v24_a_probes_own_grace_period_counts_for_its_kills_and_not_for_deletion() {
    let liveness = Probe { grace_seconds: Some(3), ..probe(5, 1) };
    let mut web = pod(Always, vec![app(None, Some(liveness), None)]);
    web.spec.grace_seconds = 60;
    let script = Script { run: stubborn().run, ..only(Liveness, |attempt| attempt.instance == 0) };
    let mut life = simulate(web, [("app", script)]);
    life.run_until(secs(20));
    assert_eq!((life.signals("app"), life.kills("app")), (vec![5], vec![8]));
    life.delete(None);
    life.run_until(secs(100));
    assert_eq!((life.signals("app"), life.kills("app")), (vec![5, 20], vec![8, 80]));
}

#[test]
fn v40_a_readiness_gate_without_its_condition_keeps_the_pod_unready() {
    let mut web = pod(Always, vec![container("app")]);
    web.spec.readiness_gates = vec!["x".to_owned()];
    let mut life = simulate(web, []);
    life.run_until(secs(1));
    assert_eq!(life.condition("ContainersReady").status, "True");
    let ready = life.condition("Ready");
    assert_eq!((ready.status.as_str(), ready.reason.as_deref()), ("False", Some("ReadinessGatesNotReady")));
    let text = "corresponding condition of pod readiness gate \"x\" does not exist.";
    assert_eq!(ready.message.as_deref(), Some(text));
}

#[test]
fn readiness_is_probed_as_soon_as_the_container_is_shown_and_then_every_period() {
    let web = pod(Always, vec![app(Some(probe(10, 3)), None, None)]);
    let mut life = simulate(web, []);
    life.run_until(secs(35));
    assert_eq!(life.probes("app", Readiness), [0, 0, 10, 20, 30][1..]);
    assert!(life.of("app").ready);
}

#[test]
fn an_initial_delay_is_counted_in_whole_seconds_from_the_start() {
    let liveness = Probe { initial_delay_seconds: 7, ..probe(5, 3) };
    let mut life = simulate(pod(Always, vec![app(None, Some(liveness), None)]), []);
    life.run_until(secs(21));
    assert_eq!(life.probes("app", Liveness), [10, 15, 20]);
}

#[test]
fn a_slow_attempt_delays_the_next_one_and_one_missed_tick_is_made_up_for() {
    let web = pod(Always, vec![app(None, Some(probe(2, 100)), None)]);
    let script = Script { probe_takes: secs(5), ..Script::default() };
    let mut life = simulate(web, [("app", script)]);
    life.run_until(secs(18));
    assert_eq!(life.probes("app", Liveness), [2, 7, 12, 17]);
}

#[test]
fn failures_before_a_crash_count_towards_the_threshold_after_it() {
    let web = pod(Always, vec![app(None, Some(probe(5, 3)), None)]);
    let run = |attempt| match attempt {
        0 => super::world::ends(12, 1),
        _ => crate::core::simulate::Run::default(),
    };
    let script = Script { run: Box::new(run), ..only(Liveness, |attempt| attempt.instance < 2) };
    let mut life = simulate(web, [("app", script)]);
    life.run_until(secs(30));
    assert_eq!(life.signals("app"), [15]);
    assert_eq!(life.starts("app"), [0, 12, 25]);
}

#[test]
fn a_container_that_always_fails_its_liveness_probe_ends_in_crash_loop_back_off() {
    let web = pod(Always, vec![app(None, Some(probe(10, 1)), None)]);
    let mut life = simulate(web, [("app", only(Liveness, |_| true))]);
    life.run_until(secs(400));
    assert_eq!(life.starts("app")[..4], [0, 10, 20, 30]);
    assert!(life.words("app").contains(&"CrashLoopBackOff".to_owned()));
}

#[test]
fn never_keeps_a_container_down_that_failed_its_liveness_probe() {
    let web = pod(Never, vec![app(None, Some(probe(5, 1)), None), container("other")]);
    let mut life = simulate(web, [("app", only(Liveness, |_| true))]);
    life.run_until(secs(30));
    assert_eq!(life.told("Killing"), ["Container app failed liveness probe"]);
    assert_eq!((life.starts("app"), life.phase()), (vec![0], Phase::Running));
}

#[test]
fn an_idle_pod_is_not_woken() {
    let mut life: Simulation = simulate(pod(Always, vec![container("app")]), []);
    life.run_until(secs(3));
    assert_eq!(life.state.wake(&life.pod), None);
    let done = with_init(pod(Always, vec![app(None, None, Some(probe(1, 3)))]), vec![sidecar("side")]);
    let mut life = simulate(done, []);
    life.run_until(secs(3));
    assert_eq!(life.state.wake(&life.pod), None);
}

#[test]
fn main_containers_are_not_probed_for_liveness_any_more_while_the_pod_ends() {
    let web = pod(Always, vec![app(Some(probe(1, 1)), Some(probe(1, 1)), None)]);
    let mut life = simulate(web, [("app", stubborn())]);
    life.run_until(secs(10));
    life.delete(Some(10));
    life.run_until(secs(19));
    assert_eq!(life.probes("app", Liveness).last(), Some(&10));
    assert_eq!(life.probes("app", Readiness).last(), Some(&19));
    life.run_until(secs(40));
    assert_eq!(life.probes("app", Readiness).last(), Some(&20));
    assert_eq!(exits(0, 0).probe_takes, secs(0));
}
