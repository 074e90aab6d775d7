//! The plainest pod and container, for tests all over the crate.

use std::collections::BTreeMap;

use super::*;

pub(crate) fn container(name: &str) -> Container {
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

pub(crate) fn pod(containers: Vec<Container>) -> Pod {
    Pod {
        meta: Meta {
            name: "web".to_owned(),
            namespace: "default".to_owned(),
            uid: "9d1e".to_owned(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            created: Timestamp::UNIX_EPOCH,
            generation: 1,
        },
        spec: PodSpec {
            init_containers: Vec::new(),
            containers,
            restart_policy: RestartPolicy::Always,
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
