//! Vectors 1 to 4, 10, 36, and the rules of 12.2.

use hull_shim::wire::Exit;

use super::build::{container, pod, rule, sidecar, with_init};
use super::world::{ends, exits, secs, simulate, stops};
use crate::core::simulate::{Run, Script};
use crate::core::status::Phase;
use crate::manifest::pod::{Container, RestartAction, RestartPolicy::*};

#[test]
fn v01_a_crash_loop_waits_10_20_40_80_160_300_300_seconds_after_each_exit() {
    let mut life = simulate(pod(Always, vec![container("app")]), [("app", exits(0, 1))]);
    life.run_until(secs(1300));
    assert_eq!(life.starts("app"), [0, 0, 10, 30, 70, 150, 310, 610, 910, 1210]);
    assert_eq!(life.phase(), Phase::Running);
    let words = life.words("app");
    assert!(words.windows(2).any(|pair| pair == ["Error", "CrashLoopBackOff"]), "{words:?}");
    assert!(words.windows(2).any(|pair| pair == ["CrashLoopBackOff", "Running"]), "{words:?}");
    let status = life.of("app");
    assert_eq!(status.restart_count, 9);
    assert_eq!(status.last_state.terminated.map(|last| last.exit_code), Some(1));
    let message = status.state.waiting.and_then(|waiting| waiting.message);
    let text = "back-off 5m0s restarting failed container=app pod=web_default(uid)";
    assert_eq!(message.as_deref(), Some(text));
}

#[test]
fn v01_the_exit_is_shown_before_the_back_off() {
    let mut life = simulate(pod(Always, vec![container("app")]), [("app", exits(5, 1))]);
    life.run_until(secs(19));
    let words = ["ContainerCreating", "Running", "Error", "Running", "Error", "CrashLoopBackOff"];
    assert_eq!(life.words("app"), words);
    assert_eq!(life.told("BackOff"), ["Back-off restarting failed container app in pod web_default(uid)"]);
}

#[test]
fn v02_an_eleven_minute_run_resets_the_back_off() {
    let run = |attempt| ends(if attempt == 3 { 660 } else { 0 }, 1);
    let script = Script { run: Box::new(run), ..Script::default() };
    let mut life = simulate(pod(Always, vec![container("app")]), [("app", script)]);
    life.run_until(secs(720));
    assert_eq!(life.starts("app"), [0, 0, 10, 30, 690, 700, 720]);
}

#[test]
fn v03_on_failure_a_success_stays_completed() {
    let mut life = simulate(pod(OnFailure, vec![container("app")]), [("app", exits(3, 0))]);
    life.run_until(secs(100));
    assert_eq!((life.word("app").as_str(), life.phase()), ("Completed", Phase::Succeeded));
    assert!(!life.of("app").ready);
    assert_eq!((life.of("app").restart_count, life.starts("app").len()), (0, 1));
    assert_eq!(life.condition("Ready").reason.as_deref(), Some("PodCompleted"));
    assert_eq!(life.state.wake(&life.pod), None);
}

#[test]
fn v04_never_fails_when_both_ended_and_one_failed() {
    let containers = vec![container("good"), container("bad")];
    let mut life = simulate(pod(Never, containers), [("good", exits(2, 0)), ("bad", exits(5, 3))]);
    life.run_until(secs(4));
    assert_eq!(life.phase(), Phase::Running);
    life.run_until(secs(6));
    assert_eq!(life.phase(), Phase::Failed);
    assert_eq!((life.word("good"), life.word("bad")), ("Completed".to_owned(), "Error".to_owned()));
    assert_eq!(life.condition("Ready").reason.as_deref(), Some("PodFailed"));
}

#[test]
fn v10_a_sidecar_is_stopped_after_the_main_container_and_does_not_count() {
    let web = with_init(pod(Never, vec![container("app")]), vec![sidecar("side")]);
    let mut life = simulate(web, [("app", exits(5, 0)), ("side", stops(1, 143))]);
    life.run_until(secs(5));
    assert_eq!((life.phase(), life.signals("side")), (Phase::Running, vec![5]));
    life.run_until(secs(7));
    assert_eq!(life.phase(), Phase::Succeeded);
    assert_eq!(life.of("side").state.terminated.map(|end| end.exit_code), Some(143));
    assert_eq!(life.told("Killing"), ["Stopping container side"]);
}

#[test]
fn v36_one_completed_and_one_running_container_leave_the_pod_running_and_not_ready() {
    let mut life = simulate(pod(Never, vec![container("a"), container("b")]), [("a", exits(1, 0))]);
    life.run_until(secs(10));
    assert_eq!((life.phase(), life.of("b").ready, life.of("a").ready), (Phase::Running, true, false));
    let condition = life.condition("Ready");
    assert_eq!(condition.message.as_deref(), Some("containers with unready status: [a]"));
}

#[test]
fn a_success_under_always_backs_off_just_the_same() {
    let mut life = simulate(pod(Always, vec![container("app")]), [("app", exits(0, 0))]);
    life.run_until(secs(60));
    assert_eq!(life.starts("app"), [0, 0, 10, 30]);
}

#[test]
fn an_out_of_memory_kill_is_named() {
    let run = |_| Run { ends: Some((secs(1), Exit::Signaled(9))), oom: true, ..Run::default() };
    let script = Script { run: Box::new(run), ..Script::default() };
    let mut life = simulate(pod(Never, vec![container("app")]), [("app", script)]);
    life.run_until(secs(2));
    let end = life.of("app").state.terminated.expect("it ended");
    assert_eq!((end.reason.as_deref(), end.exit_code), (Some("OOMKilled"), 137));
}

#[test]
fn a_rule_restarts_on_its_code_only() {
    let app = Container {
        restart_policy: Some(Never),
        restart_rules: vec![rule(RestartAction::Restart, 42)],
        ..container("app")
    };
    let run = |attempt| ends(1, if attempt < 2 { 42 } else { 7 });
    let script = Script { run: Box::new(run), ..Script::default() };
    let mut life = simulate(pod(Never, vec![app]), [("app", script)]);
    life.run_until(secs(100));
    assert_eq!((life.of("app").restart_count, life.phase()), (2, Phase::Failed));
}

#[test]
fn restart_all_containers_starts_the_pod_over_without_back_off() {
    let app = Container {
        restart_policy: Some(Never),
        restart_rules: vec![rule(RestartAction::RestartAllContainers, 88)],
        ..container("app")
    };
    let web = with_init(pod(Never, vec![app, container("other")]), vec![container("init")]);
    let run = |attempt| if attempt == 0 { ends(5, 88) } else { Run::default() };
    let app = Script { run: Box::new(run), ..Script::default() };
    let mut life = simulate(web, [("init", exits(1, 0)), ("app", app), ("other", stops(1, 0))]);
    life.run_until(secs(6));
    assert_eq!(
        (life.signals("other"), life.condition("AllContainersRestarting").status),
        (vec![6], "True".to_owned())
    );
    life.run_until(secs(20));
    assert_eq!(life.starts("init"), [0, 7]);
    assert_eq!(life.starts("app"), [1, 8]);
    let counts = ["init", "app", "other"].map(|name| life.of(name).restart_count);
    assert_eq!((counts, life.phase()), ([1, 1, 1], Phase::Running));
    assert_eq!(life.condition("AllContainersRestarting").status, "False");
    let last = life.of("other").last_state.terminated.expect("it was killed");
    assert_eq!((last.exit_code, last.reason.as_deref()), (137, Some("RestartingAllContainers")));
    assert!(life.words("app").contains(&"RestartingAllContainers".to_owned()));
    assert_eq!(life.told("Killing"), ["killing"]);
    assert!(life.statuses().all(|(_, status)| !status.phase.is_terminal()));
}

#[test]
fn the_termination_messages_of_a_pod_share_12_kib() {
    let run = |_| Run { message: "x".repeat(4096), ..ends(1, 0) };
    let names = ["a", "b", "c", "d", "e", "f"];
    let mut life = simulate(
        pod(Never, names.iter().map(|name| container(name)).collect()),
        [("a", Script { run: Box::new(run), ..Script::default() })],
    );
    life.run_until(secs(2));
    let message = life.of("a").state.terminated.and_then(|end| end.message);
    assert_eq!(message.map(|message| message.len()), Some(2048));
}
