//! Security contexts.

use super::{Any, objects};

objects! {
    /// `spec.securityContext`.
    PodSecurityContext {
        app_armor_profile: Option<Profile>,
        fs_group: Option<i64>,
        fs_group_change_policy: Option<String>,
        run_as_group: Option<i64>,
        run_as_non_root: Option<bool>,
        run_as_user: Option<i64>,
        se_linux_change_policy: Option<String>,
        se_linux_options: Option<Any>,
        seccomp_profile: Option<Profile>,
        supplemental_groups: Vec<i64>,
        supplemental_groups_policy: Option<String>,
        sysctls: Vec<Sysctl>,
        windows_options: Option<Any>,
    }
    /// `securityContext` of a container.
    SecurityContext {
        allow_privilege_escalation: Option<bool>,
        app_armor_profile: Option<Profile>,
        capabilities: Option<Capabilities>,
        privileged: Option<bool>,
        proc_mount: Option<String>,
        read_only_root_filesystem: Option<bool>,
        run_as_group: Option<i64>,
        run_as_non_root: Option<bool>,
        run_as_user: Option<i64>,
        se_linux_options: Option<Any>,
        seccomp_profile: Option<Profile>,
        windows_options: Option<Any>,
    }
    /// `seccompProfile` and `appArmorProfile`.
    Profile {
        localhost_profile: Option<String>,
        #[serde(rename = "type")]
        kind: Option<String>,
    }
    /// `capabilities`.
    Capabilities {
        add: Vec<String>,
        drop: Vec<String>,
    }
    /// An entry of `sysctls`.
    Sysctl {
        name: Option<String>,
        value: Option<String>,
    }
}
