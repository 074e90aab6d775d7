//! Frames of SPDY/3.1, as far as port-forward needs them: read from and written as bytes, pure.
//!
//! SPDY protocol draft 3.1, section 2. There is no flow control: neither kubectl nor the kubelet has any.

use flate2::{Decompress, FlushDecompress, Status};
use hyper::body::Bytes;

/// Longest frame that is read; kubectl sends 32 kB at once.
const LONGEST: usize = 1 << 20;
/// Most bytes of uncompressed headers.
const MOST_HEADERS: usize = 64 * 1024;
const HEAD: usize = 8;
const CONTROL: [u8; 2] = [0x80, 3];
const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const HEADERS: u16 = 8;
const FIN: u8 = 1;
/// `PROTOCOL_ERROR` of `RST_STREAM`.
const PROTOCOL_ERROR: u32 = 1;

/// Why a client is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    #[error("a frame of {0} bytes, more than {LONGEST}")]
    Long(usize),
    #[error("a frame of type {0} that is cut short")]
    Short(u16),
    #[error("headers that cannot be uncompressed")]
    Headers,
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    /// A new stream with its headers.
    Open { stream: u32, headers: Vec<(String, String)> },
    /// Bytes of a stream.
    Data { stream: u32, bytes: Bytes, last: Last },
    /// A stream is given up.
    Reset { stream: u32 },
    /// To be sent back.
    Ping { id: u32 },
    /// Nothing of interest.
    Other,
}

/// Whether more of the stream follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Last {
    Yes,
    No,
}

/// Takes a stream of bytes apart.
#[derive(Debug)]
pub(super) struct Reader {
    buffer: Vec<u8>,
    /// How much of the buffer was taken: it is moved once per message, not per frame.
    taken: usize,
    inflate: Decompress,
}

impl Reader {
    pub(super) fn new() -> Self {
        Self { buffer: Vec::new(), taken: 0, inflate: Decompress::new(true) }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next frame; none until more bytes are there.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, Error> {
        let waiting = self.buffer.get(self.taken..).unwrap_or_default();
        let Some(head) = waiting.first_chunk::<HEAD>().copied() else { return Ok(None) };
        let [first, second, third, fourth, flags, length @ ..] = head;
        let length = u32::from_be_bytes([0, length[0], length[1], length[2]]) as usize;
        if length > LONGEST {
            return Err(Error::Long(length));
        }
        let Some(frame) = waiting.get(HEAD..HEAD + length) else { return Ok(None) };
        let frame = frame.to_vec();
        self.taken += HEAD + length;
        if first & 0x80 != 0 {
            return self.control(u16::from_be_bytes([third, fourth]), &frame).map(Some);
        }
        let stream = u32::from_be_bytes([first, second, third, fourth]);
        let last = if flags & FIN != 0 { Last::Yes } else { Last::No };
        Ok(Some(Frame::Data { stream, bytes: frame.into(), last }))
    }

    fn control(&mut self, kind: u16, frame: &[u8]) -> Result<Frame, Error> {
        let number = || frame.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
        let number = || number().ok_or(Error::Short(kind));
        match kind {
            SYN_STREAM => {
                let block = frame.get(10..).ok_or(Error::Short(kind))?;
                Ok(Frame::Open { stream: number()? & 0x7fff_ffff, headers: self.headers(block)? })
            }
            // All header blocks are one compressed stream: none may be left out.
            SYN_REPLY | HEADERS => {
                self.headers(frame.get(4..).ok_or(Error::Short(kind))?)?;
                Ok(Frame::Other)
            }
            RST_STREAM => Ok(Frame::Reset { stream: number()? & 0x7fff_ffff }),
            PING => Ok(Frame::Ping { id: number()? }),
            _ => Ok(Frame::Other),
        }
    }

    /// Names and values of a compressed block.
    fn headers(&mut self, mut block: &[u8]) -> Result<Vec<(String, String)>, Error> {
        let mut plain = Vec::with_capacity(MOST_HEADERS);
        while !block.is_empty() {
            let before = self.inflate.total_in();
            let status = self.inflate.decompress_vec(block, &mut plain, FlushDecompress::Sync);
            let taken = usize::try_from(self.inflate.total_in() - before).unwrap_or(usize::MAX);
            block = block.get(taken..).ok_or(Error::Headers)?;
            match status {
                Ok(Status::Ok) if taken > 0 => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    self.inflate.set_dictionary(&dictionary()).map_err(|_| Error::Headers)?;
                }
                // It is at its end, or there is no room for the rest.
                Ok(_) | Err(_) => return Err(Error::Headers),
            }
        }
        pairs(&plain).ok_or(Error::Headers)
    }
}

/// Reads a number of pairs of texts, each text after its length.
fn pairs(plain: &[u8]) -> Option<Vec<(String, String)>> {
    let (count, mut rest) = plain.split_first_chunk()?;
    let mut text = || {
        let (length, after) = rest.split_first_chunk()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (text, after) = after.split_at_checked(length)?;
        rest = after;
        Some(String::from_utf8_lossy(text).into_owned())
    };
    (0..u32::from_be_bytes(*count)).map(|_| Some((text()?, text()?))).collect()
}

/// Bytes of a stream.
pub(super) fn data(stream: u32, bytes: &[u8], last: Last) -> Vec<u8> {
    let flags = if last == Last::Yes { FIN } else { 0 };
    [&stream.to_be_bytes()[..], &[flags], &length(bytes), bytes].concat()
}

/// Sends a ping back.
pub(super) fn pong(id: u32) -> Vec<u8> {
    control(PING, &id.to_be_bytes())
}

/// Refuses a stream.
pub(super) fn reset(stream: u32) -> Vec<u8> {
    control(RST_STREAM, &[stream.to_be_bytes(), PROTOCOL_ERROR.to_be_bytes()].concat())
}

/// Accepts streams, without headers.
#[derive(Debug, Default)]
pub(super) struct Replies {
    begun: bool,
}

impl Replies {
    /// No pairs, in one stored block; then an empty one, which makes the reader give out what it has (RFC 1951 section
    /// 3.2.4). The first header block begins the compressed stream with the dictionary's checksum (RFC 1950 section 2.2).
    pub(super) fn accept(&mut self, stream: u32) -> Vec<u8> {
        let start: &[u8] = match std::mem::replace(&mut self.begun, true) {
            true => &[],
            false => &[0x78, 0xbb, 0xe3, 0xc6, 0xa7, 0xc2],
        };
        let block = [0, 4, 0, 0xfb, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
        control(SYN_REPLY, &[&stream.to_be_bytes(), start, &block].concat())
    }
}

fn control(kind: u16, bytes: &[u8]) -> Vec<u8> {
    [&CONTROL[..], &kind.to_be_bytes(), &[0], &length(bytes), bytes].concat()
}

/// The length of a frame's content: three bytes.
fn length(bytes: &[u8]) -> [u8; 3] {
    let [_, length @ ..] =
        u32::try_from(bytes.len()).expect("frames are written from buffers of kilobytes").to_be_bytes();
    length
}

/// What compression of headers starts with: words after their lengths, then text; section 2.6.10.1.
fn dictionary() -> Vec<u8> {
    let word = |word: &str| {
        let word = word.replace('_', " ");
        let length = u32::try_from(word.len()).expect("a word is short");
        [&length.to_be_bytes(), word.as_bytes()].concat()
    };
    let mut dictionary: Vec<u8> = WORDS.split_ascii_whitespace().flat_map(word).collect();
    dictionary.extend_from_slice(TEXT.as_bytes());
    dictionary
}

const WORDS: &str = "options head post put delete trace accept accept-charset accept-encoding accept-language \
    accept-ranges age allow authorization cache-control connection content-base content-encoding content-language \
    content-length content-location content-md5 content-range content-type date etag expect expires from host if-match \
    if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma \
    proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade \
    user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie \
    keep-alive origin";

const TEXT: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 \
Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not \
Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec \
00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,\
application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,\
utf-,*,enq=0.";

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compress, Compression, FlushCompress};
    use proptest::prelude::*;

    fn headers(compress: &mut Compress, all: &[(&str, &str)]) -> Vec<u8> {
        let mut plain = (all.len() as u32).to_be_bytes().to_vec();
        for text in all.iter().flat_map(|(name, value)| [name, value]) {
            plain.extend((text.len() as u32).to_be_bytes());
            plain.extend(text.as_bytes());
        }
        let mut block = Vec::with_capacity(4096);
        compress.compress_vec(&plain, &mut block, FlushCompress::Sync).unwrap();
        block
    }

    fn open(stream: u32, block: &[u8]) -> Vec<u8> {
        control(SYN_STREAM, &[&stream.to_be_bytes()[..], &[0; 6], block].concat())
    }

    #[test]
    fn headers_are_one_compressed_stream_with_a_dictionary() {
        let mut compress = Compress::new(Compression::default(), true);
        assert_eq!(compress.set_dictionary(&dictionary()).unwrap(), 0xe3c6_a7c2);
        let all = [("port", "80"), ("streamtype", "data"), ("requestid", "0")];
        let mut reader = Reader::new();
        for stream in [1, 3, 5] {
            let bytes = open(stream, &headers(&mut compress, &all));
            let (one, two) = bytes.split_at(9);
            reader.push(one);
            assert_eq!(reader.next().unwrap(), None);
            reader.push(two);
            let headers = all.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
            assert_eq!(reader.next().unwrap(), Some(Frame::Open { stream, headers }));
        }
    }

    #[test]
    fn replies_are_read_as_no_headers() {
        let (mut replies, mut reader) = (Replies::default(), Reader::new());
        for stream in [1, 3] {
            let reply = replies.accept(stream);
            assert_eq!(reader.headers(&reply[HEAD + 4..]).unwrap(), []);
        }
    }

    #[test]
    fn frames_are_read_back() {
        let mut reader = Reader::new();
        for bytes in [data(7, b"hi", Last::Yes), pong(9), reset(7), control(4, &[0; 4])] {
            reader.push(&bytes);
        }
        let bytes = Bytes::from_static(b"hi");
        let wanted = [Frame::Data { stream: 7, bytes, last: Last::Yes }, Frame::Ping { id: 9 }];
        for frame in wanted.into_iter().chain([Frame::Reset { stream: 7 }, Frame::Other]) {
            assert_eq!(reader.next().unwrap(), Some(frame));
        }
        assert_eq!(reader.next().unwrap(), None);
        reader.push(&control(PING, &[0]));
        assert_eq!(reader.next().unwrap_err(), Error::Short(PING));
        reader.push(&[0, 0, 0, 1, 0, 0xff, 0, 0]);
        assert_eq!(reader.next().unwrap_err(), Error::Long(0xff_0000));
    }

    proptest! {
        #[test]
        fn any_bytes_are_frames_or_an_error(mut pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..64), 0..8)) {
            let mut reader = Reader::new();
            pieces.insert(0, vec![0x80, 3, 0, 1, 0, 0, 0, 40]);
            for piece in pieces {
                reader.push(&piece);
                for _ in 0..100 {
                    if !matches!(reader.next(), Ok(Some(_))) { break; }
                }
            }
        }
    }
}
