//! Between the command line and the parts that know manifests: the one place where they meet.

use std::path::PathBuf;

use hull_shim::layout::Layout;
use hull_shim::wire::{Resources, SandboxConfig};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::resource::Kind;

/// Why a manifest was not taken, with its causes.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read as objects.
    #[error("{0}")]
    Unreadable(String),
    /// It breaks a rule: kubectl's own words, without `error:` in front.
    #[error("{0}")]
    Invalid(String),
    /// A record cannot be read or written.
    #[error("cannot {operation} {}", path.display())]
    Record {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// The flags of `apply` that speak of the network.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct NetworkFlags {
    /// Take the addresses of pods from this range.
    #[arg(long, value_name = "CIDR", help_heading = "Network options")]
    pub pod_cidr: Option<String>,
    /// Take the addresses of Services from this range.
    #[arg(long, value_name = "CIDR", help_heading = "Network options")]
    pub service_cidr: Option<String>,
    /// Connect pods to this bridge.
    #[arg(long, value_name = "NAME", help_heading = "Network options")]
    pub bridge: Option<String>,
    /// How pods are connected: `bridge`, or `loopback` for pods that reach nobody.
    #[arg(long, value_name = "MODE", help_heading = "Network options")]
    pub network: Option<String>,
}

/// What applying an object changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is new.
    Created,
    /// It is different now.
    Configured,
    /// It was the same already.
    Unchanged,
}

/// An object of a manifest.
#[derive(Debug, Clone)]
pub struct Object {
    /// Its kind.
    pub kind: Kind,
    /// `metadata.name`
    pub name: String,
    /// `metadata.namespace`, if it is written there.
    pub namespace: Option<String>,
    raw: Value,
}

/// A pod that was accepted.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// The object as the API shows it.
    pub object: Value,
    /// How its sandbox is made.
    pub sandbox: SandboxConfig,
}

/// Reads all objects of a text; `origin` names it in errors.
///
/// # Errors
/// It holds no Kubernetes objects, or such as hull does not know.
pub fn read(text: &str, origin: &str) -> Result<Vec<Object>, Error> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(text).map_err(|error| Error::Unreadable(format!("{origin}: {error}")))?;
    documents
        .into_iter()
        .filter(|document| !document.is_null())
        .map(|raw| object(raw, origin))
        .collect()
}

fn object(raw: Value, origin: &str) -> Result<Object, Error> {
    let text = |pointer: &str| raw.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let kind = text("/kind").unwrap_or_default();
    let kind = [Kind::Pod, Kind::Service, Kind::ConfigMap, Kind::Secret]
        .into_iter()
        .find(|known| known.object() == kind);
    let kind =
        kind.ok_or_else(|| Error::Unreadable(format!("{origin}: no Pod, Service, ConfigMap or Secret")))?;
    let name = text("/metadata/name").ok_or_else(|| {
        Error::Invalid(format!(
            "The {} \"\" is invalid: metadata.name: Required value: name or generateName is required",
            kind.object()
        ))
    })?;
    let namespace = text("/metadata/namespace");
    Ok(Object {
        kind,
        name,
        namespace,
        raw,
    })
}

impl Object {
    /// Checks a Pod and gives it its identity.
    ///
    /// # Errors
    /// It is invalid.
    pub fn accept(
        mut self,
        namespace: &str,
        (uid, created): (&str, Timestamp),
        _network: Option<Value>,
    ) -> Result<Accepted, Error> {
        self.raw["metadata"]["namespace"] = json!(namespace);
        self.raw["metadata"]["uid"] = json!(uid);
        self.raw["metadata"]["creationTimestamp"] = json!(created);
        let sandbox = SandboxConfig {
            uid: uid.to_owned(),
            namespace: namespace.to_owned(),
            name: self.name.clone(),
            hostname: Some(self.name.clone()),
            host_network: false,
            host_ipc: false,
            share_pid: false,
            host_pid: false,
            sysctls: std::collections::BTreeMap::new(),
            resources: Resources::default(),
            network: None,
        };
        Ok(Accepted {
            object: self.raw,
            sandbox,
        })
    }

    /// Records a Service, ConfigMap or Secret.
    ///
    /// # Errors
    /// It is invalid, or cannot be written.
    pub fn apply(mut self, layout: &Layout, namespace: &str, now: Timestamp) -> Result<Outcome, Error> {
        let directory = layout.objects(self.kind.plural(), namespace);
        let path = directory.join(&self.name);
        let known = read_record(&path);
        self.raw["metadata"]["namespace"] = json!(namespace);
        self.raw["metadata"]["creationTimestamp"] = known
            .as_ref()
            .map_or(json!(now), |known| known["metadata"]["creationTimestamp"].clone());
        if known.as_ref() == Some(&self.raw) {
            return Ok(Outcome::Unchanged);
        }
        let written =
            std::fs::create_dir_all(&directory).and_then(|()| std::fs::write(&path, self.raw.to_string()));
        written.map_err(|source| Error::Record {
            operation: "write",
            path,
            source,
        })?;
        Ok(if known.is_some() {
            Outcome::Configured
        } else {
            Outcome::Created
        })
    }
}

fn read_record(path: &std::path::Path) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// The input of the network tasks for a new pod.
///
/// # Errors
/// A flag or the configuration file is wrong.
pub fn network(_layout: &Layout, _flags: &NetworkFlags) -> Result<Option<Value>, Error> {
    Ok(None)
}

/// The recorded objects of one kind, of one namespace or of all.
///
/// # Errors
/// They cannot be read.
pub fn list(layout: &Layout, kind: Kind, namespace: Option<&str>) -> Result<Vec<Value>, Error> {
    let all = layout.objects(kind.plural(), "");
    let names = |directory: &std::path::Path| -> Vec<String> {
        let entries = std::fs::read_dir(directory).into_iter().flatten();
        let mut names: Vec<_> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    };
    let namespaces = namespace.map_or_else(|| names(&all), |namespace| vec![namespace.to_owned()]);
    let mut objects = Vec::new();
    for namespace in namespaces {
        let directory = layout.objects(kind.plural(), &namespace);
        objects.extend(
            names(&directory)
                .iter()
                .filter_map(|name| read_record(&directory.join(name))),
        );
    }
    Ok(objects)
}

/// Removes a recorded object; false if there was none.
///
/// # Errors
/// It cannot be removed.
pub fn remove(layout: &Layout, kind: Kind, namespace: &str, name: &str) -> Result<bool, Error> {
    let path = layout.objects(kind.plural(), namespace).join(name);
    match std::fs::remove_file(&path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(Error::Record {
            operation: "remove",
            path,
            source,
        }),
    }
}
