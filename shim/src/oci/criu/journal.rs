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
/// An error of every criu that may not raise its own limits, after which it goes on.
const HARMLESS: &str = "rlimit: Can't setup RLIMIT_NOFILE for self";
/// So many errors are shown.
const MOST: usize = 3;

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

    /// Reads the log. Its last errors count before what was told.
    fn read(&mut self, path: PathBuf) {
        if let Ok(bytes) = std::fs::read(&path) {
            self.said = last_errors(&String::from_utf8_lossy(&bytes)).or(self.said.take());
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

/// The last errors of a log before it says that all of it failed: the cause is among them, but not always the last. Each
/// once.
fn last_errors(text: &str) -> Option<String> {
    let end = ["Dumping FAILED.", "Restoring FAILED."].iter().find_map(|end| text.rfind(end));
    let before = text.get(..end.unwrap_or(text.len())).unwrap_or(text);
    let mut last: Vec<&str> = Vec::new();
    for line in before.lines().rev() {
        let Some(error) = line.find(MARK).and_then(|at| line.get(at..)) else { continue };
        // Of the very last line only its head is left.
        let Some((_, told)) = error.split_once("): ").filter(|(_, told)| !told.is_empty()) else { continue };
        if !last.contains(&told) && last.len() < MOST && !told.starts_with(HARMLESS) {
            last.push(told.trim());
        }
    }
    last.reverse();
    (!last.is_empty()).then(|| last.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_errors_are_told_in_their_order() {
        let log = "(00.01) one\n(00.01) Error (criu/0.c:1): early\n(00.02) Error (criu/a.c:1): first\n\
            (00.03)      1: Error (criu/b.c:2): second\n(00.03)      1: Error (criu/b.c:2): second\n\
            Error (criu/c.c:3): third\n(00.04) Unlock network\n\
            (00.05) Error (criu/cr-dump.c:2128): Dumping FAILED.\n(00.06) Error (criu/d.c:4): after\n";
        assert_eq!(last_errors(log).as_deref(), Some("first; second; third"));
        assert_eq!(last_errors("(00.05) Error (criu/cr-dump.c:2128): Dumping FAILED.\n"), None);
        assert_eq!(last_errors("(00.01) all is well\n"), None);
        assert_eq!(last_errors("(00.01) Error (criu/a.c:1): alone\n").as_deref(), Some("alone"));
    }

    #[test]
    fn a_failure_names_its_log() {
        let directory = std::env::temp_dir().join(format!("journal-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join(DUMP), "(00.02) Error (criu/a.c:1): why\n").unwrap();
        let failed = || Error::Failed { kind: "DUMP", errno: 5, journal: Journal::told(Some("told".into())) };
        let text = explain(failed().into(), &directory, DUMP).chain();
        let log = directory.join(DUMP);
        let wanted = "criu failed: type DUMP errno 5: why (log file: ";
        assert_eq!(text, format!("{wanted}{})", log.display()));
        std::fs::remove_dir_all(&directory).unwrap();
        let text = explain(failed().into(), &directory, DUMP).chain();
        assert_eq!(text, "criu failed: type DUMP errno 5: told");
    }
}
