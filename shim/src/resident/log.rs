//! Lines of a CRI log: `<RFC3339 time> <stdout|stderr> <F|P> <text>`; pod-lifecycle 10.4.
//!
//! Pure: bytes of a stream go in, bytes of the file come out.

/// Longer lines are written in parts, as containerd does.
const LONGEST: usize = 16 * 1024;

/// Time and stream of the lines of one read.
pub(super) struct Prefix<'a> {
    pub(super) stamp: &'a str,
    pub(super) stream: &'a str,
}

impl Prefix<'_> {
    /// Appends to `out` the log lines of `bytes`. What has no newline yet is a partial line at once: nothing of a
    /// line is kept in memory, and a prompt is seen before its answer is given.
    pub(super) fn lines(&self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = rest.split_at(end);
            rest = after.get(1..).unwrap_or_default();
            let last = self.parts(line.strip_suffix(b"\r").unwrap_or(line), out);
            self.write(b"F", last, out);
        }
        let last = self.parts(rest, out);
        if !last.is_empty() {
            self.write(b"P", last, out);
        }
    }

    /// Writes all of a text but its last part, and gives that.
    fn parts<'t>(&self, text: &'t [u8], out: &mut Vec<u8>) -> &'t [u8] {
        let mut rest = text;
        while rest.len() > LONGEST {
            let (part, after) = rest.split_at(LONGEST);
            self.write(b"P", part, out);
            rest = after;
        }
        rest
    }

    fn write(&self, tag: &[u8], text: &[u8], out: &mut Vec<u8>) {
        for part in [self.stamp.as_bytes(), b" ", self.stream.as_bytes(), b" ", tag, b" ", text, b"\n"] {
            out.extend_from_slice(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(chunks: &[&[u8]]) -> String {
        let mut out = Vec::new();
        for chunk in chunks {
            Prefix { stamp: "T", stream: "stdout" }.lines(chunk, &mut out);
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_that_is_not_whole_is_written_in_part_at_once() {
        assert_eq!(
            log(&[b"one\ntw", b"o\r\n\nend"]),
            "T stdout F one\nT stdout P tw\nT stdout F o\nT stdout F \nT stdout P end\n"
        );
    }

    #[test]
    fn a_newline_that_comes_alone_ends_its_line() {
        assert_eq!(log(&[b"one", b"\n"]), "T stdout P one\nT stdout F \n");
    }

    #[test]
    fn long_lines_come_in_parts_of_16_kib() {
        let text = vec![b'x'; LONGEST + 3];
        let lines: Vec<usize> = log(&[&[&text[..], b"\n"].concat()]).lines().map(str::len).collect();
        assert_eq!(lines, [LONGEST + "T stdout P ".len(), 3 + "T stdout F ".len()]);
        let without_end: Vec<usize> = log(&[&text]).lines().map(str::len).collect();
        assert_eq!(without_end, lines);
    }
}
