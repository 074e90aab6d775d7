//! What criu answers: `criu_resp` of its `images/rpc.proto`.

use super::request::Kind;
use super::wire::{Value, fields};

/// One answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// `criu_req_type`.
    kind: u64,
    /// Whether it could be done.
    pub(super) success: bool,
    /// Why not.
    pub(super) errno: i32,
    /// Why not, as criu's log has it.
    pub(super) message: Option<String>,
    /// What it is at, for [`Kind::Notify`]: a name and the pid of the tree's root.
    pub(super) notice: Option<(String, i32)>,
    /// The pid of the restored root.
    pub(crate) restored: Option<i32>,
    /// Which criu it is.
    pub(crate) version: Version,
    /// What it can do.
    pub(crate) features: Features,
}

/// Which criu it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    pub(crate) major: u64,
    pub(crate) minor: u64,
    pub(crate) sublevel: u64,
}

impl std::fmt::Display for Version {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { major, minor, sublevel } = self;
        write!(out, "{major}.{minor}")?;
        if *sublevel > 0 { write!(out, ".{sublevel}") } else { Ok(()) }
    }
}

/// What criu and the kernel can do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Features {
    /// Tell which memory changed.
    pub(crate) memory_track: bool,
    /// Bring memory when it is needed.
    pub(crate) lazy_pages: bool,
}

impl Answer {
    /// Reads one; none where it is none.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut answer = Self::default();
        for (field, value) in fields(bytes)? {
            match (field, value) {
                (1, Value::Number(kind)) => answer.kind = kind,
                (2, Value::Number(success)) => answer.success = success != 0,
                (4, Value::Bytes(restore)) => answer.restored = Some(int(number(restore, 1)?)),
                (5, Value::Bytes(notice)) => {
                    answer.notice = Some((text(notice, 1)?, int(number(notice, 2)?)));
                }
                (7, Value::Number(errno)) => answer.errno = int(errno),
                (8, Value::Bytes(features)) => {
                    let has = |field| Some(number(features, field)? != 0);
                    answer.features = Features { memory_track: has(1)?, lazy_pages: has(2)? };
                }
                (9, Value::Bytes(message)) => {
                    answer.message = Some(String::from_utf8_lossy(message).trim().to_owned());
                }
                (10, Value::Bytes(version)) => {
                    answer.version = Version {
                        major: number(version, 1)?,
                        minor: number(version, 2)?,
                        sublevel: number(version, 4)?,
                    };
                }
                _ => {}
            }
        }
        Some(answer)
    }

    /// Whether it answers a request of this kind.
    pub(super) fn is(&self, kind: Kind) -> bool {
        self.kind == kind as u64
    }
}

/// A number of a message, 0 where it is not there.
fn number(bytes: &[u8], wanted: u32) -> Option<u64> {
    let found = fields(bytes)?.into_iter().find_map(|(field, value)| match value {
        Value::Number(number) if field == wanted => Some(number),
        _ => None,
    });
    Some(found.unwrap_or_default())
}

/// A text of a message, empty where it is not there.
fn text(bytes: &[u8], wanted: u32) -> Option<String> {
    let found = fields(bytes)?.into_iter().find_map(|(field, value)| match value {
        Value::Bytes(text) if field == wanted => Some(String::from_utf8_lossy(text).into_owned()),
        _ => None,
    });
    Some(found.unwrap_or_default())
}

/// An `int32` is sign-extended when it is sent.
fn int(number: u64) -> i32 {
    number as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read() {
        // Of criu 4.1.1.
        let version = Answer::read(b"\x08\x0a\x10\x01\x52\x06\x08\x04\x10\x01\x20\x01").unwrap();
        assert!(version.is(Kind::Version) && version.success);
        assert_eq!(version.version.to_string(), "4.1.1");
        assert!(version.version > Version { major: 3, minor: 16, sublevel: 0 });
        let notice = Answer::read(b"\x08\x06\x10\x01\x2a\x0d\x0a\x09post-dump\x10\x4d").unwrap();
        assert_eq!(notice.notice, Some(("post-dump".to_owned(), 77)));
        let failed = Answer::read(b"\x08\x01\x10\x00\x38\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01").unwrap();
        assert!(failed.is(Kind::Dump) && !failed.success);
        assert_eq!(failed.errno, -1);
        assert_eq!(Answer::read(b"\x08"), None);
    }
}
