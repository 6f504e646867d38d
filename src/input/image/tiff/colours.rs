//! Rows of samples of a TIFF file -> an image of 8 or 16 bits, as Pillow shows it.

use anyhow::{Context as _, Result};
use image::{DynamicImage, GrayImage, ImageBuffer, RgbImage, RgbaImage};

use super::Samples;
use super::layout::{AlphaKind, Colours, SampleKind, TiffLayout, YCbCr};
use crate::input::image::colour::under_black;
use crate::input::image::format::Format;

/// Highest floating-point value with which white is still taken to be 1: highlights exceed it.
const MAX_FOR_ONE: f32 = 16.0;

/// Highest value with which white is still taken to be 255.
const MAX_FOR_BYTE: f32 = 511.0;

/// `rows` rows of the image. Numbers without a fixed range are shown as `levels` says.
pub(super) fn image(
    layout: &TiffLayout,
    rows: u32,
    samples: Samples,
    levels: Option<&Levels>,
) -> Result<DynamicImage> {
    match samples {
        Samples::Words(mut words) => {
            scale_words(layout, &mut words);
            let is_direct = matches!(layout.colours, Colours::Grey { .. } | Colours::Rgb);
            if is_direct && layout.alpha != AlphaKind::Premultiplied {
                invert(layout, &mut words, u16::MAX);
                return wide(layout, rows, words);
            }
            let bytes = words.into_iter().map(|word| byte_of(word.into(), 65535));
            narrow(layout, rows, bytes.collect())
        }
        Samples::Bytes(mut bytes) => {
            scale_bytes(layout, &mut bytes);
            narrow(layout, rows, bytes)
        }
        Samples::Floats(floats) => {
            let levels = levels.ok_or_else(|| Format::Tiff.damaged())?;
            narrow(layout, rows, levels.bytes(&floats))
        }
    }
}

/// `code` of `most` scaled to 0..=255, rounded.
fn byte_of(code: u32, most: u32) -> u8 {
    ((code * 255 + most / 2) / most) as u8
}

fn scale_bytes(layout: &TiffLayout, bytes: &mut [u8]) {
    let is_index = matches!(layout.colours, Colours::Palette(_));
    if layout.bits < 8 && !is_index {
        let most = (1 << layout.bits) - 1;
        bytes
            .iter_mut()
            .for_each(|byte| *byte = byte_of((*byte).into(), most));
    }
}

fn scale_words(layout: &TiffLayout, words: &mut [u16]) {
    let most = (1_u32 << layout.bits) - 1;
    if most < 65535 {
        words
            .iter_mut()
            .for_each(|word| *word = ((u32::from(*word) * 65535 + most / 2) / most) as u16);
    }
}

/// Inverts grey whose 0 is white.
fn invert<T: Copy + std::ops::Sub<Output = T>>(layout: &TiffLayout, samples: &mut [T], white: T) {
    if layout.colours == (Colours::Grey { is_inverted: true }) {
        for grey in samples.iter_mut().step_by(layout.kept) {
            *grey = white - *grey;
        }
    }
}

/// How numbers without a fixed range are shown.
pub(super) struct Levels {
    kind: &'static str,
    /// The value taken for white: 1 or 255, or, for integers, the maximum of the type.
    white: f32,
}

impl Levels {
    /// For an image with samples from `least` to `most`. What fits no value for white is refused
    /// instead of shown as a blank.
    pub(super) fn of(layout: &TiffLayout, least: f32, most: f32) -> Result<Self> {
        let full = match (layout.kind, layout.bits) {
            (SampleKind::Unsigned, _) => Some(u32::MAX as f32),
            (SampleKind::Signed, bits) => Some(((1_u64 << (bits - 1)) - 1) as f32),
            (SampleKind::Float, _) => None,
        };
        let white = match full {
            None if most <= MAX_FOR_ONE => Some(1.0),
            _ if most <= MAX_FOR_BYTE => Some(255.0),
            full => full.filter(|full| most > full / 16.0),
        };
        let white = white.filter(|white| least > -0.5 * white);
        let kind = match layout.kind {
            SampleKind::Float => "floating-point numbers",
            _ => "signed or 32-bit numbers",
        };
        let white = white.with_context(|| {
            format!(
                "{kind} from {least} to {most}, with unknown black and white, are not supported in \
                 a TIFF; save the image with 8 or 16 bits"
            )
        })?;
        Ok(Self { kind, white })
    }

    /// The warning about what was taken for white.
    pub(super) fn guess(&self) -> String {
        let (kind, white) = (self.kind, self.white as u32);
        format!("tiff: {kind} were read with 0 as black and {white} as white")
    }

    /// The samples as bytes.
    fn bytes(&self, samples: &[f32]) -> Vec<u8> {
        let scale = 255.0 / self.white;
        // Clipped as in Pillow. NaN becomes 0.
        let half = if self.white == 255.0 { 0.0 } else { 0.5 };
        let bytes = samples.iter().map(|sample| (sample * scale + half) as u8);
        bytes.collect()
    }
}

/// Grey or RGB of 16 bits, with or without alpha.
fn wide(layout: &TiffLayout, rows: u32, words: Vec<u16>) -> Result<DynamicImage> {
    let (w, h) = (layout.width, rows);
    let image = match layout.kept {
        1 => ImageBuffer::from_raw(w, h, words).map(DynamicImage::ImageLuma16),
        2 => ImageBuffer::from_raw(w, h, words).map(DynamicImage::ImageLumaA16),
        3 => ImageBuffer::from_raw(w, h, words).map(DynamicImage::ImageRgb16),
        _ => ImageBuffer::from_raw(w, h, words).map(DynamicImage::ImageRgba16),
    };
    image.ok_or_else(|| Format::Tiff.damaged())
}

/// Any colours of 8 bits.
fn narrow(layout: &TiffLayout, rows: u32, mut bytes: Vec<u8>) -> Result<DynamicImage> {
    let (width, height) = (layout.width, rows);
    invert(layout, &mut bytes, 255);
    let has_alpha = layout.alpha != AlphaKind::Absent;
    let image = match (&layout.colours, has_alpha) {
        (Colours::Grey { .. }, false) => {
            GrayImage::from_raw(width, height, bytes).map(DynamicImage::ImageLuma8)
        }
        (Colours::Rgb, false) => {
            RgbImage::from_raw(width, height, bytes).map(DynamicImage::ImageRgb8)
        }
        (colours, false) => {
            let pixels = bytes.chunks_exact(layout.kept);
            let rgb = pixels.flat_map(|pixel| rgb(colours, pixel)).collect();
            RgbImage::from_raw(width, height, rgb).map(DynamicImage::ImageRgb8)
        }
        (colours, true) => {
            let pixels = bytes.chunks_exact(layout.kept);
            let rgba = pixels.flat_map(|pixel| {
                let [r, g, b] = rgb(colours, pixel);
                [r, g, b, alpha(layout, pixel)]
            });
            RgbaImage::from_raw(width, height, rgba.collect()).map(DynamicImage::ImageRgba8)
        }
    };
    let image = image.ok_or_else(|| Format::Tiff.damaged())?;
    Ok(if layout.alpha == AlphaKind::Premultiplied {
        unmultiply(image)
    } else {
        image
    })
}

/// The last sample of a pixel; with a palette it was not scaled yet.
fn alpha(layout: &TiffLayout, pixel: &[u8]) -> u8 {
    let alpha = pixel.last().copied().unwrap_or(255);
    match layout.colours {
        Colours::Palette(_) => byte_of(alpha.into(), (1 << layout.bits) - 1),
        _ => alpha,
    }
}

fn rgb(colours: &Colours, pixel: &[u8]) -> [u8; 3] {
    match (colours, pixel) {
        (Colours::Palette(palette), [index, ..]) => {
            let colour = palette.get(usize::from(*index));
            colour.copied().unwrap_or_default()
        }
        (Colours::Cmyk, [c, m, y, k, ..]) => [*c, *m, *y].map(|ink| under_black(ink, *k)),
        (Colours::YCbCr(kind), [y, cb, cr, ..]) => kind.rgb([*y, *cb, *cr]),
        (_, [r, g, b, ..]) => [*r, *g, *b],
        (_, [grey, ..]) => [*grey; 3],
        (_, []) => [0; 3],
    }
}

impl YCbCr {
    /// TIFF 6.0, section 21.
    fn rgb(&self, codes: [u8; 3]) -> [u8; 3] {
        let scaled = |index: usize, range: f32| {
            let [low, high] = self.reference[index];
            (f32::from(codes[index]) - low) * range / (high - low)
        };
        let (luma, blue, red) = (scaled(0, 255.0), scaled(1, 127.0), scaled(2, 127.0));
        let [of_red, of_green, of_blue] = self.weights;
        let r = luma + red * (2.0 - 2.0 * of_red);
        let b = luma + blue * (2.0 - 2.0 * of_blue);
        let g = (luma - of_blue * b - of_red * r) / of_green;
        [r, g, b].map(|sample| sample.round() as u8)
    }
}

/// Converts premultiplied colours to straight alpha as Pillow does: in 8 bits, clipping.
fn unmultiply(image: DynamicImage) -> DynamicImage {
    let mut image = image.into_rgba8();
    for pixel in image.pixels_mut() {
        let [.., alpha] = pixel.0;
        if alpha != 0 {
            let plain = |sample: u8| (u32::from(sample) * 255 / u32::from(alpha)).min(255) as u8;
            pixel.0[..3]
                .iter_mut()
                .for_each(|sample| *sample = plain(*sample));
        }
    }
    DynamicImage::ImageRgba8(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_scaled_to_bytes() {
        for (code, most, expected) in [(1, 1, 255), (2, 3, 170), (7, 15, 119), (32768, 65535, 128)]
        {
            assert_eq!(byte_of(code, most), expected, "{code} of {most}");
        }
    }

    #[test]
    fn ycbcr_becomes_rgb() {
        let full = YCbCr {
            weights: [0.299, 0.587, 0.114],
            reference: [[0.0, 255.0], [128.0, 255.0], [128.0, 255.0]],
        };
        let cases = [
            ([0, 128, 128], [0, 0, 0]),
            ([255, 128, 128], [255, 255, 255]),
            ([76, 85, 255], [254, 0, 0]),
            ([29, 255, 107], [0, 0, 254]),
        ];
        for (codes, expected) in cases {
            assert_eq!(full.rgb(codes), expected, "{codes:?}");
        }
        let video = YCbCr {
            reference: [[16.0, 235.0], [128.0, 240.0], [128.0, 240.0]],
            ..full
        };
        assert_eq!(video.rgb([16, 128, 128]), [0; 3]);
        assert_eq!(video.rgb([235, 128, 128]), [255; 3]);
    }
}
