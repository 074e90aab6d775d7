//! Name resolution of the pod.

use crate::manifest::pod::{DnsConfig, DnsPolicy, HostAlias};
use crate::manifest::{names, raw};

use super::{At, Errors, ip, one_of, required};

/// Nameservers that libc reads.
const NAMESERVERS: usize = 3;
/// Domains of a search path.
const SEARCHES: usize = 32;
/// Characters of a search path.
const SEARCH_CHARS: usize = 2048;

/// Reads `dnsPolicy`.
pub(super) fn policy(raw: &raw::PodSpec, at: &At, errors: &mut Errors) -> DnsPolicy {
    let words = [
        ("ClusterFirst", DnsPolicy::ClusterFirst),
        ("ClusterFirstWithHostNet", DnsPolicy::ClusterFirstWithHostNet),
        ("Default", DnsPolicy::Default),
        ("None", DnsPolicy::None),
    ];
    one_of(raw.dns_policy.as_ref(), &at.field("dnsPolicy"), &words, errors)
}

/// Reads `dnsConfig`.
pub(super) fn config(raw: &raw::PodSpec, at: &At, errors: &mut Errors) -> DnsConfig {
    let alone = raw.dns_policy.as_deref() == Some("None");
    let Some(config) = &raw.dns_config else {
        if alone {
            errors.required(at, "must provide `dnsConfig` when `dnsPolicy` is None");
        }
        return DnsConfig::default();
    };
    let at_servers = at.field("nameservers");
    if alone && config.nameservers.is_empty() {
        errors.required(&at_servers, "must provide at least one DNS nameserver when `dnsPolicy` is None");
    }
    if config.nameservers.len() > NAMESERVERS {
        let detail = format!("must not have more than {NAMESERVERS} nameservers");
        errors.invalid(&at_servers, &serde_json::json!(config.nameservers), detail);
    }
    let servers = config.nameservers.iter().enumerate();
    let nameservers = servers.map(|(index, text)| ip(text, &at_servers.index(index), errors)).collect();
    searches(config, &at.field("searches"), errors);
    let mut options = Vec::new();
    for (index, option) in config.options.iter().enumerate() {
        let name = option.name.clone().unwrap_or_default();
        if name.is_empty() {
            errors.required(&at.field("options").index(index), "must not be empty");
        }
        options.push((name, option.value.clone()));
    }
    DnsConfig { nameservers, searches: config.searches.clone(), options }
}

fn searches(config: &raw::PodDnsConfig, at: &At, errors: &mut Errors) {
    let searches = &config.searches;
    let shown = || serde_json::json!(searches);
    if searches.len() > SEARCHES {
        errors.invalid(at, &shown(), format!("must not have more than {SEARCHES} search paths"));
    }
    if searches.join(" ").len() > SEARCH_CHARS {
        let detail = format!(
            "must not have more than {SEARCH_CHARS} characters (including spaces) in the search list"
        );
        errors.invalid(at, &shown(), detail);
    }
    for (index, search) in searches.iter().enumerate().filter(|(_, search)| *search != ".") {
        // A final dot and underscores are allowed in a search domain.
        let name = search.strip_suffix('.').unwrap_or(search).replace('_', "-");
        let name: Vec<_> = name.split('.').map(|label| label.trim_matches('-')).collect();
        let faults = names::subdomain(&name.join("."));
        faults.into_iter().for_each(|fault| errors.invalid(&at.index(index), search, fault));
    }
}

/// Reads `hostAliases`.
pub(super) fn aliases(raw: &[raw::HostAlias], at: &At, errors: &mut Errors) -> Vec<HostAlias> {
    let mut aliases = Vec::new();
    for (index, alias) in raw.iter().enumerate() {
        let at = at.index(index);
        let at_ip = at.field("ip");
        let text = required(alias.ip.as_ref(), &at_ip, errors);
        if text.is_empty() {
            continue;
        }
        let ip = ip(text, &at_ip, errors);
        for (index, name) in alias.hostnames.iter().enumerate() {
            let at = at.field("hostnames").index(index);
            names::subdomain(name).into_iter().for_each(|fault| errors.invalid(&at, name, fault));
        }
        aliases.push(HostAlias { ip, hostnames: alias.hostnames.clone() });
    }
    aliases
}
