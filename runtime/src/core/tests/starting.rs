//! Vectors 18 to 20, 27, 38: hooks, images, configuration.

use super::build::{container, hook, pod};
use super::world::{exits, secs, simulate};
use crate::core::action::HookKind;
use crate::core::input::{ImageFailure, Input};
use crate::core::simulate::{Reply, Run, Script};
use crate::core::status::Phase;
use crate::manifest::pod::{Container, PullPolicy, RestartPolicy::*};

fn hooked(name: &str) -> Container {
    Container { post_start: hook(&["sh", "-c", "exit 1"]), ..container(name) }
}

#[test]
fn a_healthy_start_tells_scheduled_pulled_created_started() {
    let mut life = simulate(pod(Always, vec![container("app")]), []);
    life.run_until(secs(1));
    assert_eq!(life.reasons(), ["Scheduled", "Pulled", "Created", "Started"]);
    let scheduled = life.events.first().expect("the first event");
    assert_eq!(scheduled.message, "Successfully assigned default/web to node1");
    assert_eq!(life.events.last().map(|event| event.field_path.as_str()), Some("spec.containers{app}"));
    assert_eq!(life.told("Pulled"), ["Container image \"busybox\" already present on machine"]);
    let status = life.of("app");
    assert_eq!((status.ready, status.started, status.restart_count), (true, Some(true), 0));
    assert!(status.container_id.is_some_and(|id| id.starts_with("hull://")));
    assert_eq!((life.phase(), life.status().pod_ip.as_deref()), (Phase::Running, Some("10.244.0.1")));
    let conditions: Vec<(String, String)> =
        life.status().conditions.into_iter().map(|it| (it.kind, it.status)).collect();
    let names = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];
    assert_eq!(conditions, names.map(|name| (name.to_owned(), "True".to_owned())));
}

#[test]
fn v18_a_failed_post_start_hook_kills_the_container() {
    let error = "command 'sh -c exit 1' exited with 1: , message: \"\"";
    let post_start = Reply { after: secs(1), result: Err(error.to_owned()) };
    let mut life =
        simulate(pod(Always, vec![hooked("app")]), [("app", Script { post_start, ..Script::default() })]);
    life.run_until(secs(3));
    assert_eq!(life.told("FailedPostStartHook")[0], "PostStartHook failed");
    assert_eq!(life.told("Killing")[0], "FailedPostStartHook");
    assert_eq!(life.starts("app"), [0, 1]);
    let waiting = life
        .statuses()
        .filter_map(|(_, status)| status.container_statuses[0].state.waiting.clone())
        .find(|waiting| waiting.reason.as_deref() == Some("PostStartHookError"))
        .expect("the error is shown");
    let text = format!(
        "Exec lifecycle hook ([sh -c exit 1]) for Container \"app\" in Pod \"web_default(uid)\" failed - \
         error: {error}"
    );
    assert_eq!(waiting.message, Some(text));
    life.run_until(secs(5));
    assert_eq!(life.word("app"), "CrashLoopBackOff");
}

#[test]
fn a_failed_post_start_hook_under_never_fails_the_pod() {
    let post_start = Reply { after: secs(1), result: Err("x".to_owned()) };
    let mut life =
        simulate(pod(Never, vec![hooked("app")]), [("app", Script { post_start, ..Script::default() })]);
    life.run_until(secs(5));
    assert_eq!((life.phase(), life.word("app").as_str()), (Phase::Failed, "Error"));
}

#[test]
fn v20_a_slow_post_start_hook_delays_the_next_container_and_the_status() {
    let post_start = Reply { after: secs(20), result: Ok(()) };
    let web = pod(Always, vec![hooked("one"), container("two")]);
    let mut life = simulate(web, [("one", Script { post_start, ..Script::default() })]);
    life.run_until(secs(19));
    assert_eq!((life.word("one").as_str(), life.starts("two").len()), ("ContainerCreating", 0));
    assert_eq!(life.hooks("one", HookKind::PostStart), [0]);
    life.run_until(secs(21));
    assert_eq!((life.word("one").as_str(), life.starts("two")), ("Running", vec![20]));
}

#[test]
fn v27_a_missing_command_is_a_start_error_with_back_off() {
    let run = |_| Run { start_error: Some("exec: \"x\": not found".to_owned()), ..Run::default() };
    let script = Script { run: Box::new(run), ..Script::default() };
    let mut life = simulate(pod(Always, vec![container("app")]), [("app", script)]);
    life.run_until(secs(5));
    let words = life.words("app");
    assert_eq!(words, ["ContainerCreating", "RunContainerError", "CrashLoopBackOff"]);
    let last = life.of("app").last_state.terminated.expect("it ended");
    assert_eq!((last.reason.as_deref(), last.exit_code), (Some("StartError"), 128));
    assert_eq!(life.starts("app"), [0, 0]);
    assert_eq!(life.told("Failed")[0], "Error: exec: \"x\": not found");
}

#[test]
fn v38_a_missing_config_map_is_tried_again_every_ten_seconds() {
    let missing = |at| (at < secs(25)).then(|| "configmap \"cm\" not found".to_owned());
    let script = Script { config: Box::new(missing), ..Script::default() };
    let mut life = simulate(pod(Always, vec![container("app")]), [("app", script)]);
    life.run_until(secs(22));
    assert_eq!(life.word("app"), "CreateContainerConfigError");
    assert_eq!(life.told("Failed"), ["Error: configmap \"cm\" not found"; 3]);
    assert_eq!(life.phase(), Phase::Pending);
    life.run_until(secs(31));
    assert_eq!((life.starts("app"), life.of("app").restart_count), (vec![30], 0));
}

#[test]
fn v38_a_change_of_objects_starts_it_at_once() {
    let missing = |at| (at < secs(13)).then(|| "configmap \"cm\" not found".to_owned());
    let script = Script { config: Box::new(missing), ..Script::default() };
    let mut life = simulate(pod(Always, vec![container("app")]), [("app", script)]);
    life.plan(secs(13), Input::ObjectsChanged);
    life.run_until(secs(15));
    assert_eq!(life.starts("app"), [13]);
}

#[test]
fn an_absent_image_is_pulled_again_with_back_off() {
    let missing = |at| (at < secs(25)).then(|| (ImageFailure::Pull, "no route".to_owned()));
    let script = Script { image: Box::new(missing), ..Script::default() };
    let mut life = simulate(pod(Always, vec![container("app")]), [("app", script)]);
    life.run_until(secs(5));
    assert_eq!(life.word("app"), "ErrImagePull");
    let texts = ["Failed to pull image \"busybox\": no route", "Error: ErrImagePull"];
    assert_eq!(life.told("Failed"), texts);
    assert_eq!(life.told("Pulling"), ["Pulling image \"busybox\""]);
    life.run_until(secs(22));
    assert_eq!(life.word("app"), "ImagePullBackOff");
    let message = life.of("app").state.waiting.and_then(|waiting| waiting.message);
    assert_eq!(message.as_deref(), Some("Back-off pulling image \"busybox\": ErrImagePull: no route"));
    assert_eq!(life.told("BackOff"), ["Back-off pulling image \"busybox\""]);
    life.run_until(secs(40));
    assert_eq!(life.starts("app"), [30]);
}

#[test]
fn an_image_that_must_not_be_pulled_must_be_there() {
    let app = Container { pull_policy: PullPolicy::Never, ..container("app") };
    let missing = |_| Some((ImageFailure::NeverPull, String::new()));
    let script = Script { image: Box::new(missing), ..Script::default() };
    let mut life = simulate(pod(Always, vec![app]), [("app", script)]);
    life.run_until(secs(5));
    assert_eq!(life.word("app"), "ErrImageNeverPull");
    let text = "Container image \"busybox\" is not present with pull policy of Never";
    assert_eq!(life.told("ErrImageNeverPull"), [text]);
    assert_eq!(life.told("Failed"), ["Error: ErrImageNeverPull"]);
}

#[test]
fn a_failed_start_of_one_main_container_does_not_stop_the_next() {
    let missing = |_| Some("no".to_owned());
    let script = Script { config: Box::new(missing), ..Script::default() };
    let web = pod(Always, vec![container("one"), container("two")]);
    let mut life = simulate(web, [("one", script), ("two", exits(600, 0))]);
    life.run_until(secs(5));
    assert_eq!((life.word("two").as_str(), life.phase()), ("Running", Phase::Pending));
}
