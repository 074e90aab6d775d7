//! Lines of a CRI log: `<RFC3339 time> <stdout|stderr> <F|P> <text>`; pod-lifecycle 10.4.
//!
//! Pure: bytes of a stream go in, bytes of the file come out.

/// Longer lines are written in parts, as containerd does.
const LONGEST: usize = 16 * 1024;

/// Cuts one stream into lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// The beginning of a line whose end has not come yet; shorter than [`LONGEST`].
    pending: Vec<u8>,
}

impl Lines {
    /// Appends to `out` the log lines that `bytes`, read at the time `stamp`, complete.
    pub(super) fn push(&mut self, bytes: &[u8], prefix: &Prefix<'_>, out: &mut Vec<u8>) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = rest.split_at(end);
            rest = &after[1..];
            if self.pending.is_empty() {
                whole(line, prefix, out);
            } else {
                self.pending.extend_from_slice(line);
                whole(&std::mem::take(&mut self.pending), prefix, out);
            }
        }
        self.pending.extend_from_slice(rest);
        while self.pending.len() >= LONGEST {
            let after = self.pending.split_off(LONGEST);
            prefix.write(b"P", &self.pending, out);
            self.pending = after;
        }
    }

    /// Appends what is left of a stream that ended without a newline.
    pub(super) fn finish(&mut self, prefix: &Prefix<'_>, out: &mut Vec<u8>) {
        if !self.pending.is_empty() {
            prefix.write(b"P", &std::mem::take(&mut self.pending), out);
        }
    }
}

fn whole(line: &[u8], prefix: &Prefix<'_>, out: &mut Vec<u8>) {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut rest = line;
    while rest.len() > LONGEST {
        let (part, after) = rest.split_at(LONGEST);
        prefix.write(b"P", part, out);
        rest = after;
    }
    prefix.write(b"F", rest, out);
}

/// Time and stream of the lines of one read.
pub(super) struct Prefix<'a> {
    pub(super) stamp: &'a str,
    pub(super) stream: &'a str,
}

impl Prefix<'_> {
    fn write(&self, tag: &[u8], text: &[u8], out: &mut Vec<u8>) {
        for part in [self.stamp.as_bytes(), b" ", self.stream.as_bytes(), b" ", tag, b" ", text, b"\n"] {
            out.extend_from_slice(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIX: Prefix<'static> = Prefix { stamp: "T", stream: "stdout" };

    fn log(chunks: &[&[u8]]) -> String {
        let (mut lines, mut out) = (Lines::default(), Vec::new());
        chunks.iter().for_each(|chunk| lines.push(chunk, &PREFIX, &mut out));
        lines.finish(&PREFIX, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_are_joined_over_reads_and_the_last_is_partial() {
        assert_eq!(
            log(&[b"one\ntw", b"o\r\n\nend"]),
            "T stdout F one\nT stdout F two\nT stdout F \nT stdout P end\n"
        );
    }

    #[test]
    fn long_lines_come_in_parts_of_16_kib() {
        let text = vec![b'x'; LONGEST + 3];
        let lines: Vec<usize> = log(&[&text, b"\n"]).lines().map(|line| line.len()).collect();
        assert_eq!(lines, [LONGEST + "T stdout P ".len(), 3 + "T stdout F ".len()]);
        let at_once: Vec<usize> = log(&[&[&text[..], b"\n"].concat()]).lines().map(str::len).collect();
        assert_eq!(at_once, lines);
    }
}
