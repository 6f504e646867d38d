//! RGB -> the input of an image tower.
//!
//! As torchvision on a Pillow image, which OpenAI, Long-CLIP and open_clip use: resize (bicubic, or
//! as the checkpoint says) the short side to the tower's size, or the whole image to a given size; crop the centre, scale
//! to 0..1, subtract the mean and divide by the standard deviation of each channel. If the crop
//! cannot be centred exactly, torchvision rounds the half offset to even and Hugging Face's
//! processors round down, which differs by one pixel for one in four sizes.

use anyhow::{Context as _, Result};

use super::image::{self, DecodeOptions, Decoded, Frame, RgbImage, Rows};
use super::resize::{Filter, Resizer, Window, resize_window};

/// The preprocessing that an image tower expects.
#[derive(Debug, Clone, PartialEq)]
pub struct Preprocess {
    /// Height and width of the tower's input, in pixels.
    pub image_size: usize,
    /// Size to which the image is resized before the centre crop.
    pub resize: Resize,
    /// Weights of neighbouring pixels when resizing.
    pub filter: Filter,
    /// Rounding of the crop's offset.
    pub offset: CropOffset,
    /// Mean of the red, green and blue samples, on a scale of 0 to 1.
    pub mean: [f32; 3],
    /// Their standard deviation.
    pub std: [f32; 3],
}

/// Target of resizing. Neither side is less than the tower's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resize {
    /// Resize the short side to so many pixels, and the long one in proportion.
    ShortestEdge(usize),
    /// Resize to these sides, ignoring the aspect ratio.
    Exact {
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
    },
}

impl Resize {
    /// The short side of the result, in pixels.
    #[must_use]
    pub fn least(self) -> usize {
        match self {
            Self::ShortestEdge(edge) => edge,
            Self::Exact { width, height } => width.min(height),
        }
    }
}

/// Rounding of half of an odd difference to the first pixel of the crop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CropOffset {
    /// To even: torchvision on a Pillow image.
    HalfToEven,
    /// Down: Hugging Face's image processors.
    Floor,
}

/// How many times larger than its target an image that is decoded at reduced size is at least. With
/// 3 the least cosine measured with an exact embedding was 0.9997, with 2 it was 0.9988
/// (`tests/bench/fast_decode.py`).
const REDUCED_TIMES: usize = 3;

impl Preprocess {
    /// CLIP's constants, shared by Long-CLIP and nearly all CLIP models.
    pub fn clip(image_size: usize) -> Self {
        Self {
            image_size,
            resize: Resize::ShortestEdge(image_size),
            filter: Filter::Bicubic,
            offset: CropOffset::HalfToEven,
            mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
            std: [0.268_629_54, 0.261_302_6, 0.275_777_1],
        }
    }

    /// Everything that a pixel depends on, as text. CLIP's own settings are not spelt out, so that
    /// cache entries of versions without other settings stay valid.
    #[must_use]
    pub(crate) fn recipe(&self) -> String {
        let Self {
            image_size,
            resize,
            filter,
            offset,
            mean,
            std,
        } = self;
        let usual =
            format!("Preprocess {{ image_size: {image_size}, mean: {mean:?}, std: {std:?} }}");
        let clips = Self::clip(*image_size);
        let usual = match (*resize, *offset) == (clips.resize, clips.offset) {
            true => usual,
            false => format!("{usual}, {resize:?}, {offset:?}"),
        };
        match filter {
            Filter::Bicubic => usual,
            Filter::Bilinear => format!("{usual}, {filter:?}"),
        }
    }

    /// The steps, for people.
    #[must_use]
    pub(crate) fn describe(&self) -> String {
        let side = self.image_size;
        let size = match self.resize {
            Resize::ShortestEdge(edge) => format!("short side to {edge}"),
            Resize::Exact { width, height } => format!("squashed to {width} x {height}"),
        };
        let crop = match self.resize {
            Resize::Exact { width, height } if (width, height) == (side, side) => String::new(),
            _ => format!(", centre {side} x {side} cropped"),
        };
        format!(
            "{size}, {}{crop}, mean {:?}, standard deviation {:?}",
            self.filter.name(),
            self.mean,
            self.std
        )
    }

    /// The same square with `times` as many pixels per side, for people.
    #[must_use]
    pub(crate) fn magnified(&self, times: usize) -> Self {
        let resize = match self.resize {
            Resize::ShortestEdge(edge) => Resize::ShortestEdge(edge * times),
            Resize::Exact { width, height } => Resize::Exact {
                width: width * times,
                height: height * times,
            },
        };
        Self {
            image_size: self.image_size * times,
            resize,
            ..self.clone()
        }
    }

    /// Where the centre square is in an image of `whole` pixels: left, top, width and height, in
    /// its pixels.
    #[must_use]
    pub(crate) fn area(&self, whole: (usize, usize)) -> [f32; 4] {
        let ((width, height), window) = self.target(whole);
        let across = whole.0 as f32 / width as f32;
        let down = whole.1 as f32 / height as f32;
        [
            window.left as f32 * across,
            window.top as f32 * down,
            window.width as f32 * across,
            window.height as f32 * down,
        ]
    }

    /// The least pixels per side of an image that is decoded at reduced size.
    #[must_use]
    pub(crate) fn reduced_side(&self) -> usize {
        let longest = match self.resize {
            Resize::ShortestEdge(edge) => edge,
            Resize::Exact { width, height } => width.max(height),
        };
        REDUCED_TIMES * longest
    }

    /// Resizes, crops and normalises: `[3, image_size, image_size]`, channels first.
    pub fn run(&self, image: &RgbImage) -> Vec<f32> {
        self.normalise(&self.crop(image))
    }

    /// Normalises a square of the right size: `[3, image_size, image_size]`.
    pub(crate) fn normalise(&self, cropped: &RgbImage) -> Vec<f32> {
        let table = self.table();
        let plane = |channel: usize| {
            let (pixels, _) = cropped.pixels.as_chunks::<3>();
            let values = table[channel];
            pixels
                .iter()
                .map(move |pixel| values[usize::from(pixel[channel])])
        };
        let mut pixels = Vec::with_capacity(cropped.pixels.len());
        (0..3).for_each(|channel| pixels.extend(plane(channel)));
        pixels // [3, image_size, image_size]
    }

    /// The square that [`Self::normalise`] turned into `pixels`.
    pub(crate) fn samples(&self, pixels: &[f32]) -> RgbImage {
        let plane = self.image_size * self.image_size;
        let sample = |at: usize, channel: usize| {
            let value = pixels[channel * plane + at] * self.std[channel] + self.mean[channel];
            (value * 255.0).round() as u8
        };
        RgbImage {
            width: self.image_size,
            height: self.image_size,
            pixels: (0..plane)
                .flat_map(|at| [0, 1, 2].map(|channel| sample(at, channel)))
                .collect(),
        }
    }

    /// The centre square, `[image_size, image_size, 3]`, before normalisation.
    pub fn crop(&self, image: &RgbImage) -> RgbImage {
        self.crop_part(image, (image.width, image.height), 1)
    }

    /// The same of an image that may have been decoded at reduced size; its centre square is that of
    /// the whole image.
    pub fn crop_decoded(&self, decoded: &Decoded) -> RgbImage {
        self.crop_part(&decoded.image, decoded.size, decoded.scale)
    }

    /// The same of the image file `bytes`: rows are resized as they are decoded, so that, where the
    /// format gives rows one by one, memory does not grow with the image.
    ///
    /// # Errors
    /// As [`image::decode`].
    pub fn crop_file(&self, bytes: &[u8], options: &DecodeOptions) -> Result<RgbImage> {
        let mut square = Square::new(self);
        image::decode_rows(bytes, options, &mut square)?;
        square.finish().context("the image has no rows")
    }

    /// The same for an image that is `scale` times smaller than `whole` (width, height), rounded up.
    fn crop_part(&self, image: &RgbImage, whole: (usize, usize), scale: usize) -> RgbImage {
        let (size, window) = self.target(whole);
        resize_window(image, self.filter, extent(whole, scale), size, window)
    }

    /// The size to which an image of `whole` pixels is resized, and the centre square of it.
    fn target(&self, whole: (usize, usize)) -> ((usize, usize), Window) {
        let side = self.image_size;
        let (width, height) = match self.resize {
            Resize::ShortestEdge(edge) => resized(whole.0, whole.1, edge),
            Resize::Exact { width, height } => (width, height),
        };
        let start = |length: usize| self.offset.half(length.saturating_sub(side));
        let window = Window {
            left: start(width),
            top: start(height),
            width: side,
            height: side,
        };
        ((width, height), window)
    }

    /// The normalised value of each of the 256 samples, per channel. The order of operations is
    /// torchvision's.
    fn table(&self) -> [[f32; 256]; 3] {
        let value = |channel: usize, sample: usize| {
            (sample as f32 / 255.0 - self.mean[channel]) / self.std[channel]
        };
        std::array::from_fn(|channel| std::array::from_fn(|sample| value(channel, sample)))
    }
}

/// The columns and rows that count of an image `scale` times smaller than `whole`.
fn extent(whole: (usize, usize), scale: usize) -> (f64, f64) {
    let extent = |side: usize| side as f64 / scale as f64;
    (extent(whole.0), extent(whole.1))
}

/// The centre square of an image whose rows come one after another: the same bytes as
/// [`Preprocess::crop_decoded`], without holding the image.
pub(crate) struct Square<'a> {
    preprocess: &'a Preprocess,
    resizer: Option<Resizer>,
}

impl<'a> Square<'a> {
    /// The square that `preprocess` describes.
    pub(crate) fn new(preprocess: &'a Preprocess) -> Self {
        Self {
            preprocess,
            resizer: None,
        }
    }

    /// `[image_size, image_size, 3]`, once all rows have come; `None` if none did.
    pub(crate) fn finish(self) -> Option<RgbImage> {
        Some(self.resizer?.finish())
    }
}

impl Rows for Square<'_> {
    fn bytes(&self, frame: &Frame) -> u64 {
        let (size, window) = self.preprocess.target(frame.size);
        Resizer::bytes(frame, size, window)
    }

    fn start(&mut self, frame: &Frame) {
        let (size, window) = self.preprocess.target(frame.size);
        let extent = extent(frame.size, frame.scale);
        let filter = self.preprocess.filter;
        self.resizer = Some(Resizer::new(frame, filter, extent, size, window));
    }

    fn add(&mut self, rows: &[u8]) {
        if let Some(resizer) = &mut self.resizer {
            resizer.add(rows);
        }
    }
}

/// The size of the whole image when its short side becomes `side`; the long side is truncated to an
/// integer.
fn resized(width: usize, height: usize, side: usize) -> (usize, usize) {
    let long = |long: usize, short: usize| ((side * long) as f64 / short as f64) as usize;
    if width <= height {
        (side, long(height, width))
    } else {
        (long(width, height), side)
    }
}

impl CropOffset {
    /// Half of `difference`, rounded.
    fn half(self, difference: usize) -> usize {
        let half = difference / 2;
        match self {
            Self::HalfToEven => half + difference % 2 * (half % 2),
            Self::Floor => half,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_rounded_to_even() {
        let cases = [
            (0, 0),
            (1, 0),
            (2, 1),
            (3, 2),
            (5, 2),
            (7, 4),
            (9, 4),
            (11, 6),
            (74, 37),
            (75, 38),
        ];
        for (difference, expected) in cases {
            assert_eq!(CropOffset::HalfToEven.half(difference), expected);
            assert_eq!(CropOffset::Floor.half(difference), difference / 2);
        }
    }

    #[test]
    fn an_image_is_squashed_or_cut_from_a_larger_one() {
        let image = RgbImage {
            width: 40,
            height: 20,
            pixels: (0..2400).map(|i| (i * 7 % 251) as u8).collect(),
        };
        let crop = |resize, offset| {
            let wanted = Preprocess {
                resize,
                offset,
                ..Preprocess::clip(8)
            };
            wanted.crop(&image)
        };
        let squashed = crop(
            Resize::Exact {
                width: 8,
                height: 8,
            },
            CropOffset::Floor,
        );
        assert_eq!(squashed, crate::input::resize::bicubic(&image, 8, 8));
        // 40 x 20 -> 22 x 11: 14 columns and 3 rows are too many.
        let whole = crate::input::resize::bicubic(&image, 22, 11);
        for (offset, top) in [(CropOffset::Floor, 1), (CropOffset::HalfToEven, 2)] {
            let found = crop(Resize::ShortestEdge(11), offset);
            let at = (top * 22 + 7) * 3;
            assert_eq!(found.pixels[..24], whole.pixels[at..at + 24], "{offset:?}");
        }
    }

    #[test]
    fn a_recipe_names_everything_that_differs_from_clip() {
        let clips = Preprocess::clip(8);
        assert!(
            clips
                .recipe()
                .starts_with("Preprocess { image_size: 8, mean: [0.48")
        );
        let others = [
            Preprocess {
                offset: CropOffset::Floor,
                ..clips.clone()
            },
            Preprocess {
                resize: Resize::ShortestEdge(9),
                ..clips.clone()
            },
            Preprocess {
                mean: [0.5; 3],
                ..clips.clone()
            },
        ];
        for other in others {
            assert_ne!(other.recipe(), clips.recipe());
        }
    }

    #[test]
    fn the_long_side_is_truncated() {
        let cases = [
            ((4000, 3000), (298, 224)),
            ((401, 300), (299, 224)),
            ((300, 401), (224, 299)),
            ((224, 224), (224, 224)),
            ((10, 10), (224, 224)),
            ((1, 100_000), (224, 22_400_000)),
        ];
        for ((width, height), expected) in cases {
            assert_eq!(resized(width, height, 224), expected);
        }
    }

    #[test]
    fn samples_are_normalised_channel_by_channel() {
        let image = RgbImage {
            width: 2,
            height: 2,
            pixels: [0, 100, 255].repeat(4),
        };
        let pixels = Preprocess::clip(2).run(&image);
        // (0 - mean) / std, (100/255 - mean) / std, (1 - mean) / std as numpy gives them in f32.
        let expected = [-1.792_262_6_f32, -0.251_320_27, 2.145_897];
        for (channel, expected) in expected.iter().enumerate() {
            for pixel in &pixels[channel * 4..][..4] {
                assert!(
                    (pixel - expected).abs() < 1e-6,
                    "channel {channel}: {pixel}"
                );
            }
        }
    }

    #[test]
    fn a_very_narrow_image_stays_cheap() {
        let image = RgbImage {
            width: 1,
            height: 100_000,
            pixels: (0..300_000).map(|i| (i / 4096) as u8).collect(),
        };
        let crop = Preprocess::clip(224).crop(&image);
        // 224 rows out of 22.4 million lie within one pixel's height, the one in the middle.
        assert_eq!(crop.pixels.len(), 224 * 224 * 3);
        assert!(crop.pixels.iter().all(|sample| *sample == crop.pixels[0]));
    }

    #[test]
    fn the_square_has_a_place_in_the_image() {
        let clips = Preprocess::clip(224);
        let near = |found: [f32; 4], expected: [f32; 4]| {
            let apart = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
            assert!(
                apart.fold(0.0, f32::max) < 1.01,
                "{found:?}, not {expected:?}"
            );
        };
        near(clips.area((448, 448)), [0.0, 0.0, 448.0, 448.0]);
        near(clips.area((1000, 500)), [250.0, 0.0, 500.0, 500.0]);
        near(clips.area((30, 90)), [0.0, 30.0, 30.0, 30.0]);
        let whole = Preprocess {
            resize: Resize::Exact {
                width: 224,
                height: 224,
            },
            ..clips.clone()
        };
        near(whole.area((1000, 500)), [0.0, 0.0, 1000.0, 500.0]);
        for (preprocess, size) in [(clips, (1000, 500)), (whole, (300, 700))] {
            let larger = preprocess.magnified(3);
            assert_eq!(larger.image_size, 672);
            near(larger.area(size), preprocess.area(size));
        }
    }
}
