//! Importing images from OCI layouts and from `docker save` archives.
//!
//! ```text
//! source -> bundle (files by name) -> chosen images -> tmp: blobs, unpacked layers -> sync -> rename -> index.json
//! ```
//! Sizes, digests and diff ids are checked before anything leaves `tmp`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::bundle::{Bundle, Content, Spooled, spool_file};
use super::choose::{self, Chosen};
use super::compression::{self, Compression};
use super::digest::{Algorithm, Digest, Hashed};
use super::document::{
    self, ConfigFile, Descriptor, DockerImage, IMAGE_ID, Manifest, OCI_CONFIG, OCI_LAYER, OCI_MANIFEST,
};
use super::error::Error;
use super::index::{name, named};
use super::reference::Reference;
use super::store::{Image, Store, Writer, chains};
use super::{tree, unpack};

const LAYER_TYPES: [&str; 4] = [
    OCI_LAYER,
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
];

/// What is imported.
pub enum Source<'a> {
    /// A layout directory or an archive.
    Path(&'a Path),
    /// An archive.
    Stream(&'a mut dyn Read),
}

impl Store {
    /// Imports every image of a source that fits this host: an OCI layout, as directory or archive, or a
    /// `docker save` archive, the archives also compressed whole. Names come from the source, or `name` is given
    /// to its only image. A name that another image has moves.
    ///
    /// # Errors
    /// When the source is none of these, is damaged or hostile, or the store cannot be written. The store then
    /// is as it was.
    pub fn import(&self, source: Source<'_>, name: Option<&str>) -> Result<Vec<Image>, Error> {
        let name = name.map(parse_name).transpose()?;
        let writer = self.writer()?;
        let spool = writer.tmp.join("spool");
        tree::create_private(&spool)?;
        let bundle = Bundle::open(source, &spool)?;
        let mut import =
            Import { store: self, writer, bundle, blobs: BTreeMap::new(), layers: BTreeMap::new(), next: 0 };
        let mut images = import.stage_all()?;
        if let Some(name) = name {
            let [image] = images.as_mut_slice() else {
                return Err(Error::NameForMany { archive: import.bundle.display, count: images.len() });
            };
            image.names = vec![name];
        }
        import.commit(&images)?;
        let wanted = images.iter().map(|image| match image.names.first() {
            Some(name) => name.to_string(),
            None => image.descriptor.digest.clone(),
        });
        wanted.filter_map(|wanted| self.resolve(&wanted).transpose()).collect()
    }
}

fn parse_name(name: &str) -> Result<Reference, Error> {
    name.parse().map_err(|source| Error::Reference { name: name.to_owned(), source })
}

/// An image whose content is ready in `tmp` or in the store.
struct Staged {
    names: Vec<Reference>,
    descriptor: Descriptor,
}

struct Import<'a> {
    store: &'a Store,
    writer: Writer,
    bundle: Bundle,
    /// Verified blobs in `tmp`.
    blobs: BTreeMap<Digest, PathBuf>,
    /// Unpacked layers in `tmp` by chain id.
    layers: BTreeMap<Digest, PathBuf>,
    next: u64,
}

impl Import<'_> {
    fn stage_all(&mut self) -> Result<Vec<Staged>, Error> {
        if self.bundle.document("oci-layout")?.is_some() {
            let chosen = choose::images(&self.bundle)?;
            return chosen.into_iter().map(|chosen| self.stage_oci(chosen)).collect();
        }
        let Some(bytes) = self.bundle.document("manifest.json")? else {
            return Err(Error::UnknownFormat { archive: self.bundle.display.clone() });
        };
        let images: Vec<DockerImage> = document::parse("manifest.json", &bytes)?;
        images.into_iter().map(|image| self.stage_docker(&image)).collect()
    }

    fn stage_oci(&mut self, chosen: Chosen) -> Result<Staged, Error> {
        self.stage_descriptor(&chosen.descriptor)?;
        self.stage_descriptor(&chosen.manifest.config)?;
        for layer in &chosen.manifest.layers {
            if !LAYER_TYPES.iter().any(|known| layer.media_type.starts_with(known)) {
                let problem = format!("has the unknown media type {:?}", layer.media_type);
                return Err(Error::Document { what: format!("layer {}", layer.digest), problem });
            }
            self.stage_descriptor(layer)?;
        }
        self.stage_image(chosen.names, &chosen.descriptor, &chosen.manifest)
    }

    /// Makes the manifest that a docker archive does not have.
    fn stage_docker(&mut self, image: &DockerImage) -> Result<Staged, Error> {
        let config = self.stage_named(&image.config, OCI_CONFIG)?;
        let mut layers = Vec::new();
        for layer in &image.layers {
            layers.push(self.stage_named(layer, OCI_LAYER)?);
        }
        let manifest = Manifest { schema_version: 2, media_type: OCI_MANIFEST.into(), config, layers };
        let bytes = serde_json::to_vec(&manifest).expect("strings and numbers can be written as JSON");
        let spooled = spool_file(&mut bytes.as_slice(), &self.fresh())?;
        let descriptor = self.adopt(spooled, OCI_MANIFEST.into());
        let names = image.repo_tags.iter().map(|tag| parse_name(tag)).collect::<Result<_, _>>()?;
        self.stage_image(names, &descriptor, &manifest)
    }

    /// Checks an image's configuration and unpacks its layers. All blobs are staged.
    fn stage_image(
        &mut self,
        names: Vec<Reference>,
        descriptor: &Descriptor,
        manifest: &Manifest,
    ) -> Result<Staged, Error> {
        let what = format!("image configuration {}", manifest.config.digest);
        let problem = |problem: String| Error::Document { what: what.clone(), problem };
        let config = self.open_blob(&manifest.config)?;
        let bytes = super::bundle::read_document(what.clone(), config)?;
        let file: ConfigFile = document::parse(&what, &bytes)?;
        choose::check_platform(&what, &file.platform)?;
        if file.rootfs.kind != "layers" {
            return Err(problem(format!("has rootfs type {:?}, not \"layers\"", file.rootfs.kind)));
        }
        let (layers, diff_ids) = (manifest.layers.len(), file.rootfs.diff_ids.len());
        if layers != diff_ids {
            return Err(problem(format!("has {diff_ids} diff ids for {layers} layers")));
        }
        let chains = chains(&file)?;
        for (number, layer) in manifest.layers.iter().enumerate() {
            self.stage_layer(layer, &file.rootfs.diff_ids[number], &chains[..=number])?;
        }
        let annotations = [(IMAGE_ID.to_owned(), Digest::of(&bytes).to_string())].into();
        let descriptor = Descriptor { annotations, platform: None, ..descriptor.clone() };
        Ok(Staged { names, descriptor })
    }

    /// Unpacks one layer, unless that was done before.
    fn stage_layer(&mut self, layer: &Descriptor, diff_id: &str, chains: &[Digest]) -> Result<(), Error> {
        let Some((chain, below)) = chains.split_last() else {
            return Ok(());
        };
        if self.layers.contains_key(chain) || self.store.layer(chain).exists() {
            return Ok(());
        }
        let what = format!("layer {}", layer.digest);
        let read = |source| Error::Read { what: what.clone(), source };
        let expected: Digest = diff_id.parse().map_err(|_| Error::Document {
            what: what.clone(),
            problem: format!("has diff id {diff_id:?}"),
        })?;
        let directory = self.fresh();
        make_layer_root(&directory)?;
        let stream = compression::unpacked(self.open_blob(layer)?).map_err(read)?;
        let mut stream = Hashed::new(stream, expected.algorithm());
        let lowers: Vec<PathBuf> = below.iter().rev().map(|chain| self.layer(chain)).collect();
        unpack::apply(&mut stream, &directory, lowers.iter().map(PathBuf::as_path))?;
        let (found, _) = stream.finish().map_err(read)?;
        if found != expected {
            return Err(Error::Digest { what: format!("{what}, uncompressed,"), found, expected });
        }
        self.layers.insert(chain.clone(), directory);
        Ok(())
    }

    fn layer(&self, chain: &Digest) -> PathBuf {
        self.layers.get(chain).cloned().unwrap_or_else(|| self.store.layer(chain))
    }

    fn fresh(&mut self) -> PathBuf {
        self.next += 1;
        self.writer.tmp.join(self.next.to_string())
    }

    /// Brings the blob of a descriptor into `tmp`, checked, unless the store has it.
    fn stage_descriptor(&mut self, descriptor: &Descriptor) -> Result<(), Error> {
        let digest = choose::digest(descriptor)?;
        if self.blobs.contains_key(&digest) || self.store.blob(&digest).exists() {
            return Ok(());
        }
        let what = format!("blob {digest}");
        let content = self.bundle.file(&digest.blob_path())?.ok_or_else(|| self.bundle.missing(&what))?;
        let spooled = self.spooled(content)?;
        if spooled.size != descriptor.size {
            return Err(Error::Size { what, found: spooled.size, expected: descriptor.size });
        }
        let found = match digest.algorithm() {
            Algorithm::Sha256 => spooled.sha256,
            algorithm @ Algorithm::Sha512 => {
                let file = File::open(&spooled.path).map_err(Error::io("open", &spooled.path))?;
                let hashed = Hashed::new(file, algorithm);
                hashed.finish().map_err(Error::io("read", &spooled.path))?.0
            }
        };
        if found != digest {
            return Err(Error::Digest { what, found, expected: digest });
        }
        self.blobs.insert(digest, spooled.path);
        Ok(())
    }

    /// Brings a file of a docker archive into `tmp` and describes it.
    fn stage_named(&mut self, name: &str, media_type: &str) -> Result<Descriptor, Error> {
        let content = self.bundle.file(name)?.ok_or_else(|| self.bundle.missing(name))?;
        let spooled = self.spooled(content)?;
        let mut media_type = media_type.to_owned();
        if media_type == OCI_LAYER {
            let path = &spooled.path;
            let magic = File::open(path).and_then(|mut file| compression::head(&mut file));
            media_type += Compression::of(&magic.map_err(Error::io("read", path))?).suffix();
        }
        Ok(self.adopt(spooled, media_type))
    }

    fn adopt(&mut self, spooled: Spooled, media_type: String) -> Descriptor {
        let digest = spooled.sha256.to_string();
        self.blobs.insert(spooled.sha256, spooled.path);
        Descriptor { media_type, digest, size: spooled.size, ..Descriptor::default() }
    }

    fn spooled(&mut self, content: Content) -> Result<Spooled, Error> {
        match content {
            Content::Spooled(spooled) => Ok(spooled),
            Content::Open(mut file) => spool_file(&mut file, &self.fresh()),
        }
    }

    fn open_blob(&self, descriptor: &Descriptor) -> Result<File, Error> {
        let digest = choose::digest(descriptor)?;
        let path = self.blobs.get(&digest).cloned().unwrap_or_else(|| self.store.blob(&digest));
        File::open(&path).map_err(Error::io("open", &path))
    }

    /// Makes everything durable, then visible, the index last.
    fn commit(self, images: &[Staged]) -> Result<(), Error> {
        let root = self.store.root();
        let directory = tree::open_dir(root)?;
        rustix::fs::syncfs(&directory).map_err(Error::io("sync", root))?;
        for (digest, path) in &self.blobs {
            let blob = self.store.blob(digest);
            std::fs::rename(path, &blob).map_err(Error::io("create", &blob))?;
        }
        for (chain, path) in &self.layers {
            let layer = self.store.layer(chain);
            std::fs::rename(path, &layer).map_err(Error::io("create", &layer))?;
        }
        for part in ["blobs/sha256", "blobs/sha512", "layers"] {
            tree::sync_dir(&root.join(part))?;
        }
        let mut index = self.store.index()?;
        for image in images {
            enter(&mut index.manifests, image);
        }
        self.store.write_index(&self.writer, &index)
    }
}

/// Adds an image to the index. An image that loses its last name stays, without one.
fn enter(entries: &mut Vec<Descriptor>, image: &Staged) {
    let new = &image.descriptor;
    let names: Vec<String> = image.names.iter().map(ToString::to_string).collect();
    let moved = |entry: &Descriptor| name(entry).is_some_and(|name| names.contains(name));
    let (losing, mut kept): (Vec<_>, Vec<_>) = entries.drain(..).partition(moved);
    for entry in losing {
        if entry.digest != new.digest && !kept.iter().any(|other| other.digest == entry.digest) {
            kept.push(named(entry, None));
        }
    }
    if names.is_empty() && !kept.iter().any(|entry| entry.digest == new.digest) {
        kept.push(named(new.clone(), None));
    }
    if !names.is_empty() {
        kept.retain(|entry| entry.digest != new.digest || name(entry).is_some());
    }
    kept.extend(names.iter().map(|name| named(new.clone(), Some(name))));
    *entries = kept;
}

/// The root of a layer, with the mode that a root has.
fn make_layer_root(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::create_dir(path).map_err(Error::io("create", path))?;
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(path, mode).map_err(Error::io("set the mode of", path))
}

#[cfg(test)]
#[path = "import_tests.rs"]
mod tests;
