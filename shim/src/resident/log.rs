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

const NANOS: i64 = 1_000_000_000;
const DAY: i64 = 86_400;

/// Nanoseconds since the Unix epoch as `2024-01-02T03:04:05.123456789Z`.
pub(super) fn timestamp(nanoseconds: i64) -> String {
    let (seconds, fraction) = (nanoseconds.div_euclid(NANOS), nanoseconds.rem_euclid(NANOS));
    let (days, second) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:09}Z")
}

/// Year, month and day of a number of days since 1970-01-01, in the proleptic Gregorian calendar: years are
/// counted from March, so that the leap day is the last of its year.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
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

    #[test]
    fn times_are_printed_in_utc_with_nine_digits() {
        assert_eq!(timestamp(1_704_164_645_123_456_789), "2024-01-02T03:04:05.123456789Z");
        assert_eq!(timestamp(951_782_400_000_000_001), "2000-02-29T00:00:00.000000001Z");
        assert_eq!(timestamp(-1), "1969-12-31T23:59:59.999999999Z");
    }
}
