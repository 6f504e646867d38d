//! Average pooling.

use rayon::prelude::*;

/// Values per row that justify another thread.
const LEAST_VALUES: usize = 1 << 16;

/// Average pooling: the mean of every square of `side` by `side` pixels: `pixels` [images, height,
/// width, channels] -> [images, height / side, width / side, channels]. Pixels beyond the last
/// whole square are ignored.
///
/// Runs on the current rayon pool.
///
/// Panics when lengths do not match.
pub(crate) fn average_pool(
    pixels: &[f32],
    images: usize,
    [height, width]: [usize; 2],
    channels: usize,
    side: usize,
) -> Vec<f32> {
    assert_eq!(
        pixels.len(),
        images * height * width * channels,
        "the input of a pooling is not {images} images of {height} x {width} x {channels}"
    );
    let (down, across) = (height / side, width / side);
    let line = across * channels;
    let mut out = vec![0.0; images * down * line];
    if out.is_empty() {
        return out;
    }
    let factor = 1.0 / (side * side) as f32;
    let lines = LEAST_VALUES.div_ceil(line);
    out.par_chunks_mut(line)
        .with_min_len(lines)
        .enumerate()
        .for_each(|(index, to)| {
            let top = index / down * height + index % down * side;
            for row in top..top + side {
                let from = pixels[row * width * channels..].chunks_exact(side * channels);
                for (to, square) in to.chunks_exact_mut(channels).zip(from) {
                    for pixel in square.chunks_exact(channels) {
                        to.iter_mut().zip(pixel).for_each(|(sum, x)| *sum += x);
                    }
                }
            }
            to.iter_mut().for_each(|sum| *sum *= factor);
        });
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::randoms;

    #[test]
    fn a_square_becomes_its_mean() {
        let pixels: Vec<f32> = (0..2 * 4 * 2).map(|i| i as f32).collect();
        // Two rows of four pixels with two channels.
        assert_eq!(
            average_pool(&pixels, 1, [2, 4], 2, 2),
            [5.0, 6.0, 9.0, 10.0]
        );
        assert_eq!(average_pool(&pixels, 1, [2, 4], 2, 1), pixels);
    }

    #[test]
    fn remainders_of_odd_sizes_are_ignored() {
        let (images, size, channels, side) = (3, [7, 5], 6, 2);
        let pixels = randoms(1, images * size[0] * size[1] * channels);
        let out = average_pool(&pixels, images, size, channels, side);
        assert_eq!(out.len(), images * 3 * 2 * channels);
        for (index, mean) in out.iter().enumerate() {
            let (channel, place) = (index % channels, index / channels);
            let (image, y, x) = (place / 6, place / 2 % 3, place % 2);
            let at = |dy: usize, dx: usize| {
                let row = image * size[0] + y * side + dy;
                pixels[(row * size[1] + x * side + dx) * channels + channel]
            };
            let exact = (at(0, 0) + at(0, 1) + at(1, 0) + at(1, 1)) / 4.0;
            assert!((mean - exact).abs() < 1e-6, "{index}: {mean}, not {exact}");
        }
    }
}
