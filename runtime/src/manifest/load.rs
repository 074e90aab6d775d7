//! Text to raw objects: any number of YAML or JSON documents, lists included.

use super::accept::{self, Accepted};
use super::decode::{self, Problem};
use super::invalid::Invalid;
use super::raw;
use super::tree::{self, Node, Value};

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

/// A text that holds no objects that hull can take.
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

/// Reads all objects of `text`, in order. `origin` names the text in errors, usually by its path.
pub fn load(text: &str, origin: &str) -> Result<Vec<Loaded>, Error> {
    let nodes = tree::parse(text).map_err(|error| Error::Malformed {
        origin: origin.to_owned(),
        line: error.line,
        text: error.text,
    })?;
    let problems: Vec<Problem> = nodes.iter().flat_map(decode::faults).collect();
    if !problems.is_empty() {
        return Err(Error::Fields { origin: origin.to_owned(), problems });
    }
    let mut loaded = Vec::new();
    for node in nodes.iter().filter(|node| node.value != Value::Null) {
        object(node, origin, &mut loaded)?;
    }
    Ok(loaded)
}

fn object(node: &Node, origin: &str, loaded: &mut Vec<Loaded>) -> Result<(), Error> {
    let line = Some(node.line).filter(|line| *line > 0);
    let no_object = |text| Error::NoObject { origin: origin.to_owned(), line, text };
    if !matches!(node.value, Value::Map(_)) {
        return Err(no_object("a Kubernetes object is a mapping with apiVersion, kind and metadata"));
    }
    let version =
        node.text("apiVersion").ok_or_else(|| no_object("apiVersion is not set; write apiVersion: v1"))?;
    let kind = node.text("kind").ok_or_else(|| no_object("kind is not set; write, say, kind: Pod"))?;
    let fields = |problems| Error::Fields { origin: origin.to_owned(), problems };
    loaded.push(match (version, kind) {
        ("v1", "Pod") => Loaded::Pod(Box::new(decode::decode(node).map_err(fields)?)),
        ("v1", "Service") => Loaded::Service(Box::new(decode::decode(node).map_err(fields)?)),
        ("v1", "ConfigMap") => Loaded::ConfigMap(decode::decode(node).map_err(fields)?),
        ("v1", "Secret") => Loaded::Secret(decode::decode(node).map_err(fields)?),
        ("v1", "List" | "PodList" | "ServiceList" | "ConfigMapList" | "SecretList") => {
            return match node.entry("items").map(|items| &items.value) {
                Some(Value::List(items)) => items.iter().try_for_each(|item| object(item, origin, loaded)),
                _ => Err(no_object("a List has its objects in items")),
            };
        }
        (version, kind) => {
            let (kind, version) = (kind.to_owned(), version.to_owned());
            return Err(Error::Kind { origin: origin.to_owned(), line, kind, version });
        }
    });
    Ok(())
}

/// Reads back the object of an accepted pod, as [`Accepted::object`] was written.
pub fn reload(json: &str) -> Result<Accepted, Error> {
    let raw: raw::Pod = serde_json::from_str(json).map_err(Error::Record)?;
    accept::again(raw).map_err(Error::Stale)
}
