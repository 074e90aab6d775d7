//! Where criu is, for cases with checkpoints: the one that `tests/setup --criu` fetched, or the system's if that works on
//! this kernel.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();

/// `PATH` with a criu in it that works here, or why there is none.
pub fn path() -> Result<OsString, String> {
    let own = std::env::var_os("PATH").unwrap_or_default();
    let directory = program()?.parent().map(Path::to_owned).unwrap_or_default();
    let all = std::iter::once(directory).chain(std::env::split_paths(&own));
    std::env::join_paths(all).map_err(|error| error.to_string())
}

/// A criu that works here, or why there is none.
pub fn program() -> Result<PathBuf, String> {
    FOUND.get_or_init(find).clone()
}

/// Whether this is User-mode Linux, whose processes have other registers and mappings than criu knows.
#[must_use]
pub fn is_foreign_machine() -> bool {
    std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| text.contains("User Mode Linux"))
}

/// Whether criu and the kernel have a feature, by criu's name for it.
#[must_use]
pub fn has(feature: &str) -> bool {
    program().is_ok_and(|criu| passes(&criu, &["check", "--feature", feature]))
}

fn find() -> Result<PathBuf, String> {
    let cache = std::env::var_os("HULL_CRIU_CACHE").map(PathBuf::from).or_else(default_cache);
    let fetched = cache.map(|cache| cache.join("bin/criu"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = std::env::split_paths(&path).map(|place| place.join("criu"));
    let mut there = fetched.into_iter().chain(system).filter(|criu| criu.exists());
    there
        .find(|criu| passes(criu, &["check"]))
        .ok_or_else(|| "no criu that works on this kernel; try: tests/setup --criu".to_owned())
}

fn default_cache() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").filter(|it| !it.is_empty()).map(PathBuf::from);
    let home = || Some(Path::new(&std::env::var_os("HOME")?).join(".cache"));
    Some(cache.or_else(home)?.join("hull-criu"))
}

fn passes(criu: &Path, arguments: &[&str]) -> bool {
    let mut command = Command::new(criu);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
