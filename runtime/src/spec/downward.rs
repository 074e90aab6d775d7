//! Fields of the pod and resources of its containers as text: reference `pod-lifecycle.md` 11.4.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;

use super::{Error, Host};
use crate::manifest::pod::{Container, FieldRef, Pod, ResourceField, ResourceRef};

/// What the fields are read from.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// The name of the host.
    pub node_name: &'a str,
    /// The pod's addresses, primary first.
    pub ips: &'a [IpAddr],
    /// The host's addresses, primary first.
    pub host_ips: &'a [IpAddr],
}

/// The value of a `fieldRef`; empty where there is none.
#[must_use]
pub fn field(field: &FieldRef, facts: &Facts<'_>) -> String {
    let meta = &facts.pod.meta;
    let first = |ips: &[IpAddr]| ips.first().map(IpAddr::to_string).unwrap_or_default();
    let all = |ips: &[IpAddr]| ips.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(",");
    match field {
        FieldRef::Name => meta.name.clone(),
        FieldRef::Namespace => meta.namespace.clone(),
        FieldRef::Uid => meta.uid.clone(),
        FieldRef::Label(key) => meta.labels.get(key).cloned().unwrap_or_default(),
        FieldRef::Annotation(key) => meta.annotations.get(key).cloned().unwrap_or_default(),
        FieldRef::Labels => map(&meta.labels),
        FieldRef::Annotations => map(&meta.annotations),
        FieldRef::NodeName => facts.node_name.to_owned(),
        FieldRef::ServiceAccountName => facts.pod.spec.service_account.clone(),
        FieldRef::HostIp => first(facts.host_ips),
        FieldRef::HostIps => all(facts.host_ips),
        // A pod on the host's network has the host's addresses.
        FieldRef::PodIp if facts.pod.spec.host_network => first(facts.host_ips),
        FieldRef::PodIps if facts.pod.spec.host_network => all(facts.host_ips),
        FieldRef::PodIp => first(facts.ips),
        FieldRef::PodIps => all(facts.ips),
    }
}

/// `key="escaped value"` lines, sorted by key.
fn map(map: &BTreeMap<String, String>) -> String {
    map.iter().map(|(key, value)| format!("{key}={}", go_quote(value))).collect::<Vec<_>>().join("\n")
}

/// Quotes as Go's `%q`.
fn go_quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if c.is_ascii_control() => push(&mut out, format_args!("\\x{:02x}", u32::from(c))),
            c if c.is_control() || c == '\u{feff}' || (c.is_whitespace() && c != ' ') => {
                push(&mut out, format_args!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a String does not fail");
}

/// The value of a `resourceFieldRef`; `own` is the container that it means when it names none.
///
/// # Errors
/// The reference names no container of the pod.
pub fn resource(
    reference: &ResourceRef,
    pod: &Pod,
    own: Option<&Container>,
    host: &Host,
) -> Result<String, Error> {
    let container = match &reference.container {
        Some(name) => pod.spec.container(name.as_str()),
        None => own,
    };
    let named = reference.container.as_ref().map(ToString::to_string).unwrap_or_default();
    let container = container.ok_or(Error::ContainerMissing(named))?;
    let divisor = reference.divisor_milli.max(1);
    Ok(milli(reference.resource, container, host).div_ceil(divisor).to_string())
}

/// A resource in milli units. What is unlimited is limited by what the host has.
fn milli(resource: ResourceField, container: &Container, host: &Host) -> u128 {
    let resources = &container.resources;
    let bytes = |bytes: u64| u128::from(bytes) * 1000;
    match resource {
        ResourceField::CpuLimit => resources.cpu_limit.map_or(u128::from(host.cpus) * 1000, u128::from),
        ResourceField::CpuRequest => resources.cpu_request.or(resources.cpu_limit).unwrap_or(0).into(),
        ResourceField::MemoryLimit => bytes(resources.memory_limit.unwrap_or(host.memory_bytes)),
        ResourceField::MemoryRequest => {
            bytes(resources.memory_request.or(resources.memory_limit).unwrap_or(0))
        }
        ResourceField::EphemeralLimit => bytes(resources.ephemeral_limit.unwrap_or(host.ephemeral_bytes)),
        ResourceField::EphemeralRequest => {
            bytes(resources.ephemeral_request.or(resources.ephemeral_limit).unwrap_or(0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::pod::Resources;
    use crate::spec::fixture;

    #[test]
    fn resources_are_rounded_up_to_the_divisor() {
        // Test vector 31 and its neighbours.
        let mut container = fixture::container("app");
        container.resources = Resources {
            cpu_limit: Some(250),
            memory_limit: Some(64 << 20),
            memory_request: Some(1),
            ..Resources::default()
        };
        let pod = fixture::pod(vec![container.clone()]);
        let host = fixture::host();
        let cases = [
            (ResourceField::CpuLimit, 1000, "1"),
            (ResourceField::CpuLimit, 1, "250"),
            (ResourceField::CpuRequest, 1, "250"),
            (ResourceField::MemoryLimit, 1000, "67108864"),
            (ResourceField::MemoryLimit, 1000 << 20, "64"),
            (ResourceField::MemoryRequest, 1000 << 20, "1"),
            (ResourceField::EphemeralRequest, 1000, "0"),
            (ResourceField::EphemeralLimit, 1000, "10737418240"),
            (ResourceField::CpuLimit, 0, "250"),
        ];
        for (resource, divisor_milli, expected) in cases {
            let reference = ResourceRef { container: None, resource, divisor_milli };
            let value = super::resource(&reference, &pod, Some(&container), &host).unwrap();
            assert_eq!(value, expected, "{resource:?} / {divisor_milli}");
        }
    }

    #[test]
    fn an_unset_limit_is_what_the_host_has() {
        let container = fixture::container("app");
        let pod = fixture::pod(vec![container.clone()]);
        let reference =
            ResourceRef { container: None, resource: ResourceField::CpuLimit, divisor_milli: 1000 };
        assert_eq!(resource(&reference, &pod, Some(&container), &fixture::host()).unwrap(), "2");
    }

    #[test]
    fn whole_labels_are_sorted_and_quoted() {
        let mut pod = fixture::pod(vec![fixture::container("app")]);
        pod.meta.labels =
            [("b".to_owned(), "say \"hi\"\n\u{1}".to_owned()), ("a".to_owned(), "1".to_owned())].into();
        let facts = Facts { pod: &pod, node_name: "node", ips: &[], host_ips: &[] };
        assert_eq!(field(&FieldRef::Labels, &facts), "a=\"1\"\nb=\"say \\\"hi\\\"\\n\\x01\"");
        assert_eq!(field(&FieldRef::Label("none".to_owned()), &facts), "");
    }

    #[test]
    fn plural_addresses_are_joined_by_commas() {
        let pod = fixture::pod(vec![fixture::container("app")]);
        let ips: Vec<IpAddr> = vec!["10.88.0.5".parse().unwrap(), "fd00::5".parse().unwrap()];
        let facts = Facts { pod: &pod, node_name: "node", ips: &ips, host_ips: &[] };
        assert_eq!(field(&FieldRef::PodIps, &facts), "10.88.0.5,fd00::5");
        assert_eq!(field(&FieldRef::PodIp, &facts), "10.88.0.5");
        assert_eq!(field(&FieldRef::HostIp, &facts), "");
    }
}
