//! The entries of a TIFF file's directory, in words that a photographer knows where they are not
//! supported.

use anyhow::{Result, bail, ensure};

use super::fax::Coding;
use super::layout::{AlphaKind, Colours, Compression, MAX_SAMPLES, Predictor, SampleKind, YCbCr};
use crate::input::image::directory::Directory;
use crate::input::image::format::{self, Format};

/// Tag numbers (TIFF 6.0 and its supplements).
pub(super) mod tag {
    pub(in super::super) const WIDTH: u16 = 256;
    pub(in super::super) const HEIGHT: u16 = 257;
    pub(in super::super) const BITS: u16 = 258;
    pub(in super::super) const COMPRESSION: u16 = 259;
    pub(in super::super) const PHOTOMETRIC: u16 = 262;
    pub(in super::super) const FILL_ORDER: u16 = 266;
    pub(in super::super) const STRIP_OFFSETS: u16 = 273;
    pub(in super::super) const SAMPLES: u16 = 277;
    pub(in super::super) const ROWS_PER_STRIP: u16 = 278;
    pub(in super::super) const STRIP_LENGTHS: u16 = 279;
    pub(in super::super) const PLANAR: u16 = 284;
    pub(in super::super) const FAX_OPTIONS: u16 = 292;
    pub(in super::super) const PREDICTOR: u16 = 317;
    pub(in super::super) const COLOUR_MAP: u16 = 320;
    pub(in super::super) const TILE_WIDTH: u16 = 322;
    pub(in super::super) const TILE_HEIGHT: u16 = 323;
    pub(in super::super) const TILE_OFFSETS: u16 = 324;
    pub(in super::super) const TILE_LENGTHS: u16 = 325;
    pub(in super::super) const INK_SET: u16 = 332;
    pub(in super::super) const EXTRA_SAMPLES: u16 = 338;
    pub(in super::super) const SAMPLE_FORMAT: u16 = 339;
    pub(in super::super) const JPEG_TABLES: u16 = 347;
    pub(in super::super) const LUMA_WEIGHTS: u16 = 529;
    pub(in super::super) const SUBSAMPLING: u16 = 530;
    pub(in super::super) const REFERENCE: u16 = 532;
}

/// Maximum size of a palette: three numbers for each of 16 bits.
const PALETTE_NUMBERS: usize = 3 << 16;

/// The error for an unsupported kind of TIFF.
pub(super) fn unsupported(what: &str) -> anyhow::Error {
    format::unsupported(&format!("a TIFF with {what}"))
}

pub(super) fn compression(directory: &Directory) -> Result<Compression> {
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

pub(super) fn colours(
    directory: &Directory,
    samples: usize,
    packing: Compression,
) -> Result<Colours> {
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

pub(super) fn alpha(directory: &Directory, extra: usize) -> AlphaKind {
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

pub(super) fn bits(directory: &Directory, samples: usize) -> Result<usize> {
    let bits = directory
        .integers(tag::BITS, samples)
        .unwrap_or_else(|| vec![1]);
    let first = bits.first().copied().unwrap_or(1);
    let is_even = bits.iter().all(|own| *own == first);
    ensure!(is_even, unsupported("samples of different sizes"));
    ensure!((1..=64).contains(&first), Format::Tiff.damaged());
    Ok(first as usize)
}

pub(super) fn kind(directory: &Directory, bits: usize) -> Result<SampleKind> {
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

pub(super) fn predictor(directory: &Directory) -> Result<Predictor> {
    match directory.number(tag::PREDICTOR).unwrap_or(1) {
        1 => Ok(Predictor::None),
        2 => Ok(Predictor::Left),
        3 => Ok(Predictor::FloatingPoint),
        _ => Err(Format::Tiff.damaged()),
    }
}

pub(super) fn subsampling(
    directory: &Directory,
    colours: &Colours,
    packing: Compression,
) -> (u32, u32) {
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
