//! Text in a fixed buffer, for a child that must not allocate.

use std::ffi::CStr;

use nix::errno::Errno;

/// A C string of at most `N` - 1 bytes. Too much of it is ENAMETOOLONG.
#[derive(Debug)]
pub(super) struct Text<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Text<N> {
    pub(super) fn new() -> Self {
        Self { bytes: [0; N], length: 0 }
    }

    pub(super) fn push(&mut self, more: &[u8]) -> nix::Result<()> {
        let end = self.length.saturating_add(more.len());
        // The last byte stays null.
        if end >= N {
            return Err(Errno::ENAMETOOLONG);
        }
        self.bytes[self.length..end].copy_from_slice(more);
        self.length = end;
        Ok(())
    }

    /// Appends a number in base 8 or 10.
    pub(super) fn number(&mut self, number: u32, base: u32) -> nix::Result<()> {
        if number >= base {
            self.number(number / base, base)?;
        }
        self.push(&[b'0' + (number % base) as u8])
    }

    pub(super) fn truncate(&mut self, length: usize) {
        let length = length.min(self.length);
        self.bytes[length..self.length].fill(0);
        self.length = length;
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    pub(super) fn as_c_str(&self) -> nix::Result<&CStr> {
        // A null byte inside would silently shorten what the kernel reads.
        CStr::from_bytes_with_nul(&self.bytes[..=self.length]).map_err(|_| Errno::EINVAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_put_together_without_memory_of_its_own() {
        let mut text = Text::<16>::new();
        text.push(b"mode=").unwrap();
        text.number(0o1777, 8).unwrap();
        assert_eq!(text.as_c_str().unwrap(), c"mode=1777");
        assert_eq!(text.push(b"0123456789"), Err(Errno::ENAMETOOLONG));
        text.truncate(4);
        assert_eq!(text.as_c_str().unwrap(), c"mode");
    }
}
