//! Decompresses one strip or tile to its rows.

use std::io::{Cursor, Read};

use anyhow::{Result, bail, ensure};
use flate2::read::ZlibDecoder;
use image::ImageDecoder as _;
use image::codecs::webp::WebPDecoder;
use weezl::BitOrder;
use weezl::decode::Configuration;

use super::fax;
use super::layout::{Compression, Layout};
use crate::input::image::fault;
use crate::input::image::format::Format;

/// Maximum window size for zstd: that of its strongest levels.
const ZSTD_WINDOW: u64 = 128 << 20;

/// Decompresses chunk `index`: `rows` rows of `layout.row_bytes()` each.
pub(super) fn chunk(layout: &Layout, bytes: &[u8], index: usize, rows: u32) -> Result<Vec<u8>> {
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
        Compression::Fax(coding) => fax::decode(packed, width, rows, coding).ok_or_else(damaged)?,
        Compression::Jpeg => jpeg(layout, packed, rows)?,
        Compression::WebP => webp(layout, packed, rows)?,
    };
    ensure!(unpacked.len() >= length, "{}", damaged());
    Ok(unpacked)
}

fn damaged() -> anyhow::Error {
    fault::damaged(Format::Tiff)
}

/// The bytes of a chunk as stored in the file.
fn stored<'a>(layout: &Layout, bytes: &'a [u8], index: usize, length: usize) -> Result<&'a [u8]> {
    let cut = || fault::cut(Format::Tiff);
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
fn jpeg(layout: &Layout, packed: &[u8], rows: u32) -> Result<Vec<u8>> {
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
        jpeg_decoder::Error::Unsupported(_) => {
            fault::unsupported("a TIFF with this kind of JPEG in it")
        }
        jpeg_decoder::Error::Io(_) => fault::cut(Format::Tiff),
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
            bail!(fault::unsupported("a TIFF with 16-bit JPEG in it"))
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

fn webp(layout: &Layout, packed: &[u8], rows: u32) -> Result<Vec<u8>> {
    let decoder = WebPDecoder::new(Cursor::new(packed)).map_err(|_| damaged())?;
    let (width, height) = decoder.dimensions();
    let samples = usize::from(decoder.color_type().channel_count());
    fit(layout, width, height, samples, rows)?;
    let mut decoded = vec![0; width as usize * height as usize * samples];
    decoder.read_image(&mut decoded).map_err(|_| damaged())?;
    Ok(crop(layout, decoded, width as usize * samples))
}

/// Refuses an embedded image that does not fill its chunk, or is far larger.
fn fit(layout: &Layout, width: u32, height: u32, samples: usize, rows: u32) -> Result<()> {
    let (most_wide, most_high) = (layout.chunk_width, layout.chunk_height);
    let is_fitting = samples == layout.samples_in_chunk()
        && (layout.chunk_width..=most_wide.next_multiple_of(64)).contains(&width)
        && (rows..=most_high.next_multiple_of(64)).contains(&height);
    if is_fitting { Ok(()) } else { Err(damaged()) }
}

/// The left part of each row.
fn crop(layout: &Layout, decoded: Vec<u8>, row: usize) -> Vec<u8> {
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
}
