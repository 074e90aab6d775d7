//! Files of a volume, written all at once, as the kubelet's atomic writer does.
//!
//! ```text
//! <volume>/..2026_11_22_10_00_00.123/   the files
//! <volume>/..data -> ..2026_11_22_10_00_00.123
//! <volume>/key    -> ..data/key
//! ```
//! A new version is a new directory, and renaming `..data` onto the old link shows all of it at one instant. Containers
//! see these volumes read-only, so that nobody else changes them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::step::File;
use super::{Failed, failed};

const DATA: &str = "..data";
const DATA_DRAFT: &str = "..data_tmp";

/// Makes `volume` show exactly `files`.
pub(super) fn write(volume: &Path, files: &[File], group: Option<u32>, now: Timestamp) -> Result<(), Failed> {
    let current = current(volume);
    let fresh = match &current {
        Some(name) if holds(&volume.join(name), files, group.is_some()) => name.clone(),
        Some(_) | None => {
            let name = write_version(volume, files, group, now)?;
            let draft = volume.join(DATA_DRAFT);
            forget(&draft)?;
            std::os::unix::fs::symlink(&name, &draft).map_err(failed("symlink", &draft))?;
            std::fs::rename(&draft, volume.join(DATA)).map_err(failed("rename", volume.join(DATA)))?;
            name
        }
    };
    let shown: BTreeSet<&str> = files.iter().filter_map(|file| file.path.split('/').next()).collect();
    for name in &shown {
        link(volume, name)?;
    }
    clean(volume, &fresh, &shown)
}

/// The data directory that is shown now.
fn current(volume: &Path) -> Option<String> {
    let name = std::fs::read_link(volume.join(DATA)).ok()?.into_os_string().into_string().ok()?;
    (name.starts_with("..") && !name.contains('/')).then_some(name)
}

/// Mode of a file: its group may read it if it has one of its own.
fn mode_of(file: &File, grouped: bool) -> u32 {
    if grouped { file.mode | 0o440 } else { file.mode }
}

/// Whether a data directory holds these files and no others.
fn holds(directory: &Path, files: &[File], grouped: bool) -> bool {
    let wanted: BTreeMap<PathBuf, (u32, &[u8])> = files
        .iter()
        .map(|file| (PathBuf::from(&file.path), (mode_of(file, grouped), file.content.as_bytes())))
        .collect();
    let Ok(found) = walk(directory) else { return false };
    found.len() == wanted.len()
        && found.iter().all(|path| {
            let full = directory.join(path);
            let mode = std::fs::symlink_metadata(&full).map(|found| found.permissions().mode() & 0o777);
            wanted.get(path).is_some_and(|(wanted_mode, content)| {
                mode.is_ok_and(|mode| mode == *wanted_mode)
                    && std::fs::read(&full).is_ok_and(|bytes| bytes == *content)
            })
        })
}

/// Everything below a directory that is not a directory, by relative path.
fn walk(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(root.join(&directory))? {
            let entry = entry?;
            let path = directory.join(entry.file_name());
            if entry.file_type()?.is_dir() { open.push(path) } else { found.push(path) }
        }
    }
    Ok(found)
}

/// Writes a new data directory and gives its name.
fn write_version(
    volume: &Path,
    files: &[File],
    group: Option<u32>,
    now: Timestamp,
) -> Result<String, Failed> {
    let (name, directory) = new_version(volume, now)?;
    let directory_mode = if group.is_some() { 0o2775 } else { 0o755 };
    settle(&directory, directory_mode, group)?;
    for file in files {
        let path = directory.join(&file.path);
        make_parents(&directory, &file.path, directory_mode, group)?;
        let mut made = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed("create", &path))?;
        made.write_all(file.content.as_bytes()).map_err(failed("write", &path))?;
        settle(&path, mode_of(file, group.is_some()), group)?;
    }
    Ok(name)
}

/// Makes a directory named by the time, and by a number that nobody took.
fn new_version(volume: &Path, now: Timestamp) -> Result<(String, PathBuf), Failed> {
    let stamp = now.strftime("..%Y_%m_%d_%H_%M_%S");
    let mut number = u64::try_from(now.subsec_nanosecond()).unwrap_or(0);
    loop {
        let name = format!("{stamp}.{number}");
        let path = volume.join(&name);
        match DirBuilder::new().mode(0o755).create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            made => {
                return made.map(|()| (name, path.clone())).map_err(failed("mkdir", &path));
            }
        }
    }
}

fn make_parents(root: &Path, path: &str, mode: u32, group: Option<u32>) -> Result<(), Failed> {
    let mut directory = root.to_owned();
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    for part in parts {
        directory.push(part);
        match DirBuilder::new().mode(0o755).create(&directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => {
                made.map_err(failed("mkdir", &directory))?;
                settle(&directory, mode, group)?;
            }
        }
    }
    Ok(())
}

/// Gives group and mode, in this order, since a change of the group may clear bits of the mode.
fn settle(path: &Path, mode: u32, group: Option<u32>) -> Result<(), Failed> {
    if let Some(group) = group {
        std::os::unix::fs::lchown(path, None, Some(group)).map_err(failed("chown", path))?;
    }
    std::fs::set_permissions(path, Permissions::from_mode(mode)).map_err(failed("chmod", path))
}

fn forget(path: &Path) -> Result<(), Failed> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Shows the first part of a file's path.
fn link(volume: &Path, name: &str) -> Result<(), Failed> {
    let (path, target) = (volume.join(name), Path::new(DATA).join(name));
    if std::fs::read_link(&path).is_ok_and(|found| found == target) {
        return Ok(());
    }
    forget(&path)?;
    std::os::unix::fs::symlink(target, &path).map_err(failed("symlink", &path))
}

/// Removes what is shown no more: links to keys that are gone, and data directories of before (and of a crash).
fn clean(volume: &Path, fresh: &str, shown: &BTreeSet<&str>) -> Result<(), Failed> {
    for entry in std::fs::read_dir(volume).map_err(failed("read", volume))? {
        let entry = entry.map_err(failed("read", volume))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name == DATA || name == fresh || shown.contains(name.as_ref()) {
            continue;
        }
        hull_shim::tree::remove(&entry.path()).map_err(failed("remove", entry.path()))?;
    }
    Ok(())
}
