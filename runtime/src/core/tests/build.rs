//! Pods for tests.

pub(super) use crate::manifest::pod::fixture::container;
use crate::manifest::pod::{fixture, *};

pub(super) fn pod(policy: RestartPolicy, containers: Vec<Container>) -> Pod {
    let mut pod = fixture::pod(containers);
    pod.meta.uid = "uid".to_owned();
    pod.spec.restart_policy = policy;
    pod
}

pub(super) fn with_init(mut pod: Pod, init: Vec<Container>) -> Pod {
    pod.spec.init_containers = init;
    pod
}

pub(super) fn sidecar(name: &str) -> Container {
    Container { restart_policy: Some(RestartPolicy::Always), ..container(name) }
}

pub(super) fn hook(words: &[&str]) -> Option<Handler> {
    Some(Handler::Exec(words.iter().map(|word| (*word).to_owned()).collect()))
}

/// An exec probe with this period and failure threshold.
pub(super) fn probe(period: u32, failures: u32) -> Probe {
    Probe {
        handler: Handler::Exec(vec!["true".to_owned()]),
        initial_delay_seconds: 0,
        timeout_seconds: 1,
        period_seconds: period,
        success_threshold: 1,
        failure_threshold: failures,
        grace_seconds: None,
    }
}

pub(super) fn rule(action: RestartAction, code: i32) -> RestartRule {
    RestartRule { action, negated: false, codes: vec![code] }
}
