//! Turns and mirrors a picture as its EXIF orientation says.

use image::metadata::Orientation;

use super::RgbImage;

/// Pixels a side of the tiles in which rows become columns: both tiles stay in the first cache.
const TILE: usize = 32;

/// Applies one of the eight orientations.
pub(super) fn apply(image: RgbImage, orientation: Orientation) -> RgbImage {
    // (transposed, then mirrored left to right, then turned upside down)
    let (transposed, mirrored, flipped) = match orientation {
        Orientation::NoTransforms => return image,
        Orientation::FlipHorizontal => (false, true, false),
        Orientation::Rotate180 => (false, true, true),
        Orientation::FlipVertical => (false, false, true),
        Orientation::Rotate90FlipH => (true, false, false),
        Orientation::Rotate90 => (true, true, false),
        Orientation::Rotate270FlipH => (true, true, true),
        Orientation::Rotate270 => (true, false, true),
    };
    let mut image = if transposed { transpose(&image) } else { image };
    if mirrored && flipped {
        reverse(&mut image.pixels);
    } else if mirrored {
        let row = image.width * 3;
        image.pixels.chunks_exact_mut(row).for_each(reverse);
    } else if flipped {
        flip(&mut image);
    }
    image
}

/// Reverses the order of pixels, `[pixels, 3]`.
fn reverse(samples: &mut [u8]) {
    let (pixels, _) = samples.as_chunks_mut::<3>();
    pixels.reverse();
}

/// Swaps the first row with the last, and so on.
fn flip(image: &mut RgbImage) {
    let row = image.width * 3;
    let half = image.height / 2;
    let (top, rest) = image.pixels.split_at_mut(half * row);
    let top = top.chunks_exact_mut(row);
    for (upper, lower) in top.zip(rest.chunks_exact_mut(row).rev()) {
        upper.swap_with_slice(lower);
    }
}

/// Mirrors along the main diagonal: `[height, width, 3]` -> `[width, height, 3]`.
fn transpose(image: &RgbImage) -> RgbImage {
    let (width, height) = (image.width, image.height);
    let (source, _) = image.pixels.as_chunks::<3>();
    let mut pixels = vec![0; image.pixels.len()];
    let (target, _) = pixels.as_chunks_mut::<3>();
    for top in (0..height).step_by(TILE) {
        for left in (0..width).step_by(TILE) {
            let rows = top..height.min(top + TILE);
            for x in left..width.min(left + TILE) {
                let column = &mut target[x * height + rows.start..x * height + rows.end];
                let from = source[rows.start * width + x..].iter().step_by(width);
                for (to, from) in column.iter_mut().zip(from) {
                    *to = *from;
                }
            }
        }
    }
    RgbImage {
        width: height,
        height: width,
        pixels,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::DynamicImage;

    #[test]
    fn all_eight_orientations_agree_with_the_image_crate() {
        for (width, height) in [(1, 1), (3, 2), (1, 5), (70, 33), (64, 65)] {
            let pixels: Vec<u8> = (0..width * height * 3)
                .map(|i| (i * 7 % 251) as u8)
                .collect();
            for exif in 1..=8 {
                let orientation = Orientation::from_exif(exif).unwrap();
                let buffer = image::RgbImage::from_raw(width, height, pixels.clone()).unwrap();
                let mut expected = DynamicImage::ImageRgb8(buffer);
                expected.apply_orientation(orientation);
                let image = RgbImage {
                    width: width as usize,
                    height: height as usize,
                    pixels: pixels.clone(),
                };
                let ours = apply(image, orientation);
                assert_eq!(ours.width, expected.width() as usize);
                assert_eq!(ours.pixels, expected.into_rgb8().into_raw(), "exif {exif}");
            }
        }
    }
}
