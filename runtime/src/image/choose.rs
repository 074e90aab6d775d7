//! Which images of an OCI layout are meant for this host, and what they are called.

use super::bundle::{Bundle, read_document};
use super::digest::{Algorithm, Digest, Hashed};
use super::document::{
    self, ConfigFile, DOCKER_INDEX, DOCKER_MANIFEST, Descriptor, Index, Manifest, NAME, Node, OCI_CONFIG,
    OCI_INDEX, OCI_MANIFEST, Platform, REF_NAME,
};
use super::error::Error;
use super::reference::Reference;

const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// Indexes may lie in indexes, but not without end.
const DEPTH_LIMIT: usize = 8;

/// An image to import.
pub(super) struct Chosen {
    pub(super) names: Vec<Reference>,
    pub(super) descriptor: Descriptor,
    pub(super) manifest: Manifest,
}

/// The images of a layout's `index.json` that fit this host, each once.
pub(super) fn images(bundle: &Bundle) -> Result<Vec<Chosen>, Error> {
    let bytes = bundle.document("index.json")?.ok_or_else(|| bundle.missing("index.json"))?;
    let Node::Index(index) = document::parse_node("index.json", OCI_INDEX, &bytes)? else {
        return Err(Error::Document { what: "index.json".into(), problem: "is not an index".into() });
    };
    let mut chosen: Vec<Chosen> = Vec::new();
    let mut foreign = Vec::new();
    for descriptor in index.manifests.iter().filter(|descriptor| is_image(descriptor)) {
        let Some((found, manifest)) = best(bundle, descriptor, &mut foreign, 0)? else {
            continue;
        };
        let name = name(descriptor);
        match chosen.iter_mut().find(|chosen| chosen.descriptor.digest == found.digest) {
            Some(known) => known.names.extend(name.filter(|name| !known.names.contains(name))),
            None => chosen.push(Chosen { names: name.into_iter().collect(), descriptor: found, manifest }),
        }
    }
    if chosen.is_empty() {
        let found = if foreign.is_empty() { "none at all".into() } else { foreign.join(", ") };
        return Err(Error::Platform { what: bundle.display.clone(), wanted: show(&host()), found });
    }
    Ok(chosen)
}

/// The image behind a descriptor: itself, or the best of the index that it names. What does not fit is
/// noted in `foreign`.
fn best(
    bundle: &Bundle,
    descriptor: &Descriptor,
    foreign: &mut Vec<String>,
    depth: usize,
) -> Result<Option<(Descriptor, Manifest)>, Error> {
    if let Some(platform) = &descriptor.platform
        && fit(platform).is_none()
    {
        foreign.push(show(platform));
        return Ok(None);
    }
    let what = format!("blob {}", descriptor.digest);
    if depth > DEPTH_LIMIT {
        return Err(Error::Document { what, problem: "lies in too many indexes".into() });
    }
    let bytes = checked_document(bundle, descriptor)?;
    match document::parse_node(&what, &descriptor.media_type, &bytes)? {
        Node::Manifest(manifest) => one(bundle, descriptor, manifest, foreign),
        Node::Index(index) => best_of(bundle, index, foreign, depth + 1),
    }
}

fn best_of(
    bundle: &Bundle,
    index: Index,
    foreign: &mut Vec<String>,
    depth: usize,
) -> Result<Option<(Descriptor, Manifest)>, Error> {
    let mut fitting: Vec<Descriptor> = index.manifests.into_iter().filter(is_image).collect();
    // Stable: of two that fit alike, the first is meant.
    fitting.sort_by_key(|descriptor| std::cmp::Reverse(descriptor.platform.as_ref().map_or(Some(0), fit)));
    for descriptor in fitting {
        if let Some(found) = best(bundle, &descriptor, foreign, depth)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Checks a single image against this host. Other artifacts than images are passed over.
fn one(
    bundle: &Bundle,
    descriptor: &Descriptor,
    manifest: Manifest,
    foreign: &mut Vec<String>,
) -> Result<Option<(Descriptor, Manifest)>, Error> {
    if !matches!(manifest.config.media_type.as_str(), OCI_CONFIG | DOCKER_CONFIG) {
        return Ok(None);
    }
    let bytes = checked_document(bundle, &manifest.config)?;
    let file: ConfigFile = document::parse(&format!("blob {}", manifest.config.digest), &bytes)?;
    if fit(&file.platform).is_none() {
        foreign.push(show(&file.platform));
        return Ok(None);
    }
    let media_type = match descriptor.media_type.as_str() {
        "" => OCI_MANIFEST.to_owned(),
        known => known.to_owned(),
    };
    Ok(Some((Descriptor { media_type, ..descriptor.clone() }, manifest)))
}

/// Refuses an image that this host cannot run.
pub(super) fn check_platform(what: &str, platform: &Platform) -> Result<(), Error> {
    if fit(platform).is_some() {
        return Ok(());
    }
    Err(Error::Platform { what: what.to_owned(), wanted: show(&host()), found: show(platform) })
}

/// The digest of a descriptor.
pub(super) fn digest(descriptor: &Descriptor) -> Result<Digest, Error> {
    descriptor.digest.parse().map_err(|error: super::digest::NotADigest| Error::Document {
        what: format!("descriptor of {:?}", descriptor.media_type),
        problem: error.to_string(),
    })
}

/// A document that a descriptor names, its size and digest checked.
fn checked_document(bundle: &Bundle, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
    let expected = digest(descriptor)?;
    let what = format!("blob {expected}");
    let content = bundle.file(&expected.blob_path())?.ok_or_else(|| bundle.missing(&what))?;
    let bytes = read_document(what.clone(), content.open()?)?;
    if bytes.len() as u64 != descriptor.size {
        return Err(Error::Size { what, found: bytes.len() as u64, expected: descriptor.size });
    }
    let found = match expected.algorithm() {
        Algorithm::Sha256 => Digest::of(&bytes),
        algorithm @ Algorithm::Sha512 => {
            let hashed = Hashed::new(bytes.as_slice(), algorithm);
            hashed.finish().map_err(|source| Error::Read { what: what.clone(), source })?.0
        }
    };
    if found == expected { Ok(bytes) } else { Err(Error::Digest { what, found, expected }) }
}

/// Unknown media types are not errors; a descriptor without one is looked at.
fn is_image(descriptor: &Descriptor) -> bool {
    let known = [OCI_INDEX, DOCKER_INDEX, OCI_MANIFEST, DOCKER_MANIFEST, ""];
    known.contains(&descriptor.media_type.as_str())
}

/// The name of a descriptor. `org.opencontainers.image.ref.name` may be a bare tag, which names nothing.
fn name(descriptor: &Descriptor) -> Option<Reference> {
    let annotation = |key| descriptor.annotations.get(key);
    let full = annotation(NAME).and_then(|name| name.parse().ok());
    let reference = || annotation(REF_NAME).filter(|name| name.contains([':', '/']))?.parse().ok();
    full.or_else(reference)
}

fn host() -> Platform {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        "loongarch64" => "loong64",
        other => other,
    };
    Platform { os: "linux".into(), architecture: architecture.into(), variant: String::new() }
}

/// How well an image for a platform runs here: more is better, none is not at all. An image that does not
/// tell is given the benefit of the doubt.
fn fit(platform: &Platform) -> Option<u8> {
    let host = host();
    let agrees = |said: &str, own: &str| said.is_empty() || said == own;
    if !agrees(&platform.os, &host.os) || !agrees(&platform.architecture, &host.architecture) {
        return None;
    }
    match (host.architecture.as_str(), platform.variant.as_str()) {
        (_, "") | ("arm64", "v8") | ("amd64", "v1") => Some(9),
        ("arm", "v7") => Some(7),
        ("arm", "v6") => Some(6),
        ("arm", "v5") => Some(5),
        _ => None,
    }
}

fn show(platform: &Platform) -> String {
    let mut text = format!("{}/{}", platform.os, platform.architecture);
    if !platform.variant.is_empty() {
        text = format!("{text}/{}", platform.variant);
    }
    text
}
