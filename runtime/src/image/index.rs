//! Names and ids in the store's `index.json`.

use super::digest::Digest;
use super::document::{Descriptor, IMAGE_ID, Index, NAME, REF_NAME};
use super::error::Error;
use super::reference::{Reference, Version, is_hex};

/// The entry that a reference or id names.
pub(super) fn find<'a>(index: &'a Index, wanted: &str) -> Result<Option<&'a Descriptor>, Error> {
    let entries = || index.manifests.iter();
    if wanted.parse::<Digest>().is_ok() {
        let by_id = entries().find(|entry| id(entry).is_some_and(|id| id == wanted));
        return Ok(by_id.or_else(|| entries().find(|entry| entry.digest == wanted)));
    }
    let short = (4..=64).contains(&wanted.len()) && is_hex(wanted, wanted.len());
    match wanted.parse::<Reference>() {
        Err(source) if !short => {
            return Err(Error::Reference { name: wanted.to_owned(), source });
        }
        Err(_) => {}
        Ok(reference) => {
            let found = entries().find(|entry| names_it(entry, &reference));
            if found.is_some() || !short {
                return Ok(found);
            }
        }
    }
    let prefix = format!("sha256:{wanted}");
    let mut fitting = entries().filter(|entry| id(entry).is_some_and(|id| id.starts_with(&prefix)));
    let Some(first) = fitting.next() else {
        return Ok(None);
    };
    if fitting.any(|entry| id(entry) != id(first)) {
        return Err(Error::Ambiguous(wanted.to_owned()));
    }
    Ok(Some(first))
}

fn names_it(entry: &Descriptor, wanted: &Reference) -> bool {
    let Some(name) = name(entry) else { return false };
    match wanted.version() {
        Version::Tag(_) => *name == wanted.to_string(),
        Version::Digest(digest) => {
            let repository = name.parse().map(|name: Reference| name.repository());
            *name == wanted.to_string()
                || entry.digest == *digest && repository.is_ok_and(|name| name == wanted.repository())
        }
    }
}

/// An entry's normalised name.
pub(super) fn name(entry: &Descriptor) -> Option<&String> {
    entry.annotations.get(NAME)
}

/// The id of an entry's image.
pub(super) fn id(entry: &Descriptor) -> Option<&String> {
    entry.annotations.get(IMAGE_ID)
}

/// Gives an entry a name, or takes it away.
pub(super) fn named(mut entry: Descriptor, name: Option<&str>) -> Descriptor {
    for key in [NAME, REF_NAME] {
        match name {
            Some(name) => entry.annotations.insert(key.into(), name.into()),
            None => entry.annotations.remove(key),
        };
    }
    entry
}
