//! GIF: the first frame, row by row, on its screen.
//!
//! A frame that extends beyond the logical screen is shown in full, as Pillow does; some writers
//! leave the screen's size at zero. Around the frame the screen is transparent.

use std::io::ErrorKind;

use anyhow::Result;
use gif::{ColorOutput, Decoder, DecodingError};
use image::ColorType;

use super::format::Format;
use super::rows::{Feed, band_bytes};
use super::{check_size, orient};

/// Bytes per pixel of what is decoded.
const PIXEL: usize = 4;

/// The most pixels that a byte of a file can stand for: codes have two bits or more, and each one
/// repeats an earlier piece of fewer than 4096 pixels.
pub(super) const MAX_PIXELS_PER_BYTE: u64 = 4 * 4096;

/// A frame's place on the screen.
struct Place {
    left: usize,
    top: usize,
    width: usize,
    height: usize,
}

/// Decodes a GIF file.
pub(super) fn decode(bytes: &[u8], feed: &mut Feed) -> Result<()> {
    let mut options = gif::DecodeOptions::new();
    options.set_color_output(ColorOutput::RGBA);
    let mut decoder = options.read_info(bytes).map_err(explain)?;
    let screen = (decoder.width(), decoder.height());
    // A header that claims too much says so, whatever follows it.
    check_size(screen.0.max(1).into(), screen.1.max(1).into(), feed.options)?;
    let frame = decoder.next_frame_info().map_err(explain)?;
    let frame = frame.ok_or_else(|| Format::Gif.damaged())?;
    let is_interlaced = frame.interlaced;
    let place = Place {
        left: frame.left.into(),
        top: frame.top.into(),
        width: frame.width.into(),
        height: frame.height.into(),
    };
    let size = (
        (place.left + place.width).max(screen.0.into()) as u32,
        (place.top + place.height).max(screen.1.into()) as u32,
    );
    check_size(size.0, size.1, feed.options)?;
    let pixels = place.width as u64 * place.height as u64;
    if pixels == 0 {
        return Err(Format::Gif.damaged());
    }
    if pixels / MAX_PIXELS_PER_BYTE > bytes.len() as u64 {
        return Err(Format::Gif.hollow(frame.width.into(), frame.height.into()));
    }
    let whole = if is_interlaced {
        pixels * PIXEL as u64
    } else {
        0
    };
    let orientation = orient::of(None, decoder.xmp_metadata());
    feed.start(size, orientation, band_bytes(size.0, PIXEL) + whole)?;
    if is_interlaced {
        let mut samples = vec![0; whole as usize];
        decoder.read_into_buffer(&mut samples).map_err(explain)?;
        let mut rows = samples.chunks_exact(place.width * PIXEL);
        return show(size, &place, feed, |row| {
            row.copy_from_slice(rows.next().ok_or_else(|| Format::Gif.damaged())?);
            Ok(())
        });
    }
    show(size, &place, feed, |row| next_row(&mut decoder, row))
}

fn next_row(decoder: &mut Decoder<&[u8]>, row: &mut [u8]) -> Result<()> {
    match decoder.fill_buffer(row).map_err(explain)? {
        true => Ok(()),
        false => Err(Format::Gif.damaged()),
    }
}

/// Passes on the rows of the screen, of which `next` writes those of the frame.
fn show(
    size: (u32, u32),
    place: &Place,
    feed: &mut Feed,
    mut next: impl FnMut(&mut [u8]) -> Result<()>,
) -> Result<()> {
    feed.add_each(size, ColorType::Rgba8, |y, row| {
        if (place.top..place.top + place.height).contains(&y) {
            next(&mut row[place.left * PIXEL..][..place.width * PIXEL])?;
        }
        Ok(())
    })
}

/// What is wrong with the file.
pub(super) fn explain(error: DecodingError) -> anyhow::Error {
    match error {
        DecodingError::Io(error) if error.kind() == ErrorKind::UnexpectedEof => Format::Gif.cut(),
        DecodingError::UnexpectedEof => Format::Gif.cut(),
        DecodingError::OutOfMemory | DecodingError::MemoryLimit => Format::Gif.oversized(),
        _ => Format::Gif.damaged(),
    }
}
