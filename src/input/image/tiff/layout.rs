//! Parses how a TIFF file stores its pixels, or refuses what is not supported, in words that a
//! photographer knows.

use anyhow::{Result, bail, ensure};

use super::fax::Coding;
use super::fields::{
    alpha, bits, colours, compression, kind, predictor, subsampling, tag, unsupported,
};
use super::unpack::ZSTD_WINDOW;
use crate::input::image::directory::{ByteOrder, Directory};
use crate::input::image::format::Format;

/// Maximum samples per pixel. Satellite images have a dozen.
pub(super) const MAX_SAMPLES: usize = 32;

/// Maximum number of strips or tiles: one per row of the highest image, in four planes.
const MAX_CHUNKS: usize = 4_000_000;

/// Allowed size of a chunk for an image of any size: a tile of 4096 x 4096 pixels of RGBA.
const CHUNK_BYTES: usize = 64 << 20;

/// Allowed bytes of a chunk per retained sample of the image: the largest sample.
const SAMPLE_BYTES: usize = 8;

/// How the pixels are stored.
pub(super) struct TiffLayout<'a> {
    pub(super) width: u32,
    pub(super) height: u32,
    /// Samples per pixel, and how many of them are kept: colours, then alpha.
    pub(super) samples: usize,
    pub(super) kept: usize,
    pub(super) bits: usize,
    pub(super) kind: SampleKind,
    pub(super) colours: Colours,
    pub(super) alpha: AlphaKind,
    pub(super) compression: Compression,
    pub(super) predictor: Predictor,
    pub(super) is_planar: bool,
    pub(super) is_bit_reversed: bool,
    pub(super) order: ByteOrder,
    /// Size of a strip or tile; strips are as wide as the image.
    pub(super) chunk_width: u32,
    pub(super) chunk_height: u32,
    pub(super) is_tiled: bool,
    pub(super) offsets: Vec<u64>,
    pub(super) lengths: Vec<u64>,
    pub(super) jpeg_tables: Option<&'a [u8]>,
    /// Pixels that share a chroma sample, horizontally and vertically; 1 and 1 once it is
    /// upsampled.
    pub(super) subsampling: (u32, u32),
}

/// Type of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SampleKind {
    Unsigned,
    Signed,
    Float,
}

/// The smallest type that holds the samples of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KindOfSamples {
    Bytes,
    Words,
    Floats,
}

/// Meaning of the colour samples.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Colours {
    Grey {
        is_inverted: bool,
    },
    Rgb,
    /// Red, green and blue of each index.
    Palette(Vec<[u8; 3]>),
    Cmyk,
    YCbCr(YCbCr),
}

/// Conversion of YCbCr to RGB.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct YCbCr {
    /// Weights of red, green and blue in luma.
    pub(super) weights: [f32; 3],
    /// The codes of black and white, or of no colour and most colour, for each of the three.
    pub(super) reference: [[f32; 2]; 3],
}

/// The sample after the colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AlphaKind {
    Absent,
    Plain,
    /// Colours are premultiplied with it.
    Premultiplied,
}

/// Compression of chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Lzw,
    Deflate,
    PackBits,
    Zstd,
    Fax(Coding),
    Jpeg,
    WebP,
}

/// Predictor: what samples are stored as differences from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Predictor {
    None,
    Left,
    FloatingPoint,
}

impl<'a> TiffLayout<'a> {
    /// Width and height only, for the limit on pixels.
    pub(super) fn size(directory: &Directory) -> Result<(u32, u32)> {
        let side = |tag| {
            let side = directory
                .number(tag)
                .and_then(|side| u32::try_from(side).ok());
            side.ok_or_else(|| Format::Tiff.damaged())
        };
        Ok((side(tag::WIDTH)?, side(tag::HEIGHT)?))
    }

    /// Parses the layout of the image that `directory` describes.
    pub(super) fn of(directory: &Directory<'a>) -> Result<Self> {
        let (width, height) = Self::size(directory)?;
        let number = |tag, default| directory.number(tag).unwrap_or(default);
        let compression = compression(directory)?;
        let samples = number(tag::SAMPLES, 1).clamp(1, u64::from(u16::MAX)) as usize;
        ensure!(
            samples <= MAX_SAMPLES,
            unsupported(&format!("{samples} samples per pixel"))
        );
        let colours = colours(directory, samples, compression)?;
        let alpha = alpha(directory, samples - colours.count());
        let is_tiled = directory.has(tag::TILE_OFFSETS);
        let (chunk_width, chunk_height) = chunk_size(directory, width, height, is_tiled)?;
        let [offsets, lengths] = if is_tiled {
            [tag::TILE_OFFSETS, tag::TILE_LENGTHS]
        } else {
            [tag::STRIP_OFFSETS, tag::STRIP_LENGTHS]
        };
        let bits = bits(directory, samples)?;
        let is_planar = number(tag::PLANAR, 1) == 2 && samples > 1;
        let across = width.div_ceil(chunk_width) as usize;
        let down = height.div_ceil(chunk_height) as usize;
        let chunks = across.saturating_mul(down);
        let chunks = chunks.saturating_mul(if is_planar { samples } else { 1 });
        ensure!(chunks <= MAX_CHUNKS, Format::Tiff.oversized());
        let layout = Self {
            width,
            height,
            samples,
            kept: colours.count() + usize::from(alpha != AlphaKind::Absent),
            bits,
            kind: kind(directory, bits)?,
            subsampling: subsampling(directory, &colours, compression),
            colours,
            alpha,
            compression,
            predictor: predictor(directory)?,
            is_planar,
            is_bit_reversed: number(tag::FILL_ORDER, 1) == 2
                && !matches!(compression, Compression::Jpeg | Compression::WebP),
            order: directory.order(),
            chunk_width,
            chunk_height,
            is_tiled,
            offsets: directory
                .integers(offsets, chunks)
                .ok_or_else(|| Format::Tiff.cut())?,
            lengths: directory.integers(lengths, chunks).unwrap_or_default(),
            jpeg_tables: directory.data(tag::JPEG_TABLES),
        };
        layout.check()?;
        layout.check_chunk()?;
        Ok(layout)
    }

    /// Refuses unsupported combinations.
    fn check(&self) -> Result<()> {
        let is_whole = matches!((self.kind, self.bits), (SampleKind::Unsigned, 1..=16 | 32));
        let is_signed = matches!((self.kind, self.bits), (SampleKind::Signed, 16 | 32));
        let is_float = matches!((self.kind, self.bits), (SampleKind::Float, 16 | 32 | 64));
        if !(is_whole || is_signed || is_float) {
            let what = match self.kind {
                SampleKind::Float => "floating-point",
                _ => "whole",
            };
            let bits = self.bits;
            bail!(unsupported(&format!(
                "{what} numbers of {bits} bits per sample"
            )));
        }
        let is_byte = self.bits == 8 && self.kind == SampleKind::Unsigned;
        let is_bit = self.bits == 1 && self.samples_in_chunk() == 1;
        match (self.compression, &self.colours) {
            (Compression::Fax(_), _) if !is_bit => bail!(unsupported("fax compression of colours")),
            (Compression::Jpeg | Compression::WebP, _) | (_, Colours::YCbCr(_)) if !is_byte => {
                bail!(unsupported("JPEG or YCbCr colours of more than 8 bits"))
            }
            (_, Colours::Palette(palette)) if palette.is_empty() => {
                bail!(Format::Tiff.damaged())
            }
            (_, Colours::Palette(_)) if self.bits > 8 || self.kind != SampleKind::Unsigned => {
                bail!(unsupported("a palette of more than 256 colours"))
            }
            _ => {}
        }
        let is_subsampled = self.subsampling != (1, 1);
        let is_odd = self.is_planar || self.samples != 3 || self.predictor != Predictor::None;
        ensure!(
            !(is_subsampled && is_odd),
            unsupported("subsampled chroma in planes of its own")
        );
        let is_plain = match self.predictor {
            Predictor::None => true,
            Predictor::Left => matches!(self.bits, 8 | 16 | 32 | 64),
            Predictor::FloatingPoint => self.kind == SampleKind::Float,
        };
        ensure!(
            is_plain,
            unsupported("a predictor for samples of this size")
        );
        Ok(())
    }

    /// Refuses chunks that take far more memory than the image itself: they would be allocated,
    /// decompressed or as one row of 64-bit codes, because a few bytes say so.
    fn check_chunk(&self) -> Result<()> {
        let pixels = (self.width as usize).saturating_mul(self.height as usize);
        let most = pixels.saturating_mul(self.kept * SAMPLE_BYTES);
        let rows = self.stored_rows(self.chunk_height) as usize;
        let codes = (self.chunk_width as usize).saturating_mul(self.samples_in_chunk() * 8);
        let needed = self.row_bytes().saturating_mul(rows).max(codes);
        ensure!(needed <= most.max(CHUNK_BYTES), Format::Tiff.oversized());
        Ok(())
    }

    /// The type of the samples.
    pub(super) fn kind_of_samples(&self) -> KindOfSamples {
        match (self.kind, self.bits) {
            (SampleKind::Unsigned, ..=8) => KindOfSamples::Bytes,
            (SampleKind::Unsigned, ..=16) => KindOfSamples::Words,
            _ => KindOfSamples::Floats,
        }
    }

    /// Chunks of a plane, side by side and one below the other.
    pub(super) fn chunks(&self) -> (usize, usize) {
        let across = self.width.div_ceil(self.chunk_width);
        let down = self.height.div_ceil(self.chunk_height);
        (across as usize, down as usize)
    }

    /// Planes that are read.
    pub(super) fn planes(&self) -> usize {
        if self.is_planar { self.kept } else { 1 }
    }

    /// Whether a chunk is unpacked row by row. A row of tiles or planes would need as many
    /// decompressors at once; and some kinds are unpacked as a whole.
    pub(super) fn is_streamed(&self) -> bool {
        let is_whole = matches!(
            self.compression,
            Compression::Fax(_) | Compression::Jpeg | Compression::WebP
        );
        !(is_whole || self.is_tiled || self.is_planar || self.subsampling != (1, 1))
    }

    /// The bytes that reading the image takes, `rows` at once, from a file of `length` bytes.
    pub(super) fn bytes_held(&self, length: usize, rows: usize) -> u64 {
        let chunk = self.row_bytes() * self.stored_rows(self.chunk_height) as usize;
        let pixels = self.chunk_width as usize * self.chunk_height as usize;
        let unpacked = match self.compression {
            // Planes, coefficients and samples of the image in it.
            Compression::Jpeg | Compression::WebP => chunk + pixels * 10,
            Compression::Zstd => chunk + chunk.min(ZSTD_WINDOW),
            _ => chunk,
        };
        let spread = if self.subsampling == (1, 1) {
            0
        } else {
            3 * pixels
        };
        let chunks = match self.is_streamed() {
            true => unpacked - chunk,
            false => (chunk + spread) * self.chunks().0 * self.planes() + unpacked,
        };
        // The samples as stored, as numbers, as read, as colours, and as RGB.
        let row = self.chunk_width as usize * self.samples_in_chunk() * 16;
        let band = self.width as usize * (self.kept * 4 + 12) * rows;
        let turned = if self.is_bit_reversed { length } else { 0 };
        (chunks + row + band + turned) as u64
    }

    /// Samples per pixel in a chunk.
    pub(super) fn samples_in_chunk(&self) -> usize {
        if self.is_planar { 1 } else { self.samples }
    }

    /// Bytes of a stored row of a chunk; with subsampled chroma, of a row of blocks.
    pub(super) fn row_bytes(&self) -> usize {
        let width = self.chunk_width as usize;
        let (across, down) = (self.subsampling.0 as usize, self.subsampling.1 as usize);
        if (across, down) == (1, 1) {
            (width * self.samples_in_chunk() * self.bits).div_ceil(8)
        } else {
            width.div_ceil(across) * (across * down + 2)
        }
    }

    /// How many stored rows hold `rows` rows of pixels.
    pub(super) fn stored_rows(&self, rows: u32) -> u32 {
        rows.div_ceil(self.subsampling.1)
    }
}

impl Colours {
    /// Colour samples per pixel.
    pub(super) fn count(&self) -> usize {
        match self {
            Self::Grey { .. } | Self::Palette(_) => 1,
            Self::Rgb | Self::YCbCr(_) => 3,
            Self::Cmyk => 4,
        }
    }
}

fn chunk_size(
    directory: &Directory,
    width: u32,
    height: u32,
    is_tiled: bool,
) -> Result<(u32, u32)> {
    let side = |tag| {
        let side = directory.number(tag).unwrap_or(0);
        u32::try_from(side).ok().filter(|side| *side > 0)
    };
    let damaged = || Format::Tiff.damaged();
    if !is_tiled {
        let rows = side(tag::ROWS_PER_STRIP).unwrap_or(height);
        return Ok((width, rows.min(height)));
    }
    let across = side(tag::TILE_WIDTH).ok_or_else(damaged)?;
    let down = side(tag::TILE_HEIGHT).ok_or_else(damaged)?;
    // A tile may be larger than a small image, but not by much.
    let is_fitting = |side: u32, whole: u32| side <= whole.saturating_mul(2).max(4096);
    let is_sane = is_fitting(across, width) && is_fitting(down, height);
    ensure!(is_sane, Format::Tiff.oversized());
    Ok((across, down))
}
