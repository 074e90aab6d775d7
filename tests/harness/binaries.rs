//! Where the built programs, the images and the repository's own files are.

use std::path::{Path, PathBuf};

/// The directory with `hull`, `hull-shim`, `hull-oci` and `hull-pause`: `HULL_TEST_BINARIES`, or the
/// one that this test program was built into.
///
/// # Panics
/// When the running program has no path; nothing can be tested then.
#[must_use]
pub fn directory() -> PathBuf {
    if let Some(given) = std::env::var_os("HULL_TEST_BINARIES") {
        return given.into();
    }
    let own = std::env::current_exe().expect("a running program has a path");
    let beside = own.parent().expect("a program lies in a directory");
    // Tests are built into `deps` below the directory of the binaries.
    if beside.ends_with("deps") { beside.parent().unwrap_or(beside).to_owned() } else { beside.to_owned() }
}

/// The path of one program, or why it is not there.
pub fn program(name: &str) -> Result<PathBuf, String> {
    let path = directory().join(name);
    if path.exists() { Ok(path) } else { Err(format!("{} is missing; try: make debug", path.display())) }
}

/// The top of the repository.
#[must_use]
pub fn repository() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests)
}

/// A manifest of `demo/`.
#[must_use]
pub fn manifest(name: &str) -> PathBuf {
    repository().join("demo").join(name)
}

/// The image archives that `make images` made, in order of their names.
pub fn image_archives() -> Result<Vec<PathBuf>, String> {
    let directory = std::env::var_os("HULL_TEST_IMAGES")
        .map_or_else(|| repository().join("target/images"), PathBuf::from);
    let entries = std::fs::read_dir(&directory)
        .map_err(|error| format!("{}: {error}; try: make images", directory.display()))?;
    let mut archives: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "tar"))
        .collect();
    archives.sort();
    if archives.is_empty() {
        return Err(format!("{} holds no image; try: make images", directory.display()));
    }
    Ok(archives)
}
