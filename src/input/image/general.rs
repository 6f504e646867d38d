//! WebP, BMP and PNM, through the `image` crate, which gives all rows of these at once.

use std::io::{Cursor, ErrorKind};

use anyhow::{Result, ensure};
use image::codecs::bmp::BmpDecoder;
use image::codecs::pnm::PnmDecoder;
use image::codecs::webp::WebPDecoder;
use image::{DynamicImage, ImageDecoder, ImageError, ImageResult, Limits};

use super::format::{Format, unsupported};
use super::rows::{Feed, band_bytes};
use super::{colour, orient};

/// Allocation limit of a decoder besides the image itself, in bytes.
const SCRATCH_BYTES: u64 = 64 << 20;

/// From this many pixels on, a BMP must hold some of them.
const LARGE_PIXELS: u64 = 16_000_000;

/// Decodes the first image in `bytes`. Damage is an error here, since these decoders report it,
/// unlike the JPEG decoder; only a file that is shorter than its header says but could be decoded
/// gets a warning.
pub(super) fn decode(format: Format, bytes: &[u8], feed: &mut Feed) -> Result<()> {
    if let Some(warning) = shortfall(format, bytes) {
        ensure!(
            !feed.options.strict,
            "{warning}; fetch or copy the file again"
        );
        feed.warn(warning);
    }
    let mut decoder = open(format, bytes).map_err(|error| explain(format, error))?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    ensure!(
        !is_hollow(format, bytes, pixels),
        format.hollow(width, height)
    );
    // The decoder would allocate what a frame claims, and compare it afterwards.
    let claimed = lossy_sides(bytes).filter(|_| format == Format::WebP);
    let fits = claimed.is_none_or(|sides| sides.0 <= width && sides.1 <= height);
    ensure!(fits, format.damaged());
    let total = decoder.total_bytes();
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(total.saturating_mul(2).saturating_add(SCRATCH_BYTES));
    decoder
        .set_limits(limits)
        .map_err(|error| explain(format, error))?;
    // The decoder would allocate what these chunks claim, whatever the file has.
    let [exif, xmp] = [b"EXIF", b"XMP "].map(|kind| match format {
        Format::WebP => webp_chunk(bytes, kind),
        _ => None,
    });
    let orientation = orient::of(exif, xmp);
    let more = match format {
        Format::WebP => pixels * webp_planes(bytes),
        // Samples without their alpha, in addition, if that turns out to be nothing.
        Format::Bmp if decoder.color_type().has_alpha() => pixels * 3,
        _ => 0,
    };
    let needed = total
        .saturating_add(more)
        .saturating_add(band_bytes(width, 8));
    feed.start((width, height), orientation, needed)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(|error| explain(format, error))?;
    if format == Format::Bmp && colour::is_blank(&image) {
        // A field that most writers of BMP leave at zero, and viewers ignore.
        image = DynamicImage::ImageRgb8(image.into_rgb8());
    }
    feed.add_all(image);
    Ok(())
}

/// Bytes per pixel that a WebP decoder takes besides the samples that it gives: four channels
/// without loss; planes of luma and chroma; or those and alpha unpacked as four channels.
fn webp_planes(bytes: &[u8]) -> u64 {
    match bytes.get(12..16) {
        Some(b"VP8L") => 4,
        Some(b"VP8 ") => 2,
        _ => 6,
    }
}

/// Whether a file is too short for its pixels. In a lossy WebP the coder spends more than a bit on
/// the modes of each block of 16 x 16. In a run-length coded BMP two bytes stand for 255 pixels at
/// most; it may also skip any number, but a large image of little else is an attack. (Without loss,
/// WebP may code any number of pixels of one colour as nothing.)
fn is_hollow(format: Format, bytes: &[u8], pixels: u64) -> bool {
    let most = match (format, bytes.get(12..16), bytes.get(30)) {
        (Format::WebP, Some(b"VP8 "), _) => 8 * 256,
        (Format::Bmp, _, Some(1 | 2)) if pixels > LARGE_PIXELS => 4096,
        _ => return false,
    };
    pixels / most > bytes.len() as u64
}

fn open(format: Format, bytes: &[u8]) -> ImageResult<Box<dyn ImageDecoder + '_>> {
    let reader = Cursor::new(bytes);
    Ok(match format {
        Format::WebP => Box::new(WebPDecoder::new(reader)?),
        Format::Bmp => Box::new(BmpDecoder::new(reader)?),
        Format::Pnm => Box::new(PnmDecoder::new(reader)?),
        _ => {
            let hint = image::error::ImageFormatHint::Unknown; // they have decoders of their own
            return Err(ImageError::Unsupported(hint.into()));
        }
    })
}

/// The contents of the first chunk of a kind in a WebP file, if the file has all of it.
pub(super) fn webp_chunk<'a>(bytes: &'a [u8], kind: &[u8; 4]) -> Option<&'a [u8]> {
    let mut rest = bytes.get(12..)?;
    loop {
        let (name, after) = rest.split_first_chunk::<4>()?;
        let (size, body) = after.split_first_chunk::<4>()?;
        let size = u32::from_le_bytes(*size) as usize;
        if name == kind {
            return body.get(..size);
        }
        rest = body.get(size.checked_next_multiple_of(2)?..)?;
    }
}

/// Width and height of the first lossy frame in a WebP file, as that frame states them.
fn lossy_sides(bytes: &[u8]) -> Option<(u32, u32)> {
    let mut rest = bytes.get(12..)?;
    loop {
        let (name, after) = rest.split_first_chunk::<4>()?;
        let (size, body) = after.split_first_chunk::<4>()?;
        let size = u32::from_le_bytes(*size) as usize;
        let side = |at: usize| {
            let side = body.get(at..)?.first_chunk::<2>()?;
            Some(u32::from(u16::from_le_bytes(*side) & 0x3fff))
        };
        rest = match name {
            b"VP8 " => return side(6).zip(side(8)),
            // A frame has chunks of its own.
            b"ANMF" => body.get(16..)?,
            _ => body.get(size.checked_next_multiple_of(2)?..)?,
        };
    }
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
pub(super) fn explain(format: Format, error: ImageError) -> anyhow::Error {
    match error {
        ImageError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => format.cut(),
        ImageError::Limits(_) => format.oversized(),
        ImageError::Unsupported(_) => unsupported(&format!("this kind of {}", format.title())),
        _ => format.damaged(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_of_webp_are_read_only_whole() {
        let file = |size: u32, body: &[u8]| {
            let odd = b"RIFF....WEBPVP8X\x03\0\0\0abc.EXIF";
            [odd, &size.to_le_bytes()[..], body].concat()
        };
        type Case<'a> = (u32, &'a [u8], Option<&'a [u8]>);
        let cases: [Case; 4] = [
            (3, b"II*", Some(b"II*")),
            (2, b"II*", Some(b"II")),
            (4, b"II*", None),
            (u32::MAX, b"II*", None),
        ];
        for (size, body, expected) in cases {
            let bytes = file(size, body);
            assert_eq!(webp_chunk(&bytes, b"EXIF"), expected, "{size}");
            assert_eq!(webp_chunk(&bytes, b"XMP "), None);
        }
        assert_eq!(webp_chunk(b"RIFF", b"EXIF"), None);
    }

    #[test]
    fn a_lossy_frame_larger_than_its_webp_is_refused_before_it_is_decoded() {
        let chunk = |name: &[u8; 4], body: &[u8]| {
            let size = (body.len() as u32).to_le_bytes();
            [&name[..], &size, body].concat()
        };
        let frame = |width: u16, height: u16| {
            let start = [0x10, 0, 0, 0x9d, 0x01, 0x2a];
            let sides = [width.to_le_bytes(), height.to_le_bytes()].concat();
            chunk(b"VP8 ", &[&start[..], &sides].concat())
        };
        let file = |flags: u8, rest: Vec<u8>| {
            // A canvas of 2 x 1.
            let canvas = chunk(b"VP8X", &[flags, 0, 0, 0, 1, 0, 0, 0, 0, 0]);
            let body = [b"WEBP".to_vec(), canvas, rest].concat();
            chunk(b"RIFF", &body)
        };
        let place = [0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 9, 0, 0, 0];
        let animated = [
            chunk(b"ANIM", &[0; 6]),
            chunk(b"ANMF", &[&place[..], &frame(9, 0x3fff)].concat()),
        ];
        assert_eq!(lossy_sides(&file(0, frame(2, 1))), Some((2, 1)));
        for (file, sides) in [
            (file(0, frame(16_000, 1)), (16_000, 1)),
            (file(2, animated.concat()), (9, 0x3fff)),
        ] {
            assert_eq!(lossy_sides(&file), Some(sides));
            let error = super::super::decode(&file, &Default::default()).err();
            let error = error.map(|error| error.to_string()).unwrap_or_default();
            assert_eq!(error, Format::WebP.damaged().to_string());
        }
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
}
