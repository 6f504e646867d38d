//! JPEG XL: the first frame, at 8 bits, turned as its header says, as libjxl shows it. An orientation
//! in EXIF data does not count, as the format's standard requires.

use anyhow::{Error, Result, bail, ensure};
use image::metadata::Orientation;
use image::{DynamicImage, RgbImage, RgbaImage};
use jxl::api::{
    AlphaMode, Event, ExtraChannel, JxlColorType, JxlDataFormat, JxlDecoder, JxlDecoderOptions,
    JxlOutputBuffer, JxlPixelFormat, JxlTransferFunction, ProfileLevel,
};
use jxl::error::Error as Fault;

use super::format::{Format, unsupported};
use super::rows::{Feed, band_bytes};

/// Bytes per sample of a channel that the decoder takes besides what it gives: numbers of 32 bits,
/// twice where they are changed, and those of up to four frames that others refer to.
const SAMPLE_BYTES: u64 = 24;

/// Samples that a frame may have, however small the image is.
const LEAST_SAMPLES: usize = 1 << 20;

/// Bytes of its tables, and of such a frame.
const TABLE_BYTES: u64 = 16 << 20;

/// Decodes the first frame of a JPEG XL file.
pub(super) fn decode(bytes: &[u8], feed: &mut Feed) -> Result<()> {
    // The limit on a frame's samples is a setting, so that the header is read first.
    let mut decoder = JxlDecoder::new(options(None));
    let mut input = bytes;
    begin(&mut decoder, &mut input)?;
    let info = decoder.basic_info().ok_or_else(|| Format::Jxl.empty())?;
    let (width, height) = info.size;
    let extra = info.extra_channels.len();
    let has = |kind| {
        let mut channels = info.extra_channels.iter();
        channels.any(|channel| channel.ec_type == kind)
    };
    let is_inked = has(ExtraChannel::Black);
    ensure!(!is_inked, unsupported("JPEG XL with the inks of CMYK"));
    let has_alpha = has(ExtraChannel::Alpha);
    let size = (
        u32::try_from(width).unwrap_or(u32::MAX),
        u32::try_from(height).unwrap_or(u32::MAX),
    );
    super::check_size(size.0, size.1, feed.options)?;
    let samples = (width * height).saturating_mul(3 + extra);
    let channels = if has_alpha { 4 } else { 3 };
    let needed = (samples as u64)
        .saturating_mul(SAMPLE_BYTES)
        .saturating_add((width * height * channels) as u64 + TABLE_BYTES)
        .saturating_add(band_bytes(size.0, channels));
    // The decoder turns it.
    feed.start(size, Orientation::NoTransforms, needed)?;
    let transfer = decoder
        .embedded_color_profile()
        .and_then(|profile| profile.transfer_function());
    if let Some(JxlTransferFunction::PQ | JxlTransferFunction::HLG) = transfer {
        feed.warn(
            "jxl: high dynamic range is shown as stored, without tone mapping, so brightness and \
             colours differ from what a screen shows"
                .to_owned(),
        );
    }
    // Frames that others refer to may be larger than a small image.
    let most = samples.max(LEAST_SAMPLES) + 1;
    let pixels = render(bytes, most, (width, height), extra, has_alpha)?;
    let image = match has_alpha {
        true => RgbaImage::from_raw(size.0, size.1, pixels).map(DynamicImage::ImageRgba8),
        false => RgbImage::from_raw(size.0, size.1, pixels).map(DynamicImage::ImageRgb8),
    };
    feed.add_all(image.ok_or_else(|| Format::Jxl.damaged())?);
    Ok(())
}

/// The samples of the first frame, `[height, width, channels]`; no frame may have more than `most`.
fn render(
    bytes: &[u8],
    most: usize,
    (width, height): (usize, usize),
    extra: usize,
    has_alpha: bool,
) -> Result<Vec<u8>> {
    let mut decoder = JxlDecoder::new(options(Some(most)));
    let mut input = bytes;
    begin(&mut decoder, &mut input)?;
    let color_type = match has_alpha {
        true => JxlColorType::Rgba,
        false => JxlColorType::Rgb,
    };
    let format = JxlPixelFormat {
        color_type,
        color_data_format: Some(JxlDataFormat::U8 { bit_depth: 8 }),
        extra_channel_format: vec![None; extra],
    };
    decoder.set_pixel_format(format).map_err(explain)?;
    let row = width * color_type.samples_per_pixel();
    let mut pixels = vec![0; row * height];
    loop {
        let mut buffer = [JxlOutputBuffer::new(&mut pixels, height, row)];
        match decoder
            .process(&mut input, Some(&mut buffer), None)
            .map_err(explain)?
        {
            Event::FrameComplete { .. } => return Ok(pixels),
            Event::BasicInfo | Event::FrameHeader => {}
            Event::NeedMoreInput { .. } => bail!(Format::Jxl.cut()),
            Event::Complete => bail!(Format::Jxl.empty()),
        }
    }
}

/// Reads the header.
fn begin(decoder: &mut JxlDecoder, input: &mut &[u8]) -> Result<()> {
    match decoder.process(input, None, None).map_err(explain)? {
        Event::BasicInfo => Ok(()),
        _ => Err(Format::Jxl.empty()),
    }
}

fn options(most: Option<usize>) -> JxlDecoderOptions {
    let mut options = JxlDecoderOptions::default();
    options.sample_limit = most;
    options.alpha_mode = AlphaMode::Unpremultiplied;
    // Size and channels are limited here.
    options.max_profile_level = ProfileLevel::Main10;
    options
}

/// What is wrong with the file.
fn explain(fault: Fault) -> Error {
    match fault {
        Fault::OutOfBounds(_) | Fault::SectionTooShort => Format::Jxl.cut(),
        Fault::ImageSizeTooLarge(..)
        | Fault::ImageDimensionTooLarge(_)
        | Fault::OutOfMemory(_)
        | Fault::ImageOutOfMemory(..) => Format::Jxl.oversized(),
        _ => Format::Jxl.damaged(),
    }
}
