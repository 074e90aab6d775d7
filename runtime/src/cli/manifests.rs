//! The manifests that a command line names: files, directories and standard input.
//!
//! As with kubectl, what cannot be read does not keep the rest back: it is told, and the command goes on and fails in
//! the end. Only with a path that does not exist nothing is done at all.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::accept::{self, Object};
use super::context::Context;
use super::{Error, Result};

/// Everything that can be read of the files, and of directories below directories where `recursive`; each error is reported.
/// `read` makes objects of a text and the name of its file.
pub(super) fn readable<T>(
    context: &Context,
    (files, recursive): (&[PathBuf], bool),
    read: fn(&str, &str) -> Vec<std::result::Result<T, accept::Error>>,
) -> Result<Vec<T>> {
    let mut found = Vec::new();
    let mut failed = false;
    for each in contents(files, recursive, read)? {
        match each {
            Ok(object) => found.push(object),
            Err(error) => {
                context.report(&error);
                failed = true;
            }
        }
    }
    if found.is_empty() && !failed {
        return Err(Error::Usage("no objects passed to apply".to_owned()));
    }
    Ok(found)
}

/// Everything, or the first error.
pub(super) fn all(files: &[PathBuf], recursive: bool) -> Result<Vec<Object>> {
    let objects = contents(files, recursive, accept::read)?.into_iter().collect::<Result<Vec<_>>>()?;
    if objects.is_empty() {
        return Err(Error::Usage("no objects passed to apply".to_owned()));
    }
    Ok(objects)
}

fn contents<T>(
    files: &[PathBuf],
    recursive: bool,
    read: fn(&str, &str) -> Vec<std::result::Result<T, accept::Error>>,
) -> Result<Vec<Result<T>>> {
    if let Some(missing) = files.iter().find(|file| *file != Path::new("-") && !file.exists()) {
        return Err(Error::Usage(format!("the path {:?} does not exist", missing.display().to_string())));
    }
    let mut found = Vec::new();
    for path in files.iter().flat_map(|file| manifests(file, recursive)) {
        match path.and_then(|path| text(&path)) {
            Ok((text, origin)) => {
                found.extend(read(&text, &origin).into_iter().map(|object| object.map_err(Error::from)));
            }
            Err(error) => found.push(Err(error)),
        }
    }
    Ok(found)
}

/// What a file holds, and what it is called.
fn text(path: &Path) -> Result<(String, String)> {
    let failed = |source| Error::File { operation: "read", path: path.to_owned(), source };
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(failed)?;
        return Ok((text, "STDIN".to_owned()));
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    Ok((text, path.display().to_string()))
}

/// A file itself; of a directory its manifests, by name.
fn manifests(path: &Path, recursive: bool) -> Vec<Result<PathBuf>> {
    if path == Path::new("-") || !path.is_dir() {
        return vec![Ok(path.to_owned())];
    }
    let entries = match entries(path) {
        Ok(entries) => entries,
        Err(source) => return vec![Err(Error::File { operation: "read", path: path.to_owned(), source })],
    };
    let mut found = Vec::new();
    for entry in entries {
        let manifest = entry.extension().is_some_and(|end| end == "yaml" || end == "yml" || end == "json");
        if entry.is_dir() && recursive {
            found.extend(manifests(&entry, true));
        } else if manifest && !entry.is_dir() {
            found.push(Ok(entry));
        }
    }
    found
}

fn entries(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(directory)?.map(|entry| entry.map(|entry| entry.path()));
    let mut entries = entries.collect::<std::io::Result<Vec<_>>>()?;
    entries.sort();
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_gives_its_manifests_by_name() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("sub")).unwrap();
        for name in ["b.yaml", "a.yml", "c.json", "README.md", "sub/d.yaml"] {
            std::fs::write(root.path().join(name), "").unwrap();
        }
        let names = |recursive| -> Vec<String> {
            let found = manifests(root.path(), recursive).into_iter().map(Result::unwrap);
            found.map(|path| path.strip_prefix(root.path()).unwrap().display().to_string()).collect()
        };
        assert_eq!(names(false), ["a.yml", "b.yaml", "c.json"]);
        assert_eq!(names(true), ["a.yml", "b.yaml", "c.json", "sub/d.yaml"]);
    }
}
