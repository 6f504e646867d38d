//! Layer normalisation of rows.
#![allow(
    unsafe_code,
    reason = "generic over the vector types, whose methods are unsafe; rows are shared out by a counter"
)]

use super::buffer::SharedRows;
use super::level::{Job, Level, level, run};
use super::parallel::{Counter, region, threads_for};
use super::simd::Simd;

/// The parameters of a layer normalisation over `gain.len()` columns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Norm<'a> {
    /// Scale of each column.
    pub(crate) gain: &'a [f32],
    /// Offset of each column.
    pub(crate) bias: &'a [f32],
    /// Epsilon, added to the variance before the square root.
    pub(crate) epsilon: f32,
}

/// The sum of the values' distances to `shift`, or of their squares.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
unsafe fn sum<V: Simd, const SQUARED: bool>(values: &[f32], shift: f32) -> f32 {
    // SAFETY: whole vectors lie inside the slice, and the last one is read partially; the caller
    // vouches for the CPU.
    unsafe {
        let center = V::splat(shift);
        // Four sums, so that additions do not wait for each other.
        let mut sums = [V::splat(0.0); 4];
        let whole = values.len() / V::LANES * V::LANES;
        let mut i = 0;
        while i < values.len() {
            let from = values.as_ptr().add(i);
            let x = if i < whole {
                V::load(from)
            } else {
                V::load_part(from, values.len() - whole, shift)
            };
            let x = x.sub(center);
            let next = if SQUARED {
                x.mul_add(x, sums[0])
            } else {
                sums[0].add(x)
            };
            sums = [sums[1], sums[2], sums[3], next];
            i += V::LANES;
        }
        sums[0].add(sums[1]).add(sums[2].add(sums[3])).sum_lanes()
    }
}

/// (row - mean) / sqrt(variance + epsilon) * gain + bias, with the variance from the differences to
/// the mean: no cancellation if outlier channels give a large mean.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn normalise<V: Simd>(row: &[f32], norm: &Norm, out: &mut [f32]) {
    let count = row.len() as f32;
    // SAFETY: the caller vouches for the CPU.
    let (mean, variance) = unsafe {
        let mean = sum::<V, false>(row, 0.0) / count;
        (mean, sum::<V, true>(row, mean) / count)
    };
    let factor = 1.0 / (variance + norm.epsilon).sqrt();
    let parameters = norm.gain.iter().zip(norm.bias);
    for ((y, x), (gain, bias)) in out.iter_mut().zip(row).zip(parameters) {
        *y = (x - mean) * factor * gain + bias;
    }
}

/// Normalises all rows, in pieces taken from a counter.
struct NormRows<'a> {
    rows: &'a [f32],
    norm: &'a Norm<'a>,
    out: &'a SharedRows<'a>,
    counter: &'a Counter,
}

impl Job for NormRows<'_> {
    #[inline(always)]
    #[allow(unsafe_code, reason = "rows of the output are shared out by a counter")]
    unsafe fn run<V: Simd>(self) {
        let width = self.norm.gain.len();
        while let Some(range) = self.counter.take(16) {
            for i in range {
                // SAFETY: the counter gives each row to one thread.
                let out = unsafe { self.out.row(i) };
                // SAFETY: the dispatcher vouches for the CPU.
                unsafe { normalise::<V>(&self.rows[i * width..][..width], self.norm, out) };
            }
        }
    }
}

/// Normalises `rows` [m, width] into `out` [m, width], width = `norm.gain.len()`.
///
/// Panics when the lengths do not match.
pub(crate) fn layer_norm(rows: &[f32], norm: &Norm, out: &mut [f32]) {
    layer_norm_at(level(), rows, norm, out);
}

/// [`layer_norm`] at instruction level `level`.
pub(super) fn layer_norm_at(level: Level, rows: &[f32], norm: &Norm, out: &mut [f32]) {
    let width = norm.gain.len();
    assert_eq!(
        norm.bias.len(),
        width,
        "gain and bias of a LayerNorm differ in length"
    );
    assert_eq!(
        rows.len(),
        out.len(),
        "input and output of a LayerNorm differ in length"
    );
    if width == 0 {
        return;
    }
    assert_eq!(
        rows.len() % width,
        0,
        "a LayerNorm's input is not a whole number of rows"
    );
    let counter = Counter::new(rows.len() / width);
    let out = SharedRows::new(out, width);
    region(threads_for(rows.len() * 8), &|| {
        run(
            level,
            NormRows {
                rows,
                norm,
                out: &out,
                counter: &counter,
            },
        );
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::{levels, randoms};

    #[test]
    fn rows_are_normalised_at_every_level() {
        for width in [1, 2, 31, 32, 33, 64, 511, 768] {
            // A mean a thousand times the deviation: one-pass variances fail here.
            let rows: Vec<f32> = randoms(1, 3 * width).iter().map(|x| x + 1000.0).collect();
            let (gain, bias) = (randoms(2, width), randoms(3, width));
            let norm = Norm {
                gain: &gain,
                bias: &bias,
                epsilon: 1e-5,
            };
            for level in levels() {
                let mut out = vec![0.0; rows.len()];
                layer_norm_at(level, &rows, &norm, &mut out);
                for (x, y) in rows.chunks(width).zip(out.chunks(width)) {
                    let mean = x.iter().map(|x| f64::from(*x)).sum::<f64>() / width as f64;
                    let squares = x.iter().map(|x| (f64::from(*x) - mean).powi(2));
                    let variance = squares.sum::<f64>() / width as f64;
                    for i in 0..width {
                        let exact = (f64::from(x[i]) - mean) / (variance + 1e-5).sqrt();
                        let exact = exact * f64::from(gain[i]) + f64::from(bias[i]);
                        let got = f64::from(y[i]);
                        assert!(
                            (got - exact).abs() < 1e-3,
                            "{level:?} {width}: {got}, not {exact}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_nan_stays_in_its_row() {
        let mut rows = randoms(4, 3 * 50);
        rows[60] = f32::NAN;
        let (gain, bias) = ([1.0; 50], [0.0; 50]);
        let mut out = vec![0.0; rows.len()];
        layer_norm(
            &rows,
            &Norm {
                gain: &gain,
                bias: &bias,
                epsilon: 1e-5,
            },
            &mut out,
        );
        assert!(out[50..100].iter().all(|y| y.is_nan()));
        assert!(out[..50].iter().chain(&out[100..]).all(|y| y.is_finite()));
    }
}
