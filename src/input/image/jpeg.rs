//! JPEG: decoded strictly, then leniently if that fails.
//!
//! In its lenient mode zune-jpeg silently accepts more than half of all damaged files and fills
//! missing parts with grey. So a file is decoded strictly first, which costs nothing if it is
//! intact; if that fails, it is decoded leniently and the image carries a warning. Layouts that
//! zune-jpeg decodes wrong go to jpeg-decoder, which is slower but supports all of them. It also
//! decodes at reduced size, where only the lowest coefficients of each block are transformed.

use std::borrow::Cow;
use std::io::Read;

use anyhow::{Result, bail, ensure};
use image::metadata::Orientation;
use image::{DynamicImage, GrayImage, RgbImage};
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;

use super::format::{Format, unsupported};
use super::huffman::with_standard_tables;
use super::markers::Headers;
use super::rows::{Feed, band_bytes};
use super::{check_size, colour, orient};
use crate::file::guard;

/// Sample value that the decoder leaves where data are missing.
const FILL: u8 = 128;

/// Maximum pixels per byte: a block of 64 takes at least a bit.
const MAX_PIXELS_PER_BYTE: u64 = 512;

/// From this many pixels on, a file too short for its claimed size is refused instead of decoded in
/// part.
const LARGE_PIXELS: u64 = 16_000_000;

/// A JPEG file before decoding.
struct Source<'a> {
    bytes: Cow<'a, [u8]>,
    headers: Headers<'a>,
    width: usize,
    height: usize,
    /// 1 for grey, which stays grey; 3 for everything else, which is decoded to RGB.
    channels: usize,
    /// Bytes from the first scan on.
    coded: Option<usize>,
    /// What counts instead of the file's own orientation.
    turned: Option<Orientation>,
}

/// Why a file could not be decoded.
enum Fault {
    Cut,
    Damaged,
}

impl Fault {
    fn refusal(&self) -> anyhow::Error {
        match self {
            Self::Cut => Format::Jpeg.cut(),
            Self::Damaged => Format::Jpeg.damaged(),
        }
    }
}

/// Decodes a JPEG file.
pub(super) fn decode(bytes: &[u8], feed: &mut Feed) -> Result<()> {
    decode_turned(bytes, None, feed)
}

/// Decodes a JPEG file whose orientation may be known from elsewhere.
pub(super) fn decode_turned(
    bytes: &[u8],
    turned: Option<Orientation>,
    feed: &mut Feed,
) -> Result<()> {
    let mut source = Source::open(bytes)?;
    source.turned = turned;
    let (width, height) = (source.width as u32, source.height as u32);
    check_size(width, height, feed.options)?;
    let pixels = (source.width * source.height) as u64;
    let is_hollow = pixels > LARGE_PIXELS && pixels / MAX_PIXELS_PER_BYTE > bytes.len() as u64;
    ensure!(!is_hollow, Format::Jpeg.hollow(width, height));
    if let Some(least) = feed.options.reduce_to
        && source.reduced(least, feed)?
    {
        return Ok(());
    }
    let needed = source.bytes(1, !source.headers.is_common());
    feed.start((width, height), source.orientation(), needed)?;
    let (samples, warning) = match source.attempt(true) {
        Ok(samples) => (samples, None),
        Err(fault) if feed.options.strict => return Err(fault.refusal()),
        Err(fault) => {
            let (samples, warning) = source.decode_leniently(&fault)?;
            (samples, Some(warning))
        }
    };
    warning.into_iter().for_each(|warning| feed.warn(warning));
    let image = source.wrap(samples, (source.width, source.height));
    feed.add_all(image.ok_or_else(|| Format::Jpeg.damaged())?);
    Ok(())
}

impl<'a> Source<'a> {
    /// Reads the headers; refuses kinds of JPEG that neither decoder supports.
    fn open(bytes: &'a [u8]) -> Result<Self> {
        let headers = Headers::of(bytes);
        if let Some(what) = headers.unsupported() {
            return Err(unsupported(what));
        }
        let coded = headers.coded_bytes(bytes.len());
        let bytes = if headers.lacks_tables() {
            Cow::Owned(with_standard_tables(bytes))
        } else {
            Cow::Borrowed(bytes)
        };
        let (width, height, channels) = if headers.is_common() {
            zune_size(&bytes)?
        } else {
            jpeg_decoder_size(&bytes)?
        };
        Ok(Self {
            bytes,
            headers,
            width,
            height,
            channels,
            coded,
            turned: None,
        })
    }

    fn orientation(&self) -> Orientation {
        self.turned
            .unwrap_or_else(|| orient::of(self.headers.exif, self.headers.xmp))
    }

    /// A decoded file; the samples are `[height, width, channels]`.
    fn attempt(&self, strict: bool) -> Result<Vec<u8>, Fault> {
        if self.headers.is_common() {
            self.by_zune(strict)
        } else {
            self.with_jpeg_decoder(strict)
        }
    }

    fn by_zune(&self, strict: bool) -> Result<Vec<u8>, Fault> {
        let output = match self.channels {
            1 => ColorSpace::Luma,
            _ => ColorSpace::RGB,
        };
        let settings = settings(strict).jpeg_set_out_colorspace(output);
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(&*self.bytes), settings);
        let mut samples = vec![0; self.width * self.height * self.channels];
        match decoder.decode_into(&mut samples) {
            Ok(()) => {
                // It prefers Adobe's marker and the letters of components to JFIF's.
                let is_raw = decoder.input_colorspace() == Some(ColorSpace::RGB);
                if is_raw && self.headers.is_stored_rgb() == Some(false) {
                    colour::ycbcr_to_rgb(&mut samples);
                }
                Ok(samples)
            }
            Err(DecodeErrors::ExhaustedData | DecodeErrors::IoErrors(_)) => Err(Fault::Cut),
            Err(_) => Err(Fault::Damaged),
        }
    }

    /// jpeg-decoder fails where data are missing; leniently, an end marker makes it read zeros.
    fn with_jpeg_decoder(&self, strict: bool) -> Result<Vec<u8>, Fault> {
        let mark: &[u8] = if strict { b"" } else { b"\xFF\xD9" };
        let samples = self
            .jpeg_decoder(mark)
            .decode()
            .map_err(|error| match error {
                jpeg_decoder::Error::Io(_) => Fault::Cut,
                _ => Fault::Damaged,
            })?;
        Ok(without_inks(samples, (self.width, self.height)))
    }

    /// The bytes that decoding the image `scale` times smaller takes: what
    /// is given; coefficients of all blocks unless these come in order, in one scan; and with
    /// jpeg-decoder the planes, and inks before they are converted.
    fn bytes(&self, scale: u64, is_jpeg_decoder: bool) -> u64 {
        // Whole blocks of the largest sampling.
        let padded = |side: usize| side.next_multiple_of(32) as u64;
        let pixels = padded(self.width) * padded(self.height);
        let given = pixels / (scale * scale);
        let planes = match is_jpeg_decoder {
            true => {
                self.headers.samples(given) + given * (self.headers.components() as u64 / 4 * 4)
            }
            false => 0,
        };
        let coefficients = match self.headers.is_buffered() {
            true => 2 * self.headers.samples(pixels),
            false => 0,
        };
        let band = band_bytes(self.width as u32, self.channels);
        (given * self.channels as u64).saturating_add(planes + coefficients + band)
    }

    /// Passes on the image at the smallest size of a half, a quarter and an eighth whose sides are
    /// at least `least`. False if it is too small, damaged or of a kind that jpeg-decoder does not
    /// decode as well as zune-jpeg does.
    fn reduced(&self, least: usize, feed: &mut Feed) -> Result<bool> {
        let (whole, orientation) = ((self.width, self.height), self.orientation());
        let scale = [8, 4, 2]
            .into_iter()
            .find(|n| whole.0.min(whole.1) / n >= least);
        let Some(scale) = scale else {
            return Ok(false);
        };
        // The padding of the last block is at the right and below, where it can be told apart.
        let is_padded = whole.0 % scale + whole.1 % scale > 0;
        let is_turned = feed.options.orient && orientation != Orientation::NoTransforms;
        if is_padded && is_turned || !self.headers.is_counted() {
            return Ok(false);
        }
        let side = |whole: usize| whole.div_ceil(scale) as u16;
        let size = (usize::from(side(whole.0)), usize::from(side(whole.1)));
        let needed = self.bytes(scale as u64, true);
        feed.start_reduced(whole, size, scale, orientation, needed)?;
        let decoded = guard::catch(|| {
            let mut decoder = self.jpeg_decoder(b"");
            decoder.scale(side(whole.0), side(whole.1))?;
            decoder.decode()
        });
        let Some(Ok(samples)) = decoded else {
            return Ok(false);
        };
        let samples = without_inks(samples, size);
        if samples.len() != size.0 * size.1 * self.channels {
            return Ok(false); // a side of a few pixels, for which it chose another size
        }
        let Some(image) = self.wrap(samples, size) else {
            return Ok(false);
        };
        feed.add_all(image);
        Ok(true)
    }

    /// A decoder of the file and the bytes of `mark`.
    fn jpeg_decoder<'b>(&'b self, mark: &'b [u8]) -> jpeg_decoder::Decoder<impl Read + 'b> {
        let mut decoder = jpeg_decoder::Decoder::new(self.bytes.chain(mark));
        if let Some(is_rgb) = self.headers.is_stored_rgb() {
            decoder.set_color_transform(match is_rgb {
                true => jpeg_decoder::ColorTransform::RGB,
                false => jpeg_decoder::ColorTransform::YCbCr,
            });
        }
        decoder
    }

    /// The lenient decoding of a file that failed the strict one, and its warning.
    fn decode_leniently(&self, fault: &Fault) -> Result<(Vec<u8>, String)> {
        // The decoder reads zeros past the end, and makes an image even of nothing. A row of blocks
        // takes at least a byte for 64 columns: one bit per block in a progressive image's first
        // scan.
        let least = self.width.div_ceil(64);
        ensure!(
            self.coded.is_none_or(|count| count >= least),
            Format::Jpeg.empty()
        );
        let samples = self.attempt(false).map_err(|fault| fault.refusal())?;
        let row = samples.len() / self.height;
        let mut rows = samples.chunks_exact(row);
        let rows = match rows.rposition(|row| row.iter().any(|sample| *sample != FILL)) {
            Some(last) if samples.iter().any(|sample| *sample != 0) => last + 1,
            _ => bail!(Format::Jpeg.empty()),
        };
        let what = match fault {
            Fault::Cut => "cut short",
            Fault::Damaged => "damaged",
        };
        // Only zune-jpeg's filling can be detected in the image.
        let shown = if self.headers.is_common() {
            format!("{rows} of {} rows have content", self.height)
        } else {
            "its lower part may be missing".to_owned()
        };
        Ok((samples, format!("jpeg: the data is {what}; {shown}")))
    }

    /// `None` if there are too few samples.
    fn wrap(&self, samples: Vec<u8>, (width, height): (usize, usize)) -> Option<DynamicImage> {
        let (width, height) = (width as u32, height as u32);
        match self.channels {
            1 => GrayImage::from_raw(width, height, samples).map(DynamicImage::ImageLuma8),
            _ => RgbImage::from_raw(width, height, samples).map(DynamicImage::ImageRgb8),
        }
    }
}

/// CMYK of jpeg-decoder becomes RGB; others stay.
fn without_inks(samples: Vec<u8>, (width, height): (usize, usize)) -> Vec<u8> {
    if samples.len() == width * height * 4 {
        colour::cmyk_to_rgb(samples)
    } else {
        samples
    }
}

fn settings(strict: bool) -> DecoderOptions {
    DecoderOptions::default()
        .set_strict_mode(strict)
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX)
}

/// Decodes to width, height and channels with zune-jpeg.
fn zune_size(bytes: &[u8]) -> Result<(usize, usize, usize)> {
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), settings(false));
    decoder.decode_headers().map_err(|error| match error {
        DecodeErrors::ExhaustedData | DecodeErrors::IoErrors(_) => Format::Jpeg.empty(),
        DecodeErrors::Unsupported(_) => unsupported("this kind of JPEG"),
        _ => Format::Jpeg.damaged(),
    })?;
    let (width, height) = decoder.dimensions().unwrap_or_default();
    let is_grey = decoder.input_colorspace() == Some(ColorSpace::Luma);
    Ok((width, height, if is_grey { 1 } else { 3 }))
}

/// The same with jpeg-decoder.
fn jpeg_decoder_size(bytes: &[u8]) -> Result<(usize, usize, usize)> {
    let mut decoder = jpeg_decoder::Decoder::new(bytes);
    decoder.read_info().map_err(|error| match error {
        jpeg_decoder::Error::Io(_) => Format::Jpeg.empty(),
        jpeg_decoder::Error::Unsupported(_) => unsupported("this kind of JPEG"),
        _ => Format::Jpeg.damaged(),
    })?;
    let info = decoder.info().ok_or_else(|| Format::Jpeg.empty())?;
    let is_grey = info.pixel_format == jpeg_decoder::PixelFormat::L8;
    let channels = if is_grey { 1 } else { 3 };
    Ok((usize::from(info.width), usize::from(info.height), channels))
}
