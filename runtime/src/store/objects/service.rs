//! A stored Service as those who use it want to have it.

use crate::dns::ServiceRecord;
use crate::manifest::pod::Protocol;
use crate::manifest::raw::{self, Service};
use crate::spec::{ServiceFacts, ServicePort};

/// For the environments of containers.
pub(super) fn facts(service: &Service) -> ServiceFacts {
    let (namespace, name) = names(service);
    ServiceFacts { name, namespace, cluster_ip: service.address(), ports: ports(service) }
}

/// For the resolver. Endpoints are not known here: pods of other supervisors.
pub(super) fn record(service: &Service) -> ServiceRecord {
    let (namespace, name) = names(service);
    ServiceRecord {
        name,
        namespace,
        cluster_ip: service.address(),
        headless: service.is_headless(),
        external_name: service.is_external_name().then(|| service.spec.external_name.clone()).flatten(),
        ports: ports(service),
        endpoints: Vec::new(),
    }
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
