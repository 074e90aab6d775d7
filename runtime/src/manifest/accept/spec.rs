//! `spec` of a Pod: what is neither a container nor a volume, and what hull refuses.

use std::collections::BTreeSet;

use crate::manifest::names;
use crate::manifest::pod::{self, RestartPolicy};
use crate::manifest::raw;

use super::{At, Errors, Scope, container, dns, given, named, one_of, ports, security, volume};

/// The words of a pod's and a container's `restartPolicy`.
pub(super) const RESTART: [(&str, RestartPolicy); 3] = [
    ("Always", RestartPolicy::Always),
    ("OnFailure", RestartPolicy::OnFailure),
    ("Never", RestartPolicy::Never),
];

/// Reads the spec of the pod called `name`.
pub(super) fn spec(raw: &raw::PodSpec, name: &str, errors: &mut Errors) -> pod::PodSpec {
    let at = At::root("spec");
    refuse(raw, &at, errors);
    let scope = Scope { spec: raw };
    let volumes = volume::volumes(&raw.volumes, &scope, errors);
    let (init_containers, containers) = containers(&scope, &at, errors);
    ports::host_ports(&scope, &at, errors);
    let (hostname, subdomain) = hostname(raw, name, &at, errors);
    let pod_security = security::pod(&scope, &at.field("securityContext"), errors);
    host_namespaces(raw, &at, errors);
    let grace = raw.termination_grace_period_seconds.unwrap_or(30).max(0);
    pod::PodSpec {
        init_containers,
        containers,
        restart_policy: one_of(raw.restart_policy.as_ref(), &at.field("restartPolicy"), &RESTART, errors),
        grace_seconds: u32::try_from(grace).unwrap_or(u32::MAX),
        active_deadline_seconds: deadline(raw, &at, errors),
        volumes,
        host_network: scope.host_network(),
        host_pid: raw.host_pid == Some(true),
        host_ipc: raw.host_ipc == Some(true),
        share_process_namespace: raw.share_process_namespace == Some(true),
        hostname,
        subdomain,
        hostname_as_fqdn: raw.set_hostname_as_fqdn == Some(true),
        host_aliases: dns::aliases(&raw.host_aliases, &at.field("hostAliases"), errors),
        dns_policy: dns::policy(raw, &at, errors),
        dns_config: dns::config(raw, &at.field("dnsConfig"), errors),
        enable_service_links: raw.enable_service_links != Some(false),
        readiness_gates: readiness_gates(raw, &at, errors),
        security: pod_security,
        service_account: given(raw.service_account_name.as_ref()).unwrap_or("default").to_owned(),
    }
}

/// Both lists of containers; names are unique over both.
fn containers(scope: &Scope<'_>, at: &At, errors: &mut Errors) -> (Vec<pod::Container>, Vec<pod::Container>) {
    let mut seen = BTreeSet::new();
    let (main_at, init_at) = (at.field("containers"), at.field("initContainers"));
    if scope.spec.containers.is_empty() {
        errors.required(&main_at, "");
    }
    let read = |list: &[raw::Container], at: &At, place, seen: &mut BTreeSet<String>, errors: &mut Errors| {
        let mut containers = Vec::new();
        for (index, raw) in list.iter().enumerate() {
            let at = at.index(index);
            let container = container::container(raw, place, &at, scope, errors);
            if !container.name.as_str().is_empty() && !seen.insert(container.name.as_str().to_owned()) {
                errors.duplicate(&at.field("name"), container.name.as_str());
            }
            containers.push(container);
        }
        containers
    };
    let main = read(&scope.spec.containers, &main_at, container::Place::Main, &mut seen, errors);
    let init = read(&scope.spec.init_containers, &init_at, container::Place::Init, &mut seen, errors);
    (init, main)
}

fn deadline(raw: &raw::PodSpec, at: &At, errors: &mut Errors) -> Option<u32> {
    let seconds = raw.active_deadline_seconds?;
    if !(1..=i64::from(i32::MAX)).contains(&seconds) {
        let range = "must be between 1 and 2147483647, inclusive";
        errors.invalid(&at.field("activeDeadlineSeconds"), seconds, range);
    }
    u32::try_from(seconds).ok()
}

/// The short name of the pod and its subdomain (reference 11.6).
fn hostname(raw: &raw::PodSpec, name: &str, at: &At, errors: &mut Errors) -> (String, Option<String>) {
    let label = |text: Option<&String>, field: &str, errors: &mut Errors| {
        given(text).map(|_| named(text, &at.field(field), names::label, errors).to_owned())
    };
    let hostname = label(raw.hostname.as_ref(), "hostname", errors);
    let subdomain = label(raw.subdomain.as_ref(), "subdomain", errors);
    if let Some(override_name) = given(raw.hostname_override.as_ref()) {
        let at = at.field("hostnameOverride");
        let mut faults = names::subdomain(override_name);
        if override_name.len() > 64 {
            faults.push("must be no more than 64 characters".into());
        }
        faults.into_iter().for_each(|fault| errors.invalid(&at, override_name, fault));
        if raw.set_hostname_as_fqdn == Some(true) {
            errors.forbidden(&at, "setHostnameAsFQDN and hostnameOverride cannot be used together");
        }
        if raw.host_network == Some(true) {
            errors.forbidden(&at, "hostnameOverride cannot be used with hostNetwork");
        }
        return (override_name.to_owned(), None);
    }
    // The pod's name may be a subdomain of up to 253 characters; only ASCII has passed validation.
    let short: String = hostname.unwrap_or_else(|| name.chars().take(63).collect());
    (short.trim_end_matches(['-', '.']).to_owned(), subdomain)
}

fn host_namespaces(raw: &raw::PodSpec, at: &At, errors: &mut Errors) {
    if raw.share_process_namespace == Some(true) && raw.host_pid == Some(true) {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.invalid(&at.field("shareProcessNamespace"), true, detail);
    }
}

fn readiness_gates(raw: &raw::PodSpec, at: &At, errors: &mut Errors) -> Vec<String> {
    let at = at.field("readinessGates");
    let gates = raw.readiness_gates.iter().enumerate();
    gates
        .map(|(index, gate)| {
            let at = at.index(index).field("conditionType");
            named(gate.condition_type.as_ref(), &at, names::qualified, errors).to_owned()
        })
        .collect()
}

/// Fields that would change what runs, and that hull does not do.
fn refuse(raw: &raw::PodSpec, at: &At, errors: &mut Errors) {
    let refused = [
        ("ephemeralContainers", !raw.ephemeral_containers.is_empty(), "a pod starts without them"),
        (
            "hostUsers",
            raw.host_users == Some(false),
            "user namespaces are not there yet; leave it out or set true",
        ),
        ("overhead", !raw.overhead.is_empty(), "it belongs to a runtime class, and there are none"),
        ("resourceClaims", !raw.resource_claims.is_empty(), "no driver is there that could allocate devices"),
        ("resources", raw.resources.is_some(), "pod-level resources; give each container its own"),
        (
            "runtimeClassName",
            given(raw.runtime_class_name.as_ref()).is_some(),
            "there is one runtime; leave it out",
        ),
        ("schedulingGates", !raw.scheduling_gates.is_empty(), "no controller is there to remove a gate"),
        ("schedulingGroup", raw.scheduling_group.is_some(), "pods are not scheduled in groups"),
        ("workloadRef", raw.workload_ref.is_some(), "pods are not scheduled in groups"),
    ];
    for (field, found, why) in refused {
        if found {
            errors.not_supported(&at.field(field), why);
        }
    }
    if let Some(os) = &raw.os {
        let at = at.field("os").field("name");
        match given(os.name.as_ref()) {
            Some("linux") => (),
            Some("windows") => {
                errors.not_supported(&at, "containers run on Linux; set linux or leave it out")
            }
            Some(other) => errors.unsupported(&at, other, &["linux", "windows"]),
            None => errors.required(&at, ""),
        }
    }
}
