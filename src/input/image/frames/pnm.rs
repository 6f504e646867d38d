//! Binary PNM images (PBM, PGM, PPM, PAM) after one another, as `ffmpeg -f image2pipe -c:v ppm`
//! writes them.
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
    matches!(start, [b'P', b'4'..=b'7', ..]) && Format::of(start) == Some(Format::Pnm)
}

/// The length in bytes of the first of the images in a file with these first bytes; `None` if its
/// header is damaged.
pub(super) fn length_of_first(start: &[u8]) -> Option<u64> {
    let (header, shape) = PnmStream::new(start).header().ok()??;
    shape.bytes().checked_add(header.len() as u64)
}

/// Images in progress.
pub(super) struct PnmStream<R> {
    stream: R,
}

impl<R: BufRead> PnmStream<R> {
    pub(super) fn new(stream: R) -> Self {
        Self { stream }
    }

    /// The header of the next image as it is stored, and what it says; `None` at the end of the
    /// stream.
    fn header(&mut self) -> Result<Option<(Vec<u8>, Shape)>> {
        let mut header = Header {
            stream: &mut self.stream,
            bytes: Vec::new(),
        };
        let Some(first) = header.byte()? else {
            return Ok(None);
        };
        let shape = match (first, header.byte()?) {
            (b'P', Some(b'4')) => Shape {
                columns: header.number()?,
                rows: header.number()?,
                ..Shape::default()
            },
            (b'P', Some(kind @ (b'5' | b'6'))) => Shape {
                columns: header.number()?,
                rows: header.number()?,
                most: header.number()?,
                samples: if kind == b'6' { 3 } else { 1 },
            },
            (b'P', Some(b'7')) => header.lines()?,
            _ => bail!("the stream continues with something that is not a binary PNM image"),
        };
        Ok(Some((header.bytes, shape)))
    }
}

/// What a header says.
#[derive(Default)]
struct Shape {
    columns: u32,
    rows: u32,
    /// Samples per pixel; 0 where a pixel is a bit.
    samples: u32,
    /// The largest sample.
    most: u32,
}

impl Shape {
    /// Bytes of all samples.
    fn bytes(&self) -> u64 {
        let bits = match (self.samples, self.most) {
            (0, _) => 1,
            (samples, ..=255) => 8 * u64::from(samples),
            (samples, _) => 16 * u64::from(samples),
        };
        let row = u64::from(self.columns).saturating_mul(bits).div_ceil(8);
        row.saturating_mul(self.rows.into())
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

    /// The lines of a PAM header, up to the one that ends it.
    fn lines(&mut self) -> Result<Shape> {
        let mut shape = Shape::default();
        loop {
            let start = self.bytes.len();
            while self.byte()?.context(CUT)? != b'\n' {}
            let line = String::from_utf8_lossy(&self.bytes[start..]);
            let mut words = line.split_ascii_whitespace();
            let number = match words.next() {
                Some("WIDTH") => &mut shape.columns,
                Some("HEIGHT") => &mut shape.rows,
                Some("DEPTH") => &mut shape.samples,
                Some("MAXVAL") => &mut shape.most,
                Some("ENDHDR") => break,
                _ => continue, // the names of the samples, a comment
            };
            let value = words.next().and_then(|word| word.parse().ok());
            *number = value.with_context(|| Format::Pnm.damaged())?;
        }
        ensure!(shape.samples > 0, Format::Pnm.damaged());
        Ok(shape)
    }
}

impl<R: BufRead> Series for PnmStream<R> {
    fn next(
        &mut self,
        options: &DecodeOptions,
        to: Option<&mut dyn Rows>,
    ) -> Result<Option<Passed>> {
        let Some((header, shape)) = self.header()? else {
            return Ok(None);
        };
        check_size(shape.columns, shape.rows, options)?;
        let bytes = shape.bytes();
        let Some(rows) = to else {
            pass_over(&mut self.stream, bytes)?;
            return Ok(Some(Passed {
                time: None,
                facts: None,
            }));
        };
        options.memory.check(bytes, "to read")?;
        let mut image = header;
        let start = image.len();
        image.resize(start + usize::try_from(bytes)?, 0);
        fill(&mut self.stream, &mut image[start..])?;
        // Only now: others must not wait for a stream that pauses.
        let _held = options.memory.file(bytes)?;
        let facts = Some(decode_rows(&image, options, rows)?);
        Ok(Some(Passed { time: None, facts }))
    }
}
