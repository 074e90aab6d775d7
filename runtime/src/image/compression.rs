//! Telling compressed streams by their first bytes, never by media type or file name.

use std::io::{self, BufReader, Read};

/// How a stream is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
}

/// Zstandard's frame, and the range of its skippable frames.
const ZSTD: u32 = 0xFD2F_B528;
const ZSTD_SKIPPABLE: std::ops::RangeInclusive<u32> = 0x184D_2A50..=0x184D_2A5F;

impl Compression {
    /// From the first bytes of a stream.
    pub(super) fn of(magic: &[u8]) -> Self {
        match magic {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [a, b, c, d, ..] => {
                let word = u32::from_le_bytes([*a, *b, *c, *d]);
                if word == ZSTD || ZSTD_SKIPPABLE.contains(&word) { Self::Zstd } else { Self::None }
            }
            _ => Self::None,
        }
    }

    /// The suffix of an OCI layer's media type.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => "+gzip",
            Self::Zstd => "+zstd",
        }
    }
}

/// The unpacked content of a stream, whatever its packing.
pub(super) fn unpacked<'a>(mut stream: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let magic = head(&mut stream)?;
    let compression = Compression::of(&magic);
    let whole = io::Cursor::new(magic).chain(stream);
    Ok(match compression {
        Compression::None => Box::new(whole),
        Compression::Gzip => {
            Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(128 * 1024, whole)))
        }
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::new(whole)?),
    })
}

/// At most the first four bytes.
pub(super) fn head(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut magic = Vec::with_capacity(4);
    stream.take(4).read_to_end(&mut magic)?;
    Ok(magic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_packing_is_known_by_its_first_bytes() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut gzip, b"hello").unwrap();
        let packed = [b"hello".to_vec(), gzip.finish().unwrap(), zstd::encode_all(&b"hello"[..], 1).unwrap()];
        for bytes in packed {
            let mut text = String::new();
            unpacked(&bytes[..]).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "hello");
        }
        assert_eq!(io::copy(&mut unpacked(&b"a"[..]).unwrap(), &mut io::sink()).unwrap(), 1);
    }
}
