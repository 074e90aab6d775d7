//! Vector 39: counting of events.

use super::build::{container, pod, probe};
use super::world::{probed, secs, simulate};
use crate::core::input::Outcome;
use crate::manifest::pod::{Container, RestartPolicy::*};

#[test]
fn v39_the_tenth_different_probe_output_is_combined() {
    let app = Container { liveness: Some(probe(20, 100)), ..container("app") };
    let script = probed(|attempt| Outcome::Failure(format!("{} s", attempt.at.as_secs())));
    let mut life = simulate(pod(Always, vec![app]), [("app", script)]);
    life.run_until(secs(300));
    let told: Vec<(String, u32)> = life
        .events
        .iter()
        .filter(|event| event.reason == "Unhealthy")
        .map(|event| (event.message.clone(), event.count))
        .collect();
    assert_eq!(told.len(), 10);
    assert_eq!(told[8], ("Liveness probe failed: 180 s".to_owned(), 1));
    assert_eq!(told[9], ("(combined from similar events): Liveness probe failed: 300 s".to_owned(), 6));
}

#[test]
fn a_crash_loops_events_count_up() {
    let mut life = simulate(pod(Always, vec![container("app")]), [("app", super::world::exits(0, 1))]);
    life.run_until(secs(100));
    assert_eq!(life.reasons(), ["Scheduled", "Pulled", "Created", "Started", "BackOff"]);
    assert_eq!(life.told("Started").len(), 5);
}
