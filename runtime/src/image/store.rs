//! The image store: an OCI image layout with the unpacked layers beside it.
//!
//! ```text
//! oci-layout, index.json   names and digests: what exists
//! blobs/<algorithm>/<hex>  manifests, configurations, layers as they came
//! layers/<hex>/            unpacked layers by chain id: overlayfs lower directories
//! tmp/                     everything unfinished; swept by the next writer
//! lock                     held by the one writer
//! leases.lock              held shared while a rootfs takes its lease, exclusively while layers go
//! ```
//!
//! **Invariant:** `index.json` is replaced last when something is added, and first when it is removed; blobs
//! and layers appear by rename, whole and synced. So a reader needs no lock, and a writer killed at any
//! instant leaves nothing but leftovers for the next one to sweep.
//!
//! What a running instance uses is told by a lease: `lease.json` in its directory, below
//! the run directory, so that it ends with the pod's directory or with the host.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use hull_shim::layout::Layout;
use rustix::fs::{FlockOperation, Mode, OFlags};
use serde::{Deserialize, Serialize};

use super::bundle::read_document;
use super::digest::{Digest, chain_id};
use super::document::{self, ConfigFile, Descriptor, ImageConfig, Index, Manifest, Node, OCI_INDEX};
use super::error::Error;
use super::index::{find, id, name};
use super::reference::Reference;
use super::tree;

/// An image in the store, ready to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its normalised name; its id when it has none.
    pub reference: String,
    /// `sha256:…` of the configuration.
    pub id: String,
    /// `sha256:…` of the manifest.
    pub digest: String,
    /// Bytes of configuration and packed layers.
    pub size: u64,
    /// How it wants to be run.
    pub config: ImageConfig,
    /// The unpacked layers, bottom first.
    pub layers: Vec<PathBuf>,
    /// RFC 3339, or empty.
    pub created: String,
    /// All normalised names.
    pub names: Vec<String>,
    /// `linux`, or empty.
    pub os: String,
    /// `amd64`, or empty.
    pub architecture: String,
    /// Uncompressed digests of the layers, bottom first.
    pub diff_ids: Vec<String>,
}

impl Image {
    /// `docker.io/library/nginx@sha256:…`, or the id of an image without a name: `status.imageID`.
    #[must_use]
    pub fn digest_reference(&self) -> String {
        match self.reference.parse::<Reference>() {
            Ok(reference) => reference.at_digest(&self.digest).to_string(),
            Err(_) => self.id.clone(),
        }
    }
}

/// What [`Store::remove`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names that are gone.
    pub untagged: Vec<String>,
    /// Ids of images that are gone with their last name.
    pub deleted: Vec<String>,
    /// Unpacked layers that stay until the instances that use them are gone.
    pub layers_in_use: usize,
}

/// What a mounted rootfs needs of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Lease {
    pub(super) image_id: String,
    /// Directory names below `layers/`.
    pub(super) layers: Vec<String>,
}

/// The name of a lease in an instance's directory.
pub(super) const LEASE: &str = "lease.json";

/// The image store of one hull.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    pods: PathBuf,
}

/// The right to change the store; ends when dropped.
pub(super) struct Writer {
    /// Unlocks when it is closed, which is after `drop` emptied `tmp`.
    _lock: File,
    /// Empty, and on the store's file system.
    pub(super) tmp: PathBuf,
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Best effort: what stays is swept by the next writer.
        tree::remove(&self.tmp).unwrap_or_default();
    }
}

impl Store {
    /// The store of a layout. Nothing is touched: a store that does not exist is empty.
    #[must_use]
    pub fn open(layout: &Layout) -> Self {
        Self { root: layout.images(), pods: layout.pods() }
    }

    /// The image of a name or id: a reference in any form, `sha256:…`, or the beginning of an id.
    ///
    /// # Errors
    /// When the text is no reference, a short id is ambiguous, or the store cannot be read.
    pub fn resolve(&self, wanted: &str) -> Result<Option<Image>, Error> {
        let index = self.index()?;
        match find(&index, wanted)? {
            Some(descriptor) => self.load(&index, descriptor),
            None => Ok(None),
        }
    }

    /// Every image, in the order of its first name.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn list(&self) -> Result<Vec<Image>, Error> {
        let index = self.index()?;
        let mut seen = BTreeSet::new();
        let mut images = Vec::new();
        for descriptor in &index.manifests {
            if seen.insert(&descriptor.digest) {
                images.extend(self.load(&index, descriptor)?);
            }
        }
        images.sort_by(|left, right| left.reference.cmp(&right.reference));
        Ok(images)
    }

    /// Removes a name, or by id an image with all its names. Content that nothing else needs goes too, except
    /// layers that running instances use: those go with a later change.
    ///
    /// # Errors
    /// When there is no such image, or the store cannot be changed.
    pub fn remove(&self, wanted: &str) -> Result<Removed, Error> {
        let writer = self.writer()?;
        let mut index = self.index()?;
        let found = find(&index, wanted)?.ok_or_else(|| Error::NoSuchImage(wanted.to_owned()))?.clone();
        let by_name =
            wanted.parse::<Reference>().is_ok_and(|reference| name(&found) == Some(&reference.to_string()));
        let goes = |entry: &Descriptor| {
            if by_name { name(entry) == name(&found) } else { entry.digest == found.digest }
        };
        let untagged = index.manifests.iter().filter(|entry| goes(entry));
        let untagged = untagged.filter_map(name).cloned().collect();
        index.manifests.retain(|entry| !goes(entry));
        let last = !index.manifests.iter().any(|entry| entry.digest == found.digest);
        let deleted = if last { id(&found).cloned().into_iter().collect() } else { Vec::new() };
        self.write_index(&writer, &index)?;
        let layers_in_use = self.sweep(&writer)?;
        Ok(Removed { untagged, deleted, layers_in_use })
    }

    /// Where an unpacked layer lies.
    pub(super) fn layer(&self, chain: &Digest) -> PathBuf {
        self.root.join("layers").join(chain.hex())
    }

    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.root.join(digest.blob_path())
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn index(&self) -> Result<Index, Error> {
        let path = self.root.join("index.json");
        match File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Index::default()),
            Err(error) => Err(Error::io("open", &path)(error)),
            Ok(file) => {
                let what = path.display().to_string();
                document::parse(&what, &read_document(what.clone(), file)?)
            }
        }
    }

    /// The caller holds the writer's lock.
    pub(super) fn write_index(&self, _: &Writer, index: &Index) -> Result<(), Error> {
        let index = Index { schema_version: 2, media_type: OCI_INDEX.into(), ..index.clone() };
        let text = serde_json::to_vec_pretty(&index).expect("strings and numbers can be written as JSON");
        tree::write_whole(&self.root.join("index.json"), &text)
    }

    /// A document of the store; none when it was removed since the index was read.
    fn document(&self, digest: &str) -> Result<Option<Vec<u8>>, Error> {
        let what = format!("blob {digest}");
        let parsed: Digest = digest
            .parse()
            .map_err(|_| Error::Document { what: what.clone(), problem: "has a bad digest".into() })?;
        let path = self.blob(&parsed);
        match File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("open", &path)(error)),
            Ok(file) => read_document(what, file).map(Some),
        }
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<Option<(Manifest, ConfigFile)>, Error> {
        let what = format!("blob {}", descriptor.digest);
        let Some(bytes) = self.document(&descriptor.digest)? else {
            return Ok(None);
        };
        let Node::Manifest(manifest) = document::parse_node(&what, &descriptor.media_type, &bytes)? else {
            return Err(Error::Document { what, problem: "is not an image manifest".into() });
        };
        let Some(bytes) = self.document(&manifest.config.digest)? else {
            return Ok(None);
        };
        let config = document::parse(&format!("blob {}", manifest.config.digest), &bytes)?;
        Ok(Some((manifest, config)))
    }

    fn load(&self, index: &Index, descriptor: &Descriptor) -> Result<Option<Image>, Error> {
        let Some((manifest, file)) = self.manifest(descriptor)? else {
            return Ok(None);
        };
        let id = id(descriptor).unwrap_or(&manifest.config.digest).clone();
        let same = index.manifests.iter().filter(|entry| entry.digest == descriptor.digest);
        let names: Vec<String> = same.filter_map(name).cloned().collect();
        let reference = name(descriptor).or(names.first()).unwrap_or(&id).clone();
        let chains = chains(&file)?;
        Ok(Some(Image {
            reference,
            digest: descriptor.digest.clone(),
            size: manifest.size(),
            layers: chains.iter().map(|chain| self.layer(chain)).collect(),
            created: file.created,
            os: file.platform.os,
            architecture: file.platform.architecture,
            diff_ids: file.rootfs.diff_ids,
            config: file.config,
            names,
            id,
        }))
    }

    /// Waits for the right to change the store, and sweeps what killed writers left.
    pub(super) fn writer(&self) -> Result<Writer, Error> {
        for part in ["blobs/sha256", "blobs/sha512", "layers"] {
            tree::create_private(&self.root.join(part))?;
        }
        let lock = self.lock("lock", FlockOperation::LockExclusive)?;
        let tmp = self.root.join("tmp");
        tree::remove(&tmp)?;
        tree::create_private(&tmp)?;
        let writer = Writer { _lock: lock, tmp };
        let layout = self.root.join("oci-layout");
        if !layout.exists() {
            tree::write_whole(&layout, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        }
        self.sweep(&writer)?;
        Ok(writer)
    }

    /// Takes a shared hold on all layers while a lease is written.
    pub(super) fn hold_layers(&self) -> Result<File, Error> {
        self.lock("leases.lock", FlockOperation::LockShared)
    }

    fn lock(&self, name: &str, operation: FlockOperation) -> Result<File, Error> {
        let path = self.root.join(name);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
        let file =
            rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR).map_err(Error::io("open", &path))?;
        loop {
            match rustix::fs::flock(&file, operation) {
                Err(rustix::io::Errno::INTR) => {}
                result => return result.map_err(Error::io("lock", &path)).map(|()| file.into()),
            }
        }
    }

    /// Removes blobs and layers that no image has, and tells how many layers stay for their leases.
    fn sweep(&self, writer: &Writer) -> Result<usize, Error> {
        let index = self.index()?;
        let (mut blobs, mut layers) = (BTreeSet::new(), BTreeSet::new());
        for descriptor in &index.manifests {
            let Some((manifest, file)) = self.manifest(descriptor)? else {
                continue;
            };
            let own = [&descriptor.digest, &manifest.config.digest];
            let digests = own.into_iter().chain(manifest.layers.iter().map(|layer| &layer.digest));
            blobs.extend(digests.filter_map(|digest| digest.split_once(':')).map(|(_, hex)| hex.to_owned()));
            layers.extend(chains(&file)?.iter().map(|chain| chain.hex().to_owned()));
        }
        let in_use = self.sweep_layers(writer, &layers)?;
        for algorithm in ["sha256", "sha512"] {
            let directory = self.root.join("blobs").join(algorithm);
            for hex in unwanted(&directory, &blobs)? {
                tree::remove(&directory.join(hex))?;
            }
        }
        Ok(in_use)
    }

    fn sweep_layers(&self, writer: &Writer, wanted: &BTreeSet<String>) -> Result<usize, Error> {
        let directory = self.root.join("layers");
        let unwanted = unwanted(&directory, wanted)?;
        if unwanted.is_empty() {
            return Ok(0);
        }
        let trash = writer.tmp.join("trash");
        tree::create_private(&trash)?;
        let hold = self.lock("leases.lock", FlockOperation::LockExclusive)?;
        let leased = self.leased()?;
        let (used, gone): (Vec<_>, Vec<_>) = unwanted.into_iter().partition(|name| leased.contains(name));
        for name in gone {
            // Renamed first: no half layer is ever seen.
            let layer = directory.join(&name);
            std::fs::rename(&layer, trash.join(&name)).map_err(Error::io("remove", &layer))?;
        }
        drop(hold);
        tree::remove(&trash)?;
        Ok(used.len())
    }

    /// The layers of every lease below the run directory: `pods/<uid>/containers/<instance>/lease.json`.
    fn leased(&self) -> Result<BTreeSet<String>, Error> {
        let mut layers = BTreeSet::new();
        for pod in entries(&self.pods)? {
            let containers = self.pods.join(pod).join("containers");
            for instance in entries(&containers)? {
                let path = containers.join(instance).join(LEASE);
                match std::fs::read(&path) {
                    Ok(bytes) => {
                        let lease: Lease = document::parse(&path.display().to_string(), &bytes)?;
                        layers.extend(lease.layers);
                    }
                    Err(error) if is_absent(&error) => {}
                    Err(error) => return Err(Error::io("read", &path)(error)),
                }
            }
        }
        Ok(layers)
    }
}

/// The chain ids of an image's layers, bottom first.
pub(super) fn chains(file: &ConfigFile) -> Result<Vec<Digest>, Error> {
    let mut chains: Vec<Digest> = Vec::new();
    for diff_id in &file.rootfs.diff_ids {
        let diff_id: Digest = diff_id.parse().map_err(|error: super::digest::NotADigest| {
            Error::Document { what: "image configuration".into(), problem: error.to_string() }
        })?;
        chains.push(chain_id(chains.last(), &diff_id));
    }
    Ok(chains)
}

fn unwanted(directory: &Path, wanted: &BTreeSet<String>) -> Result<Vec<String>, Error> {
    Ok(entries(directory)?.into_iter().filter(|name| !wanted.contains(name)).collect())
}

/// The names in a directory that may not exist.
fn entries(directory: &Path) -> Result<Vec<String>, Error> {
    let listing = match std::fs::read_dir(directory) {
        Err(error) if is_absent(&error) => return Ok(Vec::new()),
        result => result.map_err(Error::io("list", directory))?,
    };
    let names = listing.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    names.collect::<std::io::Result<_>>().map_err(Error::io("list", directory))
}

fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}
