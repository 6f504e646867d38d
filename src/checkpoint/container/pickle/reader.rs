//! The bytes of a pickle, taken one argument at a time.

use anyhow::{Context, Result, ensure};

/// A position in a pickle's bytes.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// The next `length` bytes, without allocating.
    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let rest = &self.bytes[self.position..];
        let taken = rest.get(..length).with_context(|| {
            format!(
                "{length} bytes are announced but only {} follow",
                rest.len()
            )
        })?;
        self.position += length;
        Ok(taken)
    }

    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(super) fn u8(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    /// Length-prefixed bytes; the length takes `width` (1, 4 or 8) bytes.
    pub(super) fn counted(&mut self, width: usize) -> Result<&'a [u8]> {
        let mut length = [0; 8];
        length[..width].copy_from_slice(self.take(width)?);
        let length = u64::from_le_bytes(length);
        let length = usize::try_from(length)
            .with_context(|| format!("{length} bytes are announced, more than any file has"))?;
        self.take(length)
    }

    /// Text up to a line feed, which is consumed but not returned.
    pub(super) fn line(&mut self) -> Result<&'a str> {
        let rest = &self.bytes[self.position..];
        let length = rest
            .iter()
            .position(|&byte| byte == b'\n')
            .context("a name is not terminated")?;
        self.position += length + 1;
        std::str::from_utf8(&rest[..length]).context("a name is not UTF-8")
    }

    /// A signed little-endian integer of any number of bytes; `None` beyond 64 bits.
    pub(super) fn integer(bytes: &[u8]) -> Option<i64> {
        let negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
        let fill = if negative { 0xff } else { 0 };
        let low = bytes.get(..8).unwrap_or(bytes);
        let mut value = [fill; 8];
        value[..low.len()].copy_from_slice(low);
        let value = i64::from_le_bytes(value);
        let extension = &bytes[low.len()..];
        let same_sign = (value < 0) == negative;
        (extension.iter().all(|&byte| byte == fill) && same_sign).then_some(value)
    }

    /// Checks that a frame of the stated length fits.
    pub(super) fn frame(&mut self) -> Result<()> {
        let length = u64::from_le_bytes(self.array()?);
        let rest = (self.bytes.len() - self.position) as u64;
        ensure!(
            length <= rest,
            "a frame of {length} bytes is announced but only {rest} follow"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_any_length() {
        let cases: &[(&[u8], Option<i64>)] = &[
            (&[], Some(0)),
            (&[0x7f], Some(127)),
            (&[0xff], Some(-1)),
            (&[0xff, 0x00], Some(255)),
            (&[0, 0, 0, 0, 0, 0, 0, 0x80], Some(i64::MIN)),
            (&[0xff; 20], Some(-1)),
            (&[0, 0, 0, 0, 0, 0, 0, 0x80, 0], None),
            (&[0, 0, 0, 0, 0, 0, 0, 0, 1], None),
            (&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0], Some(1)),
        ];
        for (bytes, expected) in cases {
            assert_eq!(Reader::integer(bytes), *expected, "{bytes:?}");
        }
    }
}
