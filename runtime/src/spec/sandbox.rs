//! How the shim makes a pod's sandbox.

use std::collections::BTreeMap;

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
        sysctls: sysctls(pod),
        resources: pod_resources(pod),
        cgroup_manager: CgroupManager::default(),
        network: network.filter(|_| !spec.host_network),
    }
}

/// Those of the manifest, and what containerd gives every pod with a network of its own: in there nobody has to be root
/// for a low port or a ping.
fn sysctls(pod: &Pod) -> BTreeMap<String, String> {
    let mut sysctls = pod.spec.security.sysctls.clone();
    if !pod.spec.host_network {
        for (name, value) in
            [("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", "0 2147483647")]
        {
            sysctls.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        }
    }
    sysctls
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

    #[test]
    fn low_ports_and_pings_are_for_everybody_in_a_network_of_its_own() {
        const PORTS: &str = "net.ipv4.ip_unprivileged_port_start";
        let mut pod = fixture::pod(vec![fixture::container("app")]);
        let sysctls = sandbox_config(&pod, None).sysctls;
        assert_eq!(
            (sysctls[PORTS].as_str(), sysctls["net.ipv4.ping_group_range"].as_str()),
            ("0", "0 2147483647")
        );
        pod.spec.security.sysctls.insert(PORTS.to_owned(), "1024".to_owned());
        assert_eq!(sandbox_config(&pod, None).sysctls[PORTS], "1024");
        pod.spec.security.sysctls.clear();
        pod.spec.host_network = true;
        assert!(sandbox_config(&pod, None).sysctls.is_empty());
    }
}
