//! PNG, GIF, WebP, BMP and PNM, through the `image` crate.

use std::io::{Cursor, ErrorKind};

use anyhow::{Result, bail};
use image::codecs::{
    bmp::BmpDecoder, gif::GifDecoder, png::PngDecoder, pnm::PnmDecoder, webp::WebPDecoder,
};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageResult, Limits};

use super::format::Format;
use super::{DecodeOptions, Raw, check_size, fault, orient};

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
        ImageError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => {
            fault::cut(format)
        }
        ImageError::Limits(_) => fault::oversized(format),
        ImageError::Unsupported(_) => {
            fault::unsupported(&format!("this kind of {}", format.title()))
        }
        _ => fault::damaged(format),
    }
}
