//! Text to raw objects: any number of YAML or JSON documents, lists included.

use super::accept::{self, Accepted};
use super::decode::{self, Problem};
use super::invalid::Invalid;
use super::raw;
use super::tree::{self, Malformed, Node, Value};

/// A kind of objects that hull takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A Pod.
    Pod,
    /// A Service.
    Service,
    /// A ConfigMap.
    ConfigMap,
    /// A Secret.
    Secret,
}

/// Which object a manifest speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Its kind.
    pub kind: Kind,
    /// `metadata.namespace`, if it is written there.
    pub namespace: Option<String>,
    /// `metadata.name`
    pub name: String,
}

/// An object of a manifest, as written.
#[derive(Debug, Clone, PartialEq)]
pub enum Loaded {
    /// A Pod.
    Pod(Box<raw::Pod>),
    /// A Service.
    Service(Box<raw::Service>),
    /// A ConfigMap.
    ConfigMap(raw::ConfigMap),
    /// A Secret.
    Secret(raw::Secret),
}

/// Something in a text that hull cannot take as an object.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither YAML nor JSON.
    #[error("{}{text}", place(origin, *line))]
    Malformed {
        /// Where the text comes from.
        origin: String,
        /// Line, from 1, if known.
        line: Option<u64>,
        /// What is wrong.
        text: String,
    },
    /// A document that is no Kubernetes object.
    #[error("{}{text}", place(origin, *line))]
    NoObject {
        /// Where the text comes from.
        origin: String,
        /// Line, from 1, if known.
        line: Option<u64>,
        /// What is missing.
        text: &'static str,
    },
    /// An object of a kind that hull has not.
    #[error(
        "{}no matches for kind {kind:?} in version {version:?}; hull takes Pod, Service, ConfigMap, Secret and \
         List, all in version \"v1\"",
        place(origin, *line)
    )]
    Kind {
        /// Where the text comes from.
        origin: String,
        /// Line, from 1, if known.
        line: Option<u64>,
        /// `kind`.
        kind: String,
        /// `apiVersion`.
        version: String,
    },
    /// Fields that are unknown, or of the wrong type.
    #[error("{}", listed(origin, problems))]
    Fields {
        /// Where the text comes from.
        origin: String,
        /// At least one.
        problems: Vec<Problem>,
    },
    /// What a request brings in place of a Pod, in the API server's words.
    #[error("{kind} in version {version:?} cannot be handled as a Pod{}", reasons(problems))]
    NoPod {
        /// `kind`.
        kind: String,
        /// `apiVersion`.
        version: String,
        /// What is wrong with it, if it is a Pod at all.
        problems: Vec<Problem>,
    },
    /// A request whose body is no JSON.
    #[error("the request's body is no JSON")]
    NoJson(#[source] serde_json::Error),
    /// The record of an accepted pod cannot be read.
    #[error("the record of the pod is no Pod object")]
    Record(#[source] serde_json::Error),
    /// The record of an accepted pod would not be accepted.
    #[error("the record of the pod is not valid")]
    Stale(#[source] Invalid),
}

fn place(origin: &str, line: Option<u64>) -> String {
    match line {
        // JSON has no lines.
        None | Some(0) => format!("{origin}: "),
        Some(line) => format!("{origin}:{line}: "),
    }
}

fn listed(origin: &str, problems: &[Problem]) -> String {
    let lines = problems.iter().map(|problem| format!("{}{}", place(origin, problem.line), problem.text));
    lines.collect::<Vec<_>>().join("\n")
}

fn reasons(problems: &[Problem]) -> String {
    let texts: Vec<_> = problems.iter().map(|problem| problem.text.as_str()).collect();
    if texts.is_empty() { String::new() } else { format!(": strict decoding error: {}", texts.join(", ")) }
}

/// Reads the objects of `text`, in order. `origin` names the text in errors, usually by its path. What cannot be read
/// is an error in its place and keeps nothing else back; what stands behind malformed text is not read.
pub fn load(text: &str, origin: &str) -> Vec<Result<Loaded, Error>> {
    objects(text, origin, decoded)
}

/// Only says which objects `text` has, however wrong the rest of them is.
pub fn identify(text: &str, origin: &str) -> Vec<Result<Named, Error>> {
    objects(text, origin, named)
}

/// Makes something of an object of a known kind.
type Read<T> = fn(&Node, Kind, &Origin<'_>) -> Result<T, Error>;

fn objects<T>(text: &str, origin: &str, read: Read<T>) -> Vec<Result<T, Error>> {
    let origin = Origin(origin);
    let (nodes, malformed) = tree::parse(text);
    let mut found = Vec::new();
    for node in nodes.iter().filter(|node| node.value != Value::Null) {
        object(node, &origin, read, &mut found);
    }
    found.extend(malformed.map(|Malformed { line, text }| {
        let origin = origin.0.to_owned();
        Err(Error::Malformed { origin, line, text })
    }));
    found
}

fn object<T>(node: &Node, origin: &Origin<'_>, read: Read<T>, found: &mut Vec<Result<T, Error>>) {
    match what(node, origin) {
        Ok(What::One(kind)) => found.push(read(node, kind, origin)),
        Ok(What::Many(items)) => items.iter().for_each(|item| object(item, origin, read, found)),
        Err(error) => found.push(Err(error)),
    }
}

/// The text that is read, by the name that errors call it.
struct Origin<'a>(&'a str);

impl Origin<'_> {
    fn no_object(&self, node: &Node, text: &'static str) -> Error {
        Error::NoObject { origin: self.0.to_owned(), line: node.line(), text }
    }
}

/// What a document is.
enum What<'a> {
    One(Kind),
    Many(&'a [Node]),
}

fn what<'a>(node: &'a Node, origin: &Origin<'_>) -> Result<What<'a>, Error> {
    if !matches!(node.value, Value::Map(_)) {
        let text = "a Kubernetes object is a mapping with apiVersion, kind and metadata";
        return Err(origin.no_object(node, text));
    }
    let missing = |text| origin.no_object(node, text);
    let version =
        node.text("apiVersion").ok_or_else(|| missing("apiVersion is not set; write apiVersion: v1"))?;
    let kind = node.text("kind").ok_or_else(|| missing("kind is not set; write, say, kind: Pod"))?;
    Ok(What::One(match (version, kind) {
        ("v1", "Pod") => Kind::Pod,
        ("v1", "Service") => Kind::Service,
        ("v1", "ConfigMap") => Kind::ConfigMap,
        ("v1", "Secret") => Kind::Secret,
        ("v1", "List" | "PodList" | "ServiceList" | "ConfigMapList" | "SecretList") => {
            return match node.entry("items").map(|items| &items.value) {
                Some(Value::List(items)) => Ok(What::Many(items)),
                _ => Err(missing("a List has its objects in items")),
            };
        }
        (version, kind) => {
            let (kind, version) = (kind.to_owned(), version.to_owned());
            return Err(Error::Kind { origin: origin.0.to_owned(), line: node.line(), kind, version });
        }
    }))
}

fn decoded(node: &Node, kind: Kind, origin: &Origin<'_>) -> Result<Loaded, Error> {
    let fields = |problems| Error::Fields { origin: origin.0.to_owned(), problems };
    let faults = decode::faults(node);
    if !faults.is_empty() {
        return Err(fields(faults));
    }
    Ok(match kind {
        Kind::Pod => Loaded::Pod(Box::new(decode::decode(node).map_err(fields)?)),
        Kind::Service => Loaded::Service(Box::new(decode::decode(node).map_err(fields)?)),
        Kind::ConfigMap => Loaded::ConfigMap(decode::decode(node).map_err(fields)?),
        Kind::Secret => Loaded::Secret(decode::decode(node).map_err(fields)?),
    })
}

/// Reads the Pod that a request brings: one JSON object. Its path says what it is, so `kind` and `apiVersion` may be left out.
pub fn load_request(json: &[u8]) -> Result<raw::Pod, Error> {
    let node = tree::json(json).map_err(Error::NoJson)?;
    let said = |key, usual: &str| node.text(key).unwrap_or(usual).to_owned();
    let (kind, version) = (said("kind", "Pod"), said("apiVersion", "v1"));
    let is_pod = (kind.as_str(), version.as_str()) == ("Pod", "v1");
    let no_pod = |problems| Error::NoPod { kind, version, problems };
    match decode::faults(&node) {
        _ if !is_pod => Err(no_pod(Vec::new())),
        faults if !faults.is_empty() => Err(no_pod(faults)),
        _ => decode::decode(&node).map_err(no_pod),
    }
}

fn named(node: &Node, kind: Kind, origin: &Origin<'_>) -> Result<Named, Error> {
    let text = |key| node.entry("metadata").and_then(|meta| meta.text(key)).filter(|text| !text.is_empty());
    let name = text("name").ok_or_else(|| origin.no_object(node, "metadata.name is not set"))?.to_owned();
    Ok(Named { kind, namespace: text("namespace").map(str::to_owned), name })
}

/// Reads back the object of an accepted pod, as [`Accepted::object`] was written.
pub fn reload(json: &str) -> Result<Accepted, Error> {
    let raw: raw::Pod = serde_json::from_str(json).map_err(Error::Record)?;
    accept::again(raw).map_err(Error::Stale)
}
