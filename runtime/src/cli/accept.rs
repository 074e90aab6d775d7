//! Between the command line and the parts that know manifests: the one place where they meet.

use hull_shim::layout::Layout;
use hull_shim::wire::SandboxConfig;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::resource::Kind;
use crate::manifest::{self, Identity, Invalid, Loaded, Named, raw};
use crate::network::{self, BridgeName, Cidr, Config, Mode};
use crate::spec;
pub use crate::store::objects::Applied as Outcome;
use crate::store::objects::{self, Objects};

/// Why a manifest was not taken, with its causes.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read as objects.
    #[error(transparent)]
    Unreadable(#[from] manifest::Error),
    /// It breaks a rule: kubectl's own words, without `error:` in front.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// What the running pod shows is no Pod.
    #[error("the running pod cannot be compared")]
    Incomparable(#[source] serde_json::Error),
    /// A record of an object cannot be read or written.
    #[error(transparent)]
    Record(#[from] objects::Error),
    /// The network's flags, configuration or leases.
    #[error(transparent)]
    Network(#[from] network::Error),
}

impl Error {
    /// What would help, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Network(error) => error.hint(),
            Self::Unreadable(_) | Self::Invalid(_) | Self::Incomparable(_) | Self::Record(_) => None,
        }
    }
}

/// The flags of `apply` that speak of the network.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct NetworkFlags {
    /// Take the addresses of pods from this range.
    #[arg(long, value_name = "CIDR", help_heading = "Network options")]
    pub pod_cidr: Option<Cidr>,
    /// Take the addresses of Services from this range.
    #[arg(long, value_name = "CIDR", help_heading = "Network options")]
    pub service_cidr: Option<Cidr>,
    /// Connect pods to this bridge.
    #[arg(long, value_name = "NAME", help_heading = "Network options")]
    pub bridge: Option<BridgeName>,
    /// How pods are connected: `bridge`, or `loopback` for pods that reach nobody.
    #[arg(long, value_name = "MODE", help_heading = "Network options")]
    pub network: Option<Mode>,
}

impl NetworkFlags {
    /// The network that these flags, the configuration file and the defaults make.
    ///
    /// # Errors
    /// The file is wrong, or the ranges do not go together.
    pub fn config(&self, layout: &Layout) -> Result<Config, Error> {
        let flags = network::Flags {
            bridge: self.bridge.clone(),
            pod_cidr: self.pod_cidr,
            service_cidr: self.service_cidr,
            mode: self.network,
        };
        Ok(Config::load(layout, flags)?)
    }
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
    raw: Loaded,
}

/// A pod that was accepted.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// The object as the API shows it.
    pub object: Value,
    /// How its sandbox is made.
    pub sandbox: SandboxConfig,
}

/// Reads all objects of a text; `origin` names it in errors. Each is an error if it is no Kubernetes object, or such as hull
/// does not know.
#[must_use]
pub fn read(text: &str, origin: &str) -> Vec<Result<Object, Error>> {
    let loaded = manifest::load(text, origin).into_iter();
    loaded.map(|loaded| Ok(Object::new(loaded?))).collect()
}

/// Only says which objects a text has; the rest of them need not be right.
#[must_use]
pub fn identify(text: &str, origin: &str) -> Vec<Result<Named, Error>> {
    manifest::identify(text, origin).into_iter().map(|named| Ok(named?)).collect()
}

impl From<manifest::Kind> for Kind {
    fn from(kind: manifest::Kind) -> Self {
        match kind {
            manifest::Kind::Pod => Self::Pod,
            manifest::Kind::Service => Self::Service,
            manifest::Kind::ConfigMap => Self::ConfigMap,
            manifest::Kind::Secret => Self::Secret,
        }
    }
}

impl Object {
    fn new(raw: Loaded) -> Self {
        let (kind, meta) = match &raw {
            Loaded::Pod(pod) => (Kind::Pod, &pod.metadata),
            Loaded::Service(service) => (Kind::Service, &service.metadata),
            Loaded::ConfigMap(map) => (Kind::ConfigMap, &map.metadata),
            Loaded::Secret(secret) => (Kind::Secret, &secret.metadata),
        };
        let (name, namespace) = (meta.name.clone().unwrap_or_default(), meta.namespace.clone());
        Self { kind, name, namespace, raw }
    }

    /// Checks an object without recording anything, and gives a Pod its identity.
    ///
    /// # Errors
    /// It is invalid.
    pub fn accept(
        self,
        namespace: &str,
        (uid, created): (&str, Timestamp),
        network: Option<&Config>,
    ) -> Result<Option<Accepted>, Error> {
        let identity = Identity { uid: uid.to_owned(), created };
        match self.named(namespace) {
            Loaded::Pod(pod) => accept_pod(*pod, identity, network).map(Some),
            Loaded::Service(service) => Ok(manifest::accept_service(*service, &identity).map(|_| None)?),
            Loaded::ConfigMap(map) => Ok(manifest::accept_config_map(map, &identity).map(|_| None)?),
            Loaded::Secret(secret) => Ok(manifest::accept_secret(secret, &identity).map(|_| None)?),
        }
    }

    /// A Pod as the API shows it and as the core knows it, with nothing recorded; none for other objects.
    ///
    /// # Errors
    /// It is invalid.
    pub fn pod(
        self,
        namespace: &str,
        (uid, created): (&str, Timestamp),
    ) -> Result<Option<(Value, manifest::pod::Pod)>, Error> {
        let identity = Identity { uid: uid.to_owned(), created };
        match self.named(namespace) {
            Loaded::Pod(pod) => {
                let manifest::Accepted { pod, object } = manifest::accept(*pod, identity)?;
                Ok(Some((json(&object), pod)))
            }
            Loaded::Service(_) | Loaded::ConfigMap(_) | Loaded::Secret(_) => Ok(None),
        }
    }

    /// The object that applying this Pod again over the accepted `old` one asks for; none if it is the same.
    ///
    /// # Errors
    /// Something differs that may not change.
    pub fn reapply(self, namespace: &str, old: &Value) -> Result<Option<Value>, Error> {
        let Loaded::Pod(new) = self.named(namespace) else { return Ok(None) };
        let old: raw::Pod = match serde_json::from_value(old.clone()) {
            Ok(old) => old,
            Err(error) => {
                return Err(Error::Incomparable(error));
            }
        };
        match manifest::changed(&old, &new) {
            manifest::Update::Unchanged => Ok(None),
            manifest::Update::Forbidden(invalid) => Err(invalid.into()),
            manifest::Update::Allowed(_) => Ok(Some(json(&new))),
        }
    }

    /// Records a Service, ConfigMap or Secret.
    ///
    /// # Errors
    /// It is invalid, no address is left for it, or it cannot be written.
    pub fn apply(
        self,
        layout: &Layout,
        namespace: &str,
        (uid, now): (&str, Timestamp),
        network: &Config,
    ) -> Result<Outcome, Error> {
        let identity = Identity { uid: uid.to_owned(), created: now };
        let store = Objects::open(layout);
        Ok(match self.named(namespace) {
            Loaded::Pod(_) => Outcome::Unchanged,
            Loaded::Service(service) => {
                let service = manifest::accept_service(*service, &identity)?;
                store.apply_service(service, |owner| {
                    network::service_address(layout, network, owner).map(std::net::IpAddr::V4)
                })?
            }
            Loaded::ConfigMap(map) => store.apply_config_map(manifest::accept_config_map(map, &identity)?)?,
            Loaded::Secret(secret) => store.apply_secret(manifest::accept_secret(secret, &identity)?)?,
        })
    }

    fn named(self, namespace: &str) -> Loaded {
        let mut raw = self.raw;
        let meta = match &mut raw {
            Loaded::Pod(pod) => &mut pod.metadata,
            Loaded::Service(service) => &mut service.metadata,
            Loaded::ConfigMap(map) => &mut map.metadata,
            Loaded::Secret(secret) => &mut secret.metadata,
        };
        meta.namespace = Some(namespace.to_owned());
        raw
    }
}

fn accept_pod(mut raw: raw::Pod, identity: Identity, network: Option<&Config>) -> Result<Accepted, Error> {
    raw.spec.node_name.get_or_insert_with(node_name);
    let uid = identity.uid.clone();
    let manifest::Accepted { pod, object } = manifest::accept(raw, identity)?;
    let network = network.filter(|_| !pod.spec.host_network).map(|config| {
        let input = network::Input { uid, config: config.clone() };
        json(&input)
    });
    Ok(Accepted { object: json(&object), sandbox: spec::sandbox_config(&pod, network) })
}

/// The name of this host, to which every pod is bound.
fn node_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).expect("objects have only string keys")
}

/// The recorded objects of one kind, of one namespace or of all.
///
/// # Errors
/// They cannot be read.
pub fn list(layout: &Layout, kind: Kind, namespace: Option<&str>) -> Result<Vec<Value>, Error> {
    let Some(stored) = stored(kind) else { return Ok(Vec::new()) };
    let store = Objects::open(layout);
    let namespaces = match namespace {
        Some(namespace) => vec![namespace.to_owned()],
        None => store.namespaces(stored)?,
    };
    let mut found = Vec::new();
    for namespace in namespaces {
        match stored {
            objects::Kind::Service => found.extend(store.list_services(&namespace)?.iter().map(json)),
            objects::Kind::ConfigMap => found.extend(store.list_config_maps(&namespace)?.iter().map(json)),
            objects::Kind::Secret => found.extend(store.list_secrets(&namespace)?.iter().map(json)),
        }
    }
    Ok(found)
}

/// Removes a recorded object and gives a Service's address back; false if there was none.
///
/// # Errors
/// It cannot be removed.
pub fn remove(layout: &Layout, kind: Kind, namespace: &str, name: &str) -> Result<bool, Error> {
    let Some(stored) = stored(kind) else { return Ok(false) };
    let removed = Objects::open(layout).delete(stored, namespace, name)?;
    if stored == objects::Kind::Service {
        network::release_service(layout, &format!("{namespace}/{name}"))?;
    }
    Ok(removed)
}

/// Pods and events are no stored objects: their supervisors have them.
fn stored(kind: Kind) -> Option<objects::Kind> {
    match kind {
        Kind::Service => Some(objects::Kind::Service),
        Kind::ConfigMap => Some(objects::Kind::ConfigMap),
        Kind::Secret => Some(objects::Kind::Secret),
        Kind::Pod | Kind::Event => None,
    }
}
