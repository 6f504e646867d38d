//! PNG, GIF, WebP, BMP and PNM, through the `image` crate.
//!
//! A GIF's first frame that extends beyond the logical screen is shown in full, as Pillow does. The
//! decoder would crop the frame to the screen; some writers leave the screen's size at zero.

use std::borrow::Cow;
use std::io::{Cursor, ErrorKind};

use anyhow::{Result, bail};
use image::codecs::bmp::BmpDecoder;
use image::codecs::gif::GifDecoder;
use image::codecs::png::PngDecoder;
use image::codecs::pnm::PnmDecoder;
use image::codecs::webp::WebPDecoder;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageResult, Limits};

use super::format::{Format, unsupported};
use super::{DecodeOptions, Raw, check_size, orient};

/// Allocation limit of a decoder besides the image itself, in bytes.
const SCRATCH_BYTES: u64 = 64 << 20;

/// Decodes the first image in `bytes`. Damage is an error here, since these decoders report it,
/// unlike the JPEG decoder; only a file that is shorter than its header says but could be decoded
/// gets a warning.
pub(super) fn decode(format: Format, bytes: &[u8], options: &DecodeOptions) -> Result<Raw> {
    let warnings: Vec<String> = shortfall(format, bytes).into_iter().collect();
    if let (true, Some(warning)) = (options.strict, warnings.first()) {
        bail!("{warning}; fetch or copy the file again");
    }
    let mut decoder = open(format, bytes).map_err(|error| explain(format, error))?;
    let (width, height) = decoder.dimensions();
    check_size(width, height, options)?;
    let mut limits = Limits::no_limits();
    let twice = decoder.total_bytes().saturating_mul(2);
    limits.max_alloc = Some(twice.saturating_add(SCRATCH_BYTES));
    decoder
        .set_limits(limits)
        .map_err(|error| explain(format, error))?;
    let orientation = read_orientation(decoder.as_mut());
    let image = DynamicImage::from_decoder(decoder).map_err(|error| explain(format, error))?;
    Ok(Raw {
        reduced: None,
        image,
        orientation,
        warnings,
    })
}

fn open(format: Format, bytes: &[u8]) -> ImageResult<Box<dyn ImageDecoder + '_>> {
    let reader = Cursor::new(bytes);
    Ok(match format {
        Format::Png => {
            // The chunks before the pixels are decompressed here already, so the limit applies here
            // too.
            let mut limits = Limits::no_limits();
            limits.max_alloc = Some(SCRATCH_BYTES);
            Box::new(PngDecoder::with_limits(reader, limits)?)
        }
        Format::Gif => Box::new(GifDecoder::new(reader)?),
        Format::WebP => Box::new(WebPDecoder::new(reader)?),
        Format::Bmp => Box::new(BmpDecoder::new(reader)?),
        Format::Pnm => Box::new(PnmDecoder::new(reader)?),
        Format::Jpeg | Format::Tiff => {
            let hint = image::error::ImageFormatHint::Unknown; // they have decoders of their own
            return Err(ImageError::Unsupported(hint.into()));
        }
    })
}

/// A damaged orientation is not a reason to refuse an image.
fn read_orientation(decoder: &mut dyn ImageDecoder) -> Orientation {
    let exif = decoder.exif_metadata().unwrap_or_default();
    let xmp = decoder.xmp_metadata().unwrap_or_default();
    orient::of(exif.as_deref(), xmp.as_deref())
}

/// The warning about a WebP or run-length coded BMP file that is shorter than its header says. (In
/// the other formats the decoder always reports it.)
fn shortfall(format: Format, bytes: &[u8]) -> Option<String> {
    let number = |at: usize| {
        let field = bytes.get(at..at + 4)?;
        Some(u64::from(u32::from_le_bytes(field.try_into().ok()?)))
    };
    let claimed = match format {
        Format::WebP => number(4)? + 8,
        Format::Bmp if matches!(number(30), Some(1 | 2)) => number(2)?,
        _ => return None,
    };
    let missing = claimed.checked_sub(bytes.len() as u64).filter(|n| *n > 0)?;
    Some(format!(
        "{}: the file is {missing} bytes shorter than its header says",
        format.name()
    ))
}

/// What is wrong with the file.
fn explain(format: Format, error: ImageError) -> anyhow::Error {
    match error {
        ImageError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => format.cut(),
        ImageError::Limits(_) => format.oversized(),
        ImageError::Unsupported(_) => unsupported(&format!("this kind of {}", format.title())),
        _ => format.damaged(),
    }
}

/// The file `bytes` with a screen enlarged to hold all of its first frame.
pub(super) fn with_whole_frame(bytes: &[u8]) -> Cow<'_, [u8]> {
    let number = |at: usize| {
        bytes
            .get(at..)?
            .first_chunk()
            .map(|b| u16::from_le_bytes(*b))
    };
    let whole = || {
        let frame = first_frame(bytes)?;
        let width = number(frame)?.checked_add(number(frame + 4)?)?;
        let height = number(frame + 2)?.checked_add(number(frame + 6)?)?;
        let screen = (number(6)?, number(8)?);
        let whole = (width.max(screen.0), height.max(screen.1));
        (whole != screen).then_some(whole)
    };
    let Some((width, height)) = whole() else {
        return Cow::Borrowed(bytes);
    };
    let mut bytes = bytes.to_vec();
    bytes[6..8].copy_from_slice(&width.to_le_bytes());
    bytes[8..10].copy_from_slice(&height.to_le_bytes());
    Cow::Owned(bytes)
}

/// Offset of the first frame's left edge, after the palette and any extensions.
fn first_frame(bytes: &[u8]) -> Option<usize> {
    let flags = *bytes.get(10)?;
    let palette = if flags & 0x80 == 0 {
        0
    } else {
        6 << (flags & 7)
    };
    let mut at = 13 + palette;
    loop {
        match bytes.get(at)? {
            0x2C => return Some(at + 1),
            0x21 => {
                at += 2;
                while let length @ 1.. = usize::from(*bytes.get(at)?) {
                    at += 1 + length;
                }
                at += 1;
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Headers with a palette of two colours, a comment and a frame (left, top, width, height).
    fn file(screen: [u8; 2], frame: [u8; 4]) -> Vec<u8> {
        let mut bytes = b"GIF89a".to_vec();
        bytes.extend([screen[0], 0, screen[1], 0, 0x80, 0, 0]);
        bytes.extend([0; 6]);
        bytes.extend(b"\x21\xFE\x02,,\0,");
        bytes.extend(frame.iter().flat_map(|side| [*side, 0]));
        bytes
    }

    #[test]
    fn a_file_shorter_than_its_header_says_is_noticed() {
        let webp = |stated: u32| [b"RIFF", &stated.to_le_bytes()[..], b"WEBP"].concat();
        let bmp = |stated: u32, coding: u32| {
            let mut bytes = vec![0; 40];
            bytes[2..6].copy_from_slice(&stated.to_le_bytes());
            bytes[30..34].copy_from_slice(&coding.to_le_bytes());
            bytes
        };
        let cases = [
            (Format::WebP, webp(4), None),
            (Format::WebP, webp(9), Some("5 bytes shorter")),
            (Format::WebP, webp(3), None),
            (Format::WebP, webp(4)[..7].to_vec(), None),
            (Format::Bmp, bmp(41, 1), Some("1 bytes shorter")),
            (Format::Bmp, bmp(40, 2), None),
            // Without run lengths the decoder reports it.
            (Format::Bmp, bmp(41, 0), None),
            (Format::Gif, webp(9), None),
        ];
        for (format, bytes, expected) in cases {
            let said = shortfall(format, &bytes);
            let is_said = expected.is_some_and(|part| said.as_deref().unwrap_or("").contains(part));
            assert_eq!(is_said, said.is_some(), "{format:?} {bytes:?} {said:?}");
            assert_eq!(said.is_some(), expected.is_some(), "{format:?} {bytes:?}");
        }
    }

    #[test]
    fn the_screen_grows_to_the_first_frame() {
        let cases = [
            ([4, 4], [0, 0, 4, 4], [4, 4]),
            ([9, 9], [1, 1, 4, 4], [9, 9]),
            ([2, 9], [0, 0, 4, 4], [4, 9]),
            ([4, 4], [1, 3, 4, 4], [5, 7]),
            ([0, 0], [0, 0, 4, 3], [4, 3]),
        ];
        for (screen, frame, expected) in cases {
            let grown = with_whole_frame(&file(screen, frame)).into_owned();
            assert_eq!([grown[6], grown[8]], expected, "{screen:?} {frame:?}");
        }
        let whole = file([0, 0], [0, 0, 4, 4]);
        for length in 0..whole.len() {
            let part = &whole[..length];
            assert_eq!(with_whole_frame(part), part);
        }
    }
}
