//! The query of a URL: names and values, percent-encoded.

use std::fmt::Write as _;

use super::status::Status;

/// Names and values in the order given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the part of a URL behind `?`. Broken escapes are taken as they are.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .map(|(name, value)| (decode(name), decode(value)))
                .collect(),
        )
    }

    /// The first value of a name; none if it is missing or empty.
    #[must_use]
    pub fn text<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.all(name).next().filter(|value| !value.is_empty())
    }

    /// All values of a name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether a flag is set: `true` or `1`.
    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        matches!(self.text(name), Some("true" | "1"))
    }

    /// A number.
    ///
    /// # Errors
    /// It is there and no whole number.
    pub fn number(&self, name: &str) -> Result<Option<i64>, Status> {
        let parse = |text: &str| {
            let number = text.parse();
            number.map_err(|_| Status::bad_request(format!("{name}: {text:?} is not a whole number")))
        };
        self.text(name).map(parse).transpose()
    }
}

/// Adds `name=value` to a URL.
pub fn push(url: &mut String, name: &str, value: &str) {
    url.push(if url.contains('?') { '&' } else { '?' });
    url.push_str(name);
    url.push('=');
    url.push_str(&encode(value));
}

/// Encodes a value for the path or query of a URL.
#[must_use]
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                encoded.push(char::from(byte))
            }
            other => write!(encoded, "%{other:02X}").expect("a String takes every text"),
        }
    }
    encoded
}

/// Undoes `%XX` and `+`.
#[must_use]
pub fn decode(text: &str) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let escape = after.get(..2).and_then(|two| std::str::from_utf8(two).ok()).filter(|_| *first == b'%');
        // A sign is not a digit, though `from_str_radix` takes it.
        let byte =
            escape.filter(|two| !two.starts_with('+')).and_then(|two| u8::from_str_radix(two, 16).ok());
        match (first, byte) {
            (b'%', Some(byte)) => {
                decoded.push(byte);
                rest = &after[2..];
            }
            (b'+', _) => {
                decoded.push(b' ');
                rest = after;
            }
            (other, _) => {
                decoded.push(*other);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_vector_survives_the_url() {
        let mut url = "/exec".to_owned();
        for word in ["sh", "-c", "echo 'ä & b' > /x?=%"] {
            push(&mut url, "command", word);
        }
        let query = Query::parse(url.split_once('?').unwrap().1);
        assert_eq!(query.all("command").collect::<Vec<_>>(), ["sh", "-c", "echo 'ä & b' > /x?=%"]);
    }

    #[test]
    fn broken_escapes_are_taken_as_they_are() {
        assert_eq!(decode("%"), "%");
        assert_eq!(decode("%4"), "%4");
        assert_eq!(decode("%zz%41"), "%zzA");
        assert_eq!(decode("a+b"), "a b");
    }

    #[test]
    fn flags_and_numbers_are_typed() {
        let query = Query::parse("follow=true&previous=0&tailLines=5&limitBytes=x&empty=");
        assert!(query.flag("follow") && !query.flag("previous") && !query.flag("missing"));
        assert_eq!(query.number("tailLines").unwrap(), Some(5));
        assert!(query.number("limitBytes").is_err());
        assert_eq!(query.number("empty").unwrap(), None);
    }
}
