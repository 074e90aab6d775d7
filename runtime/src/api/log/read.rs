//! Reading a log file that grows: complete lines only, from its beginning or from its last lines on.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Bytes read at once.
const CHUNK: usize = 32 * 1024;

/// An open log file.
#[derive(Debug)]
pub(super) struct Reader {
    file: Option<File>,
    /// The beginning of a line whose end is not written yet.
    rest: Vec<u8>,
}

impl Reader {
    /// Opens a file, at its last `tail` lines if that is given. A file that does not exist yet is empty.
    pub(super) fn open(path: &Path, tail: Option<usize>) -> io::Result<Self> {
        let mut file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { file: None, rest: Vec::new() });
            }
            other => other?,
        };
        if let Some(lines) = tail {
            let start = start_of_last(&mut file, lines)?;
            file.seek(SeekFrom::Start(start))?;
        }
        Ok(Self { file: Some(file), rest: Vec::new() })
    }

    /// The next complete lines; none at the end of what is written.
    pub(super) fn lines(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some(file) = &mut self.file else {
            return Ok(None);
        };
        loop {
            let known = self.rest.len();
            self.rest.resize(known + CHUNK, 0);
            let read = file.read(&mut self.rest[known..]);
            let count = *read.as_ref().unwrap_or(&0);
            self.rest.truncate(known + count);
            if read? == 0 {
                return Ok(None);
            }
            let end = self.rest[known..].iter().rposition(|byte| *byte == b'\n');
            if let Some(end) = end {
                let rest = self.rest.split_off(known + end + 1);
                return Ok(Some(std::mem::replace(&mut self.rest, rest)));
            }
        }
    }

    /// At the end of the file: goes on with the file that took its place, if there is one.
    pub(super) fn rotated(&mut self, path: &Path) -> io::Result<bool> {
        let next = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other?,
        };
        let identity = |file: &File| file.metadata().map(|data| (data.dev(), data.ino()));
        if let Some(file) = &self.file
            && identity(file)? == identity(&next)?
        {
            return Ok(false);
        }
        self.file = Some(next);
        Ok(true)
    }
}

/// Where the last `lines` lines begin.
fn start_of_last(file: &mut File, lines: usize) -> io::Result<u64> {
    let end = file.seek(SeekFrom::End(0))?;
    let mut position = end;
    let mut breaks = 0;
    let mut buffer = vec![0; CHUNK];
    while position > 0 {
        let count = position.min(CHUNK as u64);
        position -= count;
        file.seek(SeekFrom::Start(position))?;
        let chunk = &mut buffer[..usize::try_from(count).unwrap_or(CHUNK)];
        file.read_exact(chunk)?;
        for (index, byte) in chunk.iter().enumerate().rev() {
            if *byte == b'\n' {
                if breaks == lines {
                    return Ok(position + index as u64 + 1);
                }
                breaks += 1;
            }
        }
    }
    Ok(if lines == 0 { end } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn all(reader: &mut Reader) -> String {
        let mut text = String::new();
        while let Some(lines) = reader.lines().unwrap() {
            text.push_str(std::str::from_utf8(&lines).unwrap());
        }
        text
    }

    #[test]
    fn the_tail_counts_lines_from_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        let lines: Vec<String> = (0..10_000).map(|number| format!("line {number}\n")).collect();
        std::fs::write(&path, lines.concat()).unwrap();
        for tail in [0, 1, 5, 9_999, 10_000, 20_000] {
            let text = all(&mut Reader::open(&path, Some(tail)).unwrap());
            assert_eq!(text, lines[lines.len().saturating_sub(tail)..].concat(), "{tail} lines");
        }
        assert_eq!(all(&mut Reader::open(&path, None).unwrap()), lines.concat());
    }

    #[test]
    fn a_line_is_read_once_it_is_complete() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        let mut reader = Reader::open(&path, None).unwrap();
        assert_eq!(all(&mut reader), "");
        let mut file = File::create(&path).unwrap();
        assert!(reader.rotated(&path).unwrap());
        write!(file, "one\ntw").unwrap();
        assert_eq!(all(&mut reader), "one\n");
        writeln!(file, "o").unwrap();
        assert_eq!(all(&mut reader), "two\n");
        assert!(!reader.rotated(&path).unwrap());
    }

    #[test]
    fn a_rotated_file_is_followed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        std::fs::write(&path, "old\n").unwrap();
        let mut reader = Reader::open(&path, None).unwrap();
        assert_eq!(all(&mut reader), "old\n");
        std::fs::rename(&path, directory.path().join("0.log.1")).unwrap();
        assert!(!reader.rotated(&path).unwrap());
        std::fs::write(&path, "new\n").unwrap();
        assert!(reader.rotated(&path).unwrap());
        assert_eq!(all(&mut reader), "new\n");
    }
}
