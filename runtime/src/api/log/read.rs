//! Reading a log file that grows: complete lines only, from its beginning or from its last lines on.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use super::line;

/// Bytes read at once.
const CHUNK: usize = 32 * 1024;

/// An open log file.
#[derive(Debug)]
pub(super) struct Reader {
    file: Option<File>,
    /// What took the file's place, and is read when that is.
    next: Option<File>,
    /// The beginning of a line whose end is not written yet.
    rest: Vec<u8>,
}

impl Reader {
    /// Opens a file, at its last `tail` lines if that is given. A file that does not exist yet is empty.
    pub(super) fn open(path: &Path, tail: Option<usize>) -> io::Result<Self> {
        let mut file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { file: None, next: None, rest: Vec::new() });
            }
            other => other?,
        };
        if let Some(lines) = tail {
            let start = start_of_last(&mut file, lines)?;
            file.seek(SeekFrom::Start(start))?;
        }
        Ok(Self { file: Some(file), next: None, rest: Vec::new() })
    }

    /// The next complete lines; none at the end of what is written.
    pub(super) fn lines(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let Some(file) = &mut self.file else {
                return Ok(None);
            };
            let known = self.rest.len();
            self.rest.resize(known + CHUNK, 0);
            let read = file.read(&mut self.rest[known..]);
            let count = *read.as_ref().unwrap_or(&0);
            self.rest.truncate(known + count);
            if read? == 0 {
                let Some(next) = self.next.take() else {
                    return Ok(None);
                };
                self.file = Some(next);
                continue;
            }
            let end = self.rest[known..].iter().rposition(|byte| *byte == b'\n');
            if let Some(end) = end {
                let rest = self.rest.split_off(known + end + 1);
                return Ok(Some(std::mem::replace(&mut self.rest, rest)));
            }
        }
    }

    /// At the end of the file: tells whether another took its place. From then on nothing is written to this one; what
    /// was until then is read first.
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
        match self.file {
            Some(_) => self.next = Some(next),
            None => self.file = Some(next),
        }
        Ok(true)
    }
}

/// Where the last `lines` lines begin. What was printed in pieces is one line, however many the file has of it; what was cut
/// for its length is several.
fn start_of_last(file: &mut File, lines: usize) -> io::Result<u64> {
    let end = file.seek(SeekFrom::End(0))?;
    if lines == 0 {
        return Ok(end);
    }
    let mut tail = Tail { wanted: lines, seen: None };
    let mut position = end;
    let mut line_end = None;
    let mut buffer = vec![0; CHUNK];
    while position > 0 {
        let count = position.min(CHUNK as u64);
        position -= count;
        let chunk = &mut buffer[..usize::try_from(count).unwrap_or(CHUNK)];
        file.read_exact_at(chunk, position)?;
        for (index, _) in chunk.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let at = position + index as u64;
            if let Some(end) = line_end.replace(at)
                && let Some(start) = tail.take(file, at + 1, end)?
            {
                return Ok(start);
            }
        }
    }
    let first = line_end.map(|end| tail.take(file, 0, end)).transpose()?;
    Ok(first.flatten().unwrap_or(0))
}

/// Counts lines from the end of a file.
struct Tail {
    wanted: usize,
    /// None before the last line was looked at.
    seen: Option<usize>,
}

impl Tail {
    /// Takes the file's line from `start` to the line break at `end`; tells where the wanted lines begin, once known.
    fn take(&mut self, file: &File, start: u64, end: u64) -> io::Result<Option<u64>> {
        let mut head = [0; LONGEST_HEAD];
        let length = file.read_at(&mut head, start)?;
        let partial = line::is_piece(&head[..length], end - start);
        // What is in pieces at the very end goes on, and is a line already.
        let seen = self.seen.get_or_insert(usize::from(partial));
        if partial {
            return Ok(None);
        }
        if *seen == self.wanted {
            return Ok(Some(end + 1));
        }
        *seen += 1;
        Ok(None)
    }
}

/// Room for the time, stream and tag of a line.
const LONGEST_HEAD: usize = 64;

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
    fn the_tail_takes_what_was_written_in_pieces_for_one_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        let line = |tag: &str, text: &str| format!("2024-01-02T03:04:05.123456789Z stderr {tag} {text}\n");
        let [a, b, c] = [
            line("F", "one"),
            [line("P", "t"), line("P", "w"), line("F", "o")].concat(),
            [line("P", "un"), line("P", "finished")].concat(),
        ];
        let tail = |text: &str, lines| {
            std::fs::write(&path, text).unwrap();
            all(&mut Reader::open(&path, Some(lines)).unwrap())
        };
        assert_eq!(tail(&[a.clone(), b.clone()].concat(), 1), b);
        assert_eq!(tail(&[a.clone(), b.clone(), c.clone()].concat(), 1), c);
        assert_eq!(tail(&[a.clone(), b.clone(), c.clone()].concat(), 2), [b.clone(), c.clone()].concat());
        assert_eq!(tail(&[a.clone(), b.clone(), c.clone()].concat(), 3), [a, b, c].concat());
    }

    #[test]
    fn the_tail_counts_what_was_cut_for_its_length_as_lines() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        let line = |tag: &str, text: &str| format!("2024-01-02T03:04:05.123456789Z stdout {tag} {text}\n");
        let long = "x".repeat(16 * 1024);
        let [a, b, c, d] = [
            line("F", "one"),
            line("P", &long),
            [line("P", "in"), line("P", &long)].concat(),
            line("F", "end"),
        ];
        std::fs::write(&path, [&*a, &b, &c, &d].concat()).unwrap();
        let tail = |lines| all(&mut Reader::open(&path, Some(lines)).unwrap());
        assert_eq!(tail(1), d);
        assert_eq!(tail(2), [&*c, &d].concat());
        assert_eq!(tail(3), [&*b, &c, &d].concat());
        assert_eq!(tail(4), [&*a, &b, &c, &d].concat());
        std::fs::write(&path, [&*a, &b].concat()).unwrap();
        assert_eq!(tail(1), b);
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
        // Written after the last look, and before the writer turned to the new file.
        std::fs::write(directory.path().join("0.log.1"), "old\nlast\n").unwrap();
        std::fs::write(&path, "new\n").unwrap();
        assert!(reader.rotated(&path).unwrap());
        assert_eq!(all(&mut reader), "last\nnew\n");
        assert!(!reader.rotated(&path).unwrap());
    }
}
