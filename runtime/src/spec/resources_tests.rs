use super::*;
use crate::spec::fixture::{Case, container, pod};

type Four = (Option<u64>, Option<u64>, Option<u64>, Option<u64>);

/// cpu request, cpu limit, memory request, memory limit.
fn with(name: &str, (cpu_request, cpu_limit, memory_request, memory_limit): Four) -> Container {
    let resources =
        Resources { cpu_request, cpu_limit, memory_request, memory_limit, ..Resources::default() };
    Container { resources, ..container(name) }
}

const NONE: Four = (None, None, None, None);
const FULL: Four = (Some(500), Some(500), Some(1 << 20), Some(1 << 20));

#[test]
fn the_class_follows_requests_and_limits() {
    let cases: [(&[Four], &str); 7] = [
        (&[NONE], BEST_EFFORT),
        (&[(Some(0), None, None, None)], BEST_EFFORT),
        (&[FULL], GUARANTEED),
        (&[(None, Some(1), None, Some(1))], GUARANTEED),
        (&[FULL, NONE], BURSTABLE),
        (&[(Some(1), Some(2), Some(1), Some(1))], BURSTABLE),
        (&[(None, None, Some(1), None)], BURSTABLE),
    ];
    for (containers, expected) in cases {
        let containers =
            containers.iter().enumerate().map(|(i, four)| with(&format!("c{i}"), *four)).collect();
        assert_eq!(qos(&pod(containers)), expected);
    }
}

#[test]
fn an_init_container_counts_for_the_class() {
    let mut guaranteed = pod(vec![with("app", FULL)]);
    guaranteed.spec.init_containers = vec![with("init", NONE)];
    assert_eq!(qos(&guaranteed), BURSTABLE);
}

#[test]
fn weights_and_quotas_have_their_bounds() {
    let cases = [(0, 2), (1, 2), (100, 102), (1000, 1024), (1_000_000, 262_144)];
    for (milli, expected) in cases {
        assert_eq!(shares(milli), expected);
    }
    assert_eq!((quota(1), quota(250), quota(2000), quota(u64::MAX)), (1000, 25_000, 200_000, i64::MAX));
}

#[test]
fn the_pod_has_the_limits_that_all_its_containers_have() {
    let both = pod(vec![with("a", FULL), with("b", FULL)]);
    let expected = wire::Resources {
        cpu_shares: Some(1024),
        cpu_quota: Some(100_000),
        cpu_period: Some(100_000),
        memory_limit: Some(2 << 20),
        pids_limit: None,
    };
    assert_eq!(pod_resources(&both), expected);
    let one = pod(vec![with("a", FULL), with("b", NONE)]);
    let expected = wire::Resources { cpu_shares: Some(512), ..wire::Resources::default() };
    assert_eq!(pod_resources(&one), expected);
    let none = pod(vec![with("a", NONE)]);
    assert_eq!(pod_resources(&none), wire::Resources { cpu_shares: Some(2), ..wire::Resources::default() });
}

#[test]
fn an_init_container_raises_the_pods_limit_but_is_not_added() {
    let big = (Some(2000), Some(2000), Some(8 << 20), Some(8 << 20));
    let mut pod = pod(vec![with("app", FULL)]);
    let sidecar = Container { restart_policy: Some(RestartPolicy::Always), ..with("side", FULL) };
    pod.spec.init_containers = vec![sidecar, with("init", big)];
    let resources = pod_resources(&pod);
    assert_eq!((resources.cpu_quota, resources.memory_limit), (Some(250_000), Some(9 << 20)));
}

#[test]
fn the_kernels_choice_follows_the_class() {
    let gib = 1 << 30;
    let score = |four: Four, others: &[Four]| {
        let mut containers = vec![with("app", four)];
        containers.extend(others.iter().enumerate().map(|(i, four)| with(&format!("c{i}"), *four)));
        let pod = pod(containers);
        oom_score_adj(&pod, &pod.spec.containers[0], 8 * gib)
    };
    assert_eq!(score(NONE, &[]), 1000);
    assert_eq!(score(FULL, &[]), -997);
    assert_eq!(score((None, None, Some(gib), None), &[]), 875);
    assert_eq!(score((None, None, Some(8 * gib), None), &[]), 3);
    assert_eq!(score((None, None, Some(u64::MAX), None), &[]), 3);
    assert_eq!(score(NONE, &[FULL]), 999);
}

#[test]
fn a_sidecar_is_not_killed_before_its_main_container() {
    let mut pod = pod(vec![with("app", (None, None, Some(1 << 30), None))]);
    let sidecar = Container { restart_policy: Some(RestartPolicy::Always), ..with("side", NONE) };
    pod.spec.init_containers = vec![sidecar, with("init", NONE)];
    assert_eq!(oom_score_adj(&pod, &pod.spec.init_containers[0], 8 << 30), 875);
    assert_eq!(oom_score_adj(&pod, &pod.spec.init_containers[1], 8 << 30), 999);
}

#[test]
fn swap_is_limited_where_it_can_be() {
    let mut case = Case::new(with("app", FULL));
    assert_eq!(of(&case.input()).memory().unwrap().swap(), None);
    case.host.swap_limits = true;
    assert_eq!(of(&case.input()).memory().unwrap().swap(), Some(1 << 20));
}
