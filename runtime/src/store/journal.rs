//! The journal of a pod's events: one JSON line per write, appended and synced before anyone is told.
//!
//! A counted event is written again under its name; the newest line of a name is the row. A torn last
//! line (the machine went down in the middle) is cut off.
//!
//! Rows are kept for an hour after their last occurrence, as the API does (reference 9.1), and a journal with many more lines
//! than rows is written anew: whole, beside the old one, and moved over it.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::file::{self, FileError};
use crate::core::status::Event;

/// How long after its last occurrence an event is kept.
const LIFE: SignedDuration = SignedDuration::from_hours(1);
/// Lines for each row, and beside them, from which on a journal is written anew.
const LINES_PER_ROW: usize = 4;
const SPARE_LINES: usize = 64;

/// Whether an event is still told of.
#[must_use]
pub fn is_kept(event: &Event, now: Timestamp) -> bool {
    now.duration_since(event.last_timestamp) <= LIFE
}

/// Appends, and keeps the newest row of each event.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    /// Bytes of whole lines.
    length: u64,
    /// How many lines that are.
    lines: usize,
    rows: Vec<Arc<Event>>,
    index: HashMap<String, usize>,
}

impl Journal {
    /// Opens a pod's journal, or makes it, and reads what it holds.
    ///
    /// # Errors
    /// Names the file.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let text = file::read_if_there(path)?.unwrap_or_default();
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .and_then(|file| file.set_len(whole as u64).map(|()| file))
            .map_err(|error| FileError::new("open", path, error))?;
        let (length, lines) = (whole as u64, text[..whole].lines().count());
        let mut journal =
            Self { path: path.to_owned(), file, length, lines, rows: Vec::new(), index: HashMap::new() };
        for event in text[..whole].lines().filter_map(|line| serde_json::from_str(line).ok()) {
            journal.keep(Arc::new(event));
        }
        Ok(journal)
    }

    /// Writes events, in order, with one sync.
    ///
    /// # Errors
    /// Names the file; nothing of the batch counts as recorded then.
    pub fn append(&mut self, events: &[Arc<Event>]) -> Result<(), FileError> {
        if events.is_empty() {
            return Ok(());
        }
        let lines = written(events);
        let written = self.file.write_all(&lines).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // What a full disk took of it would stand before the next line.
            return Err(match self.file.set_len(self.length) {
                Ok(()) => FileError::new("append to", &self.path, error),
                Err(error) => FileError::new("cut back", &self.path, error),
            });
        }
        self.length += lines.len() as u64;
        self.lines += events.len();
        for event in events {
            self.keep(event.clone());
        }
        Ok(())
    }

    /// Forgets events that are too old, and writes the journal anew when it has become much longer than what it tells.
    ///
    /// # Errors
    /// Names the file; the journal is as it was then.
    pub fn tidy(&mut self, now: Timestamp) -> Result<(), FileError> {
        if self.rows.iter().any(|event| !is_kept(event, now)) {
            self.rows.retain(|event| is_kept(event, now));
            self.index = self.rows.iter().enumerate().map(|(row, event)| (event.name.clone(), row)).collect();
        }
        if self.lines <= self.rows.len() * LINES_PER_ROW + SPARE_LINES {
            return Ok(());
        }
        let lines = written(&self.rows);
        self.file = self.replace(&lines)?;
        (self.length, self.lines) = (lines.len() as u64, self.rows.len());
        Ok(())
    }

    /// Puts a file with these lines in the journal's place; the file, to append to. It is the one that was written, so that
    /// nothing is ever appended to a file that has no name any more.
    fn replace(&self, lines: &[u8]) -> Result<File, FileError> {
        let draft = file::temporary(&self.path);
        let write = || {
            // A crash may have left one.
            if draft.exists() {
                std::fs::remove_file(&draft)?;
            }
            let mut file = OpenOptions::new().append(true).create_new(true).open(&draft)?;
            file.write_all(lines)?;
            file.sync_all()?;
            Ok(file)
        };
        let file = write().map_err(|error| FileError::new("write", &draft, error))?;
        std::fs::rename(&draft, &self.path).map_err(|error| FileError::new("replace", &self.path, error))?;
        Ok(file)
    }

    /// The newest row of each event, oldest first by first occurrence.
    #[must_use]
    pub fn rows(&self) -> &[Arc<Event>] {
        &self.rows
    }

    fn keep(&mut self, event: Arc<Event>) {
        match self.index.get(&event.name) {
            Some(&row) => self.rows[row] = event,
            None => {
                self.index.insert(event.name.clone(), self.rows.len());
                self.rows.push(event);
            }
        }
    }
}

/// Events as lines.
fn written(events: &[Arc<Event>]) -> Vec<u8> {
    let mut lines = Vec::new();
    for event in events {
        serde_json::to_writer(&mut lines, event.as_ref()).expect("an event has only string keys");
        lines.push(b'\n');
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::status::EventType;

    fn event(name: &str, count: u32) -> Arc<Event> {
        Arc::new(Event {
            name: name.into(),
            kind: EventType::Normal,
            reason: "Started".into(),
            message: "Container started".into(),
            field_path: String::new(),
            source: "kubelet".into(),
            count,
            first_timestamp: jiff::Timestamp::UNIX_EPOCH,
            last_timestamp: jiff::Timestamp::UNIX_EPOCH,
        })
    }

    fn at(name: &str, count: u32, second: i64) -> Arc<Event> {
        let last_timestamp = Timestamp::from_second(second).unwrap();
        Arc::new(Event { last_timestamp, ..(*event(name, count)).clone() })
    }

    #[test]
    fn an_event_is_forgotten_an_hour_after_it_was_seen_last() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(&dir.path().join("journal")).unwrap();
        let seen = |journal: &Journal| -> Vec<_> { journal.rows().iter().map(|row| row.count).collect() };
        journal.append(&[at("a", 1, 0), at("b", 2, 0), at("a", 3, 1000)]).unwrap();
        journal.tidy(Timestamp::from_second(3600).unwrap()).unwrap();
        assert_eq!(seen(&journal), [3, 2]);
        journal.tidy(Timestamp::from_second(3601).unwrap()).unwrap();
        assert_eq!(seen(&journal), [3]);
        journal.append(&[at("b", 4, 3601), at("a", 5, 3601)]).unwrap();
        assert_eq!(seen(&journal), [5, 4]);
    }

    #[test]
    fn a_long_journal_is_written_anew_and_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        std::fs::write(file::temporary(&path), "half a jour").unwrap();
        let mut journal = Journal::open(&path).unwrap();
        for count in 0..1000 {
            journal.append(&[event("a", count), event("b", count)]).unwrap();
            journal.tidy(Timestamp::UNIX_EPOCH).unwrap();
        }
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= 2 * LINES_PER_ROW + SPARE_LINES, "{lines}");
        assert_eq!(Journal::open(&path).unwrap().rows(), [event("a", 999), event("b", 999)]);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_counted_event_is_one_row_and_a_torn_line_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut journal = Journal::open(&path).unwrap();
        journal.append(&[event("a", 1), event("b", 1), event("a", 2)]).unwrap();
        let mut text = std::fs::read(&path).unwrap();
        text.extend_from_slice(b"{\"name\":\"torn");
        std::fs::write(&path, text).unwrap();

        let mut again = Journal::open(&path).unwrap();
        assert_eq!(again.rows(), [event("a", 2), event("b", 1)]);
        again.append(&[event("c", 1)]).unwrap();
        assert_eq!(Journal::open(&path).unwrap().rows().len(), 3);
    }
}
