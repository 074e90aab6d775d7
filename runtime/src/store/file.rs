//! Files that others read are written whole: temporary, fsync, rename (style section 5).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A file could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {verb} {}", path.display())]
pub struct FileError {
    /// `read`, `write`, ...
    pub verb: &'static str,
    /// Which file.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

impl FileError {
    /// Names the operation and the file that `source` speaks of.
    pub fn new(verb: &'static str, path: &Path, source: io::Error) -> Self {
        Self { verb, path: path.to_owned(), source }
    }

    /// The file is missing, rather than unreadable.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

/// Where the new content of `path` is written first. A long name is cut, since the whole has to fit NAME_MAX.
#[must_use]
pub fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name: String = name.chars().take(LONGEST_NAME).collect();
    path.with_file_name(format!(".{name}.tmp"))
}

/// Characters of a name that a temporary file keeps.
const LONGEST_NAME: usize = 60;

/// Replaces `path` by `bytes` so that a reader sees the old or the new content, also after a power
/// cut. The temporary is beside it; one writer at a time is the caller's duty.
///
/// # Errors
/// Names the file and the step that failed; the old content is then still there.
pub fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let temporary = temporary(path);
    let written =
        OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary).and_then(
            |mut file| {
                // One that a crash left behind keeps its mode, and it is not to hold a secret for others to read.
                file.set_permissions(fs::Permissions::from_mode(mode))?;
                file.write_all(bytes)?;
                file.sync_all()
            },
        );
    written.map_err(|error| FileError::new("write", &temporary, error))?;
    fs::rename(&temporary, path).map_err(|error| FileError::new("replace", path, error))?;
    sync_parent(path)
}

/// Makes a rename or creation in the parent of `path` durable.
///
/// # Errors
/// Names the directory.
pub fn sync_parent(path: &Path) -> Result<(), FileError> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(|error| FileError::new("sync", parent, error))
}

/// The whole file as text.
///
/// # Errors
/// Names the file; [`FileError::is_missing`] tells the harmless case.
pub fn read(path: &Path) -> Result<String, FileError> {
    fs::read_to_string(path).map_err(|error| FileError::new("read", path, error))
}

/// The whole file, or none if it is not there.
///
/// # Errors
/// Any other reason, naming the file.
pub fn read_if_there(path: &Path) -> Result<Option<String>, FileError> {
    match read(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The same of a file that is not hull's: what is no UTF-8 in it is replaced.
///
/// # Errors
/// As [`read_if_there`].
pub fn read_lossy_if_there(path: &Path) -> Result<Option<String>, FileError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FileError::new("read", path, error)),
    }
}

/// The last `limit` bytes of a file, as text with broken characters replaced; empty if it is not there
/// or cannot be read, for messages that are best effort by nature.
#[must_use]
pub fn tail(path: &Path, limit: u64) -> String {
    tail_of(path, limit).map(|(_, text)| text).unwrap_or_default()
}

/// The same without a line that is not there from its beginning.
#[must_use]
pub fn last_lines(path: &Path, limit: u64) -> String {
    match tail_of(path, limit) {
        Ok((true, text)) => text.split_once('\n').map(|(_cut, rest)| rest.to_owned()).unwrap_or_default(),
        Ok((false, text)) => text,
        Err(_) => String::new(),
    }
}

/// Whether there is more before it, and the text.
fn tail_of(path: &Path, limit: u64) -> io::Result<(bool, String)> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(limit)))?;
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok((length > limit, String::from_utf8_lossy(&bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_file_is_read_whatever_its_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hosts");
        assert_eq!(read_lossy_if_there(&path).unwrap(), None);
        fs::write(&path, b"127.0.0.1 localhost # caf\xe9\n").unwrap();
        assert!(read_if_there(&path).is_err());
        assert_eq!(read_lossy_if_there(&path).unwrap().unwrap(), "127.0.0.1 localhost # caf\u{fffd}\n");
    }
}
