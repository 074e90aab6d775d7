//! `[LOCAL:]REMOTE` as kubectl reads it; pure.

use serde_json::Value;

use crate::cli::{Error, Result};
use crate::print::field;

/// One pair of ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pair {
    /// Here; 0 for any that is free.
    pub(super) local: u16,
    /// In the pod.
    pub(super) remote: u16,
}

impl Pair {
    /// Reads `80`, `8080:80`, `:80`, with names of container ports in place of the remote number.
    pub(super) fn parse(text: &str, pod: &Value) -> Result<Self> {
        let (local, remote) = match text.split_once(':') {
            Some((_, remote)) if remote.contains(':') => {
                return Err(Error::Usage(format!("invalid port format '{text}'")));
            }
            Some((local, remote)) => (Some(local), remote),
            None => (None, text),
        };
        let remote = match remote.bytes().all(|byte| byte.is_ascii_digit()) {
            true => number("remote", remote)?,
            false => named(pod, remote)?,
        };
        if remote == 0 {
            return Err(Error::Usage("remote port must be > 0".to_owned()));
        }
        let tcp_only = |protocol: &str| protocol.is_empty() || protocol == "TCP";
        let mut declared =
            ports(pod).filter(|port| field::number(port, "/containerPort") == i64::from(remote));
        let protocols: Vec<&str> = declared.by_ref().map(|port| field::text(port, "/protocol")).collect();
        if let Some(other) = protocols.first()
            && !protocols.iter().any(|protocol| tcp_only(protocol))
        {
            return Err(Error::Usage(format!("{other} protocol is not supported for {remote}")));
        }
        let local = match local {
            None => remote,
            Some("") => 0,
            Some(local) => number("local", local)?,
        };
        Ok(Self { local, remote })
    }
}

impl std::fmt::Display for Pair {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{{{} {}}}", self.local, self.remote)
    }
}

fn number(which: &str, text: &str) -> Result<u16> {
    text.parse().map_err(|_| {
        Error::Usage(format!("error parsing {which} port '{text}': it is no number up to 65535"))
    })
}

/// The number of a container's port.
fn named(pod: &Value, name: &str) -> Result<u16> {
    let found = ports(pod).find(|port| field::text(port, "/name") == name);
    let number = found.and_then(|port| u16::try_from(field::number(port, "/containerPort")).ok());
    number.ok_or_else(|| {
        let pod = field::text(pod, "/metadata/name");
        Error::Usage(format!("pod '{pod}' does not have a named port '{name}'"))
    })
}

/// All ports of all containers that stay: main ones and sidecars.
fn ports(pod: &Value) -> impl Iterator<Item = &Value> {
    let lists = ["/spec/containers", "/spec/initContainers"];
    let containers = lists.into_iter().flat_map(|list| field::list(pod, list));
    containers.flat_map(|container| field::list(container, "/ports"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ports_are_read_as_kubectl_reads_them() {
        let pod = json!({"metadata": {"name": "web"}, "spec": {"containers": [{"ports": [
            {"name": "http", "containerPort": 80}, {"name": "dns", "containerPort": 53, "protocol": "UDP"},
            {"containerPort": 54, "protocol": "UDP"}, {"containerPort": 54, "protocol": "TCP"},
        ]}]}});
        for (text, local, remote) in [
            ("80", 80, 80),
            ("8080:80", 8080, 80),
            (":80", 0, 80),
            ("0:80", 0, 80),
            ("1:http", 1, 80),
            ("http", 80, 80),
            ("54", 54, 54),
        ] {
            assert_eq!(Pair::parse(text, &pod).unwrap(), Pair { local, remote }, "{text}");
        }
        for (text, wanted) in [
            ("1:2:3", "error: invalid port format '1:2:3'"),
            ("x:80", "error: error parsing local port 'x': it is no number up to 65535"),
            ("65536", "error: error parsing remote port '65536': it is no number up to 65535"),
            ("80:0", "error: remote port must be > 0"),
            ("80:", "error: error parsing remote port '': it is no number up to 65535"),
            ("ftp", "error: pod 'web' does not have a named port 'ftp'"),
            ("dns", "error: UDP protocol is not supported for 53"),
        ] {
            assert_eq!(Pair::parse(text, &pod).unwrap_err().text(), wanted);
        }
    }
}
