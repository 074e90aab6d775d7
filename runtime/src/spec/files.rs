//! The texts of `/etc/hosts` and `/etc/resolv.conf`, and the hostname: reference `pod-lifecycle.md` 11.6 to 11.8.

use std::net::IpAddr;

use super::{CLUSTER_DOMAIN, env};
use crate::core::input::DnsWarning;
use crate::manifest::pod::{DnsPolicy, Pod};

const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_LENGTH: usize = 253;
const MAX_SEARCH_LINE: usize = 2048;

/// The hostname of the pod's UTS namespace; none with `hostNetwork`, which keeps the host's.
#[must_use]
pub fn kernel_hostname(pod: &Pod) -> Option<String> {
    if pod.spec.host_network {
        return None;
    }
    let short = &pod.spec.hostname;
    Some(match env::domain(pod).filter(|_| pod.spec.hostname_as_fqdn) {
        Some(domain) => format!("{short}.{domain}"),
        None => short.clone(),
    })
}

/// The text of `/etc/hosts`; `host_file` is the host's own, for pods on its network.
#[must_use]
pub fn hosts(pod: &Pod, ips: &[IpAddr], host_file: &str) -> String {
    let mut text = String::new();
    if pod.spec.host_network {
        text.push_str("# Kubernetes-managed hosts file (host network).\n");
        text.push_str(host_file);
    } else {
        text.push_str(
            "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
             fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
        );
        let short = &pod.spec.hostname;
        for ip in ips {
            match env::domain(pod) {
                Some(domain) => text.push_str(&format!("{ip}\t{short}.{domain}\t{short}\n")),
                None => text.push_str(&format!("{ip}\t{short}\n")),
            }
        }
    }
    if !pod.spec.host_aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
        for alias in &pod.spec.host_aliases {
            text.push_str(&format!("{}\t{}\n", alias.ip, alias.hostnames.join("\t")));
        }
    }
    text
}

/// `/etc/resolv.conf`, and what had to be left out of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// The file.
    pub text: String,
    /// Each becomes an event.
    pub warnings: Vec<(DnsWarning, String)>,
}

/// What a resolver is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Resolver {
    nameservers: Vec<String>,
    searches: Vec<String>,
    options: Vec<(String, Option<String>)>,
}

/// The text of `/etc/resolv.conf`. `cluster_dns` is the address of the pod's resolver, `host_file` the host's own text.
#[must_use]
pub fn resolv_conf(pod: &Pod, cluster_dns: Option<IpAddr>, host_file: &str) -> ResolvConf {
    let mut warnings = Vec::new();
    let cluster = match pod.spec.dns_policy {
        DnsPolicy::ClusterFirst => !pod.spec.host_network,
        DnsPolicy::ClusterFirstWithHostNet => true,
        DnsPolicy::Default | DnsPolicy::None => false,
    };
    let host = parse(host_file);
    let mut resolver = match (cluster, cluster_dns) {
        (true, Some(dns)) => cluster_first(pod, dns, host),
        (true, None) => {
            warnings.push((DnsWarning::MissingClusterDns, missing_cluster_dns(pod)));
            host
        }
        (false, _) if pod.spec.dns_policy == DnsPolicy::None => Resolver::default(),
        (false, _) => host,
    };
    merge(&mut resolver, pod);
    limit(&mut resolver, &mut warnings);
    ResolvConf { text: render(&resolver), warnings }
}

fn missing_cluster_dns(pod: &Pod) -> String {
    format!(
        "pod: {:?}. kubelet does not have ClusterDNS IP configured and cannot create Pod using \"ClusterFirst\" policy. \
         Falling back to \"Default\" policy.",
        pod.meta.full_name()
    )
}

fn cluster_first(pod: &Pod, dns: IpAddr, host: Resolver) -> Resolver {
    let namespace = &pod.meta.namespace;
    let mut searches = vec![
        format!("{namespace}.svc.{CLUSTER_DOMAIN}"),
        format!("svc.{CLUSTER_DOMAIN}"),
        CLUSTER_DOMAIN.to_owned(),
    ];
    searches.extend(host.searches);
    Resolver {
        nameservers: vec![dns.to_string()],
        searches: unique(searches),
        options: vec![("ndots".to_owned(), Some("5".to_owned()))],
    }
}

/// Reads a `resolv.conf`(5); the last `search` and `options` line counts.
fn parse(text: &str) -> Resolver {
    let mut resolver = Resolver::default();
    for line in text.lines() {
        let line = line.split(['#', ';']).next().unwrap_or_default();
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => resolver.nameservers.extend(words.next().map(str::to_owned)),
            Some("search" | "domain") => {
                resolver.searches = words
                    .map(|name| if name == "." { name } else { name.trim_end_matches('.') }.to_owned())
                    .collect();
            }
            Some("options") => {
                resolver.options = words
                    .map(|word| match word.split_once(':') {
                        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                        None => (word.to_owned(), None),
                    })
                    .collect();
            }
            Some(_) | None => {}
        }
    }
    resolver
}

/// Adds the pod's `dnsConfig`.
fn merge(resolver: &mut Resolver, pod: &Pod) {
    let config = &pod.spec.dns_config;
    let mut nameservers = std::mem::take(&mut resolver.nameservers);
    nameservers.extend(config.nameservers.iter().map(IpAddr::to_string));
    resolver.nameservers = unique(nameservers);
    let mut searches = std::mem::take(&mut resolver.searches);
    searches.extend(config.searches.iter().cloned());
    resolver.searches = unique(searches);
    for (name, value) in &config.options {
        match resolver.options.iter_mut().find(|(known, _)| known == name) {
            Some(option) => option.1.clone_from(value),
            None => resolver.options.push((name.clone(), value.clone())),
        }
    }
}

fn unique(list: Vec<String>) -> Vec<String> {
    let mut seen = std::collections::BTreeSet::new();
    list.into_iter().filter(|text| seen.insert(text.clone())).collect()
}

/// Cuts what resolvers do not take.
fn limit(resolver: &mut Resolver, warnings: &mut Vec<(DnsWarning, String)>) {
    let before = resolver.searches.len();
    resolver.searches.truncate(MAX_SEARCHES);
    resolver.searches.retain(|name| name.len() <= MAX_SEARCH_LENGTH);
    while resolver.searches.join(" ").len() > MAX_SEARCH_LINE {
        resolver.searches.pop();
    }
    if resolver.searches.len() < before {
        warnings.push((
            DnsWarning::DnsConfigForming,
            format!(
                "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {}",
                resolver.searches.join(" ")
            ),
        ));
    }
    if resolver.nameservers.len() > MAX_NAMESERVERS {
        resolver.nameservers.truncate(MAX_NAMESERVERS);
        warnings.push((
            DnsWarning::DnsConfigForming,
            format!(
                "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: {}",
                resolver.nameservers.join(" ")
            ),
        ));
    }
}

fn render(resolver: &Resolver) -> String {
    let mut text = String::new();
    if !resolver.searches.is_empty() {
        text.push_str(&format!("search {}\n", resolver.searches.join(" ")));
    }
    for server in &resolver.nameservers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !resolver.options.is_empty() {
        let option = |(name, value): &(String, Option<String>)| match value {
            Some(value) => format!("{name}:{value}"),
            None => name.clone(),
        };
        let options: Vec<String> = resolver.options.iter().map(option).collect();
        text.push_str(&format!("options {}\n", options.join(" ")));
    }
    text
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
