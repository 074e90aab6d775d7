//! One object, one file: read, and written whole.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use super::{Error, Kind, Object, Result};
use crate::store::file;

/// A name that is safe as the name of a file; names of objects are narrower still.
pub(super) fn check_name(name: &str) -> Result<()> {
    let safe = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    match name.bytes().all(safe) && !name.is_empty() && !name.starts_with('.') && name.len() <= 253 {
        true => Ok(()),
        false => Err(Error::Name { name: name.to_owned() }),
    }
}

/// The names of the entries of a directory, sorted; none if it is not there.
pub(super) fn names(directory: &Path) -> Result<Vec<String>> {
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

pub(super) fn read<T: Object>(path: &Path) -> Result<Option<T>> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("read", path)(error)),
    };
    let corrupt = |source| Error::Corrupt { kind: T::KIND.singular(), path: path.to_owned(), source };
    serde_json::from_slice(&text).map(Some).map_err(corrupt)
}

pub(super) fn write<T: Object>(path: &Path, kind: Kind, object: &T) -> Result<()> {
    let text = serde_json::to_vec_pretty(object).map_err(|error| io_error("encode", path)(error.into()))?;
    let directory = path.parent().unwrap_or(path);
    if let Some(kind_directory) = directory.parent() {
        make_directory(kind_directory, kind.directory_mode())?;
    }
    make_directory(directory, kind.directory_mode())?;
    file::write_whole(path, &text, kind.file_mode()).map_err(Error::from)
}

pub(super) fn make_directory(path: &Path, mode: u32) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(mode).create(path);
    made.map_err(io_error("make", path))
}

pub(super) fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { operation, path: path.to_owned(), source }
}
