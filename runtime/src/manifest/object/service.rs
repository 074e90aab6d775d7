//! Services (reference `pod-lifecycle.md` 11.9).

use std::collections::BTreeSet;

use super::super::accept::{Identity, identify, meta, one_of, port_number, ports};
use super::super::invalid::{At, Errors, Invalid};
use super::super::raw::{IntOrString, Service, ServicePort, ServiceSpec};
use super::super::{defaults, names};

/// Applies defaults and checks everything; the object gets its identity.
pub fn accept_service(mut service: Service, identity: &Identity) -> Result<Service, Invalid> {
    defaults::service(&mut service);
    identify(&mut service.metadata, &identity.uid, identity.created);
    service.metadata.generation = None;
    service.status = None;
    let mut errors = Errors::default();
    meta(&service.metadata, names::label_1035, &mut errors);
    spec(&service, &At::root("spec"), &mut errors);
    let name = service.metadata.name.clone();
    errors.finish("Service", name.as_deref(), service)
}

fn spec(service: &Service, at: &At, errors: &mut Errors) {
    let spec = &service.spec;
    let at_type = at.field("type");
    match spec.kind.as_deref().unwrap_or_default() {
        "ClusterIP" => cluster_ip(service, at, errors),
        "ExternalName" => external_name(spec, at, errors),
        "NodePort" | "LoadBalancer" => {
            errors.not_supported(
                &at_type,
                "ports of the host are not mapped yet; use ClusterIP or ExternalName",
            );
        }
        other => {
            errors.unsupported(&at_type, other, &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]);
        }
    }
    for (key, value) in &spec.selector {
        let at = at.field("selector");
        names::qualified(key).into_iter().for_each(|fault| errors.invalid(&at, key, fault));
        names::label_value(value).into_iter().for_each(|fault| errors.invalid(&at, value, fault));
    }
    let affinities = [("None", ()), ("ClientIP", ())];
    one_of(spec.session_affinity.as_ref(), &at.field("sessionAffinity"), &affinities, errors);
    let config = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
    if let Some(seconds) = config.and_then(|config| config.timeout_seconds)
        && !(1..=86_400).contains(&seconds)
    {
        let at = at.field("sessionAffinityConfig").field("clientIP").field("timeoutSeconds");
        errors.invalid(&at, seconds, "must be greater than 0 and less than or equal to 86400");
    }
    service_ports(&spec.ports, &at.field("ports"), errors);
    refuse(spec, at, errors);
}

fn cluster_ip(service: &Service, at: &At, errors: &mut Errors) {
    let spec = &service.spec;
    if spec.ports.is_empty() && !service.is_headless() {
        errors.required(&at.field("ports"), "");
    }
    let text = spec.cluster_ip.as_deref().unwrap_or_default();
    if !matches!(text, "" | "None") && service.address().is_none() {
        let detail = "must be empty, 'None', or a valid IP address";
        errors.invalid(&at.field("clusterIP"), text, detail);
    }
    let first = spec.cluster_ips.first().map_or("", String::as_str);
    if spec.cluster_ips.len() > 1 {
        errors.not_supported(&at.field("clusterIPs"), "a Service has one address");
    } else if !first.is_empty() && first != text {
        errors.invalid(&at.field("clusterIPs").index(0), first, "first value must match `clusterIP`");
    }
}

fn external_name(spec: &ServiceSpec, at: &At, errors: &mut Errors) {
    let at_name = at.field("externalName");
    let name = spec.external_name.as_deref().unwrap_or_default();
    if name.is_empty() {
        errors.required(&at_name, "");
    } else {
        let faults = names::subdomain(name.strip_suffix('.').unwrap_or(name));
        faults.into_iter().for_each(|fault| errors.invalid(&at_name, name, fault));
    }
    if spec.cluster_ip.as_deref().is_some_and(|ip| !ip.is_empty()) {
        errors.forbidden(&at.field("clusterIP"), "may not be set for ExternalName services");
    }
}

fn service_ports(ports: &[ServicePort], at: &At, errors: &mut Errors) {
    let (mut seen_names, mut seen_ports) = (BTreeSet::new(), BTreeSet::new());
    for (index, raw) in ports.iter().enumerate() {
        let at = at.index(index);
        let at_name = at.field("name");
        match raw.name.as_deref().unwrap_or_default() {
            "" if ports.len() > 1 => errors.required(&at_name, ""),
            "" => (),
            name => {
                names::label(name).into_iter().for_each(|fault| errors.invalid(&at_name, name, fault));
                if !seen_names.insert(name) {
                    errors.duplicate(&at_name, name);
                }
            }
        }
        port_number(raw.port.unwrap_or(0), &at.field("port"), errors);
        one_of(raw.protocol.as_ref(), &at.field("protocol"), &ports::PROTOCOLS, errors);
        target_port(raw, &at.field("targetPort"), errors);
        if raw.node_port.is_some_and(|port| port != 0) {
            errors.forbidden(&at.field("nodePort"), "may not be used when `type` is 'ClusterIP'");
        }
        let protocol = raw.protocol.as_deref().unwrap_or_default();
        if !seen_ports.insert((protocol, raw.port)) {
            errors.duplicate(&at, &format!("{protocol}/{}", raw.port.unwrap_or(0)));
        }
    }
}

fn target_port(raw: &ServicePort, at: &At, errors: &mut Errors) {
    match &raw.target_port {
        // It is the port then, which has been spoken of.
        None => (),
        Some(IntOrString::Int(number)) if raw.port == Some(*number) => (),
        Some(IntOrString::Int(number)) => drop(port_number(*number, at, errors)),
        Some(IntOrString::String(name)) => {
            names::port(name).into_iter().for_each(|fault| errors.invalid(at, name, fault));
        }
    }
}

/// Fields of the types that hull has not, and of a second address family.
fn refuse(spec: &ServiceSpec, at: &At, errors: &mut Errors) {
    let balancer = "it belongs to type LoadBalancer, which is not there yet";
    let refused = [
        ("externalIPs", !spec.external_ips.is_empty(), "addresses of the host are not mapped"),
        ("externalTrafficPolicy", spec.external_traffic_policy.is_some(), balancer),
        ("healthCheckNodePort", spec.health_check_node_port.is_some_and(|port| port != 0), balancer),
        ("loadBalancerClass", spec.load_balancer_class.is_some(), balancer),
        ("loadBalancerIP", spec.load_balancer_ip.as_deref().is_some_and(|ip| !ip.is_empty()), balancer),
        ("loadBalancerSourceRanges", !spec.load_balancer_source_ranges.is_empty(), balancer),
        (
            "ipFamilies",
            spec.ip_families.iter().any(|family| family != "IPv4"),
            "Services have IPv4 addresses",
        ),
        (
            "ipFamilyPolicy",
            matches!(spec.ip_family_policy.as_deref(), Some("RequireDualStack" | "PreferDualStack")),
            "Services have IPv4 addresses; use SingleStack, or leave it out",
        ),
    ];
    for (field, found, why) in refused {
        if found {
            errors.not_supported(&at.field(field), why);
        }
    }
}
