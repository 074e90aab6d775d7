//! The names of the cluster's domain, made from the Services (reference `pod-lifecycle.md` 11.9).
//!
//! ```text
//! <domain>                                  dns-version  TXT
//!   svc                                     pod
//!     <namespace>                             <namespace>
//!       <service>     A, AAAA, CNAME            <a-b-c-d>   A
//!         <endpoint>      A, AAAA
//!         _<protocol>
//!           _<port>   SRV
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use super::message::Name;
pub use crate::spec::ServicePort;

/// Version of the naming scheme, which `dns-version.<domain>` tells.
const SCHEMA: &str = "1.1.0";

/// What the resolver has to know of one Service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceRecord {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`.
    pub namespace: String,
    /// Its address; none when it is headless or an alias.
    pub cluster_ip: Option<IpAddr>,
    /// `clusterIP: None`: its name has the addresses of its endpoints.
    pub headless: bool,
    /// `externalName`: its name is an alias.
    pub external_name: Option<String>,
    /// `ports`.
    pub ports: Vec<ServicePort>,
    /// The ready endpoints; used when it is headless.
    pub endpoints: Vec<Endpoint>,
}

/// A ready pod behind a headless Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The pod's address.
    pub ip: IpAddr,
    /// The pod's `hostname`, if its `subdomain` is the Service.
    pub hostname: Option<String>,
    /// The Service's ports as this pod has them.
    pub ports: Vec<ServicePort>,
}

impl Endpoint {
    /// Its label below the Service: the hostname, or one made from the address.
    fn label(&self) -> String {
        self.hostname.as_ref().map_or_else(
            || self.ip.to_string().replace(['.', ':'], "-").to_ascii_lowercase(),
            |name| name.to_ascii_lowercase(),
        )
    }
}

/// All names of the cluster's domain at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    domain: Name,
    domain_labels: Vec<String>,
    /// By namespace and name.
    services: BTreeMap<(String, String), ServiceRecord>,
    namespaces: BTreeSet<String>,
    reverse: BTreeMap<IpAddr, Name>,
}

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    /// The domain itself.
    Apex,
    /// A name with nothing of its own, but with others below it.
    Empty,
    Addresses(Vec<IpAddr>),
    Alias(Name),
    /// Ports with the names and addresses of who serves them.
    Services(Vec<Target>),
    Text(&'static str),
    Pointer(Name),
}

/// One SRV record and where its target is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) port: u16,
    pub(super) name: Name,
    pub(super) ip: IpAddr,
}

/// Whose name it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lookup {
    /// Ours; none when there is no such name.
    Here(Option<Node>),
    /// Somebody else's.
    Elsewhere,
}

impl Zone {
    /// The zone of `domain` (`cluster.local`, which also stands in for a domain that is no name) with these
    /// Services.
    #[must_use]
    pub fn from_services(domain: &str, services: Vec<ServiceRecord>) -> Self {
        let domain = Name::new(domain)
            .unwrap_or_else(|| Name::new("cluster.local").expect("two short labels are a name"));
        let mut zone = Self {
            domain_labels: domain.labels(),
            domain,
            services: BTreeMap::new(),
            namespaces: BTreeSet::new(),
            reverse: BTreeMap::new(),
        };
        for service in services {
            zone.add(service);
        }
        zone
    }

    fn add(&mut self, mut service: ServiceRecord) {
        service.name.make_ascii_lowercase();
        service.namespace.make_ascii_lowercase();
        let own = self.service_name(&service, None);
        if let (Some(ip), Some(name)) = (service.cluster_ip, own) {
            self.reverse.insert(ip, name);
        }
        for endpoint in service.endpoints.iter().filter(|_| service.headless) {
            let name = self.service_name(&service, Some(&endpoint.label()));
            self.reverse.extend(name.map(|name| (endpoint.ip, name)));
        }
        self.namespaces.insert(service.namespace.clone());
        self.services.insert((service.namespace.clone(), service.name.clone()), service);
    }

    /// The domain's name, which owns the SOA record.
    pub(super) fn domain(&self) -> &Name {
        &self.domain
    }

    fn service_name(&self, service: &ServiceRecord, endpoint: Option<&str>) -> Option<Name> {
        let domain = self.domain_labels.join(".");
        let endpoint = endpoint.map(|label| format!("{label}.")).unwrap_or_default();
        Name::new(&format!("{endpoint}{}.{}.svc.{domain}", service.name, service.namespace))
    }

    /// Looks a name up by its labels, in lower case.
    pub(super) fn lookup(&self, labels: &[String]) -> Lookup {
        if let Some(below) = labels.strip_suffix(self.domain_labels.as_slice()) {
            let below: Vec<&str> = below.iter().map(String::as_str).collect();
            return Lookup::Here(self.node(&below));
        }
        // Addresses that no Service has may have names elsewhere.
        match reverse_address(labels).and_then(|address| self.reverse.get(&address)) {
            Some(name) => Lookup::Here(Some(Node::Pointer(name.clone()))),
            None => Lookup::Elsewhere,
        }
    }

    fn node(&self, below: &[&str]) -> Option<Node> {
        match below {
            [] => Some(Node::Apex),
            ["dns-version"] => Some(Node::Text(SCHEMA)),
            ["svc" | "pod"] | [_, "pod"] => Some(Node::Empty),
            [namespace, "svc"] => self.namespaces.contains(*namespace).then_some(Node::Empty),
            [address, _, "pod"] => {
                let address: Ipv4Addr = address.replace('-', ".").parse().ok()?;
                Some(Node::Addresses(vec![address.into()]))
            }
            [name, namespace, "svc"] => Self::service_node(self.service(namespace, name)?),
            [label, name, namespace, "svc"] => self.below_service(self.service(namespace, name)?, label),
            [port, protocol, name, namespace, "svc"] => {
                let service = self.service(namespace, name)?;
                let targets = self.targets(service, port.strip_prefix('_')?, protocol.strip_prefix('_')?);
                (!targets.is_empty()).then_some(Node::Services(targets))
            }
            _ => None,
        }
    }

    fn service(&self, namespace: &str, name: &str) -> Option<&ServiceRecord> {
        self.services.get(&(namespace.to_owned(), name.to_owned()))
    }

    fn service_node(service: &ServiceRecord) -> Option<Node> {
        if let Some(alias) = &service.external_name {
            return Name::new(alias).map(Node::Alias);
        }
        if service.headless {
            let addresses: Vec<IpAddr> = service.endpoints.iter().map(|endpoint| endpoint.ip).collect();
            return (!addresses.is_empty()).then_some(Node::Addresses(addresses));
        }
        Some(service.cluster_ip.map_or(Node::Empty, |ip| Node::Addresses(vec![ip])))
    }

    /// An endpoint by name, or the place where SRV records hang.
    fn below_service(&self, service: &ServiceRecord, label: &str) -> Option<Node> {
        if let Some(protocol) = label.strip_prefix('_') {
            let has = service.ports.iter().any(|port| port.name.is_some() && is_protocol(port, protocol));
            return has.then_some(Node::Empty);
        }
        let named = service.endpoints.iter().filter(|endpoint| service.headless && endpoint.label() == label);
        let addresses: Vec<IpAddr> = named.map(|endpoint| endpoint.ip).collect();
        (!addresses.is_empty()).then_some(Node::Addresses(addresses))
    }

    fn targets(&self, service: &ServiceRecord, port: &str, protocol: &str) -> Vec<Target> {
        let find = |ports: &[ServicePort]| {
            ports.iter().find(|at| is_named(at, port) && is_protocol(at, protocol)).map(|at| at.port)
        };
        if !service.headless {
            let target = find(&service.ports).zip(service.cluster_ip).zip(self.service_name(service, None));
            return target.map(|((port, ip), name)| Target { port, name, ip }).into_iter().collect();
        }
        let of_endpoint = |endpoint: &Endpoint| {
            let name = self.service_name(service, Some(&endpoint.label()))?;
            Some(Target { port: find(&endpoint.ports)?, name, ip: endpoint.ip })
        };
        service.endpoints.iter().filter_map(of_endpoint).collect()
    }
}

fn is_named(port: &ServicePort, name: &str) -> bool {
    port.name.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(name))
}

fn is_protocol(port: &ServicePort, protocol: &str) -> bool {
    port.protocol.to_string().eq_ignore_ascii_case(protocol)
}

/// The address behind `4.3.2.1.in-addr.arpa` or its IPv6 likeness.
fn reverse_address(labels: &[String]) -> Option<IpAddr> {
    let (family, digits) = match labels {
        [digits @ .., family, arpa] if arpa == "arpa" => (family.as_str(), digits),
        _ => return None,
    };
    match (family, digits.len()) {
        ("in-addr", 4) => {
            let text: Vec<&str> = digits.iter().rev().map(String::as_str).collect();
            text.join(".").parse().ok().map(IpAddr::V4)
        }
        ("ip6", 32) if digits.iter().all(|digit| digit.len() == 1) => {
            let text: String = digits.iter().rev().map(String::as_str).collect();
            u128::from_str_radix(&text, 16).ok().map(|bits| IpAddr::V6(bits.into()))
        }
        _ => None,
    }
}
