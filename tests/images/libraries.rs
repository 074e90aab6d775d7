//! Which shared libraries programs load, asked of the dynamic loader that they will run with.
//!
//! So an image holds what its programs need and not every package that Debian names as a dependency.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::packages::{self, Tree};
use crate::{Result, failed};

/// Loaded by glibc itself when a thread is cancelled; no program names it.
const UNNAMED: &str = "libgcc_s.so.1";

/// The files of the dependencies that the programs among `files` (of the tree's own packages) load, links
/// included, as paths below the dependencies' root.
pub(crate) fn needed(tree: &Tree, files: &[PathBuf]) -> Result<BTreeSet<PathBuf>> {
    let mut needed = BTreeSet::new();
    let programs: Vec<&PathBuf> = files.iter().filter(|file| is_dynamic(&tree.own.join(file))).collect();
    if programs.is_empty() {
        return Ok(needed);
    }
    let directory = library_directory(&tree.dependencies)?;
    let loader = loader(&tree.dependencies.join(&directory))?;
    let path = [&tree.own, &tree.dependencies].map(|root| root.join(&directory).display().to_string());
    for program in programs {
        let mut command = Command::new(&loader);
        command.args(["--library-path", &path.join(":"), "--list"]).arg(tree.own.join(program));
        for line in packages::run(&mut command)?.lines() {
            let Some((name, found)) = line.trim().split_once(" => ") else {
                continue;
            };
            let found = found.split(" (").next().unwrap_or_default();
            if found == "not found" {
                return Err(format!("{} needs {name}, which no package has", program.display()));
            }
            if let Ok(library) = Path::new(found).strip_prefix(&tree.dependencies) {
                follow(&tree.dependencies, library, &mut needed)?;
            }
        }
    }
    if let Ok(loader) = loader.strip_prefix(&tree.dependencies) {
        needed.insert(loader.to_owned());
    }
    let unnamed = directory.join(UNNAMED);
    if tree.dependencies.join(&unnamed).exists() {
        follow(&tree.dependencies, &unnamed, &mut needed)?;
    }
    needed.extend(program_interpreter(&tree.dependencies)?);
    Ok(needed)
}

/// `usr/lib/x86_64-linux-gnu` and its like.
fn library_directory(root: &Path) -> Result<PathBuf> {
    let directory = PathBuf::from("usr/lib").join(format!("{}-linux-gnu", std::env::consts::ARCH));
    if root.join(&directory).is_dir() {
        Ok(directory)
    } else {
        Err(format!("libc6 has no {}", directory.display()))
    }
}

fn loader(directory: &Path) -> Result<PathBuf> {
    let entries = std::fs::read_dir(directory).map_err(failed("list", directory))?;
    let mut names = entries.filter_map(|entry| entry.ok()).map(|entry| entry.path());
    let is_loader =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ld-linux"));
    names.find(is_loader).ok_or_else(|| format!("{} has no dynamic loader", directory.display()))
}

/// The name under which programs ask for the loader, a link in `lib` or `lib64`.
fn program_interpreter(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for directory in ["usr/lib", "usr/lib64"] {
        let path = root.join(directory);
        for entry in std::fs::read_dir(&path).map_err(failed("list", &path))? {
            let name = entry.map_err(failed("list", &path))?.file_name();
            if name.to_string_lossy().starts_with("ld-linux") {
                found.push(Path::new(directory).join(name));
            }
        }
    }
    Ok(found)
}

/// Adds a file and whatever its links lead to.
fn follow(root: &Path, file: &Path, needed: &mut BTreeSet<PathBuf>) -> Result<()> {
    // `lib` is a link to `usr/lib` that the image has anyway.
    let mut file = match file.strip_prefix("lib") {
        Ok(rest) => Path::new("usr/lib").join(rest),
        Err(_) => file.to_owned(),
    };
    while needed.insert(file.clone()) {
        let Ok(target) = std::fs::read_link(root.join(&file)) else {
            break;
        };
        file.set_file_name(target.file_name().ok_or("a library links to a directory")?);
    }
    Ok(())
}

fn is_dynamic(path: &Path) -> bool {
    let magic = || -> std::io::Result<[u8; 4]> {
        let mut magic = [0; 4];
        std::fs::File::open(path)?.read_exact(&mut magic)?;
        Ok(magic)
    };
    let regular = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file());
    regular && magic().is_ok_and(|magic| magic == *b"\x7fELF")
}
