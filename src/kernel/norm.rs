//! Layer normalisation of rows.
//!
//! Sums run over fixed lanes with separate multiplications and additions, so that every level gives
//! the same bytes: compilers turn the loops into the vectors of whatever instructions are on.

use super::dispatch::{Job, run};
use super::level::level;
use super::parallel::{Counter, region, threads_for};
use super::shared::SharedRows;
use super::simd::Simd;

/// The parameters of a layer normalisation over `gain.len()` columns.
#[derive(Clone, Copy, Debug)]
pub struct Norm<'a> {
    /// Factor of each column.
    pub gain: &'a [f32],
    /// Summand of each column.
    pub bias: &'a [f32],
    /// Added to the variance before the root.
    pub epsilon: f32,
}

/// Sums kept apart to fill the CPU's adders.
const LANES: usize = 32;

/// The sum of `f` of the values.
#[inline(always)]
fn sum(values: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0.0f32; LANES];
    let (blocks, rest) = values.as_chunks::<LANES>();
    for block in blocks {
        for (sum, x) in sums.iter_mut().zip(block) {
            *sum += f(*x);
        }
    }
    for (sum, x) in sums.iter_mut().zip(rest) {
        *sum += f(*x);
    }
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            sums[i] += sums[i + width];
        }
        width /= 2;
    }
    sums[0]
}

/// (row - mean) / sqrt(variance + epsilon) * gain + bias, the variance from the differences to the
/// mean: no cancellation where outlier channels give a large mean.
#[inline(always)]
pub(super) fn normalise(row: &[f32], norm: &Norm, out: &mut [f32]) {
    let count = row.len() as f32;
    let mean = sum(row, |x| x) / count;
    let variance = sum(row, |x| (x - mean) * (x - mean)) / count;
    let factor = 1.0 / (variance + norm.epsilon).sqrt();
    let parameters = norm.gain.iter().zip(norm.bias);
    for ((y, x), (gain, bias)) in out.iter_mut().zip(row).zip(parameters) {
        *y = (x - mean) * factor * gain + bias;
    }
}

/// All rows, in pieces taken from a counter.
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
                // SAFETY: the counter hands each row to one thread.
                let out = unsafe { self.out.row(i) };
                normalise(&self.rows[i * width..][..width], self.norm, out);
            }
        }
    }
}

/// Normalises `rows` [m, width] into `out` [m, width], width = `norm.gain.len()`.
///
/// Panics when the lengths do not fit together.
pub fn layer_norm(rows: &[f32], norm: &Norm, out: &mut [f32]) {
    let width = norm.gain.len();
    assert_eq!(
        norm.bias.len(),
        width,
        "gain and bias of a norm differ in length"
    );
    assert_eq!(
        rows.len(),
        out.len(),
        "a norm's input and output differ in length"
    );
    if width == 0 {
        return;
    }
    assert_eq!(
        rows.len() % width,
        0,
        "a norm's input is no whole number of rows"
    );
    let counter = Counter::new(rows.len() / width);
    let out = SharedRows::new(out, width);
    region(threads_for(rows.len() * 8), &|| {
        run(
            level(),
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

    fn at(level: crate::kernel::level::Level, rows: &[f32], norm: &Norm) -> Vec<f32> {
        let mut out = vec![0.0; rows.len()];
        let shared = SharedRows::new(&mut out, norm.gain.len());
        let counter = Counter::new(rows.len() / norm.gain.len());
        run(
            level,
            NormRows {
                rows,
                norm,
                out: &shared,
                counter: &counter,
            },
        );
        out
    }

    #[test]
    fn rows_are_normalised_the_same_at_every_level() {
        for width in [1, 2, 31, 32, 33, 64, 511, 768] {
            // A mean a thousand times the deviation: one-pass variances fail here.
            let rows: Vec<f32> = randoms(1, 3 * width).iter().map(|x| x + 1000.0).collect();
            let (gain, bias) = (randoms(2, width), randoms(3, width));
            let norm = Norm {
                gain: &gain,
                bias: &bias,
                epsilon: 1e-5,
            };
            let expected = at(levels()[0], &rows, &norm);
            for row in 0..3 {
                let x = &rows[row * width..][..width];
                let mean = x.iter().map(|x| f64::from(*x)).sum::<f64>() / width as f64;
                let variance = x
                    .iter()
                    .map(|x| (f64::from(*x) - mean).powi(2))
                    .sum::<f64>()
                    / width as f64;
                for i in 0..width {
                    let y = (f64::from(x[i]) - mean) / (variance + 1e-5).sqrt();
                    let y = y * f64::from(gain[i]) + f64::from(bias[i]);
                    let got = f64::from(expected[row * width + i]);
                    assert!((got - y).abs() < 1e-3, "width {width}: {got}, not {y}");
                }
            }
            for level in levels() {
                assert_eq!(
                    at(level, &rows, &norm),
                    expected,
                    "{level:?}, width {width}"
                );
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
