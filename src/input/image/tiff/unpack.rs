//! Decompresses one strip or tile, as its rows are read; most of it is other crates' work.

use std::borrow::Cow;
use std::io::{self, Cursor, Read};

use anyhow::{Context as _, Result, bail, ensure};
use flate2::read::ZlibDecoder;
use image::ImageDecoder as _;
use image::codecs::webp::WebPDecoder;
use weezl::BitOrder;
use weezl::decode::Configuration;

use super::fax;
use super::layout::{Compression, TiffLayout};
use crate::input::image::format::{Format, unsupported};

/// Maximum window size for zstd: that of its strongest levels.
pub(super) const ZSTD_WINDOW: usize = 128 << 20;

/// The rows of chunk `index`, as they are unpacked: `rows` rows of `layout.row_bytes()` each, or of
/// three bytes per pixel if its chroma was subsampled.
pub(super) fn chunk<'a>(
    layout: &TiffLayout,
    bytes: &'a [u8],
    index: usize,
    rows: u32,
) -> Result<Box<dyn Read + 'a>> {
    let length = layout.row_bytes() * layout.stored_rows(rows) as usize;
    let packed = stored(layout, bytes, index, length)?;
    let packed: Cow<'a, [u8]> = if layout.is_bit_reversed {
        packed.iter().map(|byte| byte.reverse_bits()).collect()
    } else {
        packed.into()
    };
    let unpacked: Box<dyn Read + 'a> = match layout.compression {
        Compression::None => Box::new(Cursor::new(packed)),
        Compression::Lzw => Box::new(Lzw::new(packed)),
        Compression::Deflate => Box::new(ZlibDecoder::new(Cursor::new(packed))),
        Compression::PackBits => Box::new(PackBits::new(packed)),
        Compression::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(Cursor::new(packed))?;
            decoder.window_log_max(ZSTD_WINDOW.ilog2())?;
            Box::new(decoder)
        }
        Compression::Fax(coding) => {
            let rows = fax::decode(&packed, layout.chunk_width, rows, coding);
            Box::new(Cursor::new(rows.ok_or_else(damaged)?))
        }
        Compression::Jpeg => Box::new(Cursor::new(jpeg(layout, &packed, rows)?)),
        Compression::WebP => Box::new(Cursor::new(webp(layout, &packed, rows)?)),
    };
    if layout.is_streamed() {
        return Ok(unpacked);
    }
    let mut whole = Vec::new();
    // Missing bytes are detected by the length.
    let _ = unpacked.take(length as u64).read_to_end(&mut whole);
    ensure!(whole.len() == length, "{}", damaged());
    if layout.subsampling != (1, 1) {
        whole = spread(layout, &whole, rows as usize).context("the chroma is cut short")?;
    }
    Ok(Box::new(Cursor::new(whole)))
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

/// What LZW decompresses.
struct Lzw<'a> {
    decoder: weezl::decode::Decoder,
    packed: Cow<'a, [u8]>,
    at: usize,
}

impl<'a> Lzw<'a> {
    fn new(packed: Cow<'a, [u8]>) -> Self {
        // Writers before 1992 put the lowest bit first, which shows in their first code, 256.
        let is_old = matches!(&*packed, [0, second, ..] if second & 1 == 1);
        let configuration = if is_old {
            Configuration::new(BitOrder::Lsb, 8)
        } else {
            Configuration::with_tiff_size_switch(BitOrder::Msb, 8)
        };
        Self {
            decoder: configuration.build(),
            packed,
            at: 0,
        }
    }
}

impl Read for Lzw<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        loop {
            let result = self.decoder.decode_bytes(&self.packed[self.at..], to);
            self.at += result.consumed_in;
            match result.status {
                Ok(_) if result.consumed_out > 0 => return Ok(result.consumed_out),
                Ok(weezl::LzwStatus::Ok) if result.consumed_in > 0 => {}
                Ok(_) => return Ok(0),
                Err(_) => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
    }
}

/// What PackBits decompresses: a byte `n` announces n + 1 literal bytes, or, if negative, one byte
/// 1 - n times.
struct PackBits<'a> {
    packed: Cow<'a, [u8]>,
    at: usize,
    /// Bytes of the current piece that are left, and the one that is repeated, if it is.
    left: usize,
    repeated: Option<u8>,
}

impl<'a> PackBits<'a> {
    fn new(packed: Cow<'a, [u8]>) -> Self {
        Self {
            packed,
            at: 0,
            left: 0,
            repeated: None,
        }
    }

    /// Begins the next piece; `None` at the end.
    fn advance(&mut self) -> Option<()> {
        let head = *self.packed.get(self.at)? as i8;
        self.at += 1;
        self.left = match head {
            -128 => 0,
            head => usize::from(head.unsigned_abs()) + 1,
        };
        self.repeated = None;
        if head < 0 && self.left > 0 {
            self.repeated = Some(*self.packed.get(self.at)?);
            self.at += 1;
        }
        Some(())
    }
}

impl Read for PackBits<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < to.len() {
            if self.left == 0 {
                match self.advance() {
                    Some(()) => continue,
                    None => break,
                }
            }
            let most = self.left.min(to.len() - done);
            let count = match self.repeated {
                Some(byte) => {
                    to[done..done + most].fill(byte);
                    most
                }
                None => {
                    let rest = &self.packed[self.at..];
                    let count = most.min(rest.len());
                    to[done..done + count].copy_from_slice(&rest[..count]);
                    self.at += count;
                    count
                }
            };
            if count == 0 {
                break;
            }
            self.left -= count;
            done += count;
        }
        Ok(done)
    }
}

/// Blocks of several luma and one of each chroma -> three samples per pixel.
fn spread(layout: &TiffLayout, chunk: &[u8], rows: usize) -> Option<Vec<u8>> {
    let width = layout.chunk_width as usize;
    let (across, down) = (layout.subsampling.0 as usize, layout.subsampling.1 as usize);
    let (block, luma) = (across * down + 2, across * down);
    let mut pixels = Vec::with_capacity(width * rows * 3);
    for y in 0..rows {
        let blocks = chunk.get(y / down * layout.row_bytes()..)?;
        for x in 0..width {
            let block = blocks.get(x / across * block..)?.get(..block)?;
            let own = block[y % down * across + x % across];
            pixels.extend([own, block[luma], block[luma + 1]]);
        }
    }
    Some(pixels)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// All that a reader gives until it ends or fails, a few bytes at a time.
    fn drain(mut reader: impl Read) -> Vec<u8> {
        let mut all = Vec::new();
        let mut block = [0; 3];
        while let Ok(count @ 1..) = reader.read(&mut block) {
            all.extend_from_slice(&block[..count]);
        }
        all
    }

    #[test]
    fn pack_bits_unpacks_runs_and_literals() {
        let unpacked = |packed: &[u8]| drain(PackBits::new(packed.to_vec().into()));
        let packed = [0xFE, 0xAA, 0x02, 1, 2, 3, 0x80, 0xFF, 9];
        let expected = [0xAA, 0xAA, 0xAA, 1, 2, 3, 9, 9];
        assert_eq!(unpacked(&packed), expected);
        assert_eq!(unpacked(&packed[..4]), expected[..4]);
        assert!(unpacked(&[0xFE]).is_empty());
    }

    #[test]
    fn both_bit_orders_of_lzw_are_recognised() {
        let plain: Vec<u8> = (0..5000_u32).map(|i| (i * i % 13) as u8).collect();
        let new = weezl::encode::Encoder::with_tiff_size_switch(BitOrder::Msb, 8).encode(&plain);
        let old = weezl::encode::Encoder::new(BitOrder::Lsb, 8).encode(&plain);
        for packed in [new.unwrap(), old.unwrap()] {
            assert_eq!(drain(Lzw::new(packed.clone().into())), plain);
            let half = &packed[..packed.len() / 2];
            let part = drain(Lzw::new(half.to_vec().into()));
            assert!(plain.starts_with(&part) && part.len() < plain.len());
        }
    }
}
