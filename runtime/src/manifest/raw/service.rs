//! `Service`.

use std::collections::BTreeMap;

use super::{Any, IntOrString, ObjectMeta, objects};

objects! {
    /// A Service.
    Service {
        api_version: Option<String>,
        kind: Option<String>,
        metadata: ObjectMeta,
        spec: ServiceSpec,
        status: Option<Any>,
    }
    /// `spec` of a Service.
    ServiceSpec {
        allocate_load_balancer_node_ports: Option<bool>,
        #[serde(rename = "clusterIP")]
        cluster_ip: Option<String>,
        #[serde(rename = "clusterIPs")]
        cluster_ips: Vec<String>,
        #[serde(rename = "externalIPs")]
        external_ips: Vec<String>,
        external_name: Option<String>,
        external_traffic_policy: Option<String>,
        health_check_node_port: Option<i32>,
        internal_traffic_policy: Option<String>,
        ip_families: Vec<String>,
        ip_family_policy: Option<String>,
        load_balancer_class: Option<String>,
        #[serde(rename = "loadBalancerIP")]
        load_balancer_ip: Option<String>,
        load_balancer_source_ranges: Vec<String>,
        ports: Vec<ServicePort>,
        publish_not_ready_addresses: Option<bool>,
        selector: BTreeMap<String, String>,
        session_affinity: Option<String>,
        session_affinity_config: Option<SessionAffinityConfig>,
        traffic_distribution: Option<String>,
        #[serde(rename = "type")]
        kind: Option<String>,
    }
    /// An entry of `spec.ports`.
    ServicePort {
        app_protocol: Option<String>,
        name: Option<String>,
        node_port: Option<i32>,
        port: Option<i32>,
        protocol: Option<String>,
        target_port: Option<IntOrString>,
    }
    /// `spec.sessionAffinityConfig`.
    SessionAffinityConfig {
        #[serde(rename = "clientIP")]
        client_ip: Option<ClientIpConfig>,
    }
    /// `spec.sessionAffinityConfig.clientIP`.
    ClientIpConfig {
        timeout_seconds: Option<i32>,
    }
}

impl Service {
    /// Whether `spec.type` is `ExternalName`.
    #[must_use]
    pub fn is_external_name(&self) -> bool {
        self.spec.kind.as_deref() == Some("ExternalName")
    }

    /// Whether it has no address of its own because it says `clusterIP: None`.
    #[must_use]
    pub fn is_headless(&self) -> bool {
        self.spec.cluster_ip.as_deref() == Some("None")
    }

    /// Its address, once it has one.
    #[must_use]
    pub fn address(&self) -> Option<std::net::IpAddr> {
        self.spec.cluster_ip.as_deref()?.parse().ok()
    }
}
