//! TIFF, as Pillow and libtiff read it: any layout and most compressions; the rest is refused by a
//! name that a photographer knows. Decompression is other crates' work; the `tiff` crate supports
//! too few colour types, ignores the bit order and panics on planes of tiles.

mod colours;
mod fax;
mod fields;
mod layout;
mod unpack;

use std::io::Read as _;

use anyhow::Result;
use half::f16;

use super::directory::{ByteOrder, Directory};
use super::format::Format;
use super::rows::{Feed, band_rows};
use super::{check_size, orient};
use colours::Levels;
use layout::{AlphaKind, Colours, KindOfSamples, Predictor, SampleKind, TiffLayout};

/// Tag of the sample format, of which 2 is signed.
const SAMPLE_FORMAT: u16 = 339;

/// Decodes the first image of a TIFF file.
pub(super) fn decode(bytes: &[u8], feed: &mut Feed) -> Result<()> {
    let directory = Directory::first(bytes).ok_or_else(|| Format::Tiff.cut())?;
    let (width, height) = TiffLayout::size(&directory)?;
    check_size(width, height, feed.options)?;
    let layout = TiffLayout::of(&directory)?;
    let needed = layout.bytes_held(bytes.len(), rows_at_once(&layout));
    feed.start((width, height), orient::of_tiff(&directory), needed)?;
    let levels = match layout.kind_of_samples() {
        KindOfSamples::Floats => Some(levels(&layout, bytes)?),
        _ => None,
    };
    if let Some(levels) = &levels {
        feed.warn(levels.guess());
    }
    let is_signed = directory.number(SAMPLE_FORMAT) == Some(2);
    remarks(&layout, is_signed).for_each(|warning| feed.warn(warning));
    each_band(&layout, bytes, |rows, samples| {
        feed.add(colours::image(&layout, rows, samples, levels.as_ref())?);
        Ok(())
    })
}

/// The range of samples that have no fixed one, for which all of them are read first.
fn levels(layout: &TiffLayout, bytes: &[u8]) -> Result<Levels> {
    let (mut least, mut most) = (0.0_f32, 0.0_f32);
    each_band(layout, bytes, |_, samples| {
        if let Samples::Floats(samples) = samples {
            for sample in samples.into_iter().filter(|sample| sample.is_finite()) {
                (least, most) = (least.min(sample), most.max(sample));
            }
        }
        Ok(())
    })?;
    Levels::of(layout, least, most)
}

/// Warnings about what the image does not show of the file.
fn remarks(layout: &TiffLayout, is_signed: bool) -> impl Iterator<Item = String> {
    // Larger ones are numbers without a fixed range, which have a warning of their own.
    let signed = (is_signed && layout.bits <= 8).then(|| {
        "tiff: the samples are marked as signed bytes and were read as unsigned".to_owned()
    });
    let (bands, colours) = (layout.samples, layout.colours.count());
    let has_alpha = layout.alpha != AlphaKind::Absent;
    let read_as = match layout.colours {
        Colours::Grey { .. } => "the first is read as grey",
        _ => "the first ones are read as colours",
    };
    // With one extra sample, such as near infrared with RGB, the colours stay what they are.
    let is_more = bands > colours + 1 + usize::from(has_alpha);
    let dropped = is_more.then(|| format!("tiff: {bands} bands; {read_as} and the others ignored"));
    signed.into_iter().chain(dropped)
}

/// The samples of an image as stored, in the smallest type that holds them.
pub(super) enum Samples {
    /// Unsigned, of 1 to 8 bits.
    Bytes(Vec<u8>),
    /// Unsigned, of 9 to 16 bits.
    Words(Vec<u16>),
    /// Everything else.
    Floats(Vec<f32>),
}

/// Passes the samples that `layout` keeps to `take`, some rows at a time, with their number.
fn each_band(
    layout: &TiffLayout,
    bytes: &[u8],
    mut take: impl FnMut(u32, Samples) -> Result<()>,
) -> Result<()> {
    match layout.kind_of_samples() {
        KindOfSamples::Bytes if layout.bits == 8 => gather(layout, bytes, byte_row, |rows, all| {
            take(rows, Samples::Bytes(all))
        }),
        KindOfSamples::Bytes => {
            let row = |layout: &TiffLayout, row: &mut [u8]| codes(layout, row, |code| code as u8);
            gather(layout, bytes, row, |rows, all| {
                take(rows, Samples::Bytes(all))
            })
        }
        KindOfSamples::Words => {
            let row = |layout: &TiffLayout, row: &mut [u8]| codes(layout, row, |code| code as u16);
            gather(layout, bytes, row, |rows, all| {
                take(rows, Samples::Words(all))
            })
        }
        KindOfSamples::Floats => {
            let (kind, bits) = (layout.kind, layout.bits);
            let row = move |layout: &TiffLayout, row: &mut [u8]| {
                codes(layout, row, |code| number(kind, bits, code))
            };
            gather(layout, bytes, row, |rows, all| {
                take(rows, Samples::Floats(all))
            })
        }
    }
}

/// How many rows are read at once.
fn rows_at_once(layout: &TiffLayout) -> usize {
    band_rows(layout.width as usize * layout.kept * 4)
}

/// A sample of any kind from its bits.
fn number(kind: SampleKind, bits: usize, code: u64) -> f32 {
    match (kind, bits) {
        (SampleKind::Float, 16) => f16::from_bits(code as u16).to_f32(),
        (SampleKind::Float, 32) => f32::from_bits(code as u32),
        (SampleKind::Float, _) => f64::from_bits(code) as f32,
        (SampleKind::Signed, 16) => f32::from(code as u16 as i16),
        (SampleKind::Signed, _) => code as u32 as i32 as f32,
        (SampleKind::Unsigned, _) => code as f32,
    }
}

/// Assembles the chunks; `row` turns a stored row into its samples, and `take` gets some rows of
/// all of them.
fn gather<T: Copy + Default>(
    layout: &TiffLayout,
    bytes: &[u8],
    row: impl Fn(&TiffLayout, &mut [u8]) -> Vec<T>,
    mut take: impl FnMut(u32, Vec<T>) -> Result<()>,
) -> Result<()> {
    let (width, height) = (layout.width as usize, layout.height as usize);
    let (across, down) = layout.chunks();
    let row_bytes = match &layout.colours {
        Colours::YCbCr(_) if layout.subsampling != (1, 1) => layout.chunk_width as usize * 3,
        _ => layout.row_bytes(),
    };
    let mut stored = vec![0; row_bytes];
    for place in 0..down {
        let top = place * layout.chunk_height as usize;
        let visible = (height - top).min(layout.chunk_height as usize);
        let rows = match layout.is_tiled {
            true => layout.chunk_height,
            false => visible as u32,
        };
        let mut chunks = Vec::new();
        for index in 0..layout.planes() * across {
            let (plane, left) = (index / across, index % across);
            let chunk = unpack::chunk(layout, bytes, (plane * down + place) * across + left, rows)?;
            chunks.push(chunk);
        }
        for first in (0..visible).step_by(rows_at_once(layout)) {
            let count = rows_at_once(layout).min(visible - first);
            let mut pixels = vec![T::default(); width * count * layout.kept];
            for (index, chunk) in chunks.iter_mut().enumerate() {
                let (plane, left) = (index / across, index % across * layout.chunk_width as usize);
                let columns = (width - left).min(layout.chunk_width as usize);
                for target in pixels.chunks_exact_mut(width * layout.kept) {
                    chunk
                        .read_exact(&mut stored)
                        .map_err(|_| Format::Tiff.damaged())?;
                    let samples = row(layout, &mut stored);
                    let target = &mut target[left * layout.kept..][..columns * layout.kept];
                    copy(layout, plane, &samples, target);
                }
            }
            take(count as u32, pixels)?;
        }
    }
    Ok(())
}

/// Copies one row of a chunk into the image: all retained samples, or one plane's.
fn copy<T: Copy>(layout: &TiffLayout, plane: usize, samples: &[T], target: &mut [T]) {
    let kept = layout.kept;
    if layout.is_planar {
        let target = target.iter_mut().skip(plane).step_by(kept);
        target.zip(samples).for_each(|(to, from)| *to = *from);
    } else if kept == layout.samples {
        target.copy_from_slice(&samples[..target.len()]);
    } else {
        let pixels = samples.chunks_exact(layout.samples);
        for (to, from) in target.chunks_exact_mut(kept).zip(pixels) {
            to.copy_from_slice(&from[..kept]);
        }
    }
}

/// A row of bytes, in place as far as it goes.
fn byte_row(layout: &TiffLayout, row: &mut [u8]) -> Vec<u8> {
    if layout.predictor == Predictor::Left {
        let stride = layout.samples_in_chunk();
        for at in stride..row.len() {
            row[at] = row[at].wrapping_add(row[at - stride]);
        }
    }
    row.to_vec()
}

/// A row of samples of any size, converted from their bits by `convert`.
fn codes<T>(layout: &TiffLayout, row: &mut [u8], convert: impl Fn(u64) -> T) -> Vec<T> {
    let stride = layout.samples_in_chunk();
    let count = layout.chunk_width as usize * stride;
    let bits = layout.bits;
    let mut codes: Vec<u64> = if layout.predictor == Predictor::FloatingPoint {
        by_significance(row, stride, count, bits / 8)
    } else if bits.is_multiple_of(8) {
        let join = |code: u64, byte: &u8| code << 8 | u64::from(*byte);
        let samples = row.chunks_exact(bits / 8).take(count);
        match layout.order {
            ByteOrder::Big => samples.map(|bytes| bytes.iter().fold(0, join)).collect(),
            ByteOrder::Little => samples
                .map(|bytes| bytes.iter().rev().fold(0, join))
                .collect(),
        }
    } else {
        (0..count)
            .map(|index| bits_at(row, index * bits, bits))
            .collect()
    };
    if layout.predictor == Predictor::Left {
        let mask = u64::MAX >> (64 - bits);
        for at in stride..codes.len() {
            codes[at] = codes[at].wrapping_add(codes[at - stride]) & mask;
        }
    }
    codes.into_iter().map(convert).collect()
}

/// Up to 16 bits from bit `at`, most significant first.
fn bits_at(row: &[u8], at: usize, bits: usize) -> u64 {
    let byte = |index: usize| u64::from(row.get(index).copied().unwrap_or(0));
    let first = at / 8;
    let window = byte(first) << 16 | byte(first + 1) << 8 | byte(first + 2);
    window >> (24 - at % 8 - bits) & ((1 << bits) - 1)
}

/// The floating-point predictor: differences of bytes; the most significant bytes of all samples
/// come first, then the next ones, and so on.
fn by_significance(row: &mut [u8], stride: usize, count: usize, size: usize) -> Vec<u64> {
    for at in stride..row.len() {
        row[at] = row[at].wrapping_add(row[at - stride]);
    }
    let byte = |index: usize| u64::from(row.get(index).copied().unwrap_or(0));
    let sample = |index: usize| (0..size).fold(0, |code, k| code << 8 | byte(k * count + index));
    (0..count).map(sample).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_read_most_significant_first() {
        let row = [0b1011_0010, 0b1110_0001];
        assert_eq!(bits_at(&row, 0, 1), 1);
        assert_eq!(bits_at(&row, 2, 4), 0b1100);
        assert_eq!(bits_at(&row, 4, 12), 0b0010_1110_0001);
        assert_eq!(bits_at(&row, 8, 16), 0b1110_0001_0000_0000);
    }

    #[test]
    fn numbers_of_every_kind_are_read() {
        let cases = [
            (SampleKind::Float, 16, 0x3C00, 1.0),
            (SampleKind::Float, 32, 0x4000_0000, 2.0),
            (SampleKind::Float, 64, 0x4008_0000_0000_0000, 3.0),
            (SampleKind::Signed, 16, 0xFFFE, -2.0),
            (SampleKind::Signed, 32, 0xFFFF_FFFD, -3.0),
            (SampleKind::Unsigned, 32, 0x8000_0000, 2_147_483_648.0),
        ];
        for (kind, bits, code, expected) in cases {
            assert_eq!(number(kind, bits, code), expected, "{kind:?} {bits}");
        }
    }

    #[test]
    fn the_floating_point_predictor_is_undone() {
        // 1.0 and 2.0: 3F 80 00 00, 40 00 00 00, by significance 3F 40 80 00 00 00 00 00, then as
        // differences.
        let mut row = [0x3F, 0x01, 0x40, 0x80, 0, 0, 0, 0];
        let codes = by_significance(&mut row, 1, 2, 4);
        assert_eq!(codes, [0x3F80_0000, 0x4000_0000]);
    }
}
