//! The defaults of the API server, written into the raw object (reference `pod-lifecycle.md` 1.1), so that
//! the API shows them as a cluster would. Values of validation's concern are left as they are.

use super::quantity;
use super::raw::{
    Container, DownwardApiFile, EmptyDir, HttpGetAction, IntOrString, Lifecycle, LifecycleHandler, Pod,
    PodSpec, Probe, Quantity, ResourceRequirements, Service, Volume,
};

/// Gives `value` to a field that has none.
fn fill<T>(field: &mut Option<T>, value: T) {
    if field.is_none() {
        *field = Some(value);
    }
}

/// Gives text to a field that has none or an empty one.
fn fill_text(field: &mut Option<String>, value: &str) {
    if field.as_deref().is_none_or(str::is_empty) {
        *field = Some(value.to_owned());
    }
}

/// Gives a number to a field that has none or zero.
fn fill_number(field: &mut Option<i32>, value: i32) {
    if field.is_none_or(|found| found == 0) {
        *field = Some(value);
    }
}

/// Fills in a Pod.
pub(super) fn pod(pod: &mut Pod) {
    fill_text(&mut pod.api_version, "v1");
    fill_text(&mut pod.kind, "Pod");
    fill_text(&mut pod.metadata.namespace, "default");
    pod_spec(&mut pod.spec);
}

fn pod_spec(spec: &mut PodSpec) {
    fill_text(&mut spec.restart_policy, "Always");
    fill(&mut spec.termination_grace_period_seconds, 30);
    if spec.termination_grace_period_seconds.is_some_and(|seconds| seconds < 0) {
        spec.termination_grace_period_seconds = Some(1);
    }
    fill_text(&mut spec.dns_policy, "ClusterFirst");
    fill(&mut spec.enable_service_links, true);
    fill(&mut spec.security_context, super::raw::PodSecurityContext::default());
    fill_text(&mut spec.scheduler_name, "default-scheduler");
    match (&spec.service_account_name, &spec.service_account) {
        (Some(name), _) if !name.is_empty() => spec.service_account = Some(name.clone()),
        (_, Some(name)) if !name.is_empty() => spec.service_account_name = Some(name.clone()),
        _ => (),
    }
    let host_network = spec.host_network == Some(true);
    for container in spec.init_containers.iter_mut().chain(&mut spec.containers) {
        self::container(container, host_network);
    }
    spec.volumes.iter_mut().for_each(volume);
}

fn container(container: &mut Container, host_network: bool) {
    let image = container.image.as_deref().unwrap_or_default();
    fill_text(&mut container.image_pull_policy, pull_policy(image));
    fill_text(&mut container.termination_message_path, "/dev/termination-log");
    fill_text(&mut container.termination_message_policy, "File");
    for port in &mut container.ports {
        fill_text(&mut port.protocol, "TCP");
        if host_network && port.host_port.is_none_or(|port| port == 0) {
            port.host_port = port.container_port;
        }
    }
    resources(container.resources.get_or_insert_default());
    for variable in &mut container.env {
        if let Some(field) = variable.value_from.as_mut().and_then(|from| from.field_ref.as_mut()) {
            fill_text(&mut field.api_version, "v1");
        }
    }
    let probes =
        [&mut container.liveness_probe, &mut container.readiness_probe, &mut container.startup_probe];
    probes.into_iter().flatten().for_each(probe);
    container.lifecycle.iter_mut().for_each(lifecycle);
}

/// `Always` for what may change under its name.
fn pull_policy(image: &str) -> &'static str {
    let (name, digest) = image.split_once('@').map_or((image, false), |(name, _)| (name, true));
    // A colon before the last slash belongs to the port of a registry.
    let tag = name.rsplit('/').next().and_then(|last| last.split_once(':')).map(|(_, tag)| tag);
    match tag {
        Some("latest") => "Always",
        None if !digest => "Always",
        _ => "IfNotPresent",
    }
}

/// Requests that are not given are the limits; every amount is rounded and written canonically.
fn resources(resources: &mut ResourceRequirements) {
    resources.limits.values_mut().for_each(canonical);
    resources.requests.values_mut().for_each(canonical);
    for (name, limit) in &resources.limits {
        resources.requests.entry(name.clone()).or_insert_with(|| limit.clone());
    }
}

/// What cannot be read stays as it is; validation speaks of it.
fn canonical(quantity: &mut Quantity) {
    if let Ok(parsed) = quantity::Quantity::parse(&quantity.0) {
        quantity.0 = parsed.to_string();
    }
}

fn probe(probe: &mut Probe) {
    fill_number(&mut probe.timeout_seconds, 1);
    fill_number(&mut probe.period_seconds, 10);
    fill_number(&mut probe.success_threshold, 1);
    fill_number(&mut probe.failure_threshold, 3);
    probe.http_get.iter_mut().for_each(http_get);
    if let Some(grpc) = &mut probe.grpc {
        fill(&mut grpc.service, String::new());
    }
}

fn lifecycle(lifecycle: &mut Lifecycle) {
    let handlers = [&mut lifecycle.post_start, &mut lifecycle.pre_stop];
    for LifecycleHandler { http_get: action, .. } in handlers.into_iter().flatten() {
        action.iter_mut().for_each(http_get);
    }
}

fn http_get(action: &mut HttpGetAction) {
    fill_text(&mut action.path, "/");
    fill_text(&mut action.scheme, "HTTP");
}

/// The mode of a volume's files.
const MODE: i32 = 0o644;

fn volume(volume: &mut Volume) {
    let sources = volume.sources();
    if sources.is_empty() {
        volume.empty_dir = Some(EmptyDir::default());
    }
    if let Some(quantity) = volume.empty_dir.as_mut().and_then(|dir| dir.size_limit.as_mut()) {
        canonical(quantity);
    }
    if let Some(path) = &mut volume.host_path {
        fill(&mut path.kind, String::new());
    }
    if let Some(map) = &mut volume.config_map {
        fill(&mut map.default_mode, MODE);
    }
    if let Some(secret) = &mut volume.secret {
        fill(&mut secret.default_mode, MODE);
    }
    if let Some(files) = &mut volume.downward_api {
        fill(&mut files.default_mode, MODE);
        files.items.iter_mut().for_each(downward_file);
    }
    if let Some(projected) = &mut volume.projected {
        fill(&mut projected.default_mode, MODE);
        let files = projected.sources.iter_mut().filter_map(|source| source.downward_api.as_mut());
        files.flat_map(|files| &mut files.items).for_each(downward_file);
    }
}

fn downward_file(file: &mut DownwardApiFile) {
    if let Some(field) = &mut file.field_ref {
        fill_text(&mut field.api_version, "v1");
    }
    if let Some(divisor) = file.resource_field_ref.as_mut().and_then(|resource| resource.divisor.as_mut()) {
        canonical(divisor);
    }
}

/// Fills in a Service.
pub(super) fn service(service: &mut Service) {
    fill_text(&mut service.api_version, "v1");
    fill_text(&mut service.kind, "Service");
    fill_text(&mut service.metadata.namespace, "default");
    let spec = &mut service.spec;
    fill_text(&mut spec.kind, "ClusterIP");
    fill_text(&mut spec.session_affinity, "None");
    if spec.session_affinity.as_deref() == Some("ClientIP") {
        let config = spec.session_affinity_config.get_or_insert_default();
        fill(&mut config.client_ip.get_or_insert_default().timeout_seconds, 10_800);
    }
    for port in &mut spec.ports {
        fill_text(&mut port.protocol, "TCP");
        let unset = match &port.target_port {
            None => true,
            Some(IntOrString::Int(number)) => *number == 0,
            Some(IntOrString::String(name)) => name.is_empty(),
        };
        if unset {
            port.target_port = port.port.map(IntOrString::Int);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::pull_policy;

    #[test]
    fn an_image_that_may_change_is_pulled_always() {
        for (image, policy) in [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1.27", "IfNotPresent"),
            ("registry:5000/nginx", "Always"),
            ("registry:5000/nginx:1", "IfNotPresent"),
            ("nginx@sha256:00", "IfNotPresent"),
            ("nginx:latest@sha256:00", "Always"),
            ("nginx:1@sha256:00", "IfNotPresent"),
        ] {
            assert_eq!(pull_policy(image), policy, "{image}");
        }
    }
}
