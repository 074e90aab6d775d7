//! Pods for tests.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::manifest::pod::*;

pub(super) fn pod(policy: RestartPolicy, containers: Vec<Container>) -> Pod {
    Pod {
        meta: Meta {
            name: "web".to_owned(),
            namespace: "default".to_owned(),
            uid: "uid".to_owned(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            created: Timestamp::UNIX_EPOCH,
        },
        spec: PodSpec {
            init_containers: Vec::new(),
            containers,
            restart_policy: policy,
            grace_seconds: 30,
            active_deadline_seconds: None,
            volumes: Vec::new(),
            host_network: false,
            host_pid: false,
            host_ipc: false,
            share_process_namespace: false,
            hostname: "web".to_owned(),
            subdomain: None,
            hostname_as_fqdn: false,
            host_aliases: Vec::new(),
            dns_policy: DnsPolicy::ClusterFirst,
            dns_config: DnsConfig::default(),
            enable_service_links: true,
            readiness_gates: Vec::new(),
            security: PodSecurity::default(),
            service_account: "default".to_owned(),
        },
    }
}

pub(super) fn with_init(mut pod: Pod, init: Vec<Container>) -> Pod {
    pod.spec.init_containers = init;
    pod
}

pub(super) fn container(name: &str) -> Container {
    Container {
        name: ContainerName::new(name),
        image: "busybox".to_owned(),
        pull_policy: PullPolicy::IfNotPresent,
        command: Vec::new(),
        args: Vec::new(),
        working_dir: None,
        env: Vec::new(),
        env_from: Vec::new(),
        ports: Vec::new(),
        resources: Resources::default(),
        mounts: Vec::new(),
        liveness: None,
        readiness: None,
        startup: None,
        post_start: None,
        pre_stop: None,
        security: Security {
            privileged: false,
            run_as_user: None,
            run_as_group: None,
            run_as_non_root: false,
            read_only_root: false,
            allow_privilege_escalation: true,
            add_capabilities: Vec::new(),
            drop_capabilities: Vec::new(),
            seccomp: Seccomp::RuntimeDefault,
            unmasked_proc: false,
        },
        stdin: false,
        stdin_once: false,
        tty: false,
        termination_message_path: "/dev/termination-log".to_owned(),
        message_falls_back_to_logs: false,
        restart_policy: None,
        restart_rules: Vec::new(),
    }
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
