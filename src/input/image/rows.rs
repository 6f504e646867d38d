//! An image as rows that come one after another, from a decoder to what uses them, so that none of
//! the two needs to hold all of them.

use anyhow::Result;
use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageBuffer};

use super::budget::Held;
use super::format::Format;
use super::{Alpha, DecodeOptions, Facts, RgbImage, check_size, colour, orient};

/// Bytes of the samples that pass at once, unless a few rows are more.
const BAND_BYTES: usize = 1 << 19;

/// Fewest rows that pass at once: kernels take so many.
const LEAST_ROWS: usize = 4;

/// What is known of an image before its first row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame {
    /// Columns, in the order in which they are stored.
    pub(crate) width: usize,
    /// Rows.
    pub(crate) height: usize,
    /// How the rows must be turned.
    pub(crate) orientation: Orientation,
    /// Width and height of the whole image, upright.
    pub(crate) size: (usize, usize),
    /// How many times smaller these rows are, rounded up.
    pub(crate) scale: usize,
}

impl Frame {
    /// The rows of an upright image.
    pub(crate) fn of(image: &RgbImage) -> Self {
        Self {
            width: image.width,
            height: image.height,
            orientation: Orientation::NoTransforms,
            size: (image.width, image.height),
            scale: 1,
        }
    }
}

/// What uses the rows of an image.
pub(crate) trait Rows {
    /// The most bytes that this will hold of such an image, about.
    fn bytes(&self, frame: &Frame) -> u64;

    /// Called once, before any row.
    fn start(&mut self, frame: &Frame);

    /// Takes the next rows, `[rows, width, 3]`.
    fn add(&mut self, rows: &[u8]);

    /// Takes all rows at once.
    fn add_all(&mut self, pixels: Vec<u8>) {
        self.add(&pixels);
    }
}

/// All pixels of an image.
#[derive(Default)]
pub(super) struct Whole {
    frame: Option<Frame>,
    pixels: Vec<u8>,
}

impl Rows for Whole {
    fn bytes(&self, frame: &Frame) -> u64 {
        let turned = frame.orientation != Orientation::NoTransforms;
        rgb_bytes(frame) * if turned { 2 } else { 1 }
    }

    fn start(&mut self, frame: &Frame) {
        self.frame = Some(*frame);
    }

    fn add(&mut self, rows: &[u8]) {
        if let (true, Some(frame)) = (self.pixels.is_empty(), &self.frame) {
            self.pixels.reserve_exact(frame.width * frame.height * 3);
        }
        self.pixels.extend_from_slice(rows);
    }

    fn add_all(&mut self, pixels: Vec<u8>) {
        self.pixels = pixels;
    }
}

impl Whole {
    /// The image, upright.
    pub(super) fn finish(self) -> Option<RgbImage> {
        let frame = self.frame?;
        let image = RgbImage {
            width: frame.width,
            height: frame.height,
            pixels: self.pixels,
        };
        Some(orient::apply(image, frame.orientation))
    }
}

fn rgb_bytes(frame: &Frame) -> u64 {
    frame.width as u64 * frame.height as u64 * 3
}

/// What a decoder passes its rows to: converts them to RGB and notes what all of them have in
/// common.
pub(super) struct Feed<'a> {
    format: Format,
    pub(super) options: &'a DecodeOptions,
    to: &'a mut dyn Rows,
    frame: Option<Frame>,
    stored_size: (usize, usize),
    held: Option<Held>,
    is_blank: bool,
    dark: colour::Dark,
    is_always_turned: bool,
    warnings: Vec<String>,
}

impl<'a> Feed<'a> {
    pub(super) fn new(format: Format, options: &'a DecodeOptions, to: &'a mut dyn Rows) -> Self {
        Self {
            format,
            options,
            to,
            frame: None,
            stored_size: (0, 0),
            held: None,
            is_blank: true,
            dark: colour::Dark::default(),
            is_always_turned: false,
            warnings: Vec::new(),
        }
    }

    /// Announces an image of `width` x `height` pixels as stored. Waits until there is memory for
    /// `bytes` that the decoder takes and for what the user of the rows holds.
    ///
    /// # Errors
    /// When the image has no pixels, too many, or needs more memory than the limit.
    pub(super) fn start(
        &mut self,
        (width, height): (u32, u32),
        orientation: Orientation,
        bytes: u64,
    ) -> Result<()> {
        check_size(width, height, self.options)?;
        let size = (width as usize, height as usize);
        self.start_reduced(size, size, 1, orientation, bytes)
    }

    /// The same for an image of `whole` pixels that is decoded `scale` times smaller, at `size`.
    pub(super) fn start_reduced(
        &mut self,
        whole: (usize, usize),
        size: (usize, usize),
        scale: usize,
        orientation: Orientation,
        bytes: u64,
    ) -> Result<()> {
        let orientation = match self.options.orient || self.is_always_turned {
            true => orientation,
            false => Orientation::NoTransforms,
        };
        let frame = Frame {
            width: size.0,
            height: size.1,
            orientation,
            size: orient::size(whole, orientation),
            scale,
        };
        let needed = bytes.saturating_add(self.to.bytes(&frame));
        self.held = None; // what a failed attempt held
        self.held = Some(self.options.memory.decode(needed)?);
        self.to.start(&frame);
        self.stored_size = whole;
        self.frame = Some(frame);
        Ok(())
    }

    /// Says that the orientation is part of the image, not a note of the camera that may be ignored.
    #[cfg(any(feature = "heic", feature = "avif"))]
    pub(super) fn turn_always(&mut self) {
        self.is_always_turned = true;
    }

    pub(super) fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    /// Passes the next rows on, whole ones of any kind of pixel.
    pub(super) fn add(&mut self, rows: DynamicImage) {
        self.is_blank &= colour::is_blank(&rows);
        self.dark.add(&rows);
        let rows = colour::to_rgb(rows, self.options.alpha);
        self.to.add(&rows.pixels);
    }

    /// Passes all rows on; without another copy of them.
    pub(super) fn add_all(&mut self, image: DynamicImage) {
        if let DynamicImage::ImageRgb8(image) = image {
            self.is_blank = false;
            self.to.add_all(image.into_raw());
            return;
        }
        let (width, height) = (image.width(), image.height());
        let rows = band_rows(width as usize * usize::from(image.color().bytes_per_pixel())) as u32;
        for top in (0..height).step_by(rows as usize) {
            self.add(image.crop_imm(0, top, width, rows.min(height - top)));
        }
    }

    /// Passes on `height` rows of `width` pixels, each written by `next`: samples of 16 bits with
    /// the high byte first.
    pub(super) fn add_each(
        &mut self,
        (width, height): (u32, u32),
        colour: ColorType,
        mut next: impl FnMut(usize, &mut [u8]) -> Result<()>,
    ) -> Result<()> {
        let row = width as usize * usize::from(colour.bytes_per_pixel());
        let (height, most) = (height as usize, band_rows(row));
        for top in (0..height).step_by(most) {
            let count = most.min(height - top);
            let mut band = vec![0; count * row];
            for (y, samples) in band.chunks_exact_mut(row).enumerate() {
                next(top + y, samples)?;
            }
            let band = image_of(width, count as u32, colour, band);
            self.add(band.ok_or_else(|| self.format.damaged())?);
        }
        Ok(())
    }

    /// What the decoder found; with the memory that the user of the rows still holds.
    pub(super) fn finish(self) -> Result<Facts> {
        let frame = self.frame.ok_or_else(|| self.format.empty())?;
        let (name, mut warnings) = (self.format.name(), self.warnings);
        // A BMP was made opaque by its decoder.
        if self.is_blank && self.options.alpha != Alpha::Drop {
            warnings.push(format!(
                "{name}: every pixel is transparent, so the image is blank; --alpha drop shows its hidden colours"
            ));
        }
        if self.dark.is_dark() {
            warnings.push(format!(
                "{name}: no 16-bit sample exceeds an eighth of the range, so the image is very dark; perhaps it has 12 bits in 16"
            ));
        }
        let kept = self.to.bytes(&frame);
        Ok(Facts {
            format: name,
            stored_size: self.stored_size,
            size: frame.size,
            scale: frame.scale,
            warnings,
            held: self.held.map(|held| held.reduced(kept)),
        })
    }
}

/// How many rows of so many bytes pass at once.
pub(super) fn band_rows(row_bytes: usize) -> usize {
    (BAND_BYTES / row_bytes.max(1)).clamp(LEAST_ROWS, 1 << 12)
}

/// The bytes that passing on rows of `width` pixels takes: as they come, of `pixel_bytes` per pixel,
/// as words, as RGBA and as RGB.
pub(super) fn band_bytes(width: u32, pixel_bytes: usize) -> u64 {
    let width = width as usize;
    let rows = band_rows(width * pixel_bytes);
    (rows * width * (2 * pixel_bytes + 7)) as u64
}

/// Rows of samples as an image; `None` if there are too few.
fn image_of(width: u32, height: u32, colour: ColorType, samples: Vec<u8>) -> Option<DynamicImage> {
    fn wide(samples: &[u8]) -> Vec<u16> {
        let (samples, _) = samples.as_chunks::<2>();
        samples
            .iter()
            .map(|word| u16::from_be_bytes(*word))
            .collect()
    }
    let (w, h) = (width, height);
    match colour {
        ColorType::L8 => ImageBuffer::from_raw(w, h, samples).map(DynamicImage::ImageLuma8),
        ColorType::La8 => ImageBuffer::from_raw(w, h, samples).map(DynamicImage::ImageLumaA8),
        ColorType::Rgb8 => ImageBuffer::from_raw(w, h, samples).map(DynamicImage::ImageRgb8),
        ColorType::Rgba8 => ImageBuffer::from_raw(w, h, samples).map(DynamicImage::ImageRgba8),
        ColorType::L16 => {
            ImageBuffer::from_raw(w, h, wide(&samples)).map(DynamicImage::ImageLuma16)
        }
        ColorType::La16 => {
            ImageBuffer::from_raw(w, h, wide(&samples)).map(DynamicImage::ImageLumaA16)
        }
        ColorType::Rgb16 => {
            ImageBuffer::from_raw(w, h, wide(&samples)).map(DynamicImage::ImageRgb16)
        }
        ColorType::Rgba16 => {
            ImageBuffer::from_raw(w, h, wide(&samples)).map(DynamicImage::ImageRgba16)
        }
        _ => None,
    }
}
