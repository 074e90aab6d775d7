//! Pods, hosts and inputs for the tests of this folder and of `volume`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use hull_shim::layout::{Layout, PodLayout};
use hull_shim::wire::InstanceId;

use super::{CgroupMode, Host, ImageConfig, Input, Sources};
pub(crate) use crate::manifest::pod::fixture::{container, pod};
use crate::manifest::pod::{Container, EnvValue, EnvVar, Pod};

pub(crate) fn host() -> Host {
    Host {
        memory_bytes: 8 << 30,
        ephemeral_bytes: 10 << 30,
        cpus: 2,
        // Everything but SYS_RESOURCE.
        capabilities: 0x1ff_feff_ffff,
        cgroup: CgroupMode::V1,
        cgroup_hierarchies: vec!["cpu".to_owned(), "memory".to_owned()],
        swap_limits: false,
        recursive_attributes: true,
        pids_limit: Some(4096),
        oom_score_adj: 0,
        devices: Vec::new(),
    }
}

pub(crate) fn literal(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.to_owned(), value: EnvValue::Literal(value.to_owned()) }
}

pub(crate) fn layout() -> PodLayout {
    Layout::new(Some(PathBuf::from("/h"))).pod("9d1e")
}

/// Owns everything that an [`Input`] borrows.
pub(crate) struct Case {
    pub(crate) pod: Pod,
    pub(crate) instance: InstanceId,
    pub(crate) image: ImageConfig,
    pub(crate) ips: Vec<IpAddr>,
    pub(crate) host_ips: Vec<IpAddr>,
    pub(crate) sources: Sources,
    pub(crate) passwd: String,
    pub(crate) group: String,
    pub(crate) profile: Option<String>,
    pub(crate) env_files: BTreeMap<(String, String), String>,
    pub(crate) layout: PodLayout,
    pub(crate) host: Host,
}

impl Case {
    /// A pod of one container, `app`.
    pub(crate) fn new(container: Container) -> Self {
        Self {
            instance: InstanceId { container: container.name.to_string(), attempt: 0 },
            pod: pod(vec![container]),
            image: ImageConfig { cmd: vec!["sh".to_owned()], ..ImageConfig::default() },
            ips: vec![IpAddr::from([10, 88, 0, 5])],
            host_ips: vec![IpAddr::from([192, 168, 7, 2])],
            sources: Sources::default(),
            passwd: "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\n".to_owned(),
            group: "root:x:0:\nwww:x:34:\nlogs:x:4:web,other\n".to_owned(),
            profile: None,
            env_files: BTreeMap::new(),
            layout: layout(),
            host: host(),
        }
    }

    pub(crate) fn input(&self) -> Input<'_> {
        Input {
            pod: &self.pod,
            container: &self.pod.spec.containers[0],
            instance: &self.instance,
            image: &self.image,
            ips: &self.ips,
            host_ips: &self.host_ips,
            node_name: "node",
            sources: &self.sources,
            passwd: &self.passwd,
            group: &self.group,
            seccomp_profile: self.profile.as_deref(),
            env_files: &self.env_files,
            layout: &self.layout,
            host: &self.host,
        }
    }
}
