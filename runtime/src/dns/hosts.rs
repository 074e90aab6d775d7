//! What a host knows of names without asking anybody: its hosts file (hosts(5)), and `localhost`, which is the loopback also where no
//! file says so (RFC 6761, section 6.3).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The addresses of `host`, IPv4 first; none if it has to be asked for.
#[must_use]
pub fn known_addresses(host: &str, hosts_file: &str) -> Option<Vec<IpAddr>> {
    let name = host.strip_suffix('.').unwrap_or(host);
    let mut found: Vec<IpAddr> = hosts_file.lines().filter_map(|line| address_of(name, line)).collect();
    if found.is_empty() && is_localhost(name) {
        found = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    }
    found.sort_by_key(IpAddr::is_ipv6);
    (!found.is_empty()).then_some(found)
}

/// The address of a line that has this name.
fn address_of(name: &str, line: &str) -> Option<IpAddr> {
    let line = line.split('#').next().unwrap_or_default();
    let mut words = line.split_whitespace();
    let address = words.next()?.parse().ok()?;
    words.any(|other| other.strip_suffix('.').unwrap_or(other).eq_ignore_ascii_case(name)).then_some(address)
}

fn is_localhost(name: &str) -> bool {
    name.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case("localhost"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "127.0.0.1\tlocalhost\n::1 localhost\n# 9.9.9.9 commented\n\n2001:db8::2 db\n192.0.2.1 Db.example db # x y\n\
                        fe80::1%eth0 scoped\nnonsense db\n";

    fn known(host: &str) -> Option<Vec<String>> {
        let found = known_addresses(host, FILE)?;
        Some(found.iter().map(IpAddr::to_string).collect())
    }

    #[test]
    fn a_name_of_the_hosts_file_has_all_its_addresses() {
        assert_eq!(known("localhost"), Some(vec!["127.0.0.1".into(), "::1".into()]));
        assert_eq!(known("DB."), Some(vec!["192.0.2.1".into(), "2001:db8::2".into()]));
        assert_eq!(known("db.EXAMPLE"), Some(vec!["192.0.2.1".into()]));
        for other in ["x", "commented", "scoped", "example", ""] {
            assert_eq!(known(other), None, "{other}");
        }
    }

    #[test]
    fn localhost_needs_no_file() {
        let loopback = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        assert_eq!(known_addresses("LocalHost", ""), Some(loopback.clone()));
        assert_eq!(known_addresses("app.localhost.", ""), Some(loopback));
        assert_eq!(known_addresses("localhost.example", ""), None);
    }
}
