//! PNG, GIF, WebP, BMP, PNM and most TIFF, through the `image` crate.

use std::io::{Cursor, ErrorKind};

use anyhow::{Context, Result, anyhow, bail};
use image::codecs::{
    bmp::BmpDecoder, gif::GifDecoder, png::PngDecoder, pnm::PnmDecoder, tiff::TiffDecoder,
    webp::WebPDecoder,
};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageResult, Limits};

use super::format::Format;
use super::{DecodeOptions, Raw, check_size, orient};

/// What a decoder may allocate besides the picture itself, in bytes.
const SCRATCH_BYTES: u64 = 64 << 20;

/// Decodes the first picture in `bytes`. Damage is an error here, since unlike the JPEG decoder these
/// tell; only a file that is shorter than it says and could be decoded all the same gets a warning.
pub(super) fn decode(format: Format, bytes: &[u8], options: &DecodeOptions) -> Result<Raw> {
    if format == Format::Png {
        check_png_header(bytes, options)?;
    }
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
    let orientation = read_orientation(format, decoder.as_mut());
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

/// A picture is not refused for a damaged remark about how to hold it.
fn read_orientation(format: Format, decoder: &mut dyn ImageDecoder) -> Orientation {
    if format == Format::Tiff {
        return decoder.orientation().unwrap_or(Orientation::NoTransforms);
    }
    let exif = decoder.exif_metadata().unwrap_or_default();
    let xmp = decoder.xmp_metadata().unwrap_or_default();
    orient::of(exif.as_deref(), xmp.as_deref())
}

/// The warning about a WebP or run-length coded BMP file that is shorter than its header says. (In
/// the other formats a decoder cannot but notice.)
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
fn explain(format: Format, error: ImageError) -> anyhow::Error {
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
        error => damaged(format, &one_line(&error.to_string())),
    }
}

/// The refusal of a file that a decoder could not make sense of.
pub(super) fn damaged(format: Format, fault: &str) -> anyhow::Error {
    anyhow!(
        "the {} data is damaged ({fault}); fetch or copy the file again",
        format.title()
    )
}

/// A decoder's own words, of bounded length, without line breaks, quotes around them and the
/// beginning that only repeats that there was an error.
pub(super) fn one_line(message: &str) -> String {
    let words: Vec<&str> = message.split_whitespace().collect();
    let line = words.join(" ");
    let line = line.trim_matches('"');
    let line = line.strip_prefix("[strict-mode]: ").unwrap_or(line);
    let fault = match line.strip_prefix("Format error decoding ") {
        Some(rest) => rest.split_once(": ").map_or(rest, |(_, fault)| fault),
        None => line,
    };
    fault
        .chars()
        .filter(|c| !c.is_control())
        .take(200)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoders_words_fit_into_a_sentence() {
        let cases = [
            ("\"quoted\nand broken\"", "quoted and broken"),
            ("Format error decoding Png: CRC error: x", "CRC error: x"),
            ("Format error decoding Png", "Png"),
            ("\"[strict-mode]: Extra bytes\"", "Extra bytes"),
            ("plain \u{1b}[31m", "plain [31m"),
        ];
        for (message, expected) in cases {
            assert_eq!(one_line(message), expected);
        }
        assert_eq!(one_line(&"x".repeat(5000)).len(), 200);
    }
}
