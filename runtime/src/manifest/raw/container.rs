//! Containers, their environment, ports and resources.

use std::collections::BTreeMap;

use super::{
    Any, Lifecycle, ObjectFieldSelector, Probe, Quantity, ResourceFieldSelector, SecurityContext, objects,
};

objects! {
    /// An entry of `spec.containers` or `spec.initContainers`.
    Container {
        name: Option<String>,
        image: Option<String>,
        image_pull_policy: Option<String>,
        command: Vec<String>,
        args: Vec<String>,
        working_dir: Option<String>,
        env: Vec<EnvVar>,
        env_from: Vec<EnvFromSource>,
        ports: Vec<ContainerPort>,
        resources: Option<ResourceRequirements>,
        resize_policy: Vec<ResizePolicy>,
        restart_policy: Option<String>,
        restart_policy_rules: Vec<RestartRule>,
        volume_mounts: Vec<VolumeMount>,
        volume_devices: Vec<Any>,
        liveness_probe: Option<Probe>,
        readiness_probe: Option<Probe>,
        startup_probe: Option<Probe>,
        lifecycle: Option<Lifecycle>,
        security_context: Option<SecurityContext>,
        stdin: Option<bool>,
        stdin_once: Option<bool>,
        tty: Option<bool>,
        termination_message_path: Option<String>,
        termination_message_policy: Option<String>,
    }
    /// An entry of `ports`.
    ContainerPort {
        container_port: Option<i32>,
        #[serde(rename = "hostIP")]
        host_ip: Option<String>,
        host_port: Option<i32>,
        name: Option<String>,
        protocol: Option<String>,
    }
    /// `resources`.
    ResourceRequirements {
        claims: Vec<Any>,
        limits: BTreeMap<String, Quantity>,
        requests: BTreeMap<String, Quantity>,
    }
    /// An entry of `resizePolicy`.
    ResizePolicy {
        resource_name: Option<String>,
        restart_policy: Option<String>,
    }
    /// An entry of `restartPolicyRules`.
    RestartRule {
        action: Option<String>,
        exit_codes: Option<RestartRuleCodes>,
    }
    /// `exitCodes` of a restart rule.
    RestartRuleCodes {
        operator: Option<String>,
        values: Vec<i32>,
    }
    /// An entry of `volumeMounts`.
    VolumeMount {
        mount_path: Option<String>,
        mount_propagation: Option<String>,
        name: Option<String>,
        read_only: Option<bool>,
        recursive_read_only: Option<String>,
        sub_path: Option<String>,
        sub_path_expr: Option<String>,
    }
    /// An entry of `env`.
    EnvVar {
        name: Option<String>,
        value: Option<String>,
        value_from: Option<EnvVarSource>,
    }
    /// `valueFrom`.
    EnvVarSource {
        config_map_key_ref: Option<KeySelector>,
        field_ref: Option<ObjectFieldSelector>,
        file_key_ref: Option<FileKeySelector>,
        resource_field_ref: Option<ResourceFieldSelector>,
        secret_key_ref: Option<KeySelector>,
    }
    /// `configMapKeyRef` and `secretKeyRef`.
    KeySelector {
        name: Option<String>,
        key: Option<String>,
        optional: Option<bool>,
    }
    /// `fileKeyRef`.
    FileKeySelector {
        volume_name: Option<String>,
        path: Option<String>,
        key: Option<String>,
        optional: Option<bool>,
    }
    /// An entry of `envFrom`.
    EnvFromSource {
        config_map_ref: Option<EnvObjectReference>,
        prefix: Option<String>,
        secret_ref: Option<EnvObjectReference>,
    }
    /// `configMapRef` and `secretRef`.
    EnvObjectReference {
        name: Option<String>,
        optional: Option<bool>,
    }
}
