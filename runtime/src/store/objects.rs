//! Services, ConfigMaps and Secrets on disk: `<run>/objects/<kind>/<namespace>/<name>`, one JSON file each.
//!
//! Files are written whole: a temporary beside them, fsync, rename, fsync of the directory. Writers hold a
//! lock on the whole store, since applying reads what is there first; readers need none. Files of Secrets
//! have mode 0600 and lie in directories of mode 0700.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use hull_shim::layout::Layout;
use rustix::fs::FlockOperation;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::manifest::raw::{ConfigMap, ObjectMeta, Secret, Service};

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

/// Everything that environments of a namespace are built from.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sources {
    /// Keys and values of ConfigMaps, by name.
    pub config_maps: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    /// Keys and values of Secrets, by name.
    pub secrets: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    /// Services, by name.
    pub services: Vec<Service>,
}

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
        match std::fs::remove_file(&path) {
            Ok(()) => sync_parent(&path).map(|()| true),
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
            services: self.list_services(namespace)?,
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
            Some(_) => Err(fixed("spec.clusterIPs[0]: Invalid value: [\"None\"]: may not change once set".into())),
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
        (None, None) => lease(key)
            .map_err(|source| Error::Address { service: key.to_owned(), source: source.into() })?,
    };
    service.spec.cluster_ip = Some(address.to_string());
    service.spec.cluster_ips = vec![address.to_string()];
    Ok(())
}

/// A name that is safe as the name of a file; names of objects are narrower still.
fn check_name(name: &str) -> Result<()> {
    let safe = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    match name.bytes().all(safe) && !name.is_empty() && !name.starts_with('.') && name.len() <= 253 {
        true => Ok(()),
        false => Err(Error::Name { name: name.to_owned() }),
    }
}

/// The names of the entries of a directory, sorted; none if it is not there.
fn names(directory: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_error("list", directory)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(io_error("list", directory))?.file_name();
        // Anything else is a temporary, or not ours.
        names.extend(name.into_string().ok().filter(|name| check_name(name).is_ok()));
    }
    names.sort_unstable();
    Ok(names)
}

fn read<T: Object>(path: &Path) -> Result<Option<T>> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("read", path)(error)),
    };
    let corrupt = |source| Error::Corrupt { kind: T::KIND.singular(), path: path.to_owned(), source };
    serde_json::from_slice(&text).map(Some).map_err(corrupt)
}

fn write<T: Object>(path: &Path, kind: Kind, object: &T) -> Result<()> {
    let text = serde_json::to_vec_pretty(object).map_err(|error| io_error("encode", path)(error.into()))?;
    let directory = path.parent().unwrap_or(path);
    if let Some(kind_directory) = directory.parent() {
        make_directory(kind_directory, kind.directory_mode())?;
    }
    make_directory(directory, kind.directory_mode())?;
    // One name is enough: writers hold the lock, and one that a crash left behind is overwritten.
    let temporary = directory.join(".new");
    let open = || {
        let options = OpenOptions::new().create(true).truncate(true).write(true).mode(kind.file_mode()).clone();
        let mut file = options.open(&temporary)?;
        // A file left behind keeps its mode, and it is not to hold a secret for others to read.
        file.set_permissions(PermissionsExt::from_mode(kind.file_mode()))?;
        file.write_all(&text)?;
        file.sync_all()
    };
    open().map_err(io_error("write", &temporary))?;
    std::fs::rename(&temporary, path).map_err(io_error("replace", path))?;
    sync_parent(path)
}

fn sync_parent(path: &Path) -> Result<()> {
    let directory = path.parent().unwrap_or(path);
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(io_error("sync", directory))
}

fn make_directory(path: &Path, mode: u32) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(mode).create(path);
    made.map_err(io_error("make", path))
}

fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { operation, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Identity, Loaded, accept_config_map, accept_secret, accept_service, load};

    struct Fixture {
        _directory: tempfile::TempDir,
        layout: Layout,
        objects: Objects,
    }

    fn fixture() -> Fixture {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(Some(directory.path().to_owned()));
        let objects = Objects::open(&layout);
        Fixture { _directory: directory, layout, objects }
    }

    fn identity(uid: &str) -> Identity {
        Identity { uid: uid.into(), created: jiff::Timestamp::UNIX_EPOCH }
    }

    fn object(text: &str) -> Loaded {
        load(&format!("apiVersion: v1\nmetadata: {{name: a}}\n{text}"), "x").unwrap().remove(0)
    }

    fn map(text: &str) -> ConfigMap {
        match object(&format!("kind: ConfigMap\n{text}")) {
            Loaded::ConfigMap(map) => accept_config_map(map, &identity("1")).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn secret(text: &str) -> Secret {
        match object(&format!("kind: Secret\n{text}")) {
            Loaded::Secret(secret) => accept_secret(secret, &identity("1")).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn service(spec: &str) -> Service {
        match object(&format!("kind: Service\nspec: {spec}")) {
            Loaded::Service(service) => accept_service(*service, &identity("1")).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn lease(key: &str) -> std::result::Result<IpAddr, io::Error> {
        assert_eq!(key, "default/a");
        Ok([10, 96, 0, 7].into())
    }

    fn no_lease(_: &str) -> std::result::Result<IpAddr, io::Error> {
        Err(io::ErrorKind::AddrNotAvailable.into())
    }

    #[test]
    fn applying_says_what_it_did() {
        let Fixture { objects, _directory, .. } = &fixture();
        assert_eq!(objects.apply_config_map(map("data: {k: v}")).unwrap(), Applied::Created);
        assert_eq!(objects.apply_config_map(map("data: {k: v}")).unwrap(), Applied::Unchanged);
        assert_eq!(objects.apply_config_map(map("data: {k: w}")).unwrap(), Applied::Configured);
        let found = objects.config_map("default", "a").unwrap().unwrap();
        assert_eq!(found.values()["k"], b"w");
        assert!(objects.delete(Kind::ConfigMap, "default", "a").unwrap());
        assert!(!objects.delete(Kind::ConfigMap, "default", "a").unwrap());
        assert_eq!(objects.config_map("default", "a").unwrap(), None);
    }

    #[test]
    fn an_object_keeps_its_identity() {
        let Fixture { objects, _directory, .. } = &fixture();
        objects.apply_config_map(map("data: {k: v}")).unwrap();
        let mut again = map("data: {k: w}");
        again.metadata.uid = Some("2".into());
        objects.apply_config_map(again).unwrap();
        let found = objects.config_map("default", "a").unwrap().unwrap();
        assert_eq!(found.metadata.uid.as_deref(), Some("1"));
    }

    #[test]
    fn a_service_keeps_its_address() {
        let Fixture { objects, _directory, .. } = &fixture();
        let ports = "{ports: [{port: 80}]}";
        assert!(matches!(objects.apply_service(service(ports), no_lease), Err(Error::Address { .. })));
        assert_eq!(objects.apply_service(service(ports), lease).unwrap(), Applied::Created);
        assert_eq!(objects.apply_service(service(ports), no_lease).unwrap(), Applied::Unchanged);
        assert_eq!(objects.apply_service(service("{ports: [{port: 81}]}"), no_lease).unwrap(), Applied::Configured);
        let found = &objects.list_services("default").unwrap()[0];
        assert_eq!(found.address(), Some([10, 96, 0, 7].into()));
        let error = objects.apply_service(service("{clusterIP: None}"), no_lease).unwrap_err();
        assert_eq!(
            error.to_string(),
            "The Service \"a\" is invalid: spec.clusterIPs[0]: Invalid value: [\"None\"]: may not change once set"
        );
    }

    #[test]
    fn headless_and_external_services_need_no_address() {
        let Fixture { objects, _directory, .. } = &fixture();
        assert_eq!(objects.apply_service(service("{clusterIP: None}"), no_lease).unwrap(), Applied::Created);
        objects.delete(Kind::Service, "default", "a").unwrap();
        let external = service("{type: ExternalName, externalName: example.com}");
        assert_eq!(objects.apply_service(external, no_lease).unwrap(), Applied::Created);
    }

    #[test]
    fn an_immutable_object_is_not_changed() {
        let Fixture { objects, _directory, .. } = &fixture();
        objects.apply_secret(secret("stringData: {k: v}\nimmutable: true")).unwrap();
        let error = objects.apply_secret(secret("stringData: {k: w}\nimmutable: true")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "The Secret \"a\" is invalid: data: Forbidden: field is immutable when `immutable` is set"
        );
        assert!(objects.apply_secret(secret("stringData: {k: v}")).is_err());
        assert!(objects.apply_secret(secret("type: x\nstringData: {k: v}\nimmutable: true")).is_err());
    }

    #[test]
    fn secrets_are_for_the_owner_alone() {
        let Fixture { objects, layout, _directory } = &fixture();
        objects.apply_secret(secret("data: {k: dg==}")).unwrap();
        objects.apply_config_map(map("")).unwrap();
        let directory = layout.objects("secrets", "default");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&directory.join("a")), 0o600);
        assert_eq!((mode(&directory), mode(directory.parent().unwrap())), (0o700, 0o700));
        assert_eq!(mode(&layout.objects("configmaps", "default").join("a")) & 0o600, 0o600);
    }

    #[test]
    fn sources_hold_everything_of_a_namespace() {
        let Fixture { objects, _directory, .. } = &fixture();
        objects.apply_config_map(map("data: {k: v}\nbinaryData: {b: AAE=}")).unwrap();
        objects.apply_secret(secret("stringData: {p: w}")).unwrap();
        objects.apply_service(service("{ports: [{port: 80}]}"), lease).unwrap();
        let sources = objects.sources("default").unwrap();
        assert_eq!(sources.config_maps["a"], [("b".into(), vec![0, 1]), ("k".into(), b"v".to_vec())].into());
        assert_eq!(sources.secrets["a"], [("p".into(), b"w".to_vec())].into());
        assert_eq!(sources.services.len(), 1);
        assert_eq!(objects.sources("other").unwrap(), Sources::default());
        assert_eq!(objects.namespaces(Kind::Service).unwrap(), ["default"]);
    }

    #[test]
    fn a_damaged_file_is_named() {
        let Fixture { objects, layout, _directory } = &fixture();
        objects.apply_config_map(map("")).unwrap();
        let path = layout.objects("configmaps", "default").join("a");
        std::fs::write(&path, "{\"kind\": 1").unwrap();
        let error = objects.config_map("default", "a").unwrap_err();
        assert!(matches!(&error, Error::Corrupt { path: found, .. } if *found == path));
        assert!(objects.sources("default").is_err());
        assert!(objects.delete(Kind::ConfigMap, "default", "a").unwrap());
    }

    #[test]
    fn a_name_cannot_lead_elsewhere() {
        let Fixture { objects, _directory, .. } = &fixture();
        for name in ["", ".", "..", "../a", "a/b", ".new", "A"] {
            assert!(matches!(objects.secret("default", name), Err(Error::Name { .. })), "{name}");
            assert!(matches!(objects.list_services(name), Err(Error::Name { .. })), "{name}");
        }
    }
}
