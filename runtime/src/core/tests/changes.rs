//! A pod that is given another manifest.

use hull_shim::wire::Exit;

use super::build::{container, pod, sidecar, with_init};
use super::world::{ends, exits, secs, simulate, stops};
use crate::core::action::Action;
use crate::core::input::{ImageFailure, Input};
use crate::core::pass::Waiting;
use crate::core::simulate::{Run, Script, Sight, Simulation};
use crate::core::status::Phase;
use crate::manifest::pod::RestartPolicy::*;

fn said(life: &Simulation, reason: &str) -> Vec<String> {
    let event = |sight: &Sight| match sight {
        Sight::Action(Action::Record(event)) if event.reason == reason => Some(event.message.clone()),
        _ => None,
    };
    life.sights.iter().filter_map(|(_, sight)| event(sight)).collect()
}

#[test]
fn a_container_with_another_image_is_restarted_whatever_its_policy_says() {
    for policy in [Always, OnFailure, Never] {
        let web = with_init(pod(policy, vec![container("app"), container("other")]), vec![sidecar("side")]);
        let scripts = [("app", stops(1, 0)), ("other", stops(0, 0)), ("side", stops(0, 0))];
        let mut life = simulate(web, scripts);
        life.run_until(secs(10));
        life.pod.spec.containers[0].image = "app:2".to_owned();
        life.pod.spec.init_containers[0].image = "side:2".to_owned();
        life.give(Input::PodChanged);
        life.run_until(secs(60));
        assert_eq!(
            (life.starts("app"), life.starts("other"), life.starts("side").len()),
            (vec![0, 11], vec![0], 2)
        );
        assert_eq!(life.of("app").restart_count, 1);
        let killed = said(&life, "Killing");
        assert!(
            killed.contains(&"Container app definition changed, will be restarted".to_owned()),
            "{killed:?}"
        );
        assert!(killed.contains(&"Init container side definition changed".to_owned()), "{killed:?}");
        assert_eq!((life.phase(), killed.len()), (Phase::Running, 2));
    }
}

/// The images that instances were created with.
fn created<'a>(life: &'a Simulation) -> Vec<&'a str> {
    let image = |action: &'a Action| match action {
        Action::CreateContainer { image, .. } => Some(image.as_str()),
        _ => None,
    };
    life.actions().filter_map(|(_, action)| image(action)).collect()
}

#[test]
fn an_instance_has_the_image_that_was_found_for_it_whenever_the_manifest_changes() {
    let mut found = Vec::new();
    for steps in 0..6 {
        let mut life = simulate(pod(Always, vec![container("app")]), [("app", stops(0, 0))]);
        life.pod.spec.containers[0].image = "app:1".to_owned();
        life.run_steps(steps);
        life.pod.spec.containers[0].image = "app:2".to_owned();
        life.give(Input::PodChanged);
        life.run_until(secs(60));
        let images = created(&life);
        // What was created with the old image is restarted, and nothing else is.
        assert!(images == ["app:2"] || images == ["app:1", "app:2"], "{steps} steps: {images:?}");
        assert_eq!(
            (life.starts("app").len(), said(&life, "Killing").len() + 1),
            (images.len(), images.len())
        );
        assert_eq!(life.of("app").image, "app:2", "{steps} steps");
        found.push(images.len());
    }
    // The third change comes while the image is looked for, the fourth while the container is created.
    assert_eq!(found, [1, 1, 1, 2, 2, 2]);
}

#[test]
fn an_instance_that_was_not_created_yet_begins_with_the_newest_image_of_the_next_supervisor() {
    let mut last = 0;
    for steps in 0..6 {
        let mut life = simulate(pod(Always, vec![container("app")]), [("app", stops(0, 0))]);
        life.pod.spec.containers[0].image = "app:1".to_owned();
        life.run_steps(steps);
        let awaited = life.state.pass.as_ref().and_then(|pass| pass.waiting.clone());
        if let Some(Waiting::Create { instance }) = awaited {
            life.lose(&instance);
        }
        let instances = life.instances().len();
        life.pod.spec.containers[0].image = "app:2".to_owned();
        life.restart_supervisor();
        life.run_until(secs(60));
        let killed = said(&life, "Killing").len();
        assert_eq!((killed, life.of("app").restart_count), (instances, u32::try_from(instances).unwrap()));
        assert_eq!((created(&life).last(), life.of("app").image.as_str()), (Some(&"app:2"), "app:2"));
        last = instances;
    }
    assert_eq!(last, 1);
}

#[test]
fn a_change_that_a_supervisor_died_over_is_seen_by_the_next() {
    let mut life = simulate(pod(Always, vec![container("app")]), [("app", stops(0, 0))]);
    life.run_until(secs(10));
    life.pod.spec.containers[0].image = "app:2".to_owned();
    life.restart_supervisor();
    life.run_until(secs(11));
    assert_eq!(life.starts("app"), [0, 10]);
}

#[test]
fn labels_that_a_supervisor_died_over_are_told_by_the_next() {
    let mut life = simulate(pod(Always, vec![container("app")]), [("app", stops(0, 0))]);
    let restart = |life: &mut Simulation| {
        life.restart_supervisor();
        life.run_until(life.now() + secs(1));
        life.state.generation()
    };
    life.run_until(secs(10));
    // The first of them finds the host at another address.
    let version = restart(&mut life);
    assert_eq!(restart(&mut life), version);
    for (value, versions) in [("a", 1), ("b", 2)] {
        life.pod.meta.labels.insert("app".to_owned(), value.to_owned());
        for _ in 0..2 {
            assert_eq!(restart(&mut life), version + versions);
        }
    }
    // What was told of is not told again.
    life.pod.meta.labels.clear();
    life.give(Input::PodChanged);
    assert_eq!((restart(&mut life), life.starts("app").len()), (version + 3, 1));
}

#[test]
fn another_image_does_not_wait_for_the_back_off_of_the_one_before() {
    let run = |attempt: u32| match attempt {
        0..=3 => ends(0, 1),
        _ => Run { ends: None, stops: Some((secs(0), Exit::Code(0))), ..Run::default() },
    };
    let script = Script { run: Box::new(run), ..Script::default() };
    let mut life = simulate(pod(Always, vec![container("app")]), [("app", script)]);
    life.run_until(secs(45));
    assert_eq!(life.starts("app"), [0, 0, 10, 30]);
    life.pod.spec.containers[0].image = "app:2".to_owned();
    life.give(Input::PodChanged);
    life.run_until(secs(46));
    assert_eq!(life.starts("app"), [0, 0, 10, 30, 45]);
}

#[test]
fn pulls_of_an_image_that_no_container_has_any_more_are_forgotten() {
    let image = |_| Some((ImageFailure::Pull, "no".to_owned()));
    let script = Script { image: Box::new(image), ..Script::default() };
    let mut life = simulate(pod(Always, vec![container("app")]), [("app", script)]);
    let pulled = |life: &Simulation| life.state.pulls.keys().cloned().collect::<Vec<_>>();
    for (image, until) in [("app:1", 60), ("app:2", 120)] {
        life.pod.spec.containers[0].image = image.to_owned();
        life.give(Input::PodChanged);
        life.run_until(secs(until));
        assert_eq!(pulled(&life), [image]);
    }
    // Also when the supervisor dies over the change.
    life.pod.spec.containers[0].image = "app:3".to_owned();
    life.restart_supervisor();
    life.run_until(secs(180));
    assert_eq!(pulled(&life), ["app:3"]);
}

#[test]
fn a_deadline_that_is_set_later_counts_from_the_start() {
    let mut life = simulate(pod(Always, vec![container("app")]), [("app", exits(1000, 0))]);
    life.run_until(secs(10));
    life.pod.spec.active_deadline_seconds = Some(30);
    life.give(Input::PodChanged);
    life.run_until(secs(29));
    assert_eq!(life.phase(), Phase::Running);
    life.run_until(secs(40));
    assert_eq!((life.phase(), said(&life, "DeadlineExceeded").len()), (Phase::Failed, 1));
}
