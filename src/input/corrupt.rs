//! Written corruptions of an image, for measuring how accuracy falls with them.
//!
//! Each changes the square that an image tower gets, so that a strength means the same for images of
//! every size. Kinds and values are those of ImageNet-C (Hendrycks and Dietterich, arXiv 1903.12261)
//! of the same name; the definitions below are complete, and `tests/evaluate/corrupt.py` computes them
//! a second time. Samples x are numbers from 0 to 255; the result is clipped and rounded half up:
//!
//! | kind | result | strengths 1 to 5 |
//! |---|---|---|
//! | noise | x + 255 s n, n normal and independent per sample | s = 0.08, 0.12, 0.18, 0.26, 0.38 |
//! | blur | Gaussian of deviation s side / 224 pixels, cut at three deviations, edges repeated | s = 1, 2, 3, 4, 6 |
//! | jpeg | baseline JPEG of quality q as libjpeg counts it, colour not subsampled | q = 25, 18, 15, 10, 7 |
//! | brightness | x + 255 b | b = 0.1, 0.2, 0.3, 0.4, 0.5 |
//! | contrast | m + c (x - m), m the mean of a channel | c = 0.4, 0.3, 0.2, 0.1, 0.05 |
//!
//! The numbers n come from the image and a seed alone, so that neither the order of images nor the
//! number of threads matters: `key` is the first eight bytes, little endian, of the SHA-256 of the
//! seed (eight bytes, little endian) followed by the samples in rows, channels last; SplitMix64
//! started there gives pairs (a, b), and with u = (a / 2^11 + 1) / 2^53 and v = (b / 2^11) / 2^53
//! (whole quotients), two neighbouring samples get sqrt(-2 ln u) times cos(2 pi v) and sin(2 pi v).
//! All strengths share n.

use std::f64::consts::TAU;

use anyhow::Result;
use sha2::{Digest as _, Sha256};

use super::image::{self, DecodeOptions, RgbImage, to_jpeg};

/// A kind of corruption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Corruption {
    Noise,
    Blur,
    Jpeg,
    Brightness,
    Contrast,
}

/// Strengths of each kind, counted from 1.
pub(crate) const STRENGTHS: usize = 5;

impl Corruption {
    pub(crate) const ALL: [Self; 5] = [
        Self::Noise,
        Self::Blur,
        Self::Jpeg,
        Self::Brightness,
        Self::Contrast,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Noise => "noise",
            Self::Blur => "blur",
            Self::Jpeg => "jpeg",
            Self::Brightness => "brightness",
            Self::Contrast => "contrast",
        }
    }

    /// The parameter at each strength, in the order of the table above.
    pub(crate) const fn values(self) -> [f64; STRENGTHS] {
        match self {
            Self::Noise => [0.08, 0.12, 0.18, 0.26, 0.38],
            Self::Blur => [1.0, 2.0, 3.0, 4.0, 6.0],
            Self::Jpeg => [25.0, 18.0, 15.0, 10.0, 7.0],
            Self::Brightness => [0.1, 0.2, 0.3, 0.4, 0.5],
            Self::Contrast => [0.4, 0.3, 0.2, 0.1, 0.05],
        }
    }

    /// `image` at every strength.
    ///
    /// # Errors
    /// When it cannot be written as JPEG.
    pub(crate) fn apply(self, image: &RgbImage, seed: u64) -> Result<Vec<RgbImage>> {
        let noise = match self {
            Self::Noise => normal(image, seed),
            _ => Vec::new(),
        };
        let changed = |&value: &f64| {
            Ok(match self {
                Self::Noise => pointwise(image, |at, x| x + 255.0 * value * noise[at]),
                Self::Blur => blurred(image, value * image.width as f64 / 224.0),
                Self::Jpeg => {
                    let file = to_jpeg(image, value as u8)?;
                    image::decode(&file, &DecodeOptions::default())?.image
                }
                Self::Brightness => pointwise(image, |_, x| x + 255.0 * value),
                Self::Contrast => {
                    let means = means(image);
                    pointwise(image, |at, x| {
                        let mean = means[at % 3];
                        mean + value * (x - mean)
                    })
                }
            })
        };
        self.values().iter().map(changed).collect()
    }
}

fn sample(x: f64) -> u8 {
    (x.clamp(0.0, 255.0) + 0.5) as u8
}

/// Each sample changed by itself.
fn pointwise(image: &RgbImage, change: impl Fn(usize, f64) -> f64) -> RgbImage {
    let pixels = image.pixels.iter().enumerate();
    RgbImage {
        pixels: pixels
            .map(|(at, &x)| sample(change(at, f64::from(x))))
            .collect(),
        ..*image
    }
}

/// The mean of each channel.
fn means(image: &RgbImage) -> [f64; 3] {
    let (pixels, _) = image.pixels.as_chunks::<3>();
    let mean = |channel: usize| {
        let sum: u64 = pixels.iter().map(|pixel| u64::from(pixel[channel])).sum();
        sum as f64 / pixels.len().max(1) as f64
    };
    std::array::from_fn(mean)
}

/// A standard normal number per sample.
fn normal(image: &RgbImage, seed: u64) -> Vec<f64> {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    hash.update(&image.pixels);
    let digest: [u8; 32] = hash.finalize().into();
    let (first, _) = digest.as_chunks::<8>();
    let mut state = u64::from_le_bytes(first[0]);
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) >> 11
    };
    let unit = (1u64 << 53) as f64;
    let count = image.pixels.len();
    let mut numbers = Vec::with_capacity(count + 1);
    while numbers.len() < count {
        let (u, v) = ((next() + 1) as f64 / unit, next() as f64 / unit);
        let radius = (-2.0 * u.ln()).sqrt();
        numbers.extend([radius * (TAU * v).cos(), radius * (TAU * v).sin()]);
    }
    numbers.truncate(count);
    numbers
}

/// Convolved with a Gaussian of this deviation in pixels, along rows and then along columns.
fn blurred(image: &RgbImage, deviation: f64) -> RgbImage {
    let reach = (3.0 * deviation).ceil() as usize;
    let weight = |distance: usize| (-0.5 * (distance as f64 / deviation).powi(2)).exp();
    let mut weights: Vec<f64> = (0..=2 * reach)
        .map(|at| weight(at.abs_diff(reach)))
        .collect();
    let sum: f64 = weights.iter().sum();
    weights.iter_mut().for_each(|weight| *weight /= sum);
    let (width, height) = (image.width, image.height);
    let mut source: Vec<f64> = image.pixels.iter().map(|&x| f64::from(x)).collect();
    // The same along both: lines of pixels `step` apart.
    for (lines, length, line_step, step) in
        [(height, width, 3 * width, 3), (width, height, 3, 3 * width)]
    {
        let mut out = vec![0.0; source.len()];
        for line in 0..lines {
            for at in 0..length {
                let mut sums = [0.0; 3];
                for (tap, weight) in weights.iter().enumerate() {
                    let from = (at + tap).saturating_sub(reach).min(length - 1);
                    let from = line * line_step + from * step;
                    for (sum, x) in sums.iter_mut().zip(&source[from..from + 3]) {
                        *sum += weight * x;
                    }
                }
                let to = line * line_step + at * step;
                out[to..to + 3].copy_from_slice(&sums);
            }
        }
        source = out;
    }
    RgbImage {
        pixels: source.into_iter().map(sample).collect(),
        ..*image
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture() -> RgbImage {
        let (width, height) = (224, 8);
        let pixel = |at: usize| [(at * 7) as u8, (at * at) as u8, 200 - (at % 50) as u8];
        RgbImage {
            width,
            height,
            pixels: (0..width * height).flat_map(pixel).collect(),
        }
    }

    /// Mean absolute difference, in levels.
    fn distance(a: &RgbImage, b: &RgbImage) -> f64 {
        let both = a.pixels.iter().zip(&b.pixels);
        let sum: u64 = both.map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        sum as f64 / a.pixels.len() as f64
    }

    #[test]
    fn each_kind_grows_with_its_strength_and_repeats() {
        let image = picture();
        for kind in Corruption::ALL {
            let changed = kind.apply(&image, 0).unwrap();
            assert_eq!(changed, kind.apply(&image, 0).unwrap(), "{kind:?}");
            let distances: Vec<f64> = changed
                .iter()
                .map(|other| distance(&image, other))
                .collect();
            assert!(distances[0] > 1.0, "{kind:?}: {distances:?}");
            assert!(
                distances.is_sorted_by(|a, b| a < b),
                "{kind:?}: {distances:?}"
            );
        }
        let seeds = [0, 1].map(|seed| Corruption::Noise.apply(&image, seed).unwrap());
        assert_ne!(seeds[0], seeds[1]);
    }

    #[test]
    fn noise_is_normal() {
        let grey = RgbImage {
            width: 100,
            height: 100,
            pixels: vec![127; 30_000],
        };
        let numbers = normal(&grey, 3);
        let mean =
            |power: i32| numbers.iter().map(|n| n.powi(power)).sum::<f64>() / numbers.len() as f64;
        // Moments of the standard normal distribution; five standard errors each.
        for (power, expected, error) in [
            (1, 0.0, 0.03),
            (2, 1.0, 0.05),
            (3, 0.0, 0.12),
            (4, 3.0, 0.3),
        ] {
            assert!(
                (mean(power) - expected).abs() < error,
                "{power}: {}",
                mean(power)
            );
        }
    }

    #[test]
    fn a_blur_keeps_sums_and_flat_images() {
        let flat = RgbImage {
            width: 9,
            height: 5,
            pixels: vec![77; 135],
        };
        assert_eq!(blurred(&flat, 2.5), flat);
        // A point far from the edges spreads by the Gaussian's values.
        let mut point = RgbImage {
            width: 41,
            height: 41,
            pixels: vec![0; 3 * 41 * 41],
        };
        let at = |x: usize, y: usize| 3 * (41 * y + x);
        point.pixels[at(20, 20)] = 255;
        let spread = blurred(&point, 1.0);
        let density = |distance: f64| (-0.5 * distance * distance).exp() / TAU;
        for (x, y, distance) in [(20, 20, 0.0), (21, 20, 1.0), (20, 18, 2.0)] {
            let expected = density(distance) * 255.0;
            let found = f64::from(spread.pixels[at(x, y)]);
            assert!((found - expected).abs() < 0.8, "{found} {expected}");
        }
        assert_eq!(spread.pixels[at(20, 20) + 1], 0, "channels do not mix");
    }

    #[test]
    fn light_and_contrast_follow_the_formulas() {
        let image = RgbImage {
            width: 2,
            height: 1,
            pixels: vec![0, 100, 250, 100, 100, 50],
        };
        let light = Corruption::Brightness.apply(&image, 0).unwrap();
        // 0.1 of 255 is 25.5, rounded half up; what is above 255 is clipped.
        assert_eq!(light[0].pixels, [26, 126, 255, 126, 126, 76]);
        let flat = Corruption::Contrast.apply(&image, 0).unwrap();
        // Means 50, 100 and 150; 0.4 of the distance is left.
        assert_eq!(flat[0].pixels, [30, 100, 190, 70, 100, 110]);
    }
}
