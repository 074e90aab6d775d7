//! Where pods can be reached: `<run>/endpoints/<uid>`, one JSON file per pod that has an address and is not over.
//!
//! A pod's supervisor writes its file whenever what it says changes; the resolvers of all pods read it. It goes when the pod is over, and
//! the shim removes it with the pod, so that it has an owner however the supervisor ended. It is written in the pod's own directory and
//! moved from there, so that a killed supervisor leaves nothing else. Rules: reference `pod-lifecycle.md` 11.9.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use hull_shim::layout::Layout;
use serde::{Deserialize, Serialize};

use super::file::{self, FileError};
use crate::core::status::PodStatus;
use crate::manifest::raw;

/// Where one pod can be reached, and what Services want to know of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodEndpoint {
    /// `metadata.namespace`
    pub namespace: String,
    /// `metadata.labels`
    pub labels: BTreeMap<String, String>,
    /// At least one.
    pub ips: Vec<IpAddr>,
    /// `spec.hostname`, if it is a name in the cluster's DNS.
    pub hostname: Option<String>,
    /// `spec.subdomain`
    pub subdomain: Option<String>,
    /// The condition `Ready`.
    pub serving: bool,
    /// Its deletion was asked for.
    pub terminating: bool,
    /// The named ports of main containers, then those of sidecars.
    pub ports: Vec<NamedPort>,
}

/// A port of a container that has a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedPort {
    /// `name`
    pub name: String,
    /// `containerPort`
    pub port: u16,
    /// `protocol`
    pub protocol: String,
}

impl PodEndpoint {
    /// What a pod says of itself; nothing without an address, and once it is over.
    #[must_use]
    pub fn of(pod: &raw::Pod, status: &PodStatus, terminating: bool) -> Option<Self> {
        let ips: Vec<IpAddr> = status.pod_ips.iter().filter_map(|ip| ip.ip.parse().ok()).collect();
        if ips.is_empty() || status.phase.is_terminal() {
            return None;
        }
        let spec = &pod.spec;
        let ready = |condition: &&crate::core::status::Condition| condition.kind == "Ready";
        Some(Self {
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            labels: pod.metadata.labels.clone(),
            ips,
            hostname: spec
                .hostname
                .clone()
                .filter(|name| !name.is_empty() && spec.hostname_override.is_none()),
            subdomain: spec.subdomain.clone(),
            serving: status.conditions.iter().find(ready).is_some_and(|ready| ready.status == "True"),
            terminating,
            ports: named_ports(spec),
        })
    }
}

fn named_ports(spec: &raw::PodSpec) -> Vec<NamedPort> {
    let sidecars =
        spec.init_containers.iter().filter(|init| init.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| &container.ports);
    let named = |port: &raw::ContainerPort| {
        let number = port.container_port.and_then(|port| u16::try_from(port).ok())?;
        let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
        Some(NamedPort { name: port.name.clone()?, port: number, protocol })
    };
    ports.filter_map(named).collect()
}

/// The files of one hull.
#[derive(Debug, Clone)]
pub struct Endpoints {
    layout: Layout,
}

impl Endpoints {
    /// Those below `layout`.
    #[must_use]
    pub fn open(layout: &Layout) -> Self {
        Self { layout: layout.clone() }
    }

    /// The directory that can be watched; it is made if it is not there.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn directory(&self) -> io::Result<PathBuf> {
        let directory = self.layout.endpoints();
        fs::create_dir_all(&directory)?;
        Ok(directory)
    }

    /// Says where a pod is.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, uid: &str, endpoint: &PodEndpoint) -> Result<(), FileError> {
        let (new, path) = (self.layout.pod(uid).new_endpoint(), self.layout.endpoint(uid));
        self.directory().map_err(|error| FileError::new("make the directory of", &path, error))?;
        let json = serde_json::to_vec(endpoint).expect("an endpoint has only string keys");
        file::write_whole(&new, &json, 0o644)?;
        fs::rename(&new, &path).map_err(|error| FileError::new("replace", &path, error))
    }

    /// Says that a pod is nowhere; that it was already is fine.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn remove(&self, uid: &str) -> Result<(), FileError> {
        let path = self.layout.endpoint(uid);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(FileError::new("remove", &path, error))
            }
            _ => Ok(()),
        }
    }

    /// What the pod of this uid says; a file that cannot be read says nothing.
    #[must_use]
    pub fn read(&self, uid: &OsStr) -> Option<PodEndpoint> {
        let text = fs::read(self.layout.endpoints().join(uid)).ok()?;
        let endpoint = serde_json::from_slice(&text);
        endpoint.inspect_err(|error| tracing::warn!(%error, ?uid, "an endpoint cannot be read")).ok()
    }

    /// All pods, by uid.
    #[must_use]
    pub fn all(&self) -> BTreeMap<OsString, PodEndpoint> {
        let entries = fs::read_dir(self.layout.endpoints()).into_iter().flatten().flatten();
        let uids = entries.map(|entry| entry.file_name());
        uids.filter_map(|uid| self.read(&uid).map(|endpoint| (uid, endpoint))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::status::{Condition, Ip, Phase};

    fn pod() -> raw::Pod {
        let text = r#"{"metadata": {"name": "db-0", "namespace": "default", "labels": {"app": "db"}}, "spec": {
            "hostname": "db-0", "subdomain": "db",
            "initContainers": [{"name": "i", "ports": [{"name": "init", "containerPort": 1}]},
                {"name": "s", "restartPolicy": "Always", "ports": [{"name": "side", "containerPort": 2, "protocol": "UDP"}]}],
            "containers": [{"name": "m", "ports": [{"name": "main", "containerPort": 3}, {"containerPort": 4}]}]}}"#;
        serde_json::from_str(text).unwrap()
    }

    fn status(phase: Phase, ready: &str) -> PodStatus {
        let condition = Condition {
            kind: "Ready".into(),
            status: ready.into(),
            last_transition_time: jiff::Timestamp::UNIX_EPOCH,
            reason: None,
            message: None,
            observed_generation: 1,
        };
        let pod_ips = vec![Ip { ip: "10.88.0.2".into() }];
        PodStatus { phase, conditions: vec![condition], pod_ips, ..PodStatus::default() }
    }

    #[test]
    fn a_pod_says_where_it_is_until_it_is_over() {
        let endpoint = PodEndpoint::of(&pod(), &status(Phase::Running, "True"), false).unwrap();
        assert_eq!((endpoint.serving, endpoint.terminating), (true, false));
        assert_eq!((endpoint.hostname.as_deref(), endpoint.subdomain.as_deref()), (Some("db-0"), Some("db")));
        let ports: Vec<_> = endpoint.ports.iter().map(|port| (port.name.as_str(), port.port)).collect();
        assert_eq!(ports, [("main", 3), ("side", 2)]);
        assert!(!PodEndpoint::of(&pod(), &status(Phase::Running, "False"), false).unwrap().serving);
        assert_eq!(PodEndpoint::of(&pod(), &status(Phase::Succeeded, "False"), false), None);
        let nowhere = PodStatus { pod_ips: Vec::new(), ..status(Phase::Pending, "False") };
        assert_eq!(PodEndpoint::of(&pod(), &nowhere, false), None);
    }

    #[test]
    fn what_was_written_is_read_until_it_is_removed() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(Some(root.path().to_owned()));
        fs::create_dir_all(layout.pod("u1").dir()).unwrap();
        let endpoints = Endpoints::open(&layout);
        assert!(endpoints.all().is_empty());
        let endpoint = PodEndpoint::of(&pod(), &status(Phase::Running, "True"), true).unwrap();
        endpoints.write("u1", &endpoint).unwrap();
        assert_eq!(endpoints.all().into_values().collect::<Vec<_>>(), [endpoint]);
        endpoints.remove("u1").unwrap();
        endpoints.remove("u1").unwrap();
        assert!(endpoints.all().is_empty());
    }
}
