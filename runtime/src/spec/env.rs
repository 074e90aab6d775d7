//! The environment of a container, and the expansion of `$(NAME)`: reference `pod-lifecycle.md` 11.2, 11.3, 11.5.
//!
//! Where Kubernetes leaves the order open it is fixed here: `PATH`, `HOSTNAME`, `TERM`, the image's variables in
//! their order, `envFrom` and `env` in theirs, service variables sorted by name, `HOME`.

use std::collections::BTreeMap;

use super::{CLUSTER_DOMAIN, Error, Input, ServiceFacts, Sources, downward, kernel_hostname, sources};
use crate::manifest::pod::{Container, EnvFrom, EnvValue, EnvVar, KeyRef, ObjectKind, Pod};

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Variables in the order in which their names first appeared; setting a known name keeps its place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Variables {
    names: BTreeMap<String, usize>,
    list: Vec<(String, String)>,
}

impl Variables {
    /// The value of a variable.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        self.names.get(name).map(|index| self.list[*index].1.as_str())
    }

    fn set(&mut self, name: &str, value: String) {
        match self.names.get(name) {
            Some(index) => self.list[*index].1 = value,
            None => {
                self.names.insert(name.to_owned(), self.list.len());
                self.list.push((name.to_owned(), value));
            }
        }
    }

    fn into_strings(self) -> Vec<String> {
        self.list.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
    }
}

/// Replaces `$(NAME)` by what `lookup` knows; everything else stays as written, except that `$$` becomes `$`.
pub(crate) fn expand(text: &str, mut lookup: impl FnMut(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match lookup(name) {
                Some(value) => out.push_str(&value),
                None => out.push_str(&format!("$({name})")),
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

/// The command of an exec probe: only `value`s of the container's own `env` are known, unexpanded; names that
/// come from `valueFrom` are empty, all others stay as written (reference 5.5).
#[must_use]
pub fn expand_probe(command: &[String], container: &Container) -> Vec<String> {
    let lookup = |name: &str| {
        container.env.iter().rev().find(|var| var.name == name).map(|var| match &var.value {
            EnvValue::Literal(value) => value.clone(),
            EnvValue::Field(_)
            | EnvValue::Resource(_)
            | EnvValue::ConfigMap(_)
            | EnvValue::Secret(_)
            | EnvValue::File { .. } => String::new(),
        })
    };
    command.iter().map(|text| expand(text, lookup)).collect()
}

/// The files that a container's `fileKeyRef`s read, by volume and path; the driver reads them below the volume's
/// directory for [`Input::env_files`].
#[must_use]
pub fn files(container: &Container) -> Vec<(String, String)> {
    let file = |var: &EnvVar| match &var.value {
        EnvValue::File { volume, path, .. } => Some((volume.clone(), path.clone())),
        EnvValue::Literal(_)
        | EnvValue::Field(_)
        | EnvValue::Resource(_)
        | EnvValue::ConfigMap(_)
        | EnvValue::Secret(_) => None,
    };
    container.env.iter().filter_map(file).collect()
}

/// The variables that the pod gives: `envFrom`, then `env`, then those of services. `$(NAME)` in commands sees these.
pub(crate) fn pod_variables(input: &Input<'_>) -> Result<Variables, Error> {
    let mut variables = Variables::default();
    for from in &input.container.env_from {
        add_object(&mut variables, from, input)?;
    }
    let services = service_variables(input.pod, input.sources);
    for var in &input.container.env {
        if let Some(value) = value(var, input, &variables, &services)? {
            variables.set(&var.name, value);
        }
    }
    for (name, value) in services {
        if variables.value(&name).is_none() {
            variables.set(&name, value);
        }
    }
    match variables.list.iter().find(|(name, value)| name.contains('\0') || value.contains('\0')) {
        Some((name, _)) => Err(Error::Nul { what: format!("environment variable {name:?}") }),
        None => Ok(variables),
    }
}

/// What the process gets: the runtime's and the image's variables below those of the pod.
pub(crate) fn process_environment(input: &Input<'_>, pod: &Variables, home: Option<&str>) -> Vec<String> {
    let mut all = Variables::default();
    all.set("PATH", DEFAULT_PATH.to_owned());
    all.set("HOSTNAME", kernel_hostname(input.pod).unwrap_or_else(|| input.node_name.to_owned()));
    if input.container.tty {
        all.set("TERM", "xterm".to_owned());
    }
    for (name, value) in input.image.env.iter().filter_map(|entry| entry.split_once('=')) {
        all.set(name, value.to_owned());
    }
    for (name, value) in &pod.list {
        all.set(name, value.clone());
    }
    // Left empty, a runtime would look it up by itself, and a static program cannot do that safely.
    if all.value("HOME").is_none_or(str::is_empty) {
        all.set("HOME", home.unwrap_or("/").to_owned());
    }
    all.into_strings()
}

/// Adds every key of an `envFrom` object.
fn add_object(variables: &mut Variables, from: &EnvFrom, input: &Input<'_>) -> Result<(), Error> {
    let Some(keys) = object(from.kind, &from.name, from.optional, input.sources)? else {
        return Ok(());
    };
    for (key, value) in keys {
        let value = text(value, from.kind, &from.name, key, input)?;
        variables.set(&format!("{}{key}", from.prefix), value);
    }
    Ok(())
}

/// The value of one entry of `env`; none if it is to be skipped.
fn value(
    var: &EnvVar,
    input: &Input<'_>,
    so_far: &Variables,
    services: &BTreeMap<String, String>,
) -> Result<Option<String>, Error> {
    match &var.value {
        EnvValue::Literal(literal) => Ok(Some(expand(literal, |name| {
            so_far.value(name).map(str::to_owned).or_else(|| services.get(name).cloned())
        }))),
        EnvValue::Field(field) => Ok(Some(downward::field(field, &facts(input)))),
        EnvValue::Resource(reference) => {
            downward::resource(reference, input.pod, Some(input.container), input.host).map(Some)
        }
        EnvValue::ConfigMap(reference) => key(ObjectKind::ConfigMap, reference, input),
        EnvValue::Secret(reference) => key(ObjectKind::Secret, reference, input),
        EnvValue::File { volume, path, key, optional } => {
            file_key(input.env_files.get(&(volume.clone(), path.clone())), path, key, *optional)
        }
    }
}

fn facts<'a>(input: &Input<'a>) -> downward::Facts<'a> {
    downward::Facts { pod: input.pod, node_name: input.node_name, ips: input.ips, host_ips: input.host_ips }
}

/// The keys of an object, or none if it is optional and missing.
fn object<'a>(
    kind: ObjectKind,
    name: &str,
    optional: bool,
    sources: &'a Sources,
) -> Result<Option<&'a BTreeMap<String, Vec<u8>>>, Error> {
    match sources.object(kind, name) {
        None if !optional => {
            Err(Error::ObjectMissing { kind: sources::lower_kind(kind), name: name.to_owned() })
        }
        found => Ok(found),
    }
}

fn key(kind: ObjectKind, reference: &KeyRef, input: &Input<'_>) -> Result<Option<String>, Error> {
    let KeyRef { name, key, optional } = reference;
    let Some(keys) = object(kind, name, *optional, input.sources)? else {
        return Ok(None);
    };
    match keys.get(key) {
        Some(value) => text(value, kind, name, key, input).map(Some),
        None if *optional => Ok(None),
        None => Err(Error::KeyMissing {
            key: key.clone(),
            kind: sources::api_kind(kind),
            namespace: input.pod.meta.namespace.clone(),
            name: name.clone(),
        }),
    }
}

fn text(value: &[u8], kind: ObjectKind, name: &str, key: &str, input: &Input<'_>) -> Result<String, Error> {
    std::str::from_utf8(value).map(str::to_owned).map_err(|_| Error::NotText {
        key: key.to_owned(),
        kind: sources::api_kind(kind),
        namespace: input.pod.meta.namespace.clone(),
        name: name.to_owned(),
    })
}

fn file_key(text: Option<&String>, path: &str, key: &str, optional: bool) -> Result<Option<String>, Error> {
    let Some(text) = text else {
        return if optional { Ok(None) } else { Err(Error::EnvFile) };
    };
    match env_file_value(text, key).ok_or(Error::EnvFile)? {
        None if !optional => Err(Error::EnvFileKey { key: key.to_owned(), path: path.to_owned() }),
        found => Ok(found),
    }
}

/// Looks a key up in a file of `NAME='value'` entries; none outside if the file breaks the format, which is checked to
/// its end.
fn env_file_value(text: &str, key: &str) -> Option<Option<String>> {
    let mut found = None;
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\r', '\n']);
        if rest.is_empty() {
            return Some(found);
        }
        if rest.starts_with('#') {
            rest = rest.split_once('\n').map_or("", |(_, after)| after);
            continue;
        }
        let (name, after) = rest.split_once('=')?;
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c == '\'') {
            return None;
        }
        let (value, after) = env_file_entry(after)?;
        if name == key {
            found = Some(value.to_owned());
        }
        rest = after;
    }
}

/// The value behind a `=`, and what follows its line.
fn env_file_entry(text: &str) -> Option<(&str, &str)> {
    let (value, after) = match text.strip_prefix('\'') {
        Some(quoted) => quoted.split_once('\'')?,
        None if text.is_empty() || text.starts_with([' ', '\t', '\r', '\n']) => ("", text),
        None => return None,
    };
    let (line, next) = after.split_once('\n').unwrap_or((after, ""));
    let trailing = line.trim();
    (trailing.is_empty() || trailing.starts_with('#')).then_some((value, next))
}

/// The variables of all services that the pod sees.
fn service_variables(pod: &Pod, sources: &Sources) -> BTreeMap<String, String> {
    let own =
        |service: &ServiceFacts| pod.spec.enable_service_links && service.namespace == pod.meta.namespace;
    let api = |service: &ServiceFacts| service.namespace == "default" && service.name == "kubernetes";
    let mut variables = BTreeMap::new();
    // One of the pod's own namespace wins over `default/kubernetes`.
    let (others, mine): (Vec<_>, Vec<_>) = sources
        .services
        .iter()
        .filter(|service| own(service) || api(service))
        .partition(|service| service.namespace != pod.meta.namespace);
    for service in others.into_iter().chain(mine) {
        one_service(service, &mut variables);
    }
    variables
}

fn one_service(service: &ServiceFacts, variables: &mut BTreeMap<String, String>) {
    let (Some(ip), Some(first)) = (service.cluster_ip, service.ports.first()) else {
        return;
    };
    let constant = |text: &str| text.to_ascii_uppercase().replace('-', "_");
    let prefix = constant(&service.name);
    let address = match ip {
        std::net::IpAddr::V4(ip) => ip.to_string(),
        std::net::IpAddr::V6(ip) => format!("[{ip}]"),
    };
    let mut set = |suffix: &str, value: String| variables.insert(format!("{prefix}_{suffix}"), value);
    set("SERVICE_HOST", ip.to_string());
    set("SERVICE_PORT", first.port.to_string());
    for (index, port) in service.ports.iter().enumerate() {
        if let Some(name) = &port.name {
            set(&format!("SERVICE_PORT_{}", constant(name)), port.port.to_string());
        }
        let protocol = port.protocol.to_string();
        let url = format!("{}://{address}:{}", protocol.to_ascii_lowercase(), port.port);
        if index == 0 {
            set("PORT", url.clone());
        }
        let stem = format!("PORT_{}_{protocol}", port.port);
        set(&stem, url);
        set(&format!("{stem}_PROTO"), protocol.to_ascii_lowercase());
        set(&format!("{stem}_PORT"), port.port.to_string());
        set(&format!("{stem}_ADDR"), ip.to_string());
    }
}

/// The domain of a pod's own name, if it has one.
pub(crate) fn domain(pod: &Pod) -> Option<String> {
    let subdomain = pod.spec.subdomain.as_deref().filter(|text| !text.is_empty())?;
    Some(format!("{subdomain}.{}.svc.{CLUSTER_DOMAIN}", pod.meta.namespace))
}

#[cfg(test)]
#[path = "env_tests.rs"]
mod tests;
