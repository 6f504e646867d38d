//! PNG, GIF, WebP, BMP, PNM and most TIFF, through the `image` crate.

use std::io::{Cursor, ErrorKind};

use anyhow::{Context, Result, anyhow};
use image::codecs::{
    bmp::BmpDecoder, gif::GifDecoder, png::PngDecoder, pnm::PnmDecoder, tiff::TiffDecoder,
    webp::WebPDecoder,
};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageResult, Limits};

use super::format::Format;
use super::{DecodeOptions, Raw, check_size};

/// What a decoder may allocate besides the picture itself, in bytes.
const SCRATCH_BYTES: u64 = 64 << 20;

/// Decodes the first picture in `bytes`. Damage is always an error here: unlike the JPEG decoder,
/// these tell.
pub(super) fn decode(format: Format, bytes: &[u8], options: &DecodeOptions) -> Result<Raw> {
    if format == Format::Png {
        check_png_header(bytes, options)?;
    }
    let mut decoder = open(format, bytes).map_err(|error| explain(format, error))?;
    let (width, height) = decoder.dimensions();
    check_size(width, height, options)?;
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(decoder.total_bytes().saturating_mul(2) + SCRATCH_BYTES);
    decoder
        .set_limits(limits)
        .map_err(|error| explain(format, error))?;
    // A picture is not refused for a damaged remark about how to hold it.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let image = DynamicImage::from_decoder(decoder).map_err(|error| explain(format, error))?;
    Ok(Raw {
        image,
        orientation,
        warnings: Vec::new(),
    })
}

fn open(format: Format, bytes: &[u8]) -> ImageResult<Box<dyn ImageDecoder + '_>> {
    let reader = Cursor::new(bytes);
    Ok(match format {
        Format::Png => {
            // The chunks before the pixels are unpacked here already, so the limit comes along.
            let mut limits = Limits::no_limits();
            limits.max_alloc = Some(SCRATCH_BYTES);
            Box::new(PngDecoder::with_limits(reader, limits)?)
        }
        Format::Gif => Box::new(GifDecoder::new(reader)?),
        Format::WebP => Box::new(WebPDecoder::new(reader)?),
        Format::Bmp => Box::new(BmpDecoder::new(reader)?),
        Format::Tiff => Box::new(TiffDecoder::new(reader)?),
        Format::Pnm => Box::new(PnmDecoder::new(reader)?),
        Format::Jpeg => Box::new(image::codecs::jpeg::JpegDecoder::new(reader)?),
    })
}

/// The PNG decoder answers a huge header with a complaint about memory; this one names the flag.
fn check_png_header(bytes: &[u8], options: &DecodeOptions) -> Result<()> {
    let number = |at: usize| {
        let field = bytes.get(at..at + 4)?;
        Some(u32::from_be_bytes(field.try_into().ok()?))
    };
    let (width, height) = number(16).zip(number(20)).context(
        "not a picture: the PNG file ends before any image data; fetch or copy it again",
    )?;
    check_size(width, height, options)
}

/// One line that says what is wrong with the file.
pub(super) fn explain(format: Format, error: ImageError) -> anyhow::Error {
    let title = format.title();
    match error {
        ImageError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => {
            anyhow!("the {title} file ends before the picture is complete; fetch or copy it again")
        }
        ImageError::Limits(_) => anyhow!(
            "the {title} file asks for more memory than its size in pixels explains; save it anew as PNG or JPEG"
        ),
        ImageError::Unsupported(error) => anyhow!(
            "a kind of {title} that is not supported ({}); save it anew as PNG or JPEG",
            one_line(&error.to_string())
        ),
        error => anyhow!(
            "the {title} data is damaged ({}); fetch or copy the file again",
            one_line(&error.to_string())
        ),
    }
}

/// Decoders' own words, without line breaks and of bounded length.
pub(super) fn one_line(message: &str) -> String {
    let words: Vec<&str> = message.split_whitespace().collect();
    let line = words.join(" ");
    line.chars().filter(|c| !c.is_control()).take(200).collect()
}
