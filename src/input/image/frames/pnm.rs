//! Binary PPM and PGM images after one another, as `ffmpeg -f image2pipe -c:v ppm` writes them.
//! Here each is only found; it is decoded like a file of its own.

use std::io::{BufRead, Read as _};

use anyhow::{Context as _, Result, bail, ensure};

use super::super::format::Format;
use super::super::rows::Rows;
use super::super::{DecodeOptions, check_size, decode_rows};
use super::{CUT, Passed, Series, fill, pass_over};

/// Longer headers are refused; they have about 15 bytes, and comments.
const LONGEST_HEADER: usize = 4096;

/// Whether a stream with these first bytes begins with such an image.
pub(super) fn is_binary(start: &[u8]) -> bool {
    matches!(start, [b'P', b'5' | b'6', ..]) && Format::of(start) == Some(Format::Pnm)
}

/// Images in progress.
pub(super) struct PnmStream<R> {
    stream: R,
}

impl<R: BufRead> PnmStream<R> {
    pub(super) fn new(stream: R) -> Self {
        Self { stream }
    }

    /// The header of the next image as it is stored, with the sizes in it: columns, rows and the
    /// largest sample; `None` at the end of the stream.
    fn header(&mut self) -> Result<Option<(Vec<u8>, [u32; 3])>> {
        let mut header = Header {
            stream: &mut self.stream,
            bytes: Vec::new(),
        };
        let Some(first) = header.byte()? else {
            return Ok(None);
        };
        let kind = header.byte()?;
        ensure!(
            matches!((first, kind), (b'P', Some(b'5' | b'6'))),
            "the stream continues with something that is not a binary PPM or PGM image"
        );
        let mut sizes = [0; 3];
        for size in &mut sizes {
            *size = header.number()?;
        }
        Ok(Some((header.bytes, sizes)))
    }
}

struct Header<'a, R> {
    stream: &'a mut R,
    bytes: Vec<u8>,
}

impl<R: BufRead> Header<'_, R> {
    fn byte(&mut self) -> Result<Option<u8>> {
        ensure!(self.bytes.len() < LONGEST_HEADER, Format::Pnm.damaged());
        let next = self.stream.bytes().next().transpose();
        let next = next.context("cannot be read")?;
        self.bytes.extend(next);
        Ok(next)
    }

    /// The next number, with the byte that ends it.
    fn number(&mut self) -> Result<u32> {
        let mut number: Option<u32> = None;
        loop {
            match (self.byte()?.context(CUT)?, number) {
                (digit @ b'0'..=b'9', _) => {
                    let value = number.unwrap_or(0).checked_mul(10);
                    let value = value.and_then(|value| value.checked_add(u32::from(digit - b'0')));
                    number = Some(value.unwrap_or(u32::MAX));
                }
                (b'#', _) => while self.byte()?.context(CUT)? != b'\n' {},
                (white, Some(number)) if white.is_ascii_whitespace() => return Ok(number),
                (white, None) if white.is_ascii_whitespace() => {}
                _ => bail!(Format::Pnm.damaged()),
            }
        }
    }
}

impl<R: BufRead> Series for PnmStream<R> {
    fn next(
        &mut self,
        options: &DecodeOptions,
        to: Option<&mut dyn Rows>,
    ) -> Result<Option<Passed>> {
        let Some((header, [width, height, most])) = self.header()? else {
            return Ok(None);
        };
        check_size(width, height, options)?;
        let samples = if header.starts_with(b"P6") { 3 } else { 1 };
        let deep = if most > 255 { 2 } else { 1 };
        let bytes = u64::from(width) * u64::from(height) * samples * deep;
        let Some(rows) = to else {
            pass_over(&mut self.stream, bytes)?;
            return Ok(Some(Passed {
                time: None,
                facts: None,
            }));
        };
        let _held = options.memory.file(bytes)?;
        let mut image = header;
        let start = image.len();
        image.resize(start + usize::try_from(bytes)?, 0);
        fill(&mut self.stream, &mut image[start..])?;
        let facts = Some(decode_rows(&image, options, rows)?);
        Ok(Some(Passed { time: None, facts }))
    }
}
