//! Parses how a TIFF file stores its pixels, or refuses what is not supported, in words that a
//! photographer knows.

use anyhow::{Result, bail, ensure};

use super::unpack::Coding;
use crate::input::image::directory::{ByteOrder, Directory};
use crate::input::image::format::{self, Format};

/// Tag numbers (TIFF 6.0 and its supplements).
mod tag {
    pub(super) const WIDTH: u16 = 256;
    pub(super) const HEIGHT: u16 = 257;
    pub(super) const BITS: u16 = 258;
    pub(super) const COMPRESSION: u16 = 259;
    pub(super) const PHOTOMETRIC: u16 = 262;
    pub(super) const FILL_ORDER: u16 = 266;
    pub(super) const STRIP_OFFSETS: u16 = 273;
    pub(super) const SAMPLES: u16 = 277;
    pub(super) const ROWS_PER_STRIP: u16 = 278;
    pub(super) const STRIP_LENGTHS: u16 = 279;
    pub(super) const PLANAR: u16 = 284;
    pub(super) const FAX_OPTIONS: u16 = 292;
    pub(super) const PREDICTOR: u16 = 317;
    pub(super) const COLOUR_MAP: u16 = 320;
    pub(super) const TILE_WIDTH: u16 = 322;
    pub(super) const TILE_HEIGHT: u16 = 323;
    pub(super) const TILE_OFFSETS: u16 = 324;
    pub(super) const TILE_LENGTHS: u16 = 325;
    pub(super) const INK_SET: u16 = 332;
    pub(super) const EXTRA_SAMPLES: u16 = 338;
    pub(super) const SAMPLE_FORMAT: u16 = 339;
    pub(super) const JPEG_TABLES: u16 = 347;
    pub(super) const LUMA_WEIGHTS: u16 = 529;
    pub(super) const SUBSAMPLING: u16 = 530;
    pub(super) const REFERENCE: u16 = 532;
}

/// Maximum samples per pixel. Satellite images have a dozen.
const MAX_SAMPLES: usize = 32;

/// Maximum size of a palette: three numbers for each of 16 bits.
const PALETTE_NUMBERS: usize = 3 << 16;

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
        let across = width.div_ceil(chunk_width) as usize;
        let down = height.div_ceil(chunk_height) as usize;
        let chunks = across.saturating_mul(down).saturating_mul(samples);
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
            is_planar: number(tag::PLANAR, 1) == 2 && samples > 1,
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

/// The error for an unsupported kind of TIFF.
fn unsupported(what: &str) -> anyhow::Error {
    format::unsupported(&format!("a TIFF with {what}"))
}

fn compression(directory: &Directory) -> Result<Compression> {
    let name = match directory.number(tag::COMPRESSION).unwrap_or(1) {
        1 => return Ok(Compression::None),
        2 => return Ok(Compression::Fax(Coding::Runs { unit: 8 })),
        32771 => return Ok(Compression::Fax(Coding::Runs { unit: 16 })),
        3 => {
            let options = directory.number(tag::FAX_OPTIONS).unwrap_or(0);
            let mixed = options & 1 == 1;
            return Ok(Compression::Fax(Coding::Group3 { mixed }));
        }
        4 => return Ok(Compression::Fax(Coding::Group4)),
        5 => return Ok(Compression::Lzw),
        7 => return Ok(Compression::Jpeg),
        8 | 32946 => return Ok(Compression::Deflate),
        32773 => return Ok(Compression::PackBits),
        50000 => return Ok(Compression::Zstd),
        50001 => return Ok(Compression::WebP),
        6 => "JPEG compression of the old kind (before 1995)",
        32766 => "NeXT compression",
        32809 => "ThunderScan compression",
        32909 => "PixarLog compression",
        34661 => "JBIG compression",
        33003 | 33004 | 33005 | 34712 => "JPEG 2000 compression",
        34676 | 34677 => "high dynamic range (SGI LogLuv) compression",
        34713 => "Nikon NEF compression (a camera's raw file)",
        34887 => "LERC compression",
        34892 => "lossy DNG compression (a camera's raw file)",
        34925 => "LZMA compression",
        34933 => "PNG compression",
        34934 | 22610 => "JPEG XR compression",
        50002 | 52546 => "JPEG XL compression",
        other => bail!(unsupported(&format!("compression number {other}"))),
    };
    Err(unsupported(name))
}

fn colours(directory: &Directory, samples: usize, packing: Compression) -> Result<Colours> {
    // Without this entry, which is mandatory: grey, or RGB from three samples on.
    let default = if samples >= 3 { 2 } else { 0 };
    let photometric = directory.number(tag::PHOTOMETRIC).unwrap_or(default);
    let colours = match photometric {
        0 | 1 => Colours::Grey {
            is_inverted: photometric == 0,
        },
        2 => Colours::Rgb,
        3 => Colours::Palette(palette(directory)),
        5 => Colours::Cmyk,
        6 => Colours::YCbCr(ycbcr(directory, packing)),
        4 => bail!(unsupported("a transparency mask for an image")),
        8..=10 => bail!(unsupported("CIE Lab colours")),
        32803 | 34892 => bail!(format::unsupported("a camera's raw file (DNG or similar)")),
        32844 | 32845 => bail!(unsupported("high dynamic range (LogLuv) colours")),
        other => bail!(unsupported(&format!("colours of kind {other}"))),
    };
    let is_ink = colours == Colours::Cmyk && directory.number(tag::INK_SET) == Some(2);
    ensure!(!is_ink, unsupported("inks other than CMYK"));
    ensure!(samples >= colours.count(), Format::Tiff.damaged());
    Ok(colours)
}

/// All reds, then all greens, then all blues, of 16 bits. Some writers fill only the low 8.
fn palette(directory: &Directory) -> Vec<[u8; 3]> {
    let values = directory
        .integers(tag::COLOUR_MAP, PALETTE_NUMBERS)
        .unwrap_or_default();
    let is_low = values.iter().all(|value| *value < 256);
    let byte = |value: u64| {
        if is_low {
            value as u8
        } else {
            (value >> 8) as u8
        }
    };
    let count = values.len() / 3;
    let (reds, rest) = values.split_at(count);
    let (greens, blues) = rest.split_at(count);
    reds.iter()
        .zip(greens)
        .zip(blues)
        .map(|((r, g), b)| [byte(*r), byte(*g), byte(*b)])
        .collect()
}

fn ycbcr(directory: &Directory, packing: Compression) -> YCbCr {
    let numbers = |tag| {
        let numbers = directory.numbers(tag, MAX_SAMPLES).unwrap_or_default();
        numbers
            .into_iter()
            .map(|number| number as f32)
            .collect::<Vec<_>>()
    };
    let weights = numbers(tag::LUMA_WEIGHTS).try_into();
    let weights = weights.ok().filter(|weights: &[f32; 3]| weights[1] > 0.0);
    let reference = match *numbers(tag::REFERENCE) {
        [a, b, c, d, e, f] => Some([[a, b], [c, d], [e, f]]),
        _ => None,
    };
    // A JPEG inside uses the full range, as JPEG files do, whatever the entry says.
    let reference = reference.filter(|reference| {
        packing != Compression::Jpeg && reference.iter().all(|[low, high]| low < high)
    });
    YCbCr {
        weights: weights.unwrap_or([0.299, 0.587, 0.114]),
        reference: reference.unwrap_or([[0.0, 255.0], [128.0, 255.0], [128.0, 255.0]]),
    }
}

fn alpha(directory: &Directory, extra: usize) -> AlphaKind {
    let kinds = directory
        .integers(tag::EXTRA_SAMPLES, 1)
        .unwrap_or_default();
    match (extra, kinds.first()) {
        // Several samples without a description are bands.
        (0, _) | (_, Some(0)) | (2.., None) => AlphaKind::Absent,
        (_, Some(1)) => AlphaKind::Premultiplied,
        _ => AlphaKind::Plain,
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

fn bits(directory: &Directory, samples: usize) -> Result<usize> {
    let bits = directory
        .integers(tag::BITS, samples)
        .unwrap_or_else(|| vec![1]);
    let first = bits.first().copied().unwrap_or(1);
    let is_even = bits.iter().all(|own| *own == first);
    ensure!(is_even, unsupported("samples of different sizes"));
    ensure!((1..=64).contains(&first), Format::Tiff.damaged());
    Ok(first as usize)
}

fn kind(directory: &Directory, bits: usize) -> Result<SampleKind> {
    let kinds = directory
        .integers(tag::SAMPLE_FORMAT, MAX_SAMPLES)
        .unwrap_or_default();
    let first = kinds.first().copied().unwrap_or(1);
    let is_even = kinds.iter().all(|own| *own == first);
    ensure!(is_even, unsupported("samples of different kinds"));
    match first {
        // Bytes marked as signed are usually marked wrong; Pillow ignores the mark.
        2 if bits > 8 => Ok(SampleKind::Signed),
        3 => Ok(SampleKind::Float),
        5 | 6 => Err(unsupported("complex numbers")),
        _ => Ok(SampleKind::Unsigned),
    }
}

fn predictor(directory: &Directory) -> Result<Predictor> {
    match directory.number(tag::PREDICTOR).unwrap_or(1) {
        1 => Ok(Predictor::None),
        2 => Ok(Predictor::Left),
        3 => Ok(Predictor::FloatingPoint),
        _ => Err(Format::Tiff.damaged()),
    }
}

fn subsampling(directory: &Directory, colours: &Colours, packing: Compression) -> (u32, u32) {
    // A JPEG inside is upsampled by its decoder.
    let is_shared = matches!(colours, Colours::YCbCr(_))
        && !matches!(packing, Compression::Jpeg | Compression::WebP);
    match directory.integers(tag::SUBSAMPLING, 3).as_deref() {
        Some([across @ (1 | 2 | 4), down @ (1 | 2 | 4)]) if is_shared => {
            (*across as u32, *down as u32)
        }
        _ if is_shared => (2, 2),
        _ => (1, 1),
    }
}
