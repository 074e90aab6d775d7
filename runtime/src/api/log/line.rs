//! Lines of a CRI log file: `<time> <stdout|stderr> <P|F> <content>`; what becomes of them for a reader.

use jiff::Timestamp;

/// One parsed line.
#[derive(Debug, PartialEq, Eq)]
struct Line<'a> {
    time: &'a str,
    /// The line went on when it was cut.
    partial: bool,
    content: &'a [u8],
}

/// Reads a line without its line break; none if it is not in the format.
fn parse(line: &[u8]) -> Option<Line<'_>> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    let stream = parts.next()?;
    let tags = parts.next()?;
    let content = parts.next().unwrap_or_default();
    let partial = match tags.split(|byte| *byte == b':').next()? {
        b"P" => true,
        b"F" => false,
        _ => return None,
    };
    matches!(stream, b"stdout" | b"stderr").then_some(Line { time, partial, content })
}

/// As much of a line as is written at once, here and by the kubelet's runtimes.
const LONGEST: u64 = 16 * 1024;

/// Whether a line of so many bytes, of which at least the tag is there, is a piece that goes on in the next. Runtimes of
/// the kubelet keep a line until it ends or is this long, and each piece is a line to the kubelet (reference 10.5); here
/// a line is also in pieces when it was printed so, and those are none by themselves.
pub(super) fn is_piece(beginning: &[u8], length: u64) -> bool {
    parse(beginning).is_some_and(|line| {
        let head = beginning.len() - line.content.len();
        line.partial && length.saturating_sub(head as u64) < LONGEST
    })
}

/// Turns log lines into what a reader sees.
#[derive(Debug)]
pub(super) struct Writer {
    since: Option<Timestamp>,
    timestamps: bool,
    remaining: Option<u64>,
    /// The last line was complete, so the next one starts anew.
    at_line_start: bool,
}

impl Writer {
    pub(super) fn new(since: Option<Timestamp>, timestamps: bool, limit: Option<u64>) -> Self {
        Self { since, timestamps, remaining: limit, at_line_start: true }
    }

    /// Converts complete lines; the second value is false once the byte limit is reached.
    pub(super) fn convert(&mut self, lines: &[u8]) -> (Vec<u8>, bool) {
        let mut text = Vec::with_capacity(lines.len());
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            if let Some(line) = parse(line) {
                self.line(&line, &mut text);
            }
        }
        if let Some(remaining) = &mut self.remaining {
            text.truncate(usize::try_from(*remaining).unwrap_or(usize::MAX));
            *remaining -= text.len() as u64;
        }
        (text, self.remaining != Some(0))
    }

    fn line(&mut self, line: &Line<'_>, text: &mut Vec<u8>) {
        if self.since.is_some() || self.timestamps {
            let Ok(time) = line.time.parse::<Timestamp>() else {
                return;
            };
            if self.since.is_some_and(|since| time < since) {
                return;
            }
            if self.timestamps && self.at_line_start {
                text.extend(time.strftime("%Y-%m-%dT%H:%M:%S.%9fZ ").to_string().bytes());
            }
        }
        text.extend_from_slice(line.content);
        self.at_line_start = !line.partial;
        if !line.partial {
            text.push(b'\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &[u8] = b"2024-01-02T03:04:05.1Z stdout F one\n\
        2024-01-02T03:04:06Z stderr P tw\n\
        2024-01-02T03:04:06.5Z stderr F o\n\
        nonsense\n\
        2024-01-02T03:04:07Z stdout F:x \n";

    fn read(since: Option<&str>, timestamps: bool, limit: Option<u64>) -> (String, bool) {
        let since = since.map(|time| time.parse().unwrap());
        let (text, more) = Writer::new(since, timestamps, limit).convert(LOG);
        (String::from_utf8(text).unwrap(), more)
    }

    #[test]
    fn partial_lines_are_joined() {
        assert_eq!(read(None, false, None), ("one\ntwo\n\n".to_owned(), true));
    }

    #[test]
    fn timestamps_have_nine_digits_and_stand_before_whole_lines() {
        let expected = "2024-01-02T03:04:05.100000000Z one\n2024-01-02T03:04:06.000000000Z two\n2024-01-02T03:04:07.000000000Z \n";
        assert_eq!(read(None, true, None).0, expected);
    }

    #[test]
    fn old_lines_are_left_out() {
        assert_eq!(read(Some("2024-01-02T03:04:06Z"), false, None).0, "two\n\n");
    }

    #[test]
    fn bytes_are_limited() {
        assert_eq!(read(None, false, Some(6)), ("one\ntw".to_owned(), false));
        assert_eq!(read(None, false, Some(0)), (String::new(), false));
        assert!(read(None, false, Some(100)).1);
    }
}
