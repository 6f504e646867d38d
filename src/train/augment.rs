//! Random augmentation of training images. The same random numbers give the same pixels.

use rand::RngCore;

use crate::input::image::RgbImage;
use crate::input::preprocess::Preprocess;
use crate::input::resize::resize;

/// Smallest share of the area that a crop keeps, as in open_clip's training; the largest is 1.
const MIN_AREA: f64 = 0.9;
/// Largest aspect ratio of a crop, in either direction.
const MAX_RATIO: f64 = 4.0 / 3.0;
/// Attempts at a random crop before the centre crop is used.
const ATTEMPTS: usize = 10;

/// Which augmentations to apply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Augment {
    /// A random crop of at least 90% of the area, resized to a square, instead of the centre crop
    /// (torchvision's `RandomResizedCrop` with open_clip's scale).
    pub crop: bool,
    /// Mirror images with probability 1/2. Captions that mention left and right become wrong.
    pub flip: bool,
}

impl Augment {
    /// The image as the tower reads it, `[3, image_size, image_size]`.
    pub(crate) fn run(
        &self,
        image: &RgbImage,
        preprocess: &Preprocess,
        random: &mut impl RngCore,
    ) -> Vec<f32> {
        let mut square = match self.crop.then(|| crop(image, random)).flatten() {
            Some(part) => resize(
                &part,
                preprocess.filter,
                preprocess.image_size,
                preprocess.image_size,
            ),
            None => preprocess.crop(image),
        };
        if self.flip && share(random) < 0.5 {
            mirror(&mut square);
        }
        preprocess.normalise(&square)
    }
}

/// A number in [0, 1).
fn share(random: &mut impl RngCore) -> f64 {
    (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// A random crop; `None` if no attempt fits into the image.
fn crop(image: &RgbImage, random: &mut impl RngCore) -> Option<RgbImage> {
    let area = (image.width * image.height) as f64;
    for _ in 0..ATTEMPTS {
        let wanted = area * (MIN_AREA + (1.0 - MIN_AREA) * share(random));
        let ratio = libm::exp(libm::log(MAX_RATIO) * (2.0 * share(random) - 1.0));
        let width = libm::round(libm::sqrt(wanted * ratio)) as usize;
        let height = libm::round(libm::sqrt(wanted / ratio)) as usize;
        let places = (share(random), share(random));
        if (1..=image.width).contains(&width) && (1..=image.height).contains(&height) {
            let left = (places.0 * (image.width - width + 1) as f64) as usize;
            let top = (places.1 * (image.height - height + 1) as f64) as usize;
            return Some(cut(image, left, top, width, height));
        }
    }
    None
}

fn cut(image: &RgbImage, left: usize, top: usize, width: usize, height: usize) -> RgbImage {
    let row = |y: usize| &image.pixels[((top + y) * image.width + left) * 3..][..width * 3];
    RgbImage {
        width,
        height,
        pixels: (0..height).flat_map(row).copied().collect(),
    }
}

fn mirror(image: &mut RgbImage) {
    for row in image.pixels.chunks_exact_mut(image.width * 3) {
        let (pixels, _) = row.as_chunks_mut::<3>();
        pixels.reverse();
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn image(width: usize, height: usize) -> RgbImage {
        let pixels = (0..width * height * 3).map(|i| (i * 37 % 251) as u8);
        RgbImage {
            width,
            height,
            pixels: pixels.collect(),
        }
    }

    #[test]
    fn no_augmentation_changes_nothing() {
        let (image, preprocess) = (image(30, 20), Preprocess::clip(8));
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let pixels = Augment::default().run(&image, &preprocess, &mut random);
        assert_eq!(pixels, preprocess.run(&image));
    }

    #[test]
    fn the_same_numbers_give_the_same_pixels() {
        let (image, preprocess) = (image(30, 28), Preprocess::clip(8));
        let both = Augment {
            crop: true,
            flip: true,
        };
        let run = |seed| both.run(&image, &preprocess, &mut ChaCha8Rng::seed_from_u64(seed));
        assert_eq!(run(1), run(1));
        let different: std::collections::HashSet<Vec<u32>> = (0..20)
            .map(|seed| run(seed).iter().map(|v| v.to_bits()).collect())
            .collect();
        assert!(different.len() > 15, "{}", different.len());
    }

    #[test]
    fn a_mirror_swaps_left_and_right() {
        let mut square = image(3, 1);
        let [a, b, c]: [[u8; 3]; 3] =
            std::array::from_fn(|at| square.pixels[at * 3..][..3].try_into().unwrap());
        mirror(&mut square);
        assert_eq!(square.pixels, [c, b, a].concat());
    }

    #[test]
    fn a_crop_keeps_nine_tenths_or_is_none() {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        for _ in 0..200 {
            if let Some(part) = crop(&image(40, 40), &mut random) {
                let share = (part.width * part.height) as f64 / 1600.0;
                assert!((0.86..=1.0).contains(&share), "{share}");
            }
        }
        assert!(crop(&image(100, 2), &mut random).is_none());
    }
}
