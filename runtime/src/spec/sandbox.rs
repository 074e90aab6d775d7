//! How the shim makes a pod's sandbox.

use hull_shim::wire::{CgroupManager, SandboxConfig};

use super::{kernel_hostname, pod_resources};
use crate::manifest::pod::Pod;

/// The content of `sandbox.json`; `network` is the input of the network tasks. Who makes its cgroup is for the caller to say.
#[must_use]
pub fn sandbox_config(pod: &Pod, network: Option<serde_json::Value>) -> SandboxConfig {
    let spec = &pod.spec;
    SandboxConfig {
        uid: pod.meta.uid.clone(),
        namespace: pod.meta.namespace.clone(),
        name: pod.meta.name.clone(),
        hostname: kernel_hostname(pod),
        host_network: spec.host_network,
        host_ipc: spec.host_ipc,
        share_pid: spec.share_process_namespace && !spec.host_pid,
        host_pid: spec.host_pid,
        sysctls: spec.security.sysctls.clone(),
        resources: pod_resources(pod),
        cgroup_manager: CgroupManager::default(),
        network: network.filter(|_| !spec.host_network),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::fixture;

    #[test]
    fn a_pod_on_the_hosts_network_has_no_hostname_and_no_network_of_its_own() {
        let mut pod = fixture::pod(vec![fixture::container("app")]);
        let own = sandbox_config(&pod, Some(serde_json::json!({})));
        assert_eq!(own.hostname.as_deref(), Some("web"));
        assert!(own.network.is_some());
        pod.spec.host_network = true;
        let host = sandbox_config(&pod, Some(serde_json::json!({})));
        assert_eq!((host.hostname, host.network), (None, None));
    }
}
