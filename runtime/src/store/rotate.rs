//! The host task that rotates a log as the kubelet does (reference 10.4): `0.log` becomes `0.log.20240102-030405`, those from
//! before are packed, and the oldest go. Who writes the log opens it anew then.
//!
//! A task that is killed leaves nothing that the next one does not see to: a half packed file has a name of its own, and one
//! that is there packed and unpacked is packed.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Files of one log: the current one, the newest before it as it is, and the rest packed.
const FILES: usize = 5;
const PACKED: &str = ".gz";
const UNFINISHED: &str = ".tmp";

/// The input of `hull task log-rotate`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotateInput {
    /// The current file.
    pub log: PathBuf,
    /// The wall clock, for its new name.
    pub now: Timestamp,
}

/// What could not be done.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {}", path.display())]
pub struct Error {
    operation: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl Error {
    fn new(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self { operation, path, source }
    }
}

/// What is to become of the files beside a log, by name.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    removed: Vec<String>,
    packed: Vec<String>,
}

impl Plan {
    /// For the names in the directory of the log `log`. Times in names sort as they followed each other.
    fn new(log: &str, names: &[String]) -> Self {
        let mut rotated: Vec<&str> = names.iter().filter_map(|name| of_log(log, name)).collect();
        rotated.sort_unstable();
        let is_left =
            |name: &&str| name.ends_with(UNFINISHED) || rotated.contains(&format!("{name}{PACKED}").as_str());
        let (left, whole): (Vec<&str>, Vec<&str>) = rotated.iter().copied().partition(is_left);
        // The current one and the one that takes its place are two.
        let (oldest, kept) = whole.split_at(whole.len().saturating_sub(FILES - 2));
        let owned = |names: &[&str]| names.iter().map(|name| format!("{log}.{name}")).collect::<Vec<_>>();
        let unpacked: Vec<&str> = kept.iter().copied().filter(|name| !name.ends_with(PACKED)).collect();
        Self { removed: [owned(&left), owned(oldest)].concat(), packed: owned(&unpacked) }
    }
}

/// What follows the name of a log in that of one of its rotated files.
fn of_log<'a>(log: &str, name: &'a str) -> Option<&'a str> {
    name.strip_prefix(log)?.strip_prefix('.')
}

/// Rotates a log.
///
/// # Errors
/// A file cannot be packed, removed or renamed; what was done before stays done.
pub fn rotate(input: &RotateInput) -> Result<(), Error> {
    let RotateInput { log, now } = input;
    let names = siblings(log)?;
    let aside = format!("{}.{}", file_name(log), now.strftime("%Y%m%d-%H%M%S"));
    if names.iter().any(|name| name.strip_suffix(PACKED).unwrap_or(name) == aside) {
        return Err(Error::new("put aside", log)(io::ErrorKind::AlreadyExists.into()));
    }
    let plan = Plan::new(&file_name(log), &names);
    for name in &plan.removed {
        remove(&log.with_file_name(name))?;
    }
    for name in &plan.packed {
        pack(&log.with_file_name(name))?;
    }
    fs::rename(log, log.with_file_name(aside)).map_err(Error::new("put aside", log))
}

/// Removes a log with all that was rotated of it.
///
/// # Errors
/// The first file that stays.
pub fn remove_all(log: &Path) -> Result<(), Error> {
    let name = file_name(log);
    for each in siblings(log)?.iter().filter(|each| of_log(&name, each).is_some()) {
        remove(&log.with_file_name(each))?;
    }
    remove(log)
}

fn file_name(log: &Path) -> String {
    log.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The names in a log's directory; none without one.
fn siblings(log: &Path) -> Result<Vec<String>, Error> {
    let directory = log.parent().unwrap_or(Path::new("/"));
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(Error::new("list", directory))?,
    };
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    names.collect::<io::Result<_>>().map_err(Error::new("list", directory))
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::new("remove", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Packs a file and removes it: there is always one of the two, whole.
fn pack(path: &Path) -> Result<(), Error> {
    let named = |ending: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        PathBuf::from(name)
    };
    let draft = named(UNFINISHED);
    let packed = || -> io::Result<()> {
        let mut source = File::open(path)?;
        let mode = source.metadata()?.permissions();
        let mut gzip = GzEncoder::new(File::create(&draft)?, Compression::default());
        io::copy(&mut source, &mut gzip)?;
        let file = gzip.finish()?;
        file.set_permissions(mode)?;
        file.sync_all()?;
        fs::rename(&draft, named(PACKED))
    };
    packed().map_err(Error::new("pack", path))?;
    remove(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn plan(names: &[&str]) -> (Vec<String>, Vec<String>) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let Plan { removed, packed } = Plan::new("0.log", &names);
        (removed, packed)
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names = siblings(&directory.join("x")).unwrap();
        names.sort_unstable();
        names
    }

    #[test]
    fn the_newest_three_are_kept_and_packed_and_the_rest_goes() {
        assert_eq!(plan(&["0.log", "1.log", "1.log.20240101-000000"]), (vec![], vec![]));
        let found = plan(&["0.log", "0.log.3", "0.log.2.gz", "0.log.4", "0.log.1.gz", "10.log.0"]);
        assert_eq!(found, (vec!["0.log.1.gz".to_owned()], vec!["0.log.3".to_owned(), "0.log.4".to_owned()]));
    }

    #[test]
    fn what_a_killed_task_left_is_cleared_away() {
        let found = plan(&["0.log.1", "0.log.1.gz", "0.log.2", "0.log.2.tmp"]);
        let removed = ["0.log.1", "0.log.2.tmp"].map(str::to_owned);
        assert_eq!(found, (removed.to_vec(), vec!["0.log.2".to_owned()]));
    }

    #[test]
    fn a_log_that_is_rotated_again_and_again_has_five_files() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("0.log");
        for second in 0..8 {
            fs::write(&log, format!("text {second}")).unwrap();
            let now = format!("2024-01-02T03:04:0{second}Z").parse().unwrap();
            rotate(&RotateInput { log: log.clone(), now }).unwrap();
        }
        fs::write(&log, "now").unwrap();
        let of = |second: u32, ending: &str| format!("0.log.20240102-03040{second}{ending}");
        let expected = ["0.log".to_owned(), of(4, ".gz"), of(5, ".gz"), of(6, ".gz"), of(7, "")];
        assert_eq!(names(directory.path()), expected);
        let mut text = String::new();
        let packed = File::open(directory.path().join(of(5, ".gz"))).unwrap();
        flate2::read::GzDecoder::new(packed).read_to_string(&mut text).unwrap();
        assert_eq!(text, "text 5");
        // Twice in a second nothing is replaced.
        let now = "2024-01-02T03:04:07Z".parse().unwrap();
        assert!(rotate(&RotateInput { log: log.clone(), now }).is_err());
        assert_eq!(fs::read_to_string(&log).unwrap(), "now");
        fs::write(directory.path().join("10.log"), "").unwrap();
        remove_all(&log).unwrap();
        assert_eq!(names(directory.path()), ["10.log"]);
        remove_all(&directory.path().join("none/0.log")).unwrap();
    }
}
