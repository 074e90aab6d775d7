//! Vectors 21 to 23, 25, 37: ends.

use hull_shim::wire::Exit;

use super::build::{container, hook, pod};
use super::world::{exits, secs, simulate, stops, stubborn};
use crate::core::action::{Action, HookKind};
use crate::core::simulate::{Reply, Run, Script};
use crate::core::status::Phase;
use crate::manifest::pod::{Container, RestartPolicy::*};

fn hooked() -> Container {
    Container { pre_stop: hook(&["sleep"]), ..container("app") }
}

fn slow_hook(after: u64) -> Script {
    Script { pre_stop: Reply { after: secs(after), result: Ok(()) }, ..stubborn() }
}

#[test]
fn v21_the_hook_comes_first_and_the_grace_period_is_shared() {
    let mut life = simulate(pod(Always, vec![hooked()]), [("app", slow_hook(5))]);
    life.run_until(secs(10));
    life.delete(None);
    life.run_until(secs(100));
    assert_eq!(life.hooks("app", HookKind::PreStop), [10]);
    assert_eq!((life.signals("app"), life.kills("app")), (vec![15], vec![40]));
    assert_eq!(life.of("app").state.terminated.map(|end| end.exit_code), Some(137));
}

#[test]
fn v22_a_hook_longer_than_the_grace_period_is_abandoned() {
    let mut web = pod(Always, vec![hooked()]);
    web.spec.grace_seconds = 10;
    let mut life = simulate(web, [("app", slow_hook(60))]);
    life.run_until(secs(10));
    life.delete(None);
    life.run_until(secs(100));
    assert_eq!((life.signals("app"), life.kills("app")), (vec![20], vec![22]));
    assert!(life.actions().any(|(at, action)| at == 20 && matches!(action, Action::AbandonHook { .. })));
}

#[test]
fn v23_now_leaves_two_seconds_after_the_signal() {
    let mut life = simulate(pod(Always, vec![container("app")]), [("app", stubborn())]);
    life.run_until(secs(10));
    life.delete(Some(1));
    life.run_until(secs(100));
    assert_eq!((life.signals("app"), life.kills("app")), (vec![10], vec![12]));
    let mut life = simulate(pod(Always, vec![hooked()]), [("app", slow_hook(60))]);
    life.run_until(secs(10));
    life.delete(Some(1));
    life.run_until(secs(100));
    assert_eq!((life.signals("app"), life.kills("app")), (vec![11], vec![13]));
}

#[test]
fn v25_a_pod_past_its_deadline_fails() {
    let mut web = pod(Always, vec![container("app")]);
    web.spec.active_deadline_seconds = Some(5);
    let mut life = simulate(web, [("app", stops(1, 0))]);
    life.run_until(secs(5));
    assert_eq!((life.signals("app"), life.phase()), (vec![5], Phase::Running));
    life.run_until(secs(20));
    let status = life.status();
    assert_eq!((status.phase, status.reason.as_deref()), (Phase::Failed, Some("DeadlineExceeded")));
    let text = "Pod was active on the node longer than the specified deadline";
    assert_eq!((status.message.as_deref(), life.told("DeadlineExceeded").len()), (Some(text), 1));
    assert_eq!((life.starts("app"), life.word("app").as_str()), (vec![0], "Completed"));
}

#[test]
fn v37_a_deleted_pod_whose_processes_end_well_has_succeeded() {
    let mut life = simulate(pod(Always, vec![container("app")]), [("app", stops(3, 0))]);
    life.run_until(secs(10));
    life.delete(None);
    life.run_until(secs(12));
    assert_eq!((life.phase(), life.state.deletion().map(|it| it.grace_seconds)), (Phase::Running, Some(30)));
    life.run_until(secs(20));
    assert_eq!((life.phase(), life.word("app").as_str()), (Phase::Succeeded, "Completed"));
    assert_eq!((life.finished_at(), life.state.is_finished()), (Some(13), true));
    assert_eq!(life.state.wake(&life.pod), None);
}

#[test]
fn finish_comes_after_the_final_status_and_everything_was_released() {
    let mut life = simulate(pod(Always, vec![container("app")]), []);
    life.run_until(secs(10));
    life.delete(None);
    life.run_until(secs(20));
    let last_status =
        life.sights.iter().rposition(|(_, it)| matches!(it, crate::core::simulate::Sight::Status(_)));
    let finish =
        life.sights.iter().position(|(_, it)| *it == crate::core::simulate::Sight::Action(Action::Finish));
    assert!(last_status < finish);
    let released = life.actions().filter(|(_, action)| matches!(action, Action::Release { .. })).count();
    assert_eq!(released, 1);
}

#[test]
fn a_finished_pod_waits_for_its_deletion() {
    let mut life = simulate(pod(Never, vec![container("app")]), [("app", exits(1, 0))]);
    life.run_until(secs(100));
    assert_eq!((life.finished_at(), life.phase()), (None, Phase::Succeeded));
    life.delete(None);
    life.run_until(secs(101));
    assert_eq!(life.finished_at(), Some(100));
    assert_eq!(life.state.deletion().map(|it| it.grace_seconds), Some(0));
}

#[test]
fn a_post_start_hook_under_way_delays_deletion_and_nothing_starts_after_it() {
    let one = Container { post_start: hook(&["sleep"]), ..container("one") };
    let script = Script { post_start: Reply { after: secs(20), result: Ok(()) }, ..stops(0, 0) };
    let mut life = simulate(pod(Always, vec![one, container("two")]), [("one", script)]);
    life.run_until(secs(5));
    life.delete(None);
    life.run_until(secs(100));
    assert_eq!((life.signals("one"), life.starts("two").len()), (vec![20], 0));
    let two = life.of("two").state.terminated.expect("it is ended for good");
    assert_eq!((two.exit_code, two.reason.as_deref()), (137, Some("ContainerStatusUnknown")));
    assert_eq!(life.phase(), Phase::Failed);
}

#[test]
fn a_second_deletion_shortens_the_grace_period() {
    let mut life = simulate(pod(Always, vec![container("app")]), [("app", stubborn())]);
    life.run_until(secs(10));
    life.delete(None);
    life.run_until(secs(15));
    life.delete(Some(100));
    life.run_until(secs(16));
    life.delete(Some(4));
    life.run_until(secs(100));
    assert_eq!((life.signals("app"), life.kills("app")), (vec![10], vec![20]));
    let deletion = life.state.deletion().expect("it was deleted");
    assert_eq!(deletion.timestamp.as_second(), crate::core::simulate::EPOCH + 14);
}

#[test]
fn a_failing_pre_stop_hook_is_told_and_does_not_stop_the_kill() {
    let pre_stop = Reply { after: secs(1), result: Err("x".to_owned()) };
    let mut life = simulate(pod(Always, vec![hooked()]), [("app", Script { pre_stop, ..Script::default() })]);
    life.run_until(secs(10));
    life.delete(None);
    life.run_until(secs(50));
    assert_eq!(life.told("FailedPreStopHook"), ["PreStopHook failed"]);
    assert_eq!(life.signals("app"), [11]);
}

#[test]
fn a_container_that_ends_by_its_hook_gets_no_signal() {
    let pre_stop = Reply { after: secs(2), result: Ok(()) };
    let run = |_| Run { ends: Some((secs(11), Exit::Code(0))), ..Run::default() };
    let script = Script { pre_stop, run: Box::new(run), ..Script::default() };
    let mut life = simulate(pod(Always, vec![hooked()]), [("app", script)]);
    life.run_until(secs(10));
    life.delete(None);
    life.run_until(secs(50));
    assert!(life.signals("app").is_empty());
    assert_eq!((life.phase(), life.finished_at()), (Phase::Succeeded, Some(12)));
}

#[test]
fn a_pod_deleted_before_its_first_sandbox_stands_just_ends() {
    let mut life = simulate(pod(Always, vec![container("app")]), []);
    life.delete(None);
    life.run_until(secs(5));
    assert!(life.finished_at().is_some());
}
