//! Reads a tar stream entry by entry: ustar, GNU long names, PAX.
//!
//! The `tar` crate knows the headers' shapes; the walk is ours, because the stream may be hostile:
//! extension records are limited in size, checksums are checked, sparse files refused. See tar(5).

use std::io::{self, Read};
use std::ops::Range;

use super::error::Error;

const BLOCK: usize = 512;
/// Fields of a header.
const MODE: Range<usize> = 100..108;
const UID: Range<usize> = 108..116;
const GID: Range<usize> = 116..124;
const SIZE: Range<usize> = 124..136;
const MODIFIED: Range<usize> = 136..148;
const CHECKSUM: Range<usize> = 148..156;
const DEVICE_MAJOR: Range<usize> = 329..337;
const DEVICE_MINOR: Range<usize> = 337..345;
/// Largest PAX record set or long name; an xattr has at most 64 KiB.
const EXTENSION_LIMIT: u64 = 1024 * 1024;

/// What an entry makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    HardLink,
    Symlink,
    Character,
    Block,
    Directory,
    Fifo,
}

/// One entry, without its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: Vec<u8>,
    pub(super) kind: Kind,
    /// Target of a hard or symbolic link.
    pub(super) link: Vec<u8>,
    pub(super) size: u64,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Seconds and nanoseconds since the Unix epoch.
    pub(super) modified: (i64, i64),
    /// Major and minor number.
    pub(super) device: (u32, u32),
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Entry {
    /// The name for messages.
    pub(super) fn display_name(&self) -> String {
        String::from_utf8_lossy(&self.name).into_owned()
    }
}

/// A tar stream. After [`Tarball::next`] gave a file, its data is read from the tarball itself.
pub(super) struct Tarball<R> {
    input: R,
    /// Data of the current entry not yet read.
    data: u64,
    /// Zeros between that data and the next header.
    padding: u64,
}

/// What extension headers said about the next entry.
#[derive(Default)]
struct Extensions {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    modified: Option<(i64, i64)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl<R: Read> Tarball<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, data: 0, padding: 0 }
    }

    /// The stream behind the last entry.
    pub(super) fn into_inner(self) -> R {
        self.input
    }

    /// The next entry, or none at the end of the archive.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, Error> {
        let mut extensions = Extensions::default();
        loop {
            self.skip_data()?;
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            let size = unsigned(&header, SIZE)?;
            match header.as_bytes()[156] {
                b'x' | b'X' => extensions.pax(&self.extension(size)?)?,
                b'L' => extensions.name = Some(without_nul(self.extension(size)?)),
                b'K' => extensions.link = Some(without_nul(self.extension(size)?)),
                b'g' => self.expect(size),
                flag => return self.entry(&header, flag, extensions).map(Some),
            }
        }
    }

    fn entry(&mut self, header: &tar::Header, flag: u8, extensions: Extensions) -> Result<Entry, Error> {
        let name = extensions.name.unwrap_or_else(|| header.path_bytes().into_owned());
        let kind = kind(flag, &name)?;
        let size = match kind {
            Kind::File => extensions.size.map_or_else(|| unsigned(header, SIZE), Ok)?,
            // Header-only kinds have no data whatever their size field says, as in Go's archive/tar.
            _ => 0,
        };
        self.expect(size);
        let link = extensions.link.or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned));
        let device = match kind {
            Kind::Character | Kind::Block => (device(header, DEVICE_MAJOR)?, device(header, DEVICE_MINOR)?),
            _ => (0, 0),
        };
        Ok(Entry {
            uid: owner(extensions.uid.map_or_else(|| unsigned(header, UID), Ok)?)?,
            gid: owner(extensions.gid.map_or_else(|| unsigned(header, GID), Ok)?)?,
            modified: match extensions.modified {
                Some(modified) => modified,
                None => (number(header, MODIFIED)?, 0),
            },
            mode: u32::try_from(number(header, MODE)? & 0o7777).unwrap_or(0),
            link: link.unwrap_or_default(),
            xattrs: extensions.xattrs,
            name,
            kind,
            size,
            device,
        })
    }

    /// The next header; none at the end of the archive.
    fn header(&mut self) -> Result<Option<tar::Header>, Error> {
        let mut header = tar::Header::new_old();
        let block = header.as_mut_bytes();
        let mut filled = 0;
        while filled < BLOCK {
            match self.input.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(damaged("it ends within a header")),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(Error::Read { what: "tar stream".into(), source });
                }
            }
        }
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let sum = |byte: fn(u8) -> i64| -> i64 {
            let bytes = header.as_bytes().iter().enumerate();
            bytes.map(|(index, value)| if CHECKSUM.contains(&index) { 32 } else { byte(*value) }).sum()
        };
        let expected = number(&header, CHECKSUM)?;
        // Some old archivers summed signed bytes.
        if sum(i64::from) != expected && sum(|byte| i64::from(byte.cast_signed())) != expected {
            return Err(damaged("a header's checksum is wrong"));
        }
        Ok(Some(header))
    }

    /// Announces `size` bytes of data, padded to whole blocks.
    fn expect(&mut self, size: u64) {
        self.data = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>, Error> {
        if size > EXTENSION_LIMIT {
            return Err(damaged(format!("an extended header of {size} bytes, more than {EXTENSION_LIMIT}")));
        }
        self.expect(size);
        let mut data = Vec::new();
        self.read_to_end(&mut data).map_err(|source| Error::Read { what: "tar stream".into(), source })?;
        Ok(data)
    }

    fn skip_data(&mut self) -> Result<(), Error> {
        let read = |source| Error::Read { what: "tar stream".into(), source };
        io::copy(self, &mut io::sink()).map_err(read)?;
        // Some archivers leave the last padding out; then the next header is missing too, which is the end.
        let padding = std::mem::take(&mut self.padding);
        io::copy(&mut (&mut self.input).take(padding), &mut io::sink()).map_err(read).map(drop)
    }
}

impl<R: Read> Read for Tarball<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = buffer.len().min(usize::try_from(self.data).unwrap_or(usize::MAX));
        if want == 0 {
            return Ok(0);
        }
        let count = self.input.read(&mut buffer[..want])?;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the tar stream ends within an entry"));
        }
        self.data -= count as u64;
        Ok(count)
    }
}

impl Extensions {
    /// Takes over PAX records, each `length key=value\n`.
    fn pax(&mut self, mut records: &[u8]) -> Result<(), Error> {
        while !records.is_empty() {
            let (key, value, rest) = pax_record(records).ok_or_else(|| damaged("a broken PAX record"))?;
            records = rest;
            if key.starts_with(b"GNU.sparse.") {
                return Err(damaged("sparse files are not supported in layers"));
            }
            match key {
                b"path" => self.name = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => self.size = Some(pax_number(value)?),
                b"uid" => self.uid = Some(pax_number(value)?),
                b"gid" => self.gid = Some(pax_number(value)?),
                b"mtime" => self.modified = Some(pax_time(value)?),
                _ => {
                    if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                        self.xattrs.push((name.to_vec(), value.to_vec()));
                    }
                }
            }
        }
        Ok(())
    }
}

/// A number of a header: octal digits, or base-256 when the first bit is set. An empty field is 0.
fn number(header: &tar::Header, field: Range<usize>) -> Result<i64, Error> {
    let bytes = &header.as_bytes()[field];
    if bytes[0] & 0x80 != 0 {
        // The sign is the second bit; the first is only the mark.
        let first = i128::from((bytes[0] << 1).cast_signed() >> 1);
        let wide = bytes[1..].iter().fold(first, |number, byte| (number << 8) | i128::from(*byte));
        return i64::try_from(wide).map_err(|_| damaged("a number of a header is too large"));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| damaged("a header's field is not a number"))?;
    match text.trim_matches(['\0', ' ']) {
        "" => Ok(0),
        digits => i64::from_str_radix(digits, 8).map_err(|_| damaged("a header's field is not a number")),
    }
}

fn unsigned(header: &tar::Header, field: Range<usize>) -> Result<u64, Error> {
    u64::try_from(number(header, field)?).map_err(|_| damaged("a size or owner is negative"))
}

fn device(header: &tar::Header, field: Range<usize>) -> Result<u32, Error> {
    u32::try_from(number(header, field)?).map_err(|_| damaged("a device number is out of range"))
}

fn kind(flag: u8, name: &[u8]) -> Result<Kind, Error> {
    Ok(match flag {
        0 if name.ends_with(b"/") => Kind::Directory,
        0 | b'0' | b'7' => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => Kind::Character,
        b'4' => Kind::Block,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        b'S' => return Err(damaged("sparse files are not supported in layers")),
        flag => {
            return Err(damaged(format!("an entry of unknown type {:?}", char::from(flag))));
        }
    })
}

/// Splits one PAX record off: key, value, rest.
fn pax_record(records: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = records.iter().position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&records[..space]).ok()?.parse().ok()?;
    let record = records.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((&record[..equals], &record[equals + 1..], &records[length..]))
}

fn pax_number(value: &[u8]) -> Result<u64, Error> {
    let text = std::str::from_utf8(value).ok();
    text.and_then(|text| text.parse().ok()).ok_or_else(|| damaged("a PAX record is not a number"))
}

/// `[-]seconds[.fraction]`
fn pax_time(value: &[u8]) -> Result<(i64, i64), Error> {
    let parse = || -> Option<(i64, i64)> {
        let text = std::str::from_utf8(value).ok()?;
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
        let (seconds, nanos): (i64, i64) = (whole.parse().ok()?, digits.parse().ok()?);
        // -1.5 is half a second after -2.
        match (whole.starts_with('-'), nanos) {
            (true, 1..) => Some((seconds.checked_sub(1)?, 1_000_000_000 - nanos)),
            _ => Some((seconds, nanos)),
        }
    };
    parse().ok_or_else(|| damaged("a PAX time is not a number"))
}

/// An owner's number. The all-ones one means "leave as is" to chown(2).
fn owner(number: u64) -> Result<u32, Error> {
    match u32::try_from(number) {
        Ok(id) if id != u32::MAX => Ok(id),
        _ => Err(damaged(format!("{number} is not a user or group id"))),
    }
}

fn without_nul(mut name: Vec<u8>) -> Vec<u8> {
    name.truncate(name.iter().position(|byte| *byte == 0).unwrap_or(name.len()));
    name
}

fn damaged(problem: impl ToString) -> Error {
    Error::Tar { problem: problem.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(name: &str, kind: tar::EntryType, size: u64) -> tar::Header {
        let mut header = tar::Header::new_ustar();
        header.set_path(name).unwrap();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(7);
        header.set_cksum();
        header
    }

    fn entries(archive: &[u8]) -> Result<Vec<Entry>, Error> {
        let mut tarball = Tarball::new(archive);
        let mut found = Vec::new();
        while let Some(entry) = tarball.next()? {
            found.push(entry);
        }
        Ok(found)
    }

    #[test]
    fn pax_records_override_the_header() {
        let mut builder = tar::Builder::new(Vec::new());
        let records: [(&str, &[u8]); 4] = [
            ("path", b"long/name"),
            ("mtime", b"-1.5"),
            ("uid", b"3000000"),
            ("SCHILY.xattr.user.a", b"\0b=c\n"),
        ];
        builder.append_pax_extensions(records).unwrap();
        builder.append(&header("short", tar::EntryType::Regular, 3), &b"abc"[..]).unwrap();
        let found = entries(&builder.into_inner().unwrap()).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].name, b"long/name");
        assert_eq!(found[0].modified, (-2, 500_000_000));
        assert_eq!(found[0].uid, 3_000_000);
        assert_eq!(found[0].xattrs, [(b"user.a".to_vec(), b"\0b=c\n".to_vec())]);
    }

    #[test]
    fn gnu_long_names_and_links_are_read() {
        let long = "d/".repeat(150) + "f";
        let mut builder = tar::Builder::new(Vec::new());
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        builder.append_link(&mut link, &long, &long).unwrap();
        let found = entries(&builder.into_inner().unwrap()).unwrap();
        assert_eq!((found[0].name.as_slice(), found[0].link.as_slice()), (long.as_bytes(), long.as_bytes()));
    }

    #[test]
    fn numbers_are_octal_or_base_256() {
        let mut header = tar::Header::new_ustar();
        let mut read = |bytes: [u8; 12]| {
            header.as_mut_bytes()[MODIFIED].copy_from_slice(&bytes);
            number(&header, MODIFIED).ok()
        };
        assert_eq!(read(*b"00000000017\0"), Some(15));
        assert_eq!(read([0; 12]), Some(0));
        assert_eq!(read([255; 12]), Some(-1));
        assert_eq!(read([128, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]), Some(256));
        assert_eq!(read([191; 12]), None);
        assert_eq!(read(*b"hello, world"), None);
    }

    #[test]
    fn damaged_streams_are_refused_with_a_reason() {
        let good = {
            let mut builder = tar::Builder::new(Vec::new());
            builder.append(&header("a", tar::EntryType::Regular, 600), &[1; 600][..]).unwrap();
            builder.into_inner().unwrap()
        };
        assert_eq!(entries(&good[..512 + 600]).unwrap().len(), 1, "only the padding is missing");
        let mut wrong_sum = good.clone();
        wrong_sum[0] = b'b';
        let huge = header("a", tar::EntryType::XHeader, 1 << 40).as_bytes().to_vec();
        let sparse = header("a", tar::EntryType::GNUSparse, 0).as_bytes().to_vec();
        let unknown = header("a", tar::EntryType::new(b'Z'), 0).as_bytes().to_vec();
        let cases = [
            (&good[..1100], "ends within"),
            (&good[..100], "ends within a header"),
            (&wrong_sum[..], "checksum"),
            (&huge[..], "extended header of 1099511627776 bytes"),
            (&sparse[..], "sparse"),
            (&unknown[..], "unknown type 'Z'"),
        ];
        for (bytes, expected) in cases {
            let error = entries(bytes).unwrap_err();
            let text = format!("{error}: {:?}", std::error::Error::source(&error));
            assert!(text.contains(expected), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(mut bytes: Vec<u8>) {
            let before = bytes.clone();
            bytes.resize(2048, 0);
            drop(entries(&bytes));
            // Also behind a valid header.
            let mut archive = header("a", tar::EntryType::XHeader, before.len() as u64).as_bytes().to_vec();
            archive.extend(&before);
            archive.resize(archive.len().next_multiple_of(BLOCK), 0);
            archive.extend(header("b", tar::EntryType::Regular, 0).as_bytes());
            drop(entries(&archive));
        }
    }
}
