//! Vectors 34, 35: the sandbox, and volumes.

use std::time::Duration;

use super::build::{container, pod, with_init};
use super::world::{exits, secs, simulate, stops};
use crate::core::State;
use crate::core::action::Action;
use crate::core::input::{DnsWarning, Input};
use crate::core::simulate::clock;
use crate::core::status::{EventType, Phase};
use crate::manifest::pod::RestartPolicy::*;
use crate::manifest::pod::{ObjectSource, Pod, Volume, VolumeSource};

#[test]
fn v34_a_dead_sandbox_is_made_again_and_the_pod_starts_over() {
    let web = with_init(pod(Always, vec![container("app")]), vec![container("a"), container("b")]);
    let mut life = simulate(web, [("a", exits(1, 0)), ("b", exits(1, 0)), ("app", stops(1, 0))]);
    life.run_until(secs(10));
    let before = life.status();
    life.plan(Duration::ZERO, Input::SandboxDied);
    life.run_until(secs(30));
    assert_eq!(
        (life.starts("a"), life.starts("b"), life.starts("app")),
        (vec![0, 11], vec![1, 12], vec![2, 13])
    );
    let text = "Pod sandbox changed, it will be killed and re-created.";
    assert_eq!(
        (life.told("SandboxChanged"), life.told("Killing")),
        (vec![text.to_owned()], vec!["Stopping container app".to_owned()])
    );
    let counts = ["a", "b", "app"].map(|name| life.of(name).restart_count);
    assert_eq!((counts, life.phase()), ([1, 1, 1], Phase::Running));
    assert_ne!(life.status().pod_ip, before.pod_ip);
    let initialised = life.condition("Initialized");
    assert_eq!(
        (initialised.status.as_str(), initialised.last_transition_time.as_second()),
        ("True", 1_700_000_002)
    );
    assert!(life.of("a").last_state.terminated.is_some());
    let removed: Vec<&Action> = life
        .actions()
        .map(|(_, action)| action)
        .filter(|it| matches!(it, Action::RemoveLogs { .. }))
        .collect();
    assert_eq!(removed.len(), 2);
}

#[test]
fn v35_under_never_a_dead_sandbox_ends_the_pod() {
    let mut life = simulate(pod(Never, vec![container("app")]), [("app", stops(1, 0))]);
    life.run_until(secs(10));
    life.plan(Duration::ZERO, Input::SandboxDied);
    life.run_until(secs(30));
    assert_eq!(life.phase(), Phase::Succeeded);
    assert!(!life.actions().any(|(_, action)| matches!(action, Action::CreateSandbox { .. })));
    assert_eq!(life.condition("PodReadyToStartContainers").status, "False");
}

#[test]
fn a_sandbox_that_cannot_be_made_is_tried_again_after_ten_seconds() {
    let web = pod(Always, vec![container("app")]);
    let (state, _) = State::new(&web, "node1", clock(secs(0)));
    let failed = Input::SandboxFailed { message: "no bridge".to_owned() };
    let (state, actions) = state.step(&web, failed, clock(secs(1)));
    let Some(Action::Record(event)) = actions.first() else { panic!("{actions:?}") };
    assert_eq!(event.message, "Failed to create pod sandbox: no bridge");
    assert_eq!((event.kind, event.reason.as_str()), (EventType::Warning, "FailedCreatePodSandBox"));
    assert_eq!(state.wake(&web).map(|wake| wake.0), Some(secs(11)));
    let (state, actions) = state.step(&web, Input::Tick, clock(secs(11)));
    assert_eq!(actions, [Action::PrepareVolumes]);
    let (state, actions) = state.step(&web, Input::VolumesReady, clock(secs(11)));
    assert_eq!(actions, [Action::CreateSandbox { attempt: 0 }]);
    let again = Input::SandboxFailed { message: "no bridge".to_owned() };
    let (state, actions) = state.step(&web, again, clock(secs(12)));
    assert_eq!(actions.len(), 1);
    let (state, _) = state.step(&web, Input::Tick, clock(secs(13)));
    let waiting = state.status(&web).container_statuses[0].state.waiting.clone().and_then(|it| it.reason);
    assert_eq!(waiting.as_deref(), Some("ContainerCreating"));
    assert_eq!(state.wake(&web).map(|wake| wake.0), Some(secs(22)));
}

#[test]
fn a_volume_that_cannot_be_made_is_told_and_tried_again() {
    let web = pod(Always, vec![container("app")]);
    let (state, _) = State::new(&web, "node1", clock(secs(0)));
    let up = Input::SandboxUp { attempt: 0, ips: Vec::new(), host_ips: Vec::new() };
    let (state, actions) = state.step(&web, up, clock(secs(0)));
    assert_eq!(actions, [Action::PrepareVolumes]);
    let message = "configmap \"cm\" not found".to_owned();
    let failed = Input::VolumesFailed { volume: "v".to_owned(), message };
    let (state, actions) = state.step(&web, failed, clock(secs(0)));
    let Some(Action::Record(event)) = actions.first() else { panic!("{actions:?}") };
    let text = "MountVolume.SetUp failed for volume \"v\" : configmap \"cm\" not found";
    assert_eq!((event.reason.as_str(), event.message.as_str()), ("FailedMount", text));
    let (_, actions) = state.clone().step(&web, Input::ObjectsChanged, clock(secs(3)));
    assert_eq!(actions, [Action::PrepareVolumes]);
    let (state, actions) = state.step(&web, Input::Tick, clock(secs(1)));
    assert!(actions.is_empty());
    let (_, actions) = state.step(&web, Input::Tick, clock(secs(10)));
    assert_eq!(actions, [Action::PrepareVolumes]);
}

#[test]
fn volumes_follow_their_objects_from_when_they_are_there_until_the_pod_ends() {
    let mut web = pod(Always, vec![container("app")]);
    let objects =
        ObjectSource { name: "cm".to_owned(), items: Vec::new(), default_mode: 0o644, optional: false };
    web.spec.volumes = vec![Volume { name: "v".to_owned(), source: VolumeSource::ConfigMap(objects) }];
    let refreshes = |state: &State, web: &Pod, seconds| {
        let asks = |input| {
            let (_, actions) = state.clone().step(web, input, clock(secs(seconds)));
            actions.contains(&Action::RefreshVolumes)
        };
        let changed = asks(Input::ObjectsChanged);
        assert_eq!(asks(Input::VolumesStale), changed);
        changed
    };
    let (state, _) = State::new(&web, "node1", clock(secs(0)));
    let up = Input::SandboxUp { attempt: 0, ips: Vec::new(), host_ips: Vec::new() };
    let (state, _) = state.step(&web, up, clock(secs(0)));
    assert!(!refreshes(&state, &web, 0));
    let (state, _) = state.step(&web, Input::VolumesReady, clock(secs(0)));
    assert!(refreshes(&state, &web, 1));
    assert!(!refreshes(&state, &pod(Always, vec![container("app")]), 1));
    // One that took over does not know what changed meanwhile.
    let recovered = Input::Recovered { sandbox: Some(0), instances: Vec::new() };
    let (_, actions) = state.clone().step(&web, recovered, clock(secs(1)));
    assert!(actions.contains(&Action::RefreshVolumes));
    let (state, _) = state.step(&web, Input::Delete { grace_seconds: Some(0) }, clock(secs(2)));
    assert!(!refreshes(&state, &web, 2));
}

#[test]
fn the_sandbox_shows_before_the_containers_do() {
    let web = pod(Always, vec![container("app")]);
    let (state, _) = State::new(&web, "node1", clock(secs(0)));
    let up = Input::SandboxUp { attempt: 0, ips: vec![[10, 0, 0, 7].into()], host_ips: Vec::new() };
    let (state, _) = state.step(&web, up, clock(secs(0)));
    let status = state.status(&web);
    assert_eq!(status.pod_ip.as_deref(), Some("10.0.0.7"));
    assert_eq!(status.conditions[0].status, "True");
}

#[test]
fn what_is_wrong_with_resolv_conf_is_told_once_per_sandbox() {
    let web = pod(Always, vec![container("app")]);
    let mut life = simulate(web, [("app", stops(1, 0))]);
    let warning = |attempt| Input::ResolvConfWarnings {
        attempt,
        warnings: vec![(DnsWarning::DnsConfigForming, format!("too much {attempt}"))],
    };
    life.run_until(secs(1));
    life.plan(Duration::ZERO, warning(0));
    life.run_until(secs(2));
    assert_eq!(life.told("DNSConfigForming"), ["too much 0"]);
    life.restart_supervisor();
    life.plan(Duration::ZERO, warning(0));
    life.run_until(secs(3));
    assert_eq!(life.told("DNSConfigForming"), ["too much 0"]);
    life.plan(Duration::ZERO, Input::SandboxDied);
    life.run_until(secs(20));
    life.plan(Duration::ZERO, warning(1));
    life.run_until(secs(21));
    assert_eq!(life.told("DNSConfigForming"), ["too much 0", "too much 1"]);
}
