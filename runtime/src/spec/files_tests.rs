use super::*;
use crate::manifest::pod::HostAlias;
use crate::spec::fixture::{container, pod};

fn web() -> Pod {
    pod(vec![container("app")])
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

const HOST: &str = "# comment\nnameserver 192.0.2.1\nsearch corp.example. lan\noptions ndots:2 rotate\n";

#[test]
fn hosts_names_the_pod_at_each_of_its_addresses() {
    let mut pod = web();
    let ips = [ip("10.244.0.5"), ip("fd00::5")];
    let head = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
                fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n";
    assert_eq!(hosts(&pod, &ips, ""), format!("{head}10.244.0.5\tweb\nfd00::5\tweb\n"));
    pod.spec.subdomain = Some("sub".to_owned());
    pod.spec.host_aliases = vec![HostAlias {
        ip: ip("10.1.2.3"),
        hostnames: vec!["foo.local".to_owned(), "bar.local".to_owned()],
    }];
    let expected = format!(
        "{head}10.244.0.5\tweb.sub.default.svc.cluster.local\tweb\n\n# Entries added by HostAliases.\n\
         10.1.2.3\tfoo.local\tbar.local\n"
    );
    assert_eq!(hosts(&pod, &ips[..1], ""), expected);
    pod.spec.host_network = true;
    let expected = "# Kubernetes-managed hosts file (host network).\n127.0.0.1 me\n\n# Entries added by HostAliases.\n\
                    10.1.2.3\tfoo.local\tbar.local\n";
    assert_eq!(hosts(&pod, &ips, "127.0.0.1 me\n"), expected);
}

#[test]
fn the_hostname_is_short_unless_the_full_one_is_asked_for() {
    let mut pod = web();
    pod.spec.hostname_as_fqdn = true;
    assert_eq!(kernel_hostname(&pod).as_deref(), Some("web"));
    pod.spec.subdomain = Some("sub".to_owned());
    assert_eq!(kernel_hostname(&pod).as_deref(), Some("web.sub.default.svc.cluster.local"));
    pod.spec.hostname_as_fqdn = false;
    assert_eq!(kernel_hostname(&pod).as_deref(), Some("web"));
    pod.spec.host_network = true;
    assert_eq!(kernel_hostname(&pod), None);
}

#[test]
fn each_policy_has_its_base() {
    let cluster = "search default.svc.cluster.local svc.cluster.local cluster.local corp.example lan\n\
                   nameserver 10.96.0.10\noptions ndots:5\n";
    let host = "search corp.example lan\nnameserver 192.0.2.1\noptions ndots:2 rotate\n";
    let cases = [
        (DnsPolicy::ClusterFirst, false, cluster),
        (DnsPolicy::ClusterFirst, true, host),
        (DnsPolicy::ClusterFirstWithHostNet, true, cluster),
        (DnsPolicy::Default, false, host),
        (DnsPolicy::None, false, ""),
    ];
    for (policy, host_network, expected) in cases {
        let mut pod = web();
        pod.spec.dns_policy = policy;
        pod.spec.host_network = host_network;
        let made = resolv_conf(&pod, Some(ip("10.96.0.10")), HOST);
        assert_eq!((made.text.as_str(), made.warnings.len()), (expected, 0), "{policy:?} {host_network}");
    }
}

#[test]
fn without_a_resolver_of_the_pod_the_hosts_is_used_and_said() {
    let made = resolv_conf(&web(), None, HOST);
    assert!(made.text.contains("192.0.2.1"));
    let message = "pod: \"web_default(9d1e)\". kubelet does not have ClusterDNS IP configured and cannot create Pod \
                   using \"ClusterFirst\" policy. Falling back to \"Default\" policy.";
    assert_eq!(made.warnings, [(DnsWarning::MissingClusterDns, message.to_owned())]);
}

#[test]
fn the_pods_own_settings_are_merged_in() {
    let mut pod = web();
    pod.spec.dns_config.nameservers = vec![ip("1.1.1.1"), ip("10.96.0.10")];
    pod.spec.dns_config.searches = vec!["mine".to_owned(), "lan".to_owned()];
    pod.spec.dns_config.options =
        vec![("ndots".to_owned(), Some("1".to_owned())), ("edns0".to_owned(), None)];
    let made = resolv_conf(&pod, Some(ip("10.96.0.10")), HOST);
    let expected = "search default.svc.cluster.local svc.cluster.local cluster.local corp.example lan mine\n\
                    nameserver 10.96.0.10\nnameserver 1.1.1.1\noptions ndots:1 edns0\n";
    assert_eq!(made.text, expected);
}

#[test]
fn what_is_too_much_is_left_out_and_said() {
    let mut pod = web();
    pod.spec.dns_policy = DnsPolicy::None;
    pod.spec.dns_config.nameservers = (1..=4).map(|last| IpAddr::from([10, 0, 0, last])).collect();
    pod.spec.dns_config.searches = (0..40).map(|n| format!("s{n}")).collect();
    let made = resolv_conf(&pod, None, HOST);
    assert_eq!(made.text.matches("nameserver").count(), 3);
    assert!(made.text.starts_with("search s0 ") && made.text.contains(" s31\n"));
    assert_eq!(made.warnings.len(), 2);
    assert!(made.warnings[1].1.ends_with("the applied nameserver line is: 10.0.0.1 10.0.0.2 10.0.0.3"));
    pod.spec.dns_config.searches = vec!["x".repeat(254), "y".repeat(253)];
    let made = resolv_conf(&pod, None, HOST);
    assert!(!made.text.contains('x') && made.text.contains("yyy"));
    pod.spec.dns_config.searches = (0..12).map(|n| format!("{n}{}", "z".repeat(200))).collect();
    let made = resolv_conf(&pod, None, HOST);
    assert_eq!(made.text.lines().next().unwrap().split(' ').count(), 11);
}

proptest::proptest! {
    #[test]
    fn any_host_file_can_be_read(text in "(nameserver|search|options|domain|[ .:;#\\n]|[a-z0-9]{1,4}){0,20}") {
        let made = resolv_conf(&web(), None, &text);
        let servers = made.text.lines().filter(|line| line.starts_with("nameserver ")).count();
        proptest::prop_assert!(servers <= 3);
    }
}
