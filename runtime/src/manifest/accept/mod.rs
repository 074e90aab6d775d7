//! A raw Pod as a [`pod::Pod`] that cannot be wrong, or everything that is wrong with it
//! (reference `pod-lifecycle.md` 1.3).
//!
//! Each function reads one part: it returns the typed value and notes its errors on the way. A part with
//! an error yields some harmless value; the whole is given out only if there was none.

mod container;
mod dns;
mod env;
mod handler;
mod meta;
pub(super) mod ports;
mod resources;
mod security;
mod spec;
mod volume;

use jiff::Timestamp;

use super::invalid::{At, Errors, Invalid};
use super::{defaults, pod, raw};

pub(super) use meta::meta;

/// What a pod gets when it is accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// A random UUID.
    pub uid: String,
    /// Now.
    pub created: Timestamp,
}

/// A pod that can run, and its object as the API shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Accepted {
    /// What hull works with.
    pub pod: pod::Pod,
    /// As written, with defaults and identity.
    pub object: raw::Pod,
}

/// Applies defaults and checks everything; the object gets its identity.
pub fn accept(mut raw: raw::Pod, identity: Identity) -> Result<Accepted, Invalid> {
    defaults::pod(&mut raw);
    let uid = identity.uid;
    let created = identify(&mut raw.metadata, &uid, identity.created);
    raw.status = None;
    let pod = check(&raw, uid, created)?;
    Ok(Accepted { pod, object: raw })
}

/// The same for a Pod that has its identity already.
pub(super) fn again(mut raw: raw::Pod) -> Result<Accepted, Invalid> {
    defaults::pod(&mut raw);
    let uid = raw.metadata.uid.clone().unwrap_or_default();
    let created = raw.metadata.creation_timestamp.unwrap_or(Timestamp::UNIX_EPOCH);
    let pod = check(&raw, uid, created)?;
    Ok(Accepted { pod, object: raw })
}

/// Writes what the server decides into the metadata, over whatever the manifest brought along. The time
/// keeps whole seconds only, as in Kubernetes.
pub(super) fn identify(metadata: &mut raw::ObjectMeta, uid: &str, created: Timestamp) -> Timestamp {
    let created = Timestamp::from_second(created.as_second()).unwrap_or(created);
    metadata.uid = Some(uid.to_owned());
    metadata.creation_timestamp = Some(created);
    metadata.generation = Some(1);
    metadata.deletion_timestamp = None;
    metadata.deletion_grace_period_seconds = None;
    metadata.resource_version = None;
    metadata.self_link = None;
    metadata.managed_fields.clear();
    created
}

fn check(raw: &raw::Pod, uid: String, created: Timestamp) -> Result<pod::Pod, Invalid> {
    let mut errors = Errors::default();
    let name = raw.metadata.name.as_deref();
    let meta = meta(&raw.metadata, super::names::subdomain, &mut errors);
    let meta = pod::Meta {
        name: name.unwrap_or_default().to_owned(),
        namespace: meta,
        uid,
        labels: raw.metadata.labels.clone(),
        annotations: raw.metadata.annotations.clone(),
        created,
        generation: raw.metadata.generation.unwrap_or(1),
    };
    let spec = spec::spec(&raw.spec, &meta.name, &mut errors);
    errors.finish("Pod", name, pod::Pod { meta, spec })
}

/// What the parts of a pod must know about its other parts.
struct Scope<'a> {
    spec: &'a raw::PodSpec,
}

impl Scope<'_> {
    fn host_network(&self) -> bool {
        self.spec.host_network == Some(true)
    }

    fn volume(&self, name: &str) -> Option<&raw::Volume> {
        self.spec.volumes.iter().find(|volume| volume.name.as_deref() == Some(name))
    }
}

/// A text that is there and not empty.
fn given(text: Option<&String>) -> Option<&str> {
    text.map(String::as_str).filter(|text| !text.is_empty())
}

/// A text that must be there; empty with an error if it is not.
fn required<'a>(text: Option<&'a String>, at: &At, errors: &mut Errors) -> &'a str {
    given(text).unwrap_or_else(|| {
        errors.required(at, "");
        ""
    })
}

/// A required name that follows a rule.
fn named<'a>(
    text: Option<&'a String>,
    at: &At,
    rule: fn(&str) -> Vec<String>,
    errors: &mut Errors,
) -> &'a str {
    let name = required(text, at, errors);
    if !name.is_empty() {
        rule(name).into_iter().for_each(|fault| errors.invalid(at, name, fault));
    }
    name
}

/// One of a set of words; the first one if it is none of them. Errors list the words sorted.
pub(super) fn one_of<T: Copy>(text: Option<&String>, at: &At, words: &[(&str, T)], errors: &mut Errors) -> T {
    let text = text.map_or("", String::as_str);
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return *value;
    }
    let mut supported: Vec<_> = words.iter().map(|(word, _)| *word).collect();
    supported.sort_unstable();
    errors.unsupported(at, text, &supported);
    words[0].1
}

/// A number that may not be negative.
fn natural(number: Option<i64>, at: &At, errors: &mut Errors) -> u32 {
    let number = number.unwrap_or(0);
    if number < 0 {
        errors.invalid(at, number, NEGATIVE);
    }
    u32::try_from(number.max(0)).unwrap_or(u32::MAX)
}

const NEGATIVE: &str = "must be greater than or equal to 0";
const IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

/// A port number from 1 to 65535.
pub(super) fn port_number(number: i32, at: &At, errors: &mut Errors) -> u16 {
    match u16::try_from(number) {
        Ok(port) if port > 0 => port,
        _ => {
            errors.invalid(at, number, "must be between 1 and 65535, inclusive");
            1
        }
    }
}

/// An IP address.
fn ip(text: &str, at: &At, errors: &mut Errors) -> std::net::IpAddr {
    text.parse().unwrap_or_else(|_| {
        errors.invalid(at, text, IP);
        std::net::Ipv4Addr::UNSPECIFIED.into()
    })
}
