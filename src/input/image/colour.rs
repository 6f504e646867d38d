//! Any pixel type or colour model -> 8-bit RGB, with alpha resolved; rounding is Pillow's.

use image::DynamicImage;

use super::RgbImage;

/// CMYK, `[pixels, 4]` -> RGB, `[pixels, 3]`.
pub(super) fn cmyk_to_rgb(inks: Vec<u8>) -> Vec<u8> {
    let (pixels, _) = inks.as_chunks::<4>();
    pixels
        .iter()
        .flat_map(|[c, m, y, k]| [*c, *m, *y].map(|ink| under_black(ink, *k)))
        .collect()
}

/// The light that an ink leaves of what black leaves.
pub(super) fn under_black(ink: u8, black: u8) -> u8 {
    let left = 255 - u32::from(black);
    let product = u32::from(ink) * left + 128;
    let taken = (product + (product >> 8)) >> 8;
    left.saturating_sub(taken) as u8
}

/// YCbCr as in JFIF -> RGB, in place.
pub(super) fn ycbcr_to_rgb(samples: &mut [u8]) {
    let (pixels, _) = samples.as_chunks_mut::<3>();
    for pixel in pixels {
        let [luma, blue, red] = pixel.map(f32::from);
        let (blue, red) = (blue - 128.0, red - 128.0);
        let green = luma - 0.344_136 * blue - 0.714_136 * red;
        let colours = [luma + 1.402 * red, green, luma + 1.772 * blue];
        *pixel = colours.map(|sample| sample.round() as u8);
    }
}

/// Pixels that are copied aside while they are overwritten in place.
const BLOCK: usize = 256;

/// What shows through where an image is transparent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Alpha {
    /// Composite on white, as transformers' image processors do.
    #[default]
    White,
    /// Composite on black.
    Black,
    /// Ignore alpha and show the hidden colours, as OpenAI's and open_clip's code does.
    Drop,
}

impl Alpha {
    /// One sample composited on the background: the mean `(sample * a + background * (255 - a)) /
    /// 255` rounded to the nearest integer. Equals Pillow's `alpha_composite` on an opaque
    /// background for all 65,536 pairs.
    fn settle(self, sample: u8, a: u8) -> u8 {
        let background = match self {
            Self::White => 255,
            Self::Black => 0,
            Self::Drop => return sample,
        };
        let (sample, a) = (u32::from(sample), u32::from(a));
        ((sample * a + background * (255 - a) + 127) / 255) as u8
    }
}

/// Whether there is alpha and it is 0 everywhere.
pub(super) fn is_blank(image: &DynamicImage) -> bool {
    match image {
        DynamicImage::ImageLumaA8(image) => image.pixels().all(|pixel| pixel.0[1] == 0),
        DynamicImage::ImageRgba8(image) => image.pixels().all(|pixel| pixel.0[3] == 0),
        DynamicImage::ImageLumaA16(image) => image.pixels().all(|pixel| pixel.0[1] == 0),
        DynamicImage::ImageRgba16(image) => image.pixels().all(|pixel| pixel.0[3] == 0),
        _ => false,
    }
}

/// Whether a 16-bit image is not black but uses only the lowest eighth of the range: 12-bit cameras
/// and scanners leave the upper bits at zero.
#[derive(Debug, Default)]
pub(super) struct Dark {
    is_lit: bool,
    is_bright: bool,
}

impl Dark {
    /// Takes the next rows.
    pub(super) fn add(&mut self, rows: &DynamicImage) {
        let (samples, kept, colours): (&[u16], usize, usize) = match rows {
            DynamicImage::ImageLuma16(image) => (image.as_raw().as_slice(), 1, 1),
            DynamicImage::ImageLumaA16(image) => (image.as_raw().as_slice(), 2, 1),
            DynamicImage::ImageRgb16(image) => (image.as_raw().as_slice(), 3, 3),
            DynamicImage::ImageRgba16(image) => (image.as_raw().as_slice(), 4, 3),
            _ => return,
        };
        let pixels = samples.chunks_exact(kept);
        let mut colours = pixels.flat_map(|pixel| &pixel[..colours]);
        self.is_lit = self.is_lit || colours.clone().any(|sample| *sample > 0);
        self.is_bright = self.is_bright || colours.any(|sample| *sample >= 1 << 13);
    }

    /// What all rows say.
    pub(super) fn is_dark(&self) -> bool {
        self.is_lit && !self.is_bright
    }
}

/// Converts any decoded image to 8-bit RGB. Wider samples are scaled and rounded to 8 bits first.
pub(super) fn to_rgb(image: DynamicImage, alpha: Alpha) -> RgbImage {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let pixels = if image.color().has_alpha() {
        settle_all(image.into_rgba8().into_raw(), alpha)
    } else {
        image.into_rgb8().into_raw()
    };
    RgbImage {
        width,
        height,
        pixels,
    }
}

/// `[pixels, 4]` -> `[pixels, 3]`, in place, so that a large image is not in memory twice.
fn settle_all(mut samples: Vec<u8>, alpha: Alpha) -> Vec<u8> {
    let count = samples.len() / 4;
    let mut block = [0; BLOCK * 4];
    for first in (0..count).step_by(BLOCK) {
        let length = BLOCK.min(count - first);
        let block = &mut block[..length * 4];
        block.copy_from_slice(&samples[first * 4..][..length * 4]);
        let (target, _) = samples[first * 3..][..length * 3].as_chunks_mut::<3>();
        let (pixels, _) = block.as_chunks::<4>();
        for (to, [r, g, b, a]) in target.iter_mut().zip(pixels) {
            *to = [*r, *g, *b].map(|sample| alpha.settle(sample, *a));
        }
    }
    samples.truncate(3 * count);
    samples
}

#[cfg(test)]
mod tests {
    use image::{ImageBuffer, Luma, LumaA, Rgb};

    use super::*;

    #[test]
    fn cmyk_becomes_rgb() {
        let inks = vec![0, 0, 0, 0, 255, 0, 128, 0, 0, 100, 0, 128, 9, 9, 9, 255];
        let expected = [255, 255, 255, 0, 255, 127, 127, 77, 127, 0, 0, 0];
        assert_eq!(cmyk_to_rgb(inks), expected);
    }

    #[test]
    fn ycbcr_becomes_rgb() {
        let mut samples = [0, 128, 128, 76, 85, 255, 29, 255, 107, 128, 128, 128];
        ycbcr_to_rgb(&mut samples);
        assert_eq!(samples, [0, 0, 0, 254, 0, 0, 0, 0, 254, 128, 128, 128]);
    }

    #[test]
    fn alpha_is_composited_on_the_background() {
        let cases = [
            (Alpha::White, 10, 0, 255),
            (Alpha::White, 10, 255, 10),
            (Alpha::White, 0, 128, 127),
            (Alpha::White, 100, 100, 194),
            (Alpha::Black, 200, 0, 0),
            (Alpha::Black, 255, 128, 128),
            (Alpha::Drop, 77, 0, 77),
        ];
        for (alpha, sample, a, expected) in cases {
            assert_eq!(alpha.settle(sample, a), expected, "{alpha:?} {sample} {a}");
        }
    }

    #[test]
    fn pixels_are_compacted_in_place() {
        let samples = vec![1, 2, 3, 255, 4, 5, 6, 0, 7, 8, 9, 255];
        let white = settle_all(samples.clone(), Alpha::White);
        assert_eq!(white, [1, 2, 3, 255, 255, 255, 7, 8, 9]);
        assert_eq!(
            settle_all(samples, Alpha::Drop),
            [1, 2, 3, 4, 5, 6, 7, 8, 9]
        );
    }

    #[test]
    fn twelve_bits_in_sixteen_are_detected() {
        let is_dark = |rows: &[DynamicImage]| {
            let mut dark = Dark::default();
            rows.iter().for_each(|rows| dark.add(rows));
            dark.is_dark()
        };
        let grey = |samples: [u16; 2]| {
            let image = ImageBuffer::<Luma<u16>, _>::from_raw(2, 1, samples.to_vec());
            DynamicImage::from(image.unwrap())
        };
        let cases = [
            (vec![[0, 4095]], true),
            (vec![[1, 8191]], true),
            (vec![[1, 8192]], false),
            (vec![[0, 65535]], false),
            (vec![[0, 0]], false),
            (vec![[0, 0], [0, 1]], true),
            (vec![[65535, 0], [0, 1]], false),
        ];
        for (rows, expected) in cases {
            let bands: Vec<_> = rows.iter().map(|row| grey(*row)).collect();
            assert_eq!(is_dark(&bands), expected, "{rows:?}");
        }
        let opaque = ImageBuffer::<LumaA<u16>, _>::from_raw(1, 1, vec![4095, 65535]).unwrap();
        assert!(is_dark(&[opaque.into()]));
        let red = ImageBuffer::<Rgb<u16>, _>::from_raw(1, 1, vec![65535, 0, 0]).unwrap();
        assert!(!is_dark(&[red.into()]));
    }

    #[test]
    fn sixteen_bits_are_scaled_not_truncated() {
        let ramp = image::ImageBuffer::from_raw(3, 1, vec![0_u16, 0x8000, 0xFFFF]).unwrap();
        let rgb = to_rgb(DynamicImage::ImageLuma16(ramp), Alpha::White);
        assert_eq!(rgb.pixels, [0, 0, 0, 128, 128, 128, 255, 255, 255]);
    }
}
