//! The journal of a pod's events: one JSON line per write, appended and synced before anyone is told.
//!
//! A counted event is written again under its name; the newest line of a name is the row. A torn last
//! line (the machine went down in the middle) is cut off.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::file::{self, FileError};
use crate::core::status::Event;

/// Appends, and keeps the newest row of each event.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    /// Bytes of whole lines.
    length: u64,
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
        let length = whole as u64;
        let mut journal =
            Self { path: path.to_owned(), file, length, rows: Vec::new(), index: HashMap::new() };
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
        let mut lines = Vec::new();
        for event in events {
            serde_json::to_writer(&mut lines, event.as_ref()).expect("an event has only string keys");
            lines.push(b'\n');
        }
        let written = self.file.write_all(&lines).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // What a full disk took of it would stand before the next line.
            return Err(match self.file.set_len(self.length) {
                Ok(()) => FileError::new("append to", &self.path, error),
                Err(error) => FileError::new("cut back", &self.path, error),
            });
        }
        self.length += lines.len() as u64;
        for event in events {
            self.keep(event.clone());
        }
        Ok(())
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
