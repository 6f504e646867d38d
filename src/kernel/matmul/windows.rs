//! The input rows of a product: a matrix in memory, or the windows of a convolution over images.

use super::Input;

/// Images and the square window that a convolution slides over them: each window position is a row
/// of `side * side * channels` values, in that order, with zeros outside the image.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows<'a> {
    /// [images, height, width, channels].
    pub(crate) pixels: &'a [f32],
    /// Number of images.
    pub(crate) images: usize,
    /// Height and width of an image, in pixels.
    pub(crate) size: [usize; 2],
    /// Channels.
    pub(crate) channels: usize,
    /// Side of the window, odd; its centre runs over the pixels.
    pub(crate) side: usize,
    /// Stride in pixels, in both directions.
    pub(crate) stride: usize,
}

impl Windows<'_> {
    /// Window positions down and across an image.
    pub(crate) fn places(&self) -> [usize; 2] {
        self.size.map(|length| length.div_ceil(self.stride))
    }

    /// Window positions in all images.
    pub(crate) fn rows(&self) -> usize {
        let [down, across] = self.places();
        self.images * down * across
    }

    /// Values per row.
    pub(crate) fn columns(&self) -> usize {
        self.side * self.side * self.channels
    }

    /// Panics when lengths do not match.
    pub(super) fn check(&self) {
        let [height, width] = self.size;
        assert!(
            self.side % 2 == 1 && self.stride > 0 && self.channels > 0,
            "a window of side {}, stride {} and {} channels",
            self.side,
            self.stride,
            self.channels
        );
        assert_eq!(
            self.pixels.len(),
            self.images * height * width * self.channels,
            "the input of a convolution is not {} images of {height} x {width} x {}",
            self.images,
            self.channels
        );
    }

    /// Writes row `index` to `to`.
    #[inline(always)]
    pub(super) fn copy(&self, index: usize, to: &mut [f32]) {
        let ([height, width], channels, side) = (self.size, self.channels, self.side);
        let [down, across] = self.places();
        let (image, place) = (index / (down * across), index % (down * across));
        let (top, left) = (place / across * self.stride, place % across * self.stride);
        // Counted from `edge` pixels outside the image, where the first window starts.
        let edge = side / 2;
        let first = edge.saturating_sub(left);
        let end = side.min(width + edge - left);
        for (line, row) in to.chunks_exact_mut(side * channels).zip(top..) {
            if row < edge || row >= height + edge {
                line.fill(0.0);
                continue;
            }
            let start = (image * height + row - edge) * width + left + first - edge;
            line[..first * channels].fill(0.0);
            line[first * channels..end * channels]
                .copy_from_slice(&self.pixels[start * channels..][..(end - first) * channels]);
            line[end * channels..].fill(0.0);
        }
    }
}

/// A range of rows to multiply.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    /// All rows of an input.
    Rows(Input<'a>),
    /// `count` window positions from position `first` on.
    Windows {
        windows: Windows<'a>,
        first: usize,
        count: usize,
    },
}

impl<'a> Source<'a> {
    /// Rows.
    pub(super) fn m(&self) -> usize {
        match self {
            Source::Rows(input) => input.m,
            Source::Windows { count, .. } => *count,
        }
    }

    /// `count` rows of `k` values from row `start` on.
    pub(super) fn part(self, start: usize, count: usize, k: usize) -> Source<'a> {
        match self {
            Source::Rows(input) => Source::Rows(Input {
                rows: &input.rows[start * k..][..count * k],
                m: count,
                norm: input.norm,
            }),
            Source::Windows { windows, first, .. } => Source::Windows {
                windows,
                first: first + start,
                count,
            },
        }
    }

    /// The rows themselves, if a product can read them directly.
    pub(super) fn plain(&self) -> Option<&'a [f32]> {
        match self {
            Source::Rows(input) if input.norm.is_none() => Some(input.rows),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::encode::Precision;
    use crate::kernel::matmul::{Epilogue, convolve, convolve_to_vec};
    use crate::kernel::pack::PackedMatrix;
    use crate::kernel::testing::{levels, randoms, relative_error};

    /// The definition of a convolution, in f64: [images, down, across, n] for weights [n, side,
    /// side, channels].
    fn exact(windows: &Windows, weights: &[f32], bias: &[f32]) -> Vec<f64> {
        let ([height, width], [down, across]) = (windows.size, windows.places());
        let (side, channels) = (windows.side, windows.channels);
        let mut out = Vec::new();
        for place in 0..windows.images * down * across {
            let (image, y, x) = (
                place / (down * across),
                place / across % down,
                place % across,
            );
            for (filter, bias) in weights.chunks(windows.columns()).zip(bias) {
                let mut sum = f64::from(*bias);
                for tap in 0..side * side {
                    let row = (y * windows.stride + tap / side).checked_sub(side / 2);
                    let column = (x * windows.stride + tap % side).checked_sub(side / 2);
                    let (Some(row), Some(column)) = (row, column) else {
                        continue;
                    };
                    if row >= height || column >= width {
                        continue;
                    }
                    let pixel =
                        &windows.pixels[((image * height + row) * width + column) * channels..];
                    let taps = &filter[tap * channels..][..channels];
                    sum += pixel
                        .iter()
                        .zip(taps)
                        .map(|(x, w)| f64::from(*x) * f64::from(*w))
                        .sum::<f64>();
                }
                out.push(sum);
            }
        }
        out
    }

    /// Images, height and width, channels, side, stride, features.
    const CASES: [(usize, [usize; 2], usize, usize, usize, usize); 7] = [
        (1, [1, 1], 1, 3, 1, 1),
        (2, [5, 7], 3, 3, 2, 6),
        (1, [6, 8], 3, 3, 2, 33),
        (3, [7, 7], 20, 3, 1, 40),
        (2, [9, 4], 17, 1, 1, 19),
        (1, [5, 5], 4, 1, 2, 8),
        (1, [37, 61], 12, 3, 1, 24),
    ];

    #[test]
    fn convolutions_match_their_definition() {
        for (images, size, channels, side, stride, n) in CASES {
            let pixels = randoms(1, images * size[0] * size[1] * channels);
            let windows = Windows {
                pixels: &pixels,
                images,
                size,
                channels,
                side,
                stride,
            };
            let k = windows.columns();
            let (weights, bias) = (randoms(2, n * k), randoms(3, n));
            let expected = exact(&windows, &weights, &bias);
            let fill = |j: usize, row: &mut [f32]| row.copy_from_slice(&weights[j * k..][..k]);
            for (precision, bound) in [(Precision::F32, 1e-6), (Precision::Bf16, 8e-3)] {
                for level in levels() {
                    let matrix = PackedMatrix::pack_at(level, n, k, precision, &fill, None);
                    let out = convolve_to_vec(windows, &matrix, Some(&bias), None);
                    let error = relative_error(&out, &expected);
                    assert!(
                        error < bound,
                        "{level:?} {precision:?} {windows:?}: {error:e}"
                    );
                }
            }
        }
    }

    #[test]
    fn strips_and_threads_do_not_change_the_bytes() {
        // Enough work for several threads, and enough rows for strips.
        let (size, channels, n) = ([61, 67], 24, 48);
        let pixels = randoms(1, size[0] * size[1] * channels);
        let windows = Windows {
            pixels: &pixels,
            images: 1,
            size,
            channels,
            side: 3,
            stride: 1,
        };
        let (m, k) = (windows.rows(), windows.columns());
        let (weights, start) = (randoms(2, n * k), randoms(3, m * n));
        let fill = |j: usize, row: &mut [f32]| row.copy_from_slice(&weights[j * k..][..k]);
        let matrix = PackedMatrix::pack(n, k, Precision::F32, &fill, None);
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .expect("a thread pool");
            let mut out = start.clone();
            pool.install(|| convolve(windows, &matrix, None, Epilogue::AddToRelu, &mut out));
            out
        };
        let alone = run(1);
        let sums = convolve_to_vec(windows, &matrix, None, None);
        for ((y, sum), start) in alone.iter().zip(sums).zip(&start) {
            assert_eq!(*y, (start + sum).max(0.0));
        }
        for threads in [2, 3] {
            assert!(run(threads) == alone, "{threads} threads");
        }
    }
}
