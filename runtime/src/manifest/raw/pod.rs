//! `Pod`.

use std::collections::BTreeMap;

use super::{
    Any, Container, ObjectMeta, PodSecurityContext, Quantity, ResourceRequirements, Volume, objects,
};

objects! {
    /// A Pod.
    Pod {
        api_version: Option<String>,
        kind: Option<String>,
        metadata: ObjectMeta,
        spec: PodSpec,
        status: Option<Any>,
    }
    /// `spec` of a Pod.
    PodSpec {
        active_deadline_seconds: Option<i64>,
        affinity: Option<Any>,
        automount_service_account_token: Option<bool>,
        containers: Vec<Container>,
        dns_config: Option<PodDnsConfig>,
        dns_policy: Option<String>,
        enable_service_links: Option<bool>,
        ephemeral_containers: Vec<Any>,
        host_aliases: Vec<HostAlias>,
        #[serde(rename = "hostIPC")]
        host_ipc: Option<bool>,
        host_network: Option<bool>,
        #[serde(rename = "hostPID")]
        host_pid: Option<bool>,
        host_users: Option<bool>,
        hostname: Option<String>,
        hostname_override: Option<String>,
        image_pull_secrets: Vec<Any>,
        init_containers: Vec<Container>,
        node_name: Option<String>,
        node_selector: BTreeMap<String, String>,
        os: Option<PodOs>,
        overhead: BTreeMap<String, Quantity>,
        preemption_policy: Option<String>,
        priority: Option<i32>,
        priority_class_name: Option<String>,
        readiness_gates: Vec<ReadinessGate>,
        resource_claims: Vec<Any>,
        resources: Option<ResourceRequirements>,
        restart_policy: Option<String>,
        runtime_class_name: Option<String>,
        scheduler_name: Option<String>,
        scheduling_gates: Vec<Any>,
        scheduling_group: Option<Any>,
        security_context: Option<PodSecurityContext>,
        service_account: Option<String>,
        service_account_name: Option<String>,
        #[serde(rename = "setHostnameAsFQDN")]
        set_hostname_as_fqdn: Option<bool>,
        share_process_namespace: Option<bool>,
        subdomain: Option<String>,
        termination_grace_period_seconds: Option<i64>,
        tolerations: Vec<Any>,
        topology_spread_constraints: Vec<Any>,
        volumes: Vec<Volume>,
        workload_ref: Option<Any>,
    }
    /// `spec.os`.
    PodOs {
        name: Option<String>,
    }
    /// An entry of `spec.readinessGates`.
    ReadinessGate {
        condition_type: Option<String>,
    }
    /// An entry of `spec.hostAliases`.
    HostAlias {
        ip: Option<String>,
        hostnames: Vec<String>,
    }
    /// `spec.dnsConfig`.
    PodDnsConfig {
        nameservers: Vec<String>,
        options: Vec<DnsOption>,
        searches: Vec<String>,
    }
    /// An entry of `spec.dnsConfig.options`.
    DnsOption {
        name: Option<String>,
        value: Option<String>,
    }
}
