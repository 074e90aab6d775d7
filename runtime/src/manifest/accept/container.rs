//! One container of either list.

use crate::manifest::pod::{self, ContainerName, PullPolicy, RestartAction, RestartPolicy};
use crate::manifest::{names, raw};

use super::spec::RESTART;
use super::{
    At, Errors, Scope, env, given, handler, named, one_of, ports, required, resources, security, volume,
};

/// Which list a container stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// `spec.containers`.
    Main,
    /// `spec.initContainers`.
    Init,
}

/// Restart rules of one container.
const RULES: usize = 20;
/// Exit codes of one restart rule.
const CODES: usize = 255;

/// Reads one container.
pub(super) fn container(
    raw: &raw::Container,
    place: Place,
    at: &At,
    scope: &Scope<'_>,
    errors: &mut Errors,
) -> pod::Container {
    let restart_policy = restart_policy(raw, at, errors);
    if place == Place::Init && restart_policy != Some(RestartPolicy::Always) {
        plain_init(raw, at, errors);
    }
    if !raw.volume_devices.is_empty() {
        errors.not_supported(&at.field("volumeDevices"), "there are no block volumes");
    }
    resize_policy(raw, at, scope, errors);
    let handlers = handler::handlers(raw, at, scope, errors);
    pod::Container {
        name: ContainerName::new(named(raw.name.as_ref(), &at.field("name"), names::label, errors)),
        image: image(raw, at, errors),
        pull_policy: one_of(raw.image_pull_policy.as_ref(), &at.field("imagePullPolicy"), &PULL, errors),
        command: raw.command.clone(),
        args: raw.args.clone(),
        working_dir: given(raw.working_dir.as_ref()).map(str::to_owned),
        env: env::variables(&raw.env, &at.field("env"), scope, errors),
        env_from: env::sources(&raw.env_from, &at.field("envFrom"), errors),
        ports: ports::ports(&raw.ports, &at.field("ports"), scope, errors),
        resources: resources::resources(raw.resources.as_ref(), &at.field("resources"), errors),
        mounts: volume::mounts(raw, &at.field("volumeMounts"), scope, errors),
        liveness: handlers.liveness,
        readiness: handlers.readiness,
        startup: handlers.startup,
        post_start: handlers.post_start,
        pre_stop: handlers.pre_stop,
        security: security::container(raw, &at.field("securityContext"), scope, errors),
        stdin: raw.stdin == Some(true),
        stdin_once: raw.stdin_once == Some(true),
        tty: raw.tty == Some(true),
        termination_message_path: raw.termination_message_path.clone().unwrap_or_default(),
        message_falls_back_to_logs: message_policy(raw, at, errors),
        restart_policy,
        restart_rules: restart_rules(raw, at, errors),
    }
}

const PULL: [(&str, PullPolicy); 3] = [
    ("Always", PullPolicy::Always),
    ("IfNotPresent", PullPolicy::IfNotPresent),
    ("Never", PullPolicy::Never),
];

fn image(raw: &raw::Container, at: &At, errors: &mut Errors) -> String {
    let at = at.field("image");
    let image = required(raw.image.as_ref(), &at, errors);
    if image.trim() != image {
        errors.invalid(&at, image, "must not have leading or trailing whitespace");
    }
    image.to_owned()
}

fn message_policy(raw: &raw::Container, at: &At, errors: &mut Errors) -> bool {
    match raw.termination_message_policy.as_deref() {
        None | Some("File") => false,
        Some("FallbackToLogsOnError") => true,
        Some(other) => {
            let detail = "must be 'File' or 'FallbackToLogsOnError'";
            errors.invalid(&at.field("terminationMessagePolicy"), other, detail);
            false
        }
    }
}

/// What only a container that goes on running may have.
fn plain_init(raw: &raw::Container, at: &At, errors: &mut Errors) {
    let fields = [
        ("lifecycle", raw.lifecycle.is_some()),
        ("livenessProbe", raw.liveness_probe.is_some()),
        ("readinessProbe", raw.readiness_probe.is_some()),
        ("startupProbe", raw.startup_probe.is_some()),
    ];
    for (field, _) in fields.into_iter().filter(|(_, set)| *set) {
        errors.forbidden(&at.field(field), "may not be set for init containers without restartPolicy=Always");
    }
}

fn restart_policy(raw: &raw::Container, at: &At, errors: &mut Errors) -> Option<RestartPolicy> {
    let text = raw.restart_policy.as_ref()?;
    Some(one_of(Some(text), &at.field("restartPolicy"), &RESTART, errors))
}

fn restart_rules(raw: &raw::Container, at: &At, errors: &mut Errors) -> Vec<pod::RestartRule> {
    let at_rules = at.field("restartPolicyRules");
    let rules = &raw.restart_policy_rules;
    if !rules.is_empty() && raw.restart_policy.is_none() {
        errors.required(&at.field("restartPolicy"), "must specify restartPolicy when restart rules are used");
    }
    if rules.len() > RULES {
        errors.too_many(&at_rules, rules.len(), RULES);
    }
    rules.iter().enumerate().map(|(index, rule)| restart_rule(rule, &at_rules.index(index), errors)).collect()
}

fn restart_rule(rule: &raw::RestartRule, at: &At, errors: &mut Errors) -> pod::RestartRule {
    let actions =
        [("Restart", RestartAction::Restart), ("RestartAllContainers", RestartAction::RestartAllContainers)];
    let action = one_of(rule.action.as_ref(), &at.field("action"), &actions, errors);
    let at = at.field("exitCodes");
    let Some(codes) = &rule.exit_codes else {
        errors.required(&at, "must be specified");
        return pod::RestartRule { action, negated: false, codes: Vec::new() };
    };
    let operators = [("In", false), ("NotIn", true)];
    let negated = one_of(codes.operator.as_ref(), &at.field("operator"), &operators, errors);
    let at = at.field("values");
    match codes.values.len() {
        0 => errors.required(&at, "must specify at least one value"),
        found if found > CODES => errors.too_many(&at, found, CODES),
        _ => (),
    }
    pod::RestartRule { action, negated, codes: codes.values.clone() }
}

/// Checked and kept for the echo: hull does not resize a running pod.
fn resize_policy(raw: &raw::Container, at: &At, scope: &Scope<'_>, errors: &mut Errors) {
    let at = at.field("resizePolicy");
    let mut seen = Vec::new();
    for (index, policy) in raw.resize_policy.iter().enumerate() {
        let at = at.index(index);
        let resources = [("cpu", "cpu"), ("memory", "memory")];
        let resource = one_of(policy.resource_name.as_ref(), &at.field("resourceName"), &resources, errors);
        let restarts = [("NotRequired", false), ("RestartContainer", true)];
        let at_restart = at.field("restartPolicy");
        let restarts = one_of(policy.restart_policy.as_ref(), &at_restart, &restarts, errors);
        if restarts && scope.spec.restart_policy.as_deref() == Some("Never") {
            errors.unsupported(&at_restart, "RestartContainer", &["NotRequired"]);
        }
        if seen.contains(&resource) {
            errors.duplicate(&at.field("resourceName"), resource);
        }
        seen.push(resource);
    }
}
