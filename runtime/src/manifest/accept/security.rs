//! Security contexts: the pod's, and the effective one of each container.

use std::collections::BTreeMap;

use crate::manifest::pod::{PodSecurity, Seccomp, Security};
use crate::manifest::{names, raw};

use super::{At, Errors, Scope, given, one_of, required};

/// Reads what the pod's context says for the pod as a whole.
pub(super) fn pod(scope: &Scope<'_>, at: &At, errors: &mut Errors) -> PodSecurity {
    let Some(raw) = &scope.spec.security_context else {
        return PodSecurity::default();
    };
    refuse(
        raw.se_linux_options.as_ref(),
        raw.app_armor_profile.as_ref(),
        raw.windows_options.as_ref(),
        at,
        errors,
    );
    if raw.se_linux_change_policy.is_some() {
        errors.not_supported(&at.field("seLinuxChangePolicy"), "there are no SELinux labels");
    }
    if let Some(policy) = &raw.fs_group_change_policy {
        let words = [("Always", ()), ("OnRootMismatch", ())];
        one_of(Some(policy), &at.field("fsGroupChangePolicy"), &words, errors);
    }
    // Checked here once; each container takes its own part.
    seccomp(raw.seccomp_profile.as_ref(), &at.field("seccompProfile"), errors);
    id(raw.run_as_user, &at.field("runAsUser"), errors);
    id(raw.run_as_group, &at.field("runAsGroup"), errors);
    let groups = raw.supplemental_groups.iter().enumerate();
    let at_groups = at.field("supplementalGroups");
    let supplemental_groups =
        groups.filter_map(|(index, group)| id(Some(*group), &at_groups.index(index), errors)).collect();
    let policies = [("Merge", false), ("Strict", true)];
    let at_policy = at.field("supplementalGroupsPolicy");
    let strict = raw.supplemental_groups_policy.as_ref();
    PodSecurity {
        fs_group: id(raw.fs_group, &at.field("fsGroup"), errors),
        supplemental_groups,
        strict_groups: strict.is_some_and(|policy| one_of(Some(policy), &at_policy, &policies, errors)),
        sysctls: sysctls(raw, &at.field("sysctls"), scope, errors),
    }
}

/// Reads a container's context, with the pod's values where it has none of its own.
pub(super) fn container(raw: &raw::Container, at: &At, scope: &Scope<'_>, errors: &mut Errors) -> Security {
    let none = raw::SecurityContext::default();
    let own = raw.security_context.as_ref().unwrap_or(&none);
    let pod = scope.spec.security_context.clone().unwrap_or_default();
    refuse(
        own.se_linux_options.as_ref(),
        own.app_armor_profile.as_ref(),
        own.windows_options.as_ref(),
        at,
        errors,
    );
    let proc_mount = own.proc_mount.as_deref().unwrap_or("Default");
    match proc_mount {
        "Default" => (),
        "Unmasked" => errors.not_supported(&at.field("procMount"), "it needs hostUsers: false"),
        other => errors.unsupported(&at.field("procMount"), other, &["Default", "Unmasked"]),
    }
    let capabilities = own.capabilities.clone().unwrap_or_default();
    let at_capabilities = at.field("capabilities");
    let add = self::capabilities(&capabilities.add, &at_capabilities.field("add"), errors);
    let drop = self::capabilities(&capabilities.drop, &at_capabilities.field("drop"), errors);
    escalation(own, &add, at, errors);
    let seccomp = match own.seccomp_profile.as_ref() {
        Some(profile) => seccomp(Some(profile), &at.field("seccompProfile"), errors),
        // The pod's own errors are reported by `pod`.
        None => self::seccomp(pod.seccomp_profile.as_ref(), at, &mut Errors::default()),
    };
    Security {
        privileged: own.privileged == Some(true),
        run_as_user: id(own.run_as_user, &at.field("runAsUser"), errors).or_else(|| plain(pod.run_as_user)),
        run_as_group: id(own.run_as_group, &at.field("runAsGroup"), errors)
            .or_else(|| plain(pod.run_as_group)),
        run_as_non_root: own.run_as_non_root.or(pod.run_as_non_root) == Some(true),
        read_only_root: own.read_only_root_filesystem == Some(true),
        allow_privilege_escalation: own.allow_privilege_escalation != Some(false),
        add_capabilities: add,
        drop_capabilities: drop,
        seccomp,
        unmasked_proc: false,
    }
}

fn plain(id: Option<i64>) -> Option<u32> {
    id.and_then(|id| u32::try_from(id).ok())
}

/// A user or group.
fn id(id: Option<i64>, at: &At, errors: &mut Errors) -> Option<u32> {
    let id = id?;
    if !(0..=i64::from(i32::MAX)).contains(&id) {
        errors.invalid(at, id, "must be between 0 and 2147483647, inclusive");
    }
    plain(Some(id))
}

fn refuse(
    selinux: Option<&raw::Any>,
    apparmor: Option<&raw::Profile>,
    windows: Option<&raw::Any>,
    at: &At,
    errors: &mut Errors,
) {
    if selinux.is_some() {
        errors.not_supported(&at.field("seLinuxOptions"), "SELinux labels are not set");
    }
    if windows.is_some() {
        errors.not_supported(&at.field("windowsOptions"), "containers run on Linux");
    }
    if let Some(profile) = apparmor {
        let at = at.field("appArmorProfile");
        match profile.kind.as_deref().unwrap_or_default() {
            "Unconfined" => (),
            "Localhost" | "RuntimeDefault" => {
                errors
                    .not_supported(&at, "AppArmor profiles are not loaded; use Unconfined, or leave it out");
            }
            "" => errors.required(&at.field("type"), ""),
            other => {
                errors.unsupported(&at.field("type"), other, &["Localhost", "RuntimeDefault", "Unconfined"]);
            }
        }
    }
}

fn seccomp(raw: Option<&raw::Profile>, at: &At, errors: &mut Errors) -> Seccomp {
    let Some(raw) = raw else {
        return Seccomp::RuntimeDefault;
    };
    let at_file = at.field("localhostProfile");
    let file = given(raw.localhost_profile.as_ref());
    let kind = required(raw.kind.as_ref(), &at.field("type"), errors);
    if kind != "Localhost"
        && let Some(file) = file
    {
        errors.invalid(&at_file, file, "can only be set when seccomp type is Localhost");
    }
    match (kind, file) {
        ("Localhost", Some(file)) => {
            names::descending_path(file).into_iter().for_each(|fault| errors.invalid(&at_file, file, fault));
            return Seccomp::Localhost(file.to_owned());
        }
        ("Localhost", None) => errors.required(&at_file, "must be set when seccomp type is Localhost"),
        ("Unconfined", _) => return Seccomp::Unconfined,
        ("RuntimeDefault" | "", _) => (),
        (other, _) => {
            errors.unsupported(&at.field("type"), other, &["Localhost", "RuntimeDefault", "Unconfined"]);
        }
    }
    Seccomp::RuntimeDefault
}

fn escalation(raw: &raw::SecurityContext, add: &[String], at: &At, errors: &mut Errors) {
    if raw.allow_privilege_escalation != Some(false) {
        return;
    }
    let shown = serde_json::to_value(raw).unwrap_or_default();
    if raw.privileged == Some(true) {
        let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
        errors.invalid(at, &shown, detail);
    }
    if add.iter().any(|name| name == "SYS_ADMIN") {
        let detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
        errors.invalid(at, &shown, detail);
    }
}

/// Linux's capabilities, without `CAP_`.
const CAPABILITIES: [&str; 42] = [
    "ALL",
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

fn capabilities(raw: &[String], at: &At, errors: &mut Errors) -> Vec<String> {
    let mut capabilities = Vec::new();
    for (index, text) in raw.iter().enumerate() {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if !CAPABILITIES.contains(&name) {
            errors.invalid(&at.index(index), text, "is no capability of Linux");
        }
        capabilities.push(name.to_owned());
    }
    capabilities
}

fn sysctls(
    raw: &raw::PodSecurityContext,
    at: &At,
    scope: &Scope<'_>,
    errors: &mut Errors,
) -> BTreeMap<String, String> {
    let mut sysctls = BTreeMap::new();
    for (index, sysctl) in raw.sysctls.iter().enumerate() {
        let at = at.index(index).field("name");
        let text = required(sysctl.name.as_ref(), &at, errors);
        if text.is_empty() {
            continue;
        }
        if !names::is_sysctl(text) {
            let detail = "must have at most 253 characters and match regex \
                ([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?";
            errors.invalid(&at, text, detail);
        }
        let name = text.replace('/', ".");
        let ipc = ["kernel.sem", "kernel.shm", "kernel.msg", "fs.mqueue."]
            .iter()
            .any(|part| name.starts_with(part));
        if ipc && scope.spec.host_ipc == Some(true) {
            errors.invalid(&at, text, "may not be specified when 'hostIPC' is true");
        } else if name.starts_with("net.") && scope.host_network() {
            errors.invalid(&at, text, "may not be specified when 'hostNetwork' is true");
        } else if !ipc && !name.starts_with("net.") {
            errors.forbidden(&at, "this sysctl belongs to the whole host, not to a pod");
        }
        if sysctls.insert(name, sysctl.value.clone().unwrap_or_default()).is_some() {
            errors.duplicate(&at, text);
        }
    }
    sysctls
}
