//! Pillow's bicubic resampling, bit for bit (its `Resample.c`, read as a specification).
//!
//! The filter is the cubic with a = -1/2, widened by the scale when shrinking (so it antialiases).
//! Weights are computed in f64, normalised, and rounded to integers, and results are rounded to 8
//! bits between the two passes, so their order matters: horizontal first, except where Pillow 13
//! does the vertical first (older releases never do; the difference is a level or two on tall
//! images). Along an axis that keeps its size the weights are 1 and 0, so skipping the pass needs
//! no special case.

use super::image::RgbImage;
use crate::kernel::resize::{Level, Taps, WEIGHT_BITS, horizontal, vertical};

/// Support of the filter, in pixels of the coarser of the two sizes.
const SUPPORT: f64 = 2.0;

/// A rectangle of the resized image, in its pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    /// The first column.
    pub(crate) left: usize,
    /// The first row.
    pub(crate) top: usize,
    /// Columns.
    pub(crate) width: usize,
    /// Rows.
    pub(crate) height: usize,
}

/// Resizes `image` to `width` x `height` pixels.
pub(crate) fn bicubic(image: &RgbImage, width: usize, height: usize) -> RgbImage {
    let window = Window {
        left: 0,
        top: 0,
        width,
        height,
    };
    let whole = (image.width as f64, image.height as f64);
    bicubic_window(image, whole, (width, height), window)
}

/// The part `window` of `image` resized to `size` (width, height): the same bytes as resizing all
/// of it and cropping, but only what the window needs is computed, so that time and memory depend
/// on the window and on the pixels under it. Only `extent` (columns, rows) of the image counts, of
/// whose last pixels a part may be padding; it is Pillow's `box` from the upper left corner.
pub(crate) fn bicubic_window(
    image: &RgbImage,
    extent: (f64, f64),
    size: (usize, usize),
    window: Window,
) -> RgbImage {
    let across = taps(image.width, extent.0, size.0, window.left, window.width);
    let down = taps(image.height, extent.1, size.1, window.top, window.height);
    let pixels = if is_vertical_first(image, size.0, size.1) {
        vertical_then_horizontal(image, &across, &down)
    } else {
        horizontal_then_vertical(image, &across, down)
    };
    RgbImage {
        width: window.width,
        height: window.height,
        pixels,
    }
}

/// Pillow 13's rule, found by comparing 1,728 sizes: the image loses rows, and more than twice as
/// many of them as columns.
fn is_vertical_first(image: &RgbImage, width: usize, height: usize) -> bool {
    let lost_columns = image.width.saturating_sub(width);
    let lost_rows = image.height.saturating_sub(height);
    let won_columns = width.saturating_sub(image.width);
    lost_rows > 0 && lost_rows + 2 * won_columns > 2 * lost_columns
}

/// Only the rows that `down` needs are resized. The result is `[down outputs, across outputs, 3]`.
fn horizontal_then_vertical(image: &RgbImage, across: &Taps, mut down: Taps) -> Vec<u8> {
    let level = Level::best();
    let rows = down.reach();
    for start in &mut down.starts {
        *start -= rows.start;
    }
    let columns = across.starts.len() * 3;
    let mut narrow = vec![0; rows.len() * columns]; // [rows, across outputs, 3]
    horizontal(level, &image.pixels, image.width, rows, across, &mut narrow);
    let mut pixels = vec![0; down.starts.len() * columns];
    vertical(level, &narrow, columns, &down, &mut pixels);
    pixels
}

/// The same with the passes in the opposite order.
fn vertical_then_horizontal(image: &RgbImage, across: &Taps, down: &Taps) -> Vec<u8> {
    let level = Level::best();
    let rows = down.starts.len();
    let mut short = vec![0; rows * image.width * 3]; // [down outputs, width, 3]
    vertical(level, &image.pixels, image.width * 3, down, &mut short);
    let mut pixels = vec![0; rows * across.starts.len() * 3];
    horizontal(level, &short, image.width, 0..rows, across, &mut pixels);
    pixels
}

/// The filter taps of outputs `first..first + count` when the first `extent` of `inputs` pixels
/// become `outputs`.
fn taps(inputs: usize, extent: f64, outputs: usize, first: usize, count: usize) -> Taps {
    let scale = extent / outputs as f64;
    let filter_scale = scale.max(1.0);
    let support = SUPPORT * filter_scale;
    let stride = support.ceil() as usize * 2 + 1;
    let mut taps = Taps {
        starts: Vec::with_capacity(count),
        counts: Vec::with_capacity(count),
        weights: Vec::with_capacity(count * stride),
        stride,
    };
    for output in first..first + count {
        let center = (output as f64 + 0.5) * scale;
        // Casts to usize truncate the fraction and make negative numbers 0, as intended here.
        let start = (center - support + 0.5) as usize;
        let end = ((center + support + 0.5) as usize).min(inputs);
        let offset = |input: usize| (input as f64 - center + 0.5) * (1.0 / filter_scale);
        let weights: Vec<f64> = (start..end).map(|input| cubic(offset(input))).collect();
        let total: f64 = weights.iter().sum();
        let divisor = if total == 0.0 { 1.0 } else { total };
        taps.weights
            .extend(weights.iter().map(|weight| to_fixed(weight / divisor)));
        taps.weights.resize((output - first + 1) * stride, 0);
        taps.starts.push(start);
        taps.counts.push(end - start);
    }
    taps
}

/// The cubic filter with a = -1/2. The order of operations matters to the last bit.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

/// Rounds half away from zero.
fn to_fixed(weight: f64) -> i32 {
    let scaled = weight * f64::from(1 << WEIGHT_BITS);
    (scaled + 0.5_f64.copysign(scaled)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(width: usize, height: usize) -> RgbImage {
        let sample = |i: usize| (i * i * 31 + i * 17 + i / 5) as u8;
        RgbImage {
            width,
            height,
            pixels: (0..width * height * 3).map(sample).collect(),
        }
    }

    #[test]
    fn the_same_size_changes_nothing() {
        let image = noise(13, 7);
        assert_eq!(bicubic(&image, 13, 7), image);
    }

    #[test]
    fn a_window_equals_the_crop_of_the_whole() {
        let cases = [
            ((40, 30), (21, 16), (3, 2, 16, 12)),
            ((9, 17), (31, 60), (10, 0, 21, 60)),
            ((200, 5), (7, 90), (6, 44, 1, 3)),
            ((30, 90), (20, 60), (2, 21, 16, 16)), // vertical first
        ];
        for ((width, height), size, (left, top, columns, rows)) in cases {
            let image = noise(width, height);
            let whole = bicubic(&image, size.0, size.1);
            let window = Window {
                left,
                top,
                width: columns,
                height: rows,
            };
            let extent = (width as f64, height as f64);
            let part = bicubic_window(&image, extent, size, window);
            for (y, row) in part.pixels.chunks_exact(columns * 3).enumerate() {
                let at = ((top + y) * whole.width + left) * 3;
                assert_eq!(row, &whole.pixels[at..at + columns * 3], "{size:?} row {y}");
            }
        }
    }

    #[test]
    fn the_order_of_passes_is_pillows() {
        // (width, height) -> (width, height), as measured with Pillow 13.0.0.
        let cases = [
            ((422, 422), (416, 301), true),
            ((346, 1430), (32, 132), true),
            ((264, 13), (402, 8), true),
            ((2, 2), (204, 1), true),
            ((204, 265), (162, 181), false), // exactly twice as many
            ((35, 186), (13, 142), false),
            ((868, 868), (410, 3), false),
            ((4000, 3000), (298, 224), false),
            ((3000, 4000), (224, 298), false),
            ((3, 592), (56, 11_050), false),
        ];
        for ((width, height), size, expected) in cases {
            let image = RgbImage {
                width,
                height,
                pixels: Vec::new(),
            };
            let found = is_vertical_first(&image, size.0, size.1);
            assert_eq!(found, expected, "{width} x {height} -> {size:?}");
        }
    }

    #[test]
    fn weights_of_a_half_are_pillows() {
        // 8 pixels -> 4: the widened cubic at -1.875, -1.625 … around each centre.
        let taps = taps(8, 8.0, 4, 1, 1);
        assert_eq!((taps.starts[0], taps.counts[0], taps.stride), (0, 7, 9));
        let total: i32 = taps.weights.iter().sum();
        assert!((total - (1 << WEIGHT_BITS)).abs() <= 4, "{total}");
    }

    #[test]
    fn padding_past_the_extent_does_not_shift_the_image() {
        // A ramp of 30 columns of which 29.5 count: column x of 10 has its centre at 2.95 (x + 0.5).
        let ramp = RgbImage {
            width: 30,
            height: 1,
            pixels: (0..30).flat_map(|x| [x * 8; 3]).collect(),
        };
        let window = Window {
            left: 0,
            top: 0,
            width: 10,
            height: 1,
        };
        let row = |extent| bicubic_window(&ramp, (extent, 1.0), (10, 1), window).pixels;
        for (x, pixel) in row(29.5).chunks_exact(3).enumerate().skip(2).take(6) {
            let expected = (2.95 * (x as f64 + 0.5) - 0.5) * 8.0;
            assert!(
                (f64::from(pixel[0]) - expected).abs() < 1.0,
                "{x}: {pixel:?}"
            );
        }
        assert_eq!(row(30.0), bicubic(&ramp, 10, 1).pixels);
    }
}
