//! Ports of containers and of the host.

use std::collections::BTreeSet;

use crate::manifest::pod::{ContainerPort, Protocol};
use crate::manifest::{names, raw};

use super::{At, Errors, Scope, given, ip, one_of, port_number};

/// The words of `protocol`.
pub(in crate::manifest) const PROTOCOLS: [(&str, Protocol); 3] =
    [("TCP", Protocol::Tcp), ("UDP", Protocol::Udp), ("SCTP", Protocol::Sctp)];

/// Reads the ports of one container.
pub(super) fn ports(
    raw: &[raw::ContainerPort],
    at: &At,
    scope: &Scope<'_>,
    errors: &mut Errors,
) -> Vec<ContainerPort> {
    let mut seen = BTreeSet::new();
    let mut ports = Vec::new();
    for (index, raw) in raw.iter().enumerate() {
        let at = at.index(index);
        if let Some(name) = given(raw.name.as_ref()) {
            let at = at.field("name");
            let faults = names::port(name);
            if faults.is_empty() && !seen.insert(name) {
                errors.duplicate(&at, name);
            }
            faults.into_iter().for_each(|fault| errors.invalid(&at, name, fault));
        }
        ports.push(port(raw, &at, scope, errors));
    }
    ports
}

fn port(raw: &raw::ContainerPort, at: &At, scope: &Scope<'_>, errors: &mut Errors) -> ContainerPort {
    let at_port = at.field("containerPort");
    let port = match raw.container_port {
        None | Some(0) => {
            errors.required(&at_port, "");
            1
        }
        Some(number) => port_number(number, &at_port, errors),
    };
    let host_ip = given(raw.host_ip.as_ref()).map(|text| ip(text, &at.field("hostIP"), errors));
    ContainerPort {
        name: given(raw.name.as_ref()).map(str::to_owned),
        port,
        host_port: host_port(raw, port, at, scope, errors),
        host_ip,
        protocol: one_of(raw.protocol.as_ref(), &at.field("protocol"), &PROTOCOLS, errors),
    }
}

fn host_port(
    raw: &raw::ContainerPort,
    port: u16,
    at: &At,
    scope: &Scope<'_>,
    errors: &mut Errors,
) -> Option<u16> {
    let number = raw.host_port.filter(|number| *number != 0)?;
    let at = at.field("hostPort");
    let host_port = port_number(number, &at, errors);
    if !scope.host_network() {
        errors.not_supported(
            &at,
            "ports of the host are not mapped yet; use hostNetwork, or the pod's address",
        );
    } else if host_port != port {
        errors.invalid(&at, number, "must match `containerPort` when `hostNetwork` is true");
    }
    Some(host_port)
}

/// A host port is used once among the main containers, and once in each init container.
pub(super) fn host_ports(scope: &Scope<'_>, at: &At, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (index, container) in scope.spec.containers.iter().enumerate() {
        conflicts(container, &at.field("containers").index(index), &mut seen, errors);
    }
    for (index, container) in scope.spec.init_containers.iter().enumerate() {
        conflicts(container, &at.field("initContainers").index(index), &mut BTreeSet::new(), errors);
    }
}

fn conflicts(container: &raw::Container, at: &At, seen: &mut BTreeSet<String>, errors: &mut Errors) {
    let at = at.field("ports");
    for (index, port) in container.ports.iter().enumerate() {
        let Some(number) = port.host_port.filter(|number| *number != 0) else {
            continue;
        };
        let (protocol, ip) = (port.protocol.as_deref(), port.host_ip.as_deref());
        let used = format!("{}/{}/{number}", protocol.unwrap_or_default(), ip.unwrap_or_default());
        if seen.contains(&used) {
            errors.duplicate(&at.index(index).field("hostPort"), &used);
        }
        seen.insert(used);
    }
}
