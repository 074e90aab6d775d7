//! Vectors 5 to 9: init containers and sidecars.

use super::build::{container, hook, pod, probe, sidecar, with_init};
use super::world::{ends, exits, failure, probed, secs, simulate, stops, stubborn};
use crate::core::action::HookKind;
use crate::core::input::Outcome;
use crate::core::simulate::{Reply, Run, Script, Simulation};
use crate::core::status::Phase;
use crate::manifest::pod::{Container, RestartPolicy::*};

#[test]
fn v05_never_a_failed_init_container_ends_the_pod() {
    let web = with_init(pod(Never, vec![container("app")]), vec![container("init")]);
    let mut life = simulate(web, [("init", exits(1, 1))]);
    life.run_until(secs(10));
    assert_eq!((life.word("init").as_str(), life.word("app").as_str()), ("Error", "PodInitializing"));
    assert_eq!((life.phase(), life.starts("app").len()), (Phase::Failed, 0));
    let condition = life.condition("Initialized");
    assert_eq!(condition.message.as_deref(), Some("containers with incomplete status: [init]"));
}

#[test]
fn v06_an_init_container_is_retried_until_it_succeeds() {
    let web = with_init(pod(Always, vec![container("app")]), vec![container("init")]);
    let run = |attempt| ends(1, if attempt < 2 { 1 } else { 0 });
    let mut life = simulate(web, [("init", Script { run: Box::new(run), ..Script::default() })]);
    life.run_until(secs(30));
    assert_eq!(life.starts("init"), [0, 1, 12]);
    assert_eq!(life.starts("app"), [13]);
    let words = life.words("init");
    let shown = [
        "PodInitializing",
        "Running",
        "Error",
        "Running",
        "Error",
        "CrashLoopBackOff",
        "Running",
        "Completed",
    ];
    assert_eq!(words, shown);
    assert_eq!((life.of("app").restart_count, life.of("init").ready), (0, true));
    assert_eq!(life.phase(), Phase::Running);
}

/// Init A, sidecar S with a startup probe that succeeds at 5 s, init B, main M.
fn chain() -> Simulation {
    let side = Container { startup: Some(probe(1, 30)), pre_stop: hook(&["sleep"]), ..sidecar("side") };
    let init = vec![container("a"), side, container("b")];
    let web = with_init(pod(Always, vec![container("app")]), init);
    let started = |attempt: crate::core::simulate::Attempt| match attempt.at >= secs(6) {
        true => Outcome::Success,
        false => failure(),
    };
    let side = Script { pre_stop: Reply { after: secs(2), result: Ok(()) }, ..probed(started) };
    simulate(web, [("a", exits(1, 0)), ("side", side), ("b", exits(2, 0)), ("app", stops(5, 0))])
}

#[test]
fn v07_a_sidecar_with_a_startup_probe_holds_its_successor_back() {
    let mut life = chain();
    life.run_until(secs(5));
    assert_eq!((life.phase(), life.starts("b").len()), (Phase::Pending, 0));
    life.run_until(secs(20));
    assert_eq!((life.starts("a"), life.starts("side")), (vec![0], vec![1]));
    assert_eq!((life.starts("b"), life.starts("app")), (vec![6], vec![8]));
    let ready = ["side", "app"].map(|name| life.of(name).ready);
    assert_eq!((ready, life.condition("Ready").status), ([true, true], "True".to_owned()));
}

#[test]
fn v08_the_sidecars_hook_runs_at_once_but_its_signal_waits_for_the_main_container() {
    let mut life = chain();
    life.run_until(secs(20));
    life.delete(None);
    life.run_until(secs(60));
    let mut killed = life.told("Killing");
    killed.sort();
    assert_eq!(killed, ["Stopping container app", "Stopping container side"]);
    assert_eq!(life.hooks("side", HookKind::PreStop), [20]);
    assert_eq!((life.signals("app"), life.signals("side")), (vec![20], vec![25]));
}

#[test]
fn v09_sidecars_stop_after_main_in_reverse_order() {
    let init = vec![sidecar("s1"), sidecar("s2")];
    let web = with_init(pod(Always, vec![container("app")]), init);
    let mut life = simulate(web, [("app", stops(2, 0)), ("s2", stops(3, 0)), ("s1", stops(0, 0))]);
    life.run_until(secs(10));
    life.delete(None);
    life.run_until(secs(60));
    assert_eq!((life.signals("app"), life.signals("s2"), life.signals("s1")), (vec![10], vec![12], vec![15]));
    assert_eq!(life.phase(), Phase::Succeeded);
}

#[test]
fn sidecars_that_waited_the_whole_grace_period_get_two_seconds_together() {
    let init = vec![sidecar("s1"), sidecar("s2")];
    let web = with_init(pod(Always, vec![container("app")]), init);
    let mut life = simulate(web, [("app", stubborn()), ("s1", stubborn()), ("s2", stubborn())]);
    life.run_until(secs(10));
    life.delete(Some(5));
    life.run_until(secs(60));
    assert_eq!((life.kills("app"), life.signals("s1"), life.signals("s2")), (vec![15], vec![15], vec![15]));
    assert_eq!((life.kills("s1"), life.kills("s2")), (vec![17], vec![17]));
}

#[test]
fn a_crashed_sidecar_is_restarted_with_back_off_even_under_never() {
    let web = with_init(pod(Never, vec![container("app")]), vec![sidecar("side")]);
    let mut life = simulate(web, [("side", exits(5, 1))]);
    life.run_until(secs(50));
    assert_eq!(life.starts("side"), [0, 5, 20, 45]);
    assert_eq!((life.phase(), life.starts("app")), (Phase::Running, vec![0]));
}

#[test]
fn a_sidecars_failed_liveness_probe_restarts_it() {
    let side = Container { liveness: Some(probe(5, 1)), ..sidecar("side") };
    let web = with_init(pod(Always, vec![container("app")]), vec![side]);
    let script = probed(|attempt| if attempt.instance == 0 { failure() } else { Outcome::Success });
    let mut life = simulate(web, [("side", script)]);
    life.run_until(secs(20));
    assert_eq!(life.told("Killing"), ["Init container side failed liveness probe"]);
    assert_eq!((life.of("side").restart_count, life.of("app").restart_count), (1, 0));
}

#[test]
fn main_containers_wait_for_a_last_sidecar_that_ended_with_them() {
    let side = Container { startup: Some(probe(1, 30)), ..sidecar("side") };
    let web = with_init(pod(Always, vec![container("app")]), vec![side]);
    let run = |attempt| if attempt == 0 { ends(9, 1) } else { Run::default() };
    let slow = |attempt: crate::core::simulate::Attempt| match attempt.age >= secs(3) {
        true => Outcome::Success,
        false => failure(),
    };
    let side = Script { run: Box::new(run), ..probed(slow) };
    let mut life = simulate(web, [("app", exits(6, 1)), ("side", side)]);
    life.run_until(secs(14));
    assert_eq!((life.starts("side"), life.starts("app")), (vec![0, 9], vec![3, 12]));
}

#[test]
fn finished_init_containers_do_not_run_again_when_the_main_container_crashes() {
    let web = with_init(pod(Always, vec![container("app")]), vec![container("init")]);
    let mut life = simulate(web, [("init", exits(1, 0)), ("app", exits(1, 1))]);
    life.run_until(secs(100));
    assert_eq!(life.starts("init"), [0]);
    assert!(life.starts("app").len() > 3);
}

#[test]
fn an_init_container_killed_for_memory_failed_even_with_exit_code_0() {
    let web = with_init(pod(OnFailure, vec![container("app")]), vec![container("init")]);
    let run = |attempt| Run { oom: attempt == 0, ..ends(1, 0) };
    let mut life = simulate(web, [("init", Script { run: Box::new(run), ..Script::default() })]);
    life.run_until(secs(10));
    assert_eq!((life.starts("init"), life.starts("app")), (vec![0, 1], vec![2]));
}
