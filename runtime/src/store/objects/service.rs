//! A stored Service as those who use it want to have it.

use crate::dns::{Endpoint, ServiceRecord};
use crate::manifest::pod::Protocol;
use crate::manifest::raw::{self, IntOrString, Service};
use crate::spec::{ServiceFacts, ServicePort};
use crate::store::endpoints::PodEndpoint;

/// For the environments of containers.
pub(super) fn facts(service: &Service) -> ServiceFacts {
    let (namespace, name) = names(service);
    ServiceFacts { name, namespace, cluster_ip: service.address(), ports: ports(service) }
}

/// Whether its name has the addresses of pods.
#[must_use]
pub fn needs_endpoints(service: &Service) -> bool {
    service.is_headless() && !service.is_external_name() && !service.spec.selector.is_empty()
}

/// For the resolver, with those of the pods that are ready behind it.
#[must_use]
pub fn record<'a>(service: &Service, pods: impl IntoIterator<Item = &'a PodEndpoint>) -> ServiceRecord {
    let (namespace, name) = names(service);
    ServiceRecord {
        name,
        namespace,
        cluster_ip: service.address(),
        headless: service.is_headless(),
        external_name: service.is_external_name().then(|| service.spec.external_name.clone()).flatten(),
        ports: ports(service),
        endpoints: match needs_endpoints(service) {
            true => pods.into_iter().flat_map(|pod| endpoints(service, pod)).collect(),
            false => Vec::new(),
        },
    }
}

/// What a pod is to a headless Service (reference 11.9).
fn endpoints(service: &Service, pod: &PodEndpoint) -> Vec<Endpoint> {
    let (namespace, name) = names(service);
    let selected = service.spec.selector.iter().all(|(key, value)| pod.labels.get(key) == Some(value));
    let not_ready_too = service.spec.publish_not_ready_addresses == Some(true);
    let ready = not_ready_too || (pod.serving && !pod.terminating);
    if pod.namespace != namespace || !selected || !ready {
        return Vec::new();
    }
    let hostname = pod.hostname.clone().filter(|_| pod.subdomain.as_ref() == Some(&name));
    let ports: Vec<_> = service.spec.ports.iter().filter_map(|at| pod_port(at, port(at)?, pod)).collect();
    let at = |ip: &std::net::IpAddr| Endpoint { ip: *ip, hostname: hostname.clone(), ports: ports.clone() };
    // Addresses of IPv6 are no Service's here: `ipFamilies` is IPv4.
    pod.ips.iter().filter(|ip| ip.is_ipv4()).map(at).collect()
}

/// A Service's port as a pod has it; none where its name is no port of the pod.
fn pod_port(asked: &raw::ServicePort, own: ServicePort, pod: &PodEndpoint) -> Option<ServicePort> {
    let number = match &asked.target_port {
        None | Some(IntOrString::Int(0)) => own.port,
        Some(IntOrString::Int(number)) => u16::try_from(*number).ok()?,
        Some(IntOrString::String(name)) if name.is_empty() => own.port,
        Some(IntOrString::String(name)) => {
            let protocol = own.protocol.to_string();
            pod.ports.iter().find(|port| port.name == *name && port.protocol == protocol)?.port
        }
    };
    Some(ServicePort { port: number, ..own })
}

fn names(service: &Service) -> (String, String) {
    let meta = &service.metadata;
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

fn ports(service: &Service) -> Vec<ServicePort> {
    service.spec.ports.iter().filter_map(port).collect()
}

/// None for what validation does not let through.
fn port(port: &raw::ServicePort) -> Option<ServicePort> {
    let protocol = match port.protocol.as_deref() {
        None | Some("TCP") => Protocol::Tcp,
        Some("UDP") => Protocol::Udp,
        Some("SCTP") => Protocol::Sctp,
        Some(_) => return None,
    };
    Some(ServicePort { name: port.name.clone(), port: u16::try_from(port.port?).ok()?, protocol })
}
