//! JPEG: strictly first, then with what can be saved.
//!
//! In its lenient mode the decoder answers more than half of all damaged files without a word: it
//! fills what is missing with grey. So a file is decoded strictly, which costs nothing when it is
//! sound; when that fails it is decoded again leniently and the picture carries a warning.

use anyhow::{Result, anyhow, bail, ensure};
use image::metadata::Orientation;
use image::{DynamicImage, GrayImage, RgbImage};
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;

use super::format::Format;
use super::general::{self, one_line};
use super::markers::{coded_bytes, has_uneven_planes};
use super::{DecodeOptions, Raw, check_size, orient};

/// What the decoder leaves where it had no data.
const FILL: u8 = 128;

/// More pixels than this cannot be coded in a byte: a block of 64 takes a bit at least.
const MOST_PIXELS_A_BYTE: u64 = 512;

/// From this size on, a file too short for its claimed size is refused instead of decoded in part.
const LARGE_PIXELS: u64 = 16_000_000;

const NO_DATA: &str = "not a picture: the file ends before any image data; fetch or copy it again";

struct Header {
    width: usize,
    height: usize,
    stored: ColorSpace,
    orientation: Orientation,
}

/// Decodes a JPEG file.
pub(super) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Raw> {
    let header = read_header(bytes)?;
    check_size(header.width as u32, header.height as u32, options)?;
    let pixels = (header.width * header.height) as u64;
    let is_hollow = pixels > LARGE_PIXELS && pixels / MOST_PIXELS_A_BYTE > bytes.len() as u64;
    ensure!(
        !is_hollow,
        "the JPEG file is far too short for its {} x {} pixels; fetch or copy it again",
        header.width,
        header.height
    );
    ensure!(
        !has_uneven_planes(bytes),
        "a kind of JPEG that is not supported (sequential, in several scans, with subsampled rows); save it anew as PNG or baseline JPEG"
    );
    let (samples, warnings) = match attempt(bytes, &header, true) {
        Ok(samples) => (samples, Vec::new()),
        Err(fault) if options.strict => bail!("{}", damaged(&fault)),
        Err(fault) => salvage(bytes, &header, &fault)?,
    };
    Ok(Raw {
        image: wrap(samples, &header)?,
        orientation: header.orientation,
        warnings,
    })
}

fn read_header(bytes: &[u8]) -> Result<Header> {
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), settings(false));
    decoder.decode_headers().map_err(|fault| match fault {
        DecodeErrors::ExhaustedData | DecodeErrors::IoErrors(_) => anyhow!(NO_DATA),
        DecodeErrors::Unsupported(_) => anyhow!(
            "a kind of JPEG that is not supported ({}); save it anew as PNG or baseline JPEG",
            one_line(&fault.to_string())
        ),
        fault => damaged(&fault),
    })?;
    let (width, height) = decoder.dimensions().unwrap_or_default();
    let exif = decoder.exif().map(Vec::as_slice);
    let orientation = orient::of(exif, decoder.xmp().map(Vec::as_slice));
    Ok(Header {
        width,
        height,
        stored: decoder.input_colorspace().unwrap_or(ColorSpace::YCbCr),
        orientation,
    })
}

fn settings(strict: bool) -> DecoderOptions {
    DecoderOptions::default()
        .set_strict_mode(strict)
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX)
}

fn damaged(fault: &DecodeErrors) -> anyhow::Error {
    general::damaged(Format::Jpeg, &one_line(&fault.to_string()))
}

impl Header {
    /// Grey pictures stay grey; everything else comes out as RGB.
    fn output(&self) -> ColorSpace {
        match self.stored {
            ColorSpace::Luma => ColorSpace::Luma,
            _ => ColorSpace::RGB,
        }
    }
}

/// One decoding; the samples are `[height, width, 1 or 3]`.
fn attempt(bytes: &[u8], header: &Header, strict: bool) -> Result<Vec<u8>, DecodeErrors> {
    let settings = settings(strict).jpeg_set_out_colorspace(header.output());
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), settings);
    let channels = header.output().num_components();
    let mut samples = vec![0; header.width * header.height * channels];
    decoder.decode_into(&mut samples)?;
    Ok(samples)
}

/// The lenient decoding of a file that failed the strict one, and the warning about it.
fn salvage(bytes: &[u8], header: &Header, fault: &DecodeErrors) -> Result<(Vec<u8>, Vec<String>)> {
    // The decoder reads zeros past the end, and makes a picture even of nothing. A row of blocks
    // takes a byte for 64 columns at least: a bit a block in a progressive picture's first scan.
    let least = header.width.div_ceil(64);
    let has_data = coded_bytes(bytes).is_none_or(|count| count >= least);
    ensure!(has_data, NO_DATA);
    let samples = attempt(bytes, header, false).map_err(|fault| damaged(&fault))?;
    let row = samples.len() / header.height;
    let mut rows = samples.chunks_exact(row);
    let rows = match rows.rposition(|row| row.iter().any(|sample| *sample != FILL)) {
        Some(last) if samples.iter().any(|sample| *sample != 0) => last + 1,
        _ => bail!(NO_DATA),
    };
    let warning = format!(
        "jpeg: the data is cut short or damaged ({}); {rows} of {} rows show something",
        one_line(&fault.to_string()),
        header.height
    );
    Ok((samples, vec![warning]))
}

fn wrap(samples: Vec<u8>, header: &Header) -> Result<DynamicImage> {
    let (width, height) = (header.width as u32, header.height as u32);
    let image = match header.output() {
        ColorSpace::Luma => {
            GrayImage::from_raw(width, height, samples).map(DynamicImage::ImageLuma8)
        }
        _ => RgbImage::from_raw(width, height, samples).map(DynamicImage::ImageRgb8),
    };
    image.ok_or_else(|| anyhow!("the JPEG decoder gave another size than the header's"))
}
