//! The file that the output of an instance is written to.

use std::fs::{DirEntry, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::transit::{self, Place};
use crate::harmless;

/// A log that is appended to.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    /// None where it could not be opened: that is tried again with the next output.
    file: Option<File>,
    /// How many bytes it has.
    pub(super) size: u64,
    /// A timer or a task is at its rotation.
    pub(super) is_rotated: bool,
    /// That it cannot be written was said.
    complained: bool,
}

impl LogFile {
    /// Opens it; directories that are missing are made.
    pub(super) fn new(path: &Path) -> std::io::Result<Self> {
        let mut log = Self::unopened(path);
        log.reopen()?;
        Ok(log)
    }

    /// Opens the file that is at its path now.
    pub(super) fn reopen(&mut self) -> std::io::Result<&mut File> {
        if let Some(directory) = self.path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let file = options().create(true).mode(0o640).open(&self.path)?;
        self.size = file.metadata()?.len();
        Ok(self.file.insert(file))
    }

    /// For an instance that runs already, and goes on running when its log cannot be opened.
    pub(super) fn again(path: &Path) -> Self {
        Self::new(path).unwrap_or_else(|error| {
            let mut log = Self::unopened(path);
            log.complain("open", &error);
            log
        })
    }

    /// For an instance that writes nothing any more.
    pub(super) fn unopened(path: &Path) -> Self {
        Self { path: path.to_owned(), file: None, size: 0, is_rotated: false, complained: false }
    }

    /// Writes at the end, which `before` is told. As containerd does: a container whose log cannot be written goes on, and what it
    /// says is lost.
    pub(super) fn write(&mut self, text: &[u8], before: impl FnOnce(Place)) {
        let operation = if self.file.is_some() { "write" } else { "open" };
        match self.append(text, before) {
            Ok(()) if std::mem::take(&mut self.complained) => {
                super::complain(format_args!("the log {} is written again", self.path.display()));
            }
            Ok(()) => {}
            Err(error) => self.complain(operation, &error),
        }
    }

    fn append(&mut self, text: &[u8], before: impl FnOnce(Place)) -> std::io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self.reopen()?,
        };
        let place = Place::end(&file.metadata()?);
        before(place);
        if transit::is_due("half") {
            harmless(file.write_all(text.get(..text.len() / 2).unwrap_or_default()));
            transit::die();
        }
        write_from(file, text, 0, place.offset)?;
        self.size = place.offset + text.len() as u64;
        Ok(())
    }

    /// Writes what is missing of a text that began at this place, or was about to; false where something else is there.
    pub(super) fn complete(&mut self, place: &Place, text: &[u8]) -> bool {
        let Some(mut file) = self.find(place) else { return false };
        let mut there = vec![0; text.len()];
        let known = read_at(&file, &mut there, place.offset);
        if there.get(..known) != text.get(..known) {
            return false;
        }
        if let Err(error) = write_from(&mut file, text, known, place.offset) {
            self.complain("write", &error);
        }
        true
    }

    /// The file of a place, which may have been put aside meanwhile.
    fn find(&self, place: &Place) -> Option<File> {
        let is_it = |entry: &DirEntry| entry.metadata().is_ok_and(|file| place.is_in(&file));
        let found = std::fs::read_dir(self.path.parent()?).ok()?.flatten().find(is_it)?;
        options().open(found.path()).ok()
    }

    /// Once, not for every line.
    fn complain(&mut self, operation: &str, error: &std::io::Error) {
        if !std::mem::replace(&mut self.complained, true) {
            let path = self.path.display();
            super::complain(format_args!(
                "{operation} {path}: {error}; the container's output is lost until this is mended"
            ));
        }
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).append(true);
    options
}

/// Writes what follows after `known` bytes of a text that begins at `begin`. Where there is no room for all of it the lines stay that
/// are whole.
fn write_from(file: &mut File, text: &[u8], known: usize, begin: u64) -> std::io::Result<()> {
    let rest = text.get(known..).unwrap_or_default();
    file.write_all(rest).inspect_err(|_| harmless(cut(file, text, begin)))
}

/// Removes the half of a line at the end of a file that has not got all of a text.
fn cut(file: &File, text: &[u8], begin: u64) -> std::io::Result<()> {
    let length = usize::try_from(file.metadata()?.len().saturating_sub(begin)).unwrap_or(usize::MAX);
    let written = text.get(..length).unwrap_or_default();
    let whole = written.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    file.set_len(begin + whole as u64)
}

/// Reads as much as there is and fits.
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> usize {
    let mut known = 0;
    while let Ok(more @ 1..) =
        file.read_at(buffer.get_mut(known..).unwrap_or_default(), offset + known as u64)
    {
        known += more;
    }
    known
}
