//! Services, ConfigMaps and Secrets on disk: `<run>/objects/<kind>/<namespace>/<name>`, one JSON file each.
//!
//! Files are written whole: a temporary beside them, fsync, rename, fsync of the directory. Writers hold a
//! lock on the whole store, since applying reads what is there first; readers need none. Files of Secrets
//! have mode 0600 and lie in directories of mode 0700.

mod file;
pub mod service;

use std::fs::{File, OpenOptions};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use hull_shim::layout::Layout;
use rustix::fs::FlockOperation;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::manifest::raw::{ConfigMap, ObjectMeta, Secret, Service};
use crate::spec::Sources;

use file::{check_name, io_error, make_directory, names, read, write};

/// The kinds of stored objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Services.
    Service,
    /// ConfigMaps.
    ConfigMap,
    /// Secrets.
    Secret,
}

impl Kind {
    /// The name of its directory, and of the resource in the API.
    #[must_use]
    pub fn plural(self) -> &'static str {
        match self {
            Self::Service => "services",
            Self::ConfigMap => "configmaps",
            Self::Secret => "secrets",
        }
    }

    /// The name that kubectl prints before a slash: `service/mysvc created`.
    #[must_use]
    pub fn singular(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::ConfigMap => "configmap",
            Self::Secret => "secret",
        }
    }

    fn file_mode(self) -> u32 {
        if self == Self::Secret { 0o600 } else { 0o644 }
    }

    fn directory_mode(self) -> u32 {
        if self == Self::Secret { 0o700 } else { 0o755 }
    }
}

/// What applying an object did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// There was none.
    Created,
    /// It differed.
    Configured,
    /// It was the same.
    Unchanged,
}

impl std::fmt::Display for Applied {
    /// As `kubectl apply` says it.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Created => "created",
            Self::Configured => "configured",
            Self::Unchanged => "unchanged",
        })
    }
}

/// The store cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A call of the system failed.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A file could not be written.
    #[error(transparent)]
    Write(#[from] super::file::FileError),
    /// A file holds something else than its object.
    #[error("the stored {kind} {} is damaged; delete it and apply it again", path.display())]
    Corrupt {
        /// `service` and the like.
        kind: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A name that no object can have.
    #[error("{name:?} is no name of an object")]
    Name {
        /// The name or namespace.
        name: String,
    },
    /// A change that an existing object does not allow, as kubectl says it.
    #[error("The {kind} {name:?} is invalid: {detail}")]
    Fixed {
        /// `Service` and the like.
        kind: &'static str,
        /// `metadata.name`.
        name: String,
        /// Field and reason.
        detail: String,
    },
    /// No address for a Service.
    #[error("cannot get an address for service {service}")]
    Address {
        /// `namespace/name`.
        service: String,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

type Result<T> = std::result::Result<T, Error>;

/// The objects of one hull.
#[derive(Debug, Clone)]
pub struct Objects {
    layout: Layout,
}

impl Objects {
    /// The store below `layout`; directories are made when something is written.
    #[must_use]
    pub fn open(layout: &Layout) -> Self {
        Self { layout: layout.clone() }
    }

    /// Stores a ConfigMap that `manifest::accept_config_map` gave out.
    pub fn apply_config_map(&self, map: ConfigMap) -> Result<Applied> {
        self.apply(map, |old, new| {
            let same = (&old.data, &old.binary_data) == (&new.data, &new.binary_data);
            immutable(old.immutable, new.immutable, same)
        })
    }

    /// Stores a Secret that `manifest::accept_secret` gave out.
    pub fn apply_secret(&self, secret: Secret) -> Result<Applied> {
        self.apply(secret, |old, new| {
            if old.secret_type != new.secret_type {
                let kind = new.secret_type.as_deref().unwrap_or_default();
                return Some(format!("type: Invalid value: {kind:?}: field is immutable"));
            }
            immutable(old.immutable, new.immutable, old.data == new.data)
        })
    }

    /// Stores a Service that `manifest::accept_service` gave out. One that needs an address and has none yet
    /// gets it from `lease`, which is called with `namespace/name`; it keeps it from then on.
    pub fn apply_service<E>(
        &self,
        mut service: Service,
        lease: impl FnOnce(&str) -> std::result::Result<IpAddr, E>,
    ) -> Result<Applied>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let _lock = self.lock()?;
        let (namespace, name) = identity(&service);
        let path = self.path(Kind::Service, &namespace, &name)?;
        let old = read::<Service>(&path)?;
        address(&mut service, old.as_ref(), &format!("{namespace}/{name}"), lease)?;
        self.put(service, old, &path)
    }

    /// Removes an object; false if there was none.
    pub fn delete(&self, kind: Kind, namespace: &str, name: &str) -> Result<bool> {
        let path = self.path(kind, namespace, name)?;
        let _lock = self.lock()?;
        // What a writer that was killed left, which may be a secret.
        let left = super::file::temporary(&path);
        if let Err(error) = std::fs::remove_file(&left)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(io_error("remove", &left)(error));
        }
        match std::fs::remove_file(&path) {
            Ok(()) => Ok(super::file::sync_parent(&path).map(|()| true)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(io_error("remove", &path)(error)),
        }
    }

    /// One ConfigMap.
    pub fn config_map(&self, namespace: &str, name: &str) -> Result<Option<ConfigMap>> {
        read(&self.path(Kind::ConfigMap, namespace, name)?)
    }

    /// One Secret.
    pub fn secret(&self, namespace: &str, name: &str) -> Result<Option<Secret>> {
        read(&self.path(Kind::Secret, namespace, name)?)
    }

    /// One Service.
    pub fn service(&self, namespace: &str, name: &str) -> Result<Option<Service>> {
        read(&self.path(Kind::Service, namespace, name)?)
    }

    /// The ConfigMaps of a namespace, by name.
    pub fn list_config_maps(&self, namespace: &str) -> Result<Vec<ConfigMap>> {
        self.list(Kind::ConfigMap, namespace)
    }

    /// The Secrets of a namespace, by name.
    pub fn list_secrets(&self, namespace: &str) -> Result<Vec<Secret>> {
        self.list(Kind::Secret, namespace)
    }

    /// The Services of a namespace, by name.
    pub fn list_services(&self, namespace: &str) -> Result<Vec<Service>> {
        self.list(Kind::Service, namespace)
    }

    /// The Services of all namespaces.
    pub fn all_services(&self) -> Result<Vec<Service>> {
        let mut services = Vec::new();
        for namespace in self.namespaces(Kind::Service)? {
            services.extend(self.list_services(&namespace)?);
        }
        Ok(services)
    }

    /// The namespaces that have, or had, objects of a kind, sorted.
    pub fn namespaces(&self, kind: Kind) -> Result<Vec<String>> {
        let any = self.layout.objects(kind.plural(), "default");
        names(any.parent().unwrap_or(&any))
    }

    /// What the environments of a namespace's pods are built from.
    pub fn sources(&self, namespace: &str) -> Result<Sources> {
        let name = |meta: &ObjectMeta| meta.name.clone().unwrap_or_default();
        let maps = self.list_config_maps(namespace)?;
        let secrets = self.list_secrets(namespace)?;
        Ok(Sources {
            config_maps: maps.iter().map(|map| (name(&map.metadata), map.values())).collect(),
            secrets: secrets.iter().map(|secret| (name(&secret.metadata), secret.values())).collect(),
            services: self.list_services(namespace)?.iter().map(service::facts).collect(),
        })
    }

    fn apply<T: Object>(&self, object: T, fixed: impl FnOnce(&T, &T) -> Option<String>) -> Result<Applied> {
        let _lock = self.lock()?;
        let (namespace, name) = identity(&object);
        let path = self.path(T::KIND, &namespace, &name)?;
        let old = read::<T>(&path)?;
        if let Some(detail) = old.as_ref().and_then(|old| fixed(old, &object)) {
            return Err(Error::Fixed { kind: T::NAME, name, detail });
        }
        self.put(object, old, &path)
    }

    /// Writes an object over its older self, whose identity it takes.
    fn put<T: Object>(&self, mut object: T, old: Option<T>, path: &Path) -> Result<Applied> {
        if let Some(old) = &old {
            let (meta, old) = (object.meta_mut(), old.meta());
            meta.uid.clone_from(&old.uid);
            meta.creation_timestamp = old.creation_timestamp;
        }
        let applied = match old {
            None => Applied::Created,
            Some(old) if old == object => return Ok(Applied::Unchanged),
            Some(_) => Applied::Configured,
        };
        write(path, T::KIND, &object)?;
        Ok(applied)
    }

    fn list<T: Object>(&self, kind: Kind, namespace: &str) -> Result<Vec<T>> {
        check_name(namespace)?;
        let directory = self.layout.objects(kind.plural(), namespace);
        let mut objects = Vec::new();
        for name in names(&directory)? {
            // It may have been removed since.
            objects.extend(read(&directory.join(name))?);
        }
        Ok(objects)
    }

    fn path(&self, kind: Kind, namespace: &str, name: &str) -> Result<PathBuf> {
        check_name(namespace)?;
        check_name(name)?;
        Ok(self.layout.objects(kind.plural(), namespace).join(name))
    }

    /// Held while something is written; the kernel gives it back when the process ends.
    fn lock(&self) -> Result<File> {
        let directory = self.layout.run().join("objects");
        make_directory(&directory, 0o755)?;
        let path = directory.join(".lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let lock = lock.map_err(io_error("open", &path))?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive)
            .map_err(|errno| io_error("lock", &path)(errno.into()))?;
        Ok(lock)
    }
}

/// An object with metadata that can be stored.
trait Object: Serialize + DeserializeOwned + PartialEq {
    const KIND: Kind;
    const NAME: &str;

    fn meta(&self) -> &ObjectMeta;

    fn meta_mut(&mut self) -> &mut ObjectMeta;
}

macro_rules! stored {
    ($($name:ident)*) => {$(
        impl Object for $name {
            const KIND: Kind = Kind::$name;
            const NAME: &str = stringify!($name);

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    )*};
}

stored! { Service ConfigMap Secret }

fn identity(object: &impl Object) -> (String, String) {
    let meta = object.meta();
    (meta.namespace.clone().unwrap_or_else(|| "default".into()), meta.name.clone().unwrap_or_default())
}

/// What an immutable object does not allow.
fn immutable(old: Option<bool>, new: Option<bool>, same: bool) -> Option<String> {
    let detail = "Forbidden: field is immutable when `immutable` is set";
    match old {
        Some(true) if new != Some(true) => Some(format!("immutable: {detail}")),
        Some(true) if !same => Some(format!("data: {detail}")),
        _ => None,
    }
}

/// Gives a Service the address that it needs: its old one, or a new one.
fn address<E>(
    service: &mut Service,
    old: Option<&Service>,
    key: &str,
    lease: impl FnOnce(&str) -> std::result::Result<IpAddr, E>,
) -> Result<()>
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let fixed = |detail| Error::Fixed {
        kind: Service::NAME,
        name: service.metadata.name.clone().unwrap_or_default(),
        detail,
    };
    let had = old.and_then(Service::address);
    if service.is_external_name() {
        return Ok(());
    }
    if service.is_headless() {
        service.spec.cluster_ips = vec!["None".into()];
        return match had {
            Some(_) => {
                Err(fixed("spec.clusterIPs[0]: Invalid value: [\"None\"]: may not change once set".into()))
            }
            None => Ok(()),
        };
    }
    if old.is_some_and(Service::is_headless) {
        return Err(fixed("spec.clusterIPs[0]: Invalid value: [\"\"]: may not change once set".into()));
    }
    let address = match (service.address(), had) {
        (Some(asked), Some(had)) if asked != had => {
            let detail = format!("spec.clusterIPs[0]: Invalid value: [\"{asked}\"]: may not change once set");
            return Err(fixed(detail));
        }
        (Some(_), None) => {
            let why = "not supported by hull: addresses are given out by hull; leave it out";
            return Err(fixed(format!("spec.clusterIP: {why}")));
        }
        (_, Some(had)) => had,
        (None, None) => {
            lease(key).map_err(|source| Error::Address { service: key.to_owned(), source: source.into() })?
        }
    };
    service.spec.cluster_ip = Some(address.to_string());
    service.spec.cluster_ips = vec![address.to_string()];
    Ok(())
}

#[cfg(test)]
mod tests;
