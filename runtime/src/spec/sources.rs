//! The objects that a pod refers to, as the object store hands them over.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::manifest::pod::{ObjectKind, Protocol};

/// ConfigMaps, Secrets and Services of one namespace. `services` holds `default/kubernetes` besides, if there is one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// ConfigMaps by name: keys (of `data` and `binaryData`) and values.
    pub config_maps: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    /// Secrets by name: keys and decoded values.
    pub secrets: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    /// Services.
    pub services: Vec<ServiceFacts>,
}

impl Sources {
    /// The keys of a ConfigMap or Secret, or none if it does not exist.
    #[must_use]
    pub fn object(&self, kind: ObjectKind, name: &str) -> Option<&BTreeMap<String, Vec<u8>>> {
        match kind {
            ObjectKind::ConfigMap => self.config_maps.get(name),
            ObjectKind::Secret => self.secrets.get(name),
        }
    }
}

/// What a pod's environment tells of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceFacts {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its stable address; a headless one has none.
    pub cluster_ip: Option<IpAddr>,
    /// Its ports, in order.
    pub ports: Vec<ServicePort>,
}

/// One port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Its number.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
}

/// The kind as the kubelet spells it for a missing object.
pub(crate) fn lower_kind(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::ConfigMap => "configmap",
        ObjectKind::Secret => "secret",
    }
}

/// The kind as the API spells it.
pub(crate) fn api_kind(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::ConfigMap => "ConfigMap",
        ObjectKind::Secret => "Secret",
    }
}
