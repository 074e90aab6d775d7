//! A supervisor that is killed at any moment.

use std::time::Duration;

use hull_shim::wire::InstanceId;

use super::build::{container, hook, pod, probe, sidecar, with_init};
use super::world::{exits, failure, probed, secs, simulate, stops, stubborn};
use crate::core::action::{Action, HookKind, ProbeKind};
use crate::core::input::{Input, Outcome};
use crate::core::simulate::{Reply, Script, Simulation};
use crate::core::status::Phase;
use crate::manifest::pod::{Container, Handler, HttpGet, Port, Probe, RestartPolicy::*};

#[test]
fn back_off_and_restart_counts_go_on() {
    let mut life = simulate(pod(Always, vec![container("app")]), [("app", exits(0, 1))]);
    life.run_until(secs(35));
    life.restart_supervisor();
    life.run_until(secs(100));
    assert_eq!(life.starts("app"), [0, 0, 10, 30, 70]);
}

#[test]
fn readiness_and_probe_runs_go_on() {
    let readiness = Probe { failure_threshold: 3, ..probe(10, 3) };
    let app = Container { readiness: Some(readiness), ..container("app") };
    let script = probed(|attempt| if attempt.at >= secs(20) { failure() } else { Outcome::Success });
    let mut life = simulate(pod(Always, vec![app]), [("app", script)]);
    life.run_until(secs(35));
    life.restart_supervisor();
    life.run_until(secs(36));
    assert!(life.of("app").ready);
    life.run_until(secs(40));
    assert!(!life.of("app").ready);
    assert_eq!(life.probes("app", ProbeKind::Readiness)[..5], [0, 10, 20, 30, 40]);
}

#[test]
fn an_instance_that_vanished_is_started_again_and_counts() {
    let mut life = simulate(pod(Always, vec![container("app")]), []);
    life.run_until(secs(10));
    life.lose(&InstanceId { container: "app".to_owned(), attempt: 0 });
    life.restart_supervisor();
    life.run_until(secs(11));
    let status = life.of("app");
    let last = status.last_state.terminated.expect("it is gone");
    assert_eq!((last.exit_code, last.reason.as_deref()), (137, Some("ContainerStatusUnknown")));
    assert_eq!((status.restart_count, life.starts("app")), (1, vec![0, 10]));
}

#[test]
fn what_was_under_way_is_asked_for_again() {
    let app = Container { post_start: hook(&["sleep"]), ..container("app") };
    let script = Script { post_start: Reply { after: secs(20), result: Ok(()) }, ..Script::default() };
    let mut life = simulate(pod(Always, vec![app]), [("app", script)]);
    life.run_until(secs(5));
    life.restart_supervisor();
    life.run_until(secs(30));
    assert_eq!((life.hooks("app", HookKind::PostStart), life.word("app").as_str()), (vec![0, 5], "Running"));
    assert_eq!(life.starts("app"), [0]);
}

#[test]
fn a_stop_signal_is_not_sent_twice_and_the_grace_period_goes_on() {
    let mut life = simulate(pod(Always, vec![container("app")]), [("app", stubborn())]);
    life.run_until(secs(10));
    life.delete(None);
    life.run_until(secs(11));
    life.plan(Duration::ZERO, Input::Tick);
    life.run_until(secs(20));
    life.restart_supervisor();
    life.run_until(secs(100));
    assert_eq!((life.signals("app"), life.kills("app")), (vec![10], vec![40]));
    assert_eq!(life.phase(), Phase::Failed);
}

#[test]
fn a_pre_stop_hook_runs_once_and_is_waited_for() {
    let app = Container { pre_stop: hook(&["x"]), ..container("app") };
    for (death, signalled) in [(12, 15), (16, 16)] {
        let script = Script { pre_stop: Reply { after: secs(5), result: Ok(()) }, ..stops(0, 0) };
        let mut life = simulate(pod(Always, vec![app.clone()]), [("app", script)]);
        life.run_until(secs(10));
        life.delete(None);
        // The first supervisor dies while the hook runs, the other after its end but before it heard of that.
        life.run_until(secs(11));
        life.forget_plans();
        life.run_until(secs(death));
        life.restart_supervisor();
        life.run_until(secs(60));
        assert_eq!((life.hooks("app", HookKind::PreStop), life.signals("app")), (vec![10], vec![signalled]));
    }
}

#[test]
fn a_hook_that_sleeps_sleeps_the_rest_and_a_request_is_not_made_again() {
    let get =
        HttpGet { https: false, host: None, port: Port::Number(80), path: "/".into(), headers: Vec::new() };
    for (handler, signalled) in [(Handler::Sleep { seconds: 8 }, 18), (Handler::HttpGet(get), 12)] {
        let app = Container { pre_stop: Some(handler), ..container("app") };
        let script = Script { pre_stop: Reply { after: secs(8), result: Ok(()) }, ..stops(0, 0) };
        let mut life = simulate(pod(Always, vec![app]), [("app", script)]);
        life.run_until(secs(10));
        life.delete(None);
        life.run_until(secs(12));
        life.restart_supervisor();
        life.run_until(secs(60));
        assert_eq!((life.hooks("app", HookKind::PreStop), life.signals("app")), (vec![10], vec![signalled]));
    }
}

#[test]
fn an_instance_that_the_record_does_not_know_is_killed_and_released() {
    let mut life = simulate(pod(Always, vec![container("app")]), [("app", stops(0, 0))]);
    life.run_until(secs(10));
    let id = InstanceId { container: "app".to_owned(), attempt: 7 };
    let mut instances = life.instances();
    let mut stranger = instances[0].clone();
    stranger.instance = id.clone();
    instances.push(stranger);
    life.give(Input::Recovered { sandbox: Some(0), instances });
    assert!(life.actions().any(|(_, action)| *action == Action::Kill { instance: id.clone() }));
}

#[test]
fn a_sandbox_that_died_meanwhile_is_made_again() {
    let mut life = simulate(pod(Always, vec![container("app")]), []);
    life.run_until(secs(10));
    let instances = life.instances();
    life.plan(Duration::ZERO, Input::Recovered { sandbox: None, instances });
    life.run_until(secs(20));
    assert_eq!((life.starts("app"), life.of("app").restart_count), (vec![0, 10], 1));
}

#[test]
fn probes_that_bring_nothing_new_need_not_be_written() {
    let app = Container { readiness: Some(probe(1, 1)), liveness: Some(probe(1, 3)), ..container("app") };
    let script = probed(|attempt| if attempt.at == secs(7) { failure() } else { Outcome::Success });
    let mut life = simulate(pod(Always, vec![app]), [("app", script)]);
    life.run_until(secs(3));
    let calm = life.state.clone();
    life.run_until(secs(6));
    assert!(!life.state.must_be_written(&calm) && life.state != calm);
    life.run_until(secs(7));
    assert!(life.state.must_be_written(&calm));
}

#[test]
fn a_supervisor_killed_after_every_single_step_changes_nothing() {
    let app = Container { readiness: Some(probe(3, 1)), ..container("app") };
    let lives = [false, true].map(|killed| {
        let mut life = simulate(pod(Always, vec![app.clone()]), [("app", exits(7, 1))]);
        for second in 0..200 {
            life.run_until(secs(second));
            if killed {
                life.restart_supervisor();
            }
        }
        (life.starts("app"), life.of("app").restart_count, life.phase())
    });
    assert_eq!(lives[0], lives[1]);
}

/// One of everything; the sidecar's startup probe passes at once.
fn rich() -> Simulation {
    let app = Container {
        post_start: hook(&["x"]),
        pre_stop: hook(&["x"]),
        readiness: Some(probe(2, 1)),
        ..container("app")
    };
    let side = Container { startup: Some(probe(1, 3)), ..sidecar("side") };
    let web = with_init(pod(Always, vec![app, container("other")]), vec![container("init"), side]);
    let hooked = Script {
        post_start: Reply { after: secs(2), result: Ok(()) },
        pre_stop: Reply { after: secs(2), result: Ok(()) },
        ..stops(1, 0)
    };
    simulate(web, [("app", hooked), ("init", exits(1, 0)), ("other", stops(0, 0)), ("side", stops(0, 0))])
}

#[test]
fn a_supervisor_may_die_at_any_step_of_a_start_and_of_an_end() {
    for steps in 0..45 {
        let mut life = rich();
        life.run_steps(steps);
        life.restart_supervisor();
        life.run_until(life.now() + secs(20));
        let counts = ["init", "side", "app", "other"].map(|name| life.of(name).restart_count);
        let ready = life.condition("Ready").status;
        assert_eq!((life.phase(), counts, ready.as_str()), (Phase::Running, [0; 4], "True"), "{steps} steps");
        life.give(Input::Delete { grace_seconds: None });
        life.run_steps(steps);
        if !life.state.is_finished() {
            life.restart_supervisor();
        }
        life.run_until(life.now() + secs(60));
        assert!(life.state.is_finished(), "{steps} steps after deletion: {:?}", life.state);
        assert_eq!((life.phase(), life.kills("app").len()), (Phase::Succeeded, 0), "{steps} steps");
        assert!(life.signals("app").len() <= 2, "{steps} steps");
    }
}
