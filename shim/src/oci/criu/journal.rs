//! What criu says of a failure: in its answer, and in its own log.

use std::fmt;
use std::path::{Path, PathBuf};

use super::Error;
use crate::oci::error::Error as Failure;

/// The names that criu's logs are given.
pub(crate) const DUMP: &str = "dump.log";
pub(crate) const RESTORE: &str = "restore.log";
/// How criu begins a line that tells an error.
const MARK: &str = "Error (";

/// Why criu failed, and where more about it is written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Journal {
    said: Option<String>,
    path: Option<PathBuf>,
}

impl Journal {
    /// What came with criu's answer.
    pub(super) fn told(message: Option<String>) -> Self {
        Self { said: message.filter(|text| !text.is_empty()), path: None }
    }

    /// Reads the log. Its last error counts before what was told.
    fn read(&mut self, path: PathBuf) {
        if let Ok(bytes) = std::fs::read(&path) {
            self.said = last_error(&String::from_utf8_lossy(&bytes)).or(self.said.take());
            self.path = Some(path);
        }
    }
}

impl fmt::Display for Journal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(said) = &self.said {
            write!(out, ": {said}")?;
        }
        match &self.path {
            Some(path) => write!(out, " (log file: {})", path.display()),
            None => Ok(()),
        }
    }
}

/// Adds to a failure of criu what its log in `directory` says.
pub(crate) fn explain(mut failure: Failure, directory: &Path, name: &str) -> Failure {
    if let Failure::Criu(Error::Failed { journal, .. } | Error::Gone { journal, .. }) = &mut failure {
        journal.read(directory.join(name));
    }
    failure
}

/// The last error of a log that says more than that all of it failed.
fn last_error(text: &str) -> Option<String> {
    let error = |line: &str| Some(line.get(line.find(MARK)?..)?.trim().to_owned());
    let errors = || text.lines().rev().filter_map(error);
    // The last ones tell that what holds the failed part failed too.
    let follows = |line: &str| line.ends_with("FAILED.") || line.contains(" failed with -");
    errors().find(|line| !follows(line)).or_else(|| errors().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_that_tells_something_counts() {
        let log = "(00.01) one\n(00.02) Error (criu/a.c:1): first\n(00.03) Error (criu/b.c:2): second\n\
            (00.03) Error (criu/c.c:3): Dump files (pid: 10) failed with -1\n(00.04) Unlock network\n(00.05) Error (criu/cr-dump.c:2128): Dumping FAILED.\n";
        assert_eq!(last_error(log).as_deref(), Some("Error (criu/b.c:2): second"));
        let log = "(00.05) Error (criu/cr-dump.c:2128): Dumping FAILED.\n";
        assert_eq!(last_error(log).as_deref(), Some("Error (criu/cr-dump.c:2128): Dumping FAILED."));
        assert_eq!(last_error("(00.01) all is well\n"), None);
    }

    #[test]
    fn a_failure_names_its_log() {
        let directory = std::env::temp_dir().join(format!("journal-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join(DUMP), "(00.02) Error (criu/a.c:1): why\n").unwrap();
        let failed = || Error::Failed { kind: "DUMP", errno: 5, journal: Journal::told(Some("told".into())) };
        let text = explain(failed().into(), &directory, DUMP).chain();
        let log = directory.join(DUMP);
        let wanted = "criu failed: type DUMP errno 5: Error (criu/a.c:1): why (log file: ";
        assert_eq!(text, format!("{wanted}{})", log.display()));
        std::fs::remove_dir_all(&directory).unwrap();
        let text = explain(failed().into(), &directory, DUMP).chain();
        assert_eq!(text, "criu failed: type DUMP errno 5: told");
    }
}
