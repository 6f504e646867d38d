//! Decompresses one strip or tile to its rows; fax (CCITT) is written here, the rest is other
//! crates'.

use std::convert::Infallible;
use std::io::{Cursor, Read};

use anyhow::{Result, bail, ensure};
use fax::BitReader;
use fax::maps::{Mode, black, mode, white};
use flate2::read::ZlibDecoder;
use image::ImageDecoder as _;
use image::codecs::webp::WebPDecoder;
use weezl::BitOrder;
use weezl::decode::Configuration;

use super::layout::{Compression, TiffLayout};
use crate::input::image::format::{Format, unsupported};

/// Maximum window size for zstd: that of its strongest levels.
const ZSTD_WINDOW: u64 = 128 << 20;

/// Decompresses chunk `index`: `rows` rows of `layout.row_bytes()` each.
pub(super) fn chunk(layout: &TiffLayout, bytes: &[u8], index: usize, rows: u32) -> Result<Vec<u8>> {
    let row_bytes = layout.row_bytes();
    let length = row_bytes * layout.stored_rows(rows) as usize;
    let packed = stored(layout, bytes, index, length)?;
    let turned: Vec<u8>;
    let packed = if layout.is_bit_reversed {
        turned = packed.iter().map(|byte| byte.reverse_bits()).collect();
        &turned
    } else {
        packed
    };
    let width = layout.chunk_width;
    let unpacked = match layout.compression {
        Compression::None => packed.to_vec(),
        Compression::Lzw => lzw(packed, length)?,
        Compression::Deflate => drain(ZlibDecoder::new(packed), length),
        Compression::PackBits => pack_bits(packed, length),
        Compression::Zstd => {
            let decoder =
                ruzstd::decoding::StreamingDecoder::new_with_max_window_size(packed, ZSTD_WINDOW);
            drain(decoder.map_err(|_| damaged())?, length)
        }
        Compression::Fax(coding) => decode(packed, width, rows, coding).ok_or_else(damaged)?,
        Compression::Jpeg => jpeg(layout, packed, rows)?,
        Compression::WebP => webp(layout, packed, rows)?,
    };
    ensure!(unpacked.len() >= length, "{}", damaged());
    Ok(unpacked)
}

fn damaged() -> anyhow::Error {
    Format::Tiff.damaged()
}

/// The bytes of a chunk as stored in the file.
fn stored<'a>(
    layout: &TiffLayout,
    bytes: &'a [u8],
    index: usize,
    length: usize,
) -> Result<&'a [u8]> {
    let cut = || Format::Tiff.cut();
    let offset = layout.offsets.get(index).ok_or_else(damaged)?;
    let rest = usize::try_from(*offset).ok().and_then(|at| bytes.get(at..));
    let rest = rest.ok_or_else(cut)?;
    if matches!(layout.compression, Compression::None) {
        // Uncompressed data have a known length, whatever the file says about it.
        return rest.get(..length).ok_or_else(cut);
    }
    match layout.lengths.get(index) {
        Some(length) => {
            let length = usize::try_from(*length).ok();
            length.and_then(|length| rest.get(..length)).ok_or_else(cut)
        }
        None => Ok(rest),
    }
}

/// Up to `length` bytes of what `reader` decompresses.
fn drain(reader: impl Read, length: usize) -> Vec<u8> {
    let mut unpacked = Vec::new();
    // Missing bytes are detected by the length.
    let _ = reader.take(length as u64).read_to_end(&mut unpacked);
    unpacked
}

fn lzw(packed: &[u8], length: usize) -> Result<Vec<u8>> {
    // Writers before 1992 put the lowest bit first, which shows in their first code, 256.
    let is_old = matches!(packed, [0, second, ..] if second & 1 == 1);
    let configuration = if is_old {
        Configuration::new(BitOrder::Lsb, 8)
    } else {
        Configuration::with_tiff_size_switch(BitOrder::Msb, 8)
    };
    let mut decoder = configuration.build();
    let mut unpacked = Vec::new();
    let mut block = [0; 1 << 14];
    let mut rest = packed;
    while unpacked.len() < length {
        let result = decoder.decode_bytes(rest, &mut block);
        rest = &rest[result.consumed_in..];
        unpacked.extend_from_slice(&block[..result.consumed_out]);
        match result.status {
            Ok(weezl::LzwStatus::Ok) if result.consumed_in + result.consumed_out > 0 => {}
            Ok(_) => break,
            Err(_) => return Err(damaged()),
        }
    }
    Ok(unpacked)
}

/// PackBits: a byte `n` announces n + 1 literal bytes, or, if negative, one byte 1 - n times.
fn pack_bits(mut packed: &[u8], length: usize) -> Vec<u8> {
    let mut unpacked = Vec::new();
    while let ([head, rest @ ..], true) = (packed, unpacked.len() < length) {
        packed = match (*head as i8, rest) {
            (-128, rest) => rest,
            (head @ 0.., rest) => {
                let (plain, rest) = rest.split_at(rest.len().min(head as usize + 1));
                unpacked.extend_from_slice(plain);
                rest
            }
            (head, [byte, rest @ ..]) => {
                let count = usize::from(head.unsigned_abs()) + 1;
                unpacked.resize(unpacked.len() + count, *byte);
                rest
            }
            (_, []) => break,
        };
    }
    unpacked
}

/// A JPEG file without its tables, which are in the header of the TIFF file. Its components are not
/// converted: the TIFF file says which colours they are.
fn jpeg(layout: &TiffLayout, packed: &[u8], rows: u32) -> Result<Vec<u8>> {
    let joined: Vec<u8>;
    let packed = match (layout.jpeg_tables, packed.strip_prefix(b"\xFF\xD8")) {
        (Some(tables), Some(rest)) => {
            let tables = tables.strip_suffix(b"\xFF\xD9").unwrap_or(tables);
            joined = [tables, rest].concat();
            &joined
        }
        _ => packed,
    };
    let fault = |error| match error {
        jpeg_decoder::Error::Unsupported(_) => unsupported("a TIFF with this kind of JPEG in it"),
        jpeg_decoder::Error::Io(_) => Format::Tiff.cut(),
        _ => damaged(),
    };
    let mut decoder = jpeg_decoder::Decoder::new(packed);
    decoder.read_info().map_err(fault)?;
    let info = decoder.info().ok_or_else(damaged)?;
    // These two leave the components unchanged, except for CMYK, which is inverted.
    let (samples, transform) = match info.pixel_format {
        jpeg_decoder::PixelFormat::L8 => (1, jpeg_decoder::ColorTransform::Grayscale),
        jpeg_decoder::PixelFormat::RGB24 => (3, jpeg_decoder::ColorTransform::RGB),
        jpeg_decoder::PixelFormat::CMYK32 => (4, jpeg_decoder::ColorTransform::CMYK),
        jpeg_decoder::PixelFormat::L16 => {
            bail!(unsupported("a TIFF with 16-bit JPEG in it"))
        }
    };
    decoder.set_color_transform(transform);
    fit(layout, info.width.into(), info.height.into(), samples, rows)?;
    let mut decoded = decoder.decode().map_err(fault)?;
    if samples == 4 {
        decoded.iter_mut().for_each(|ink| *ink = 255 - *ink);
    }
    Ok(crop(layout, decoded, usize::from(info.width) * samples))
}

fn webp(layout: &TiffLayout, packed: &[u8], rows: u32) -> Result<Vec<u8>> {
    let decoder = WebPDecoder::new(Cursor::new(packed)).map_err(|_| damaged())?;
    let (width, height) = decoder.dimensions();
    let samples = usize::from(decoder.color_type().channel_count());
    fit(layout, width, height, samples, rows)?;
    let mut decoded = vec![0; width as usize * height as usize * samples];
    decoder.read_image(&mut decoded).map_err(|_| damaged())?;
    Ok(crop(layout, decoded, width as usize * samples))
}

/// Refuses an embedded image that does not fill its chunk, or is far larger.
fn fit(layout: &TiffLayout, width: u32, height: u32, samples: usize, rows: u32) -> Result<()> {
    let (most_wide, most_high) = (layout.chunk_width, layout.chunk_height);
    let is_fitting = samples == layout.samples_in_chunk()
        && (layout.chunk_width..=most_wide.next_multiple_of(64)).contains(&width)
        && (rows..=most_high.next_multiple_of(64)).contains(&height);
    if is_fitting { Ok(()) } else { Err(damaged()) }
}

/// The left part of each row.
fn crop(layout: &TiffLayout, decoded: Vec<u8>, row: usize) -> Vec<u8> {
    let wanted = layout.row_bytes();
    if row <= wanted {
        return decoded;
    }
    let rows = decoded.chunks_exact(row);
    rows.flat_map(|row| row[..wanted].iter().copied()).collect()
}

/// How rows are coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    /// Runs, each row aligned to a unit of so many bits (compression 2, and 32771).
    Runs { unit: usize },
    /// Runs between end-of-line codes, or, if `mixed`, after a bit that says so, differences from
    /// the row above (compression 3).
    Group3 { mixed: bool },
    /// Differences from the row above (compression 4).
    Group4,
}

/// Bits, most significant first; zeros past the end.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl BitReader for Bits<'_> {
    type Error = Infallible;

    fn peek(&self, bits: u8) -> Option<u16> {
        let byte = |index: usize| u32::from(self.bytes.get(index).copied().unwrap_or(0));
        let first = self.at / 8;
        let window = byte(first) << 16 | byte(first + 1) << 8 | byte(first + 2);
        let shift = 24 - self.at % 8 - usize::from(bits);
        Some((window >> shift & ((1 << bits) - 1)) as u16)
    }

    fn consume(&mut self, bits: u8) -> Result<(), Infallible> {
        self.at += usize::from(bits);
        Ok(())
    }

    fn bits_to_byte_boundary(&self) -> u8 {
        (8 - self.at % 8) as u8 % 8
    }
}

impl Bits<'_> {
    /// Whether nothing but the zeros that pad the last byte follows: no code is all zeros.
    fn is_over(&self) -> bool {
        let left = (self.bytes.len() * 8).saturating_sub(self.at);
        left < 8 && self.peek(8) == Some(0)
    }

    /// Skips an end-of-line code, eleven or more zeros and a one, if one is next.
    fn skip_mark(&mut self) -> bool {
        if self.peek(11) != Some(0) {
            return false;
        }
        let start = self.at;
        while self.at < self.bytes.len() * 8 {
            let bit = self.peek(1);
            self.at += 1;
            if bit == Some(1) {
                return true;
            }
        }
        self.at = start;
        false
    }

    /// The length of a run; codes above 63 are followed by another.
    fn run(&mut self, is_black: bool) -> Option<u32> {
        let mut length = 0_u32;
        loop {
            let part = match is_black {
                true => black::decode(self)?,
                false => white::decode(self)?,
            };
            length = length.checked_add(u32::from(part))?;
            if part < 64 {
                return Some(length);
            }
        }
    }
}

/// Decodes `rows` rows of `width` pixels into bits, a black pixel as 1, each row aligned to a byte.
/// `None` if the data are invalid; rows missing at the end are white.
fn decode(bytes: &[u8], width: u32, rows: u32, coding: Coding) -> Option<Vec<u8>> {
    let mut bits = Bits { bytes, at: 0 };
    let row_bytes = width.div_ceil(8) as usize;
    let mut pixels = vec![0; row_bytes * rows as usize];
    let mut above: Vec<u32> = Vec::new();
    for row in pixels.chunks_exact_mut(row_bytes) {
        let Some(changes) = next_row(&mut bits, &above, width, coding)? else {
            break;
        };
        paint(row, &changes, width);
        above = changes;
    }
    Some(pixels)
}

/// Where the next row changes colour, beginning with white; `Some(None)` if there are no more rows.
fn next_row(
    bits: &mut Bits,
    above: &[u32],
    width: u32,
    coding: Coding,
) -> Option<Option<Vec<u32>>> {
    let is_flat = match coding {
        Coding::Runs { unit } => {
            bits.at = bits.at.next_multiple_of(unit);
            true
        }
        Coding::Group3 { mixed } => {
            let mut marks = 0;
            let mut is_flat = true;
            while bits.skip_mark() {
                marks += 1;
                if mixed {
                    is_flat = bits.peek(1) == Some(1);
                    bits.at += 1;
                }
            }
            if marks > 1 {
                return Some(None); // marks in a row end the page
            }
            is_flat
        }
        Coding::Group4 => false,
    };
    if bits.is_over() {
        return Some(None);
    }
    if is_flat {
        return flat_row(bits, width).map(Some);
    }
    row_by_difference(bits, above, width)
}

fn flat_row(bits: &mut Bits, width: u32) -> Option<Vec<u32>> {
    let mut changes = Vec::new();
    let (mut at, mut is_black) = (0_u32, false);
    while at < width {
        at = at.checked_add(bits.run(is_black)?)?.min(width);
        changes.push(at);
        is_black = !is_black;
    }
    Some(changes)
}

fn row_by_difference(bits: &mut Bits, above: &[u32], width: u32) -> Option<Option<Vec<u32>>> {
    let mut changes = Vec::new();
    let (mut at, mut is_black) = (0_u32, false);
    let mut is_start = true;
    let mut index = 0_usize;
    let change = |index: usize| above.get(index).copied().unwrap_or(width);
    while at < width {
        // The next change above to this row's other colour: at most one before the last one.
        index = index.saturating_sub(1);
        let is_passed = |change: u32| change < at || change == at && !is_start;
        while index < above.len() && (is_passed(change(index)) || (index % 2 == 1) != is_black) {
            index += 1;
        }
        let next = change(index);
        match mode::decode(bits)? {
            Mode::Pass => at = change(index + 1),
            Mode::Vertical(by) => {
                let to = next.checked_add_signed(i32::from(by))?;
                if to < at {
                    return None;
                }
                at = to.min(width);
                changes.push(at);
                is_black = !is_black;
            }
            Mode::Horizontal => {
                for is_black in [is_black, !is_black] {
                    at = at.checked_add(bits.run(is_black)?)?.min(width);
                    changes.push(at);
                }
            }
            Mode::EOF => return Some(None),
            Mode::Extension => return None,
        }
        is_start = false;
    }
    Some(Some(changes))
}

/// Sets the bits between every other change and the one after it.
fn paint(row: &mut [u8], changes: &[u32], width: u32) {
    let (pairs, last) = changes.as_chunks::<2>();
    let open = last.first().map(|change| [*change, width]);
    // The runs from a white to the next one: changes 0 to 1, 2 to 3, ….
    for [from, to] in pairs.iter().copied().chain(open) {
        for pixel in from..to {
            row[pixel as usize / 8] |= 0x80 >> (pixel % 8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pack_bits_unpacks_runs_and_literals() {
        let packed = [0xFE, 0xAA, 0x02, 1, 2, 3, 0x80, 0xFF, 9];
        let expected = [0xAA, 0xAA, 0xAA, 1, 2, 3, 9, 9];
        assert_eq!(pack_bits(&packed, 8), expected);
        assert_eq!(pack_bits(&packed[..4], 8), expected[..4]);
        assert!(pack_bits(&[0xFE], 8).is_empty());
    }

    #[test]
    fn both_bit_orders_of_lzw_are_recognised() {
        let plain: Vec<u8> = (0..5000_u32).map(|i| (i * i % 13) as u8).collect();
        let new = weezl::encode::Encoder::with_tiff_size_switch(BitOrder::Msb, 8).encode(&plain);
        assert_eq!(lzw(&new.unwrap(), 5000).unwrap(), plain);
        let old = weezl::encode::Encoder::new(BitOrder::Lsb, 8).encode(&plain);
        assert_eq!(lzw(&old.unwrap(), 5000).unwrap(), plain);
    }

    /// Bits written as text, without spaces.
    fn bits(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(|b| *b != b' ').collect();
        digits
            .chunks(8)
            .map(|byte| {
                let byte = byte.iter().enumerate();
                byte.fold(0, |sum, (at, digit)| sum | (digit - b'0') << (7 - at))
            })
            .collect()
    }

    #[test]
    fn all_codings_give_the_same_rows() {
        // Eight pixels: two white, three black, three white; then the same row again, and a white
        // one.
        let run = "0111 10 1000"; // white 2, black 3, white 3
        let blank = "10011"; // white 8
        let mark = "000000000001";
        let mixed = Coding::Group3 { mixed: true };
        let plain = Coding::Group3 { mixed: false };
        let cases = [
            (
                format!("{run}000000 {run}000000 {blank}"),
                Coding::Runs { unit: 8 },
            ),
            (format!("{mark}{run} {mark}{run} 0000{mark}{blank}"), plain),
            (format!("{run}{run}{blank}"), plain),
            (format!("{mark}1{run} {mark}0 1 1 1 {mark}1{blank}"), mixed),
            // Differences: horizontal 2 and 3, the rest as above (nothing there); the same; a pass
            // over what was black, the rest as above. Then the end of the block.
            (
                format!("001 0111 10 1 1 1 1 0001 1 {mark}{mark}"),
                Coding::Group4,
            ),
        ];
        for (text, coding) in cases {
            let pixels = decode(&bits(&text), 8, 4, coding);
            assert_eq!(
                pixels,
                Some(vec![0b0011_1000, 0b0011_1000, 0, 0]),
                "{coding:?}"
            );
        }
    }

    #[test]
    fn invalid_data_are_refused_and_an_early_end_is_white() {
        let nonsense = bits("00000000 1111");
        assert_eq!(decode(&nonsense, 8, 1, Coding::Runs { unit: 8 }), None);
        for coding in [
            Coding::Runs { unit: 16 },
            Coding::Group3 { mixed: true },
            Coding::Group4,
        ] {
            assert_eq!(decode(b"", 9, 1, coding), Some(vec![0, 0]));
        }
    }
}
