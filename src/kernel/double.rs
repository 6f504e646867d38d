//! The two matrix products of a linear classifier: f32 samples with f64 weights and residuals, with
//! a fixed order of summation.
#![allow(
    unsafe_code,
    reason = "compiled once for each instruction set, like every kernel"
)]

use rayon::prelude::*;

use super::dispatch::{Job, run};
use super::level::{Level, level};
use super::parallel::threads_for;
use super::simd::Simd;

/// Values summed in parallel, one per lane.
const LANES: usize = 8;
/// Output rows that share loads.
const TALL: usize = 4;
/// Output rows per thread.
const BLOCK: usize = 32;
/// Samples laid out together: with [`LANES`] columns in f64 they stay in the L1 cache.
const SAMPLES: usize = 256;

/// Scores: `samples` [n, dim] times the transpose of `weights` [m, dim] -> [n, m].
///
/// Each value is summed in column order, whatever the threads and the instruction set.
///
/// Panics when the lengths are not multiples of `dim`.
#[must_use]
pub fn scores(samples: &[f32], weights: &[f64], dim: usize) -> Vec<f64> {
    scores_at(level(), samples, weights, dim)
}

/// Gradients: the transpose of `residuals` [n, m] times `samples` [n, dim] -> [m, dim].
///
/// Each value is summed in sample order, whatever the threads and the instruction set.
///
/// Panics when the lengths are not multiples of `dim` and `m`, or the numbers of samples differ.
#[must_use]
pub fn gradients(residuals: &[f64], samples: &[f32], m: usize, dim: usize) -> Vec<f64> {
    gradients_at(level(), residuals, samples, [m, dim])
}

fn scores_at(level: Level, samples: &[f32], weights: &[f64], dim: usize) -> Vec<f64> {
    assert!(dim > 0, "rows without columns");
    assert!(samples.len().is_multiple_of(dim) && weights.len().is_multiple_of(dim));
    let (n, m) = (samples.len() / dim, weights.len() / dim);
    let mut out = vec![0.0; n * m];
    if out.is_empty() {
        return out;
    }
    let work = |(samples, out): (&[f32], &mut [f64])| {
        run(
            level,
            Scores {
                samples,
                weights,
                dim,
                out,
            },
        );
    };
    if threads_for(2 * n * m * dim) == 1 {
        work((samples, &mut out));
    } else {
        let blocks = samples.par_chunks(BLOCK * dim);
        blocks.zip(out.par_chunks_mut(BLOCK * m)).for_each(work);
    }
    out
}

fn gradients_at(
    level: Level,
    residuals: &[f64],
    samples: &[f32],
    [m, dim]: [usize; 2],
) -> Vec<f64> {
    assert!(m > 0 && dim > 0, "rows without columns");
    assert_eq!(residuals.len() % m, 0, "the residuals are not rows of {m}");
    assert_eq!(
        samples.len(),
        residuals.len() / m * dim,
        "residuals and samples differ in number"
    );
    let mut out = vec![0.0; m * dim];
    let work = |(block, out): (usize, &mut [f64])| {
        run(
            level,
            Gradients {
                residuals,
                samples,
                first: block * BLOCK,
                shape: [m, dim],
                out,
            },
        );
    };
    if threads_for(2 * residuals.len() * dim) == 1 {
        out.chunks_mut(BLOCK * dim).enumerate().for_each(work);
    } else {
        out.par_chunks_mut(BLOCK * dim).enumerate().for_each(work);
    }
    out
}

/// One thread's rows of [`scores`].
struct Scores<'a> {
    samples: &'a [f32],
    weights: &'a [f64],
    dim: usize,
    out: &'a mut [f64],
}

impl Job for Scores<'_> {
    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        let (dim, m) = (self.dim, self.weights.len() / self.dim);
        let mut panel = vec![[0f64; LANES]; dim];
        for (index, rows) in self.weights.chunks(LANES * dim).enumerate() {
            for (lane, row) in rows.chunks_exact(dim).enumerate() {
                for (at, value) in panel.iter_mut().zip(row) {
                    at[lane] = *value;
                }
            }
            let columns = index * LANES..(index * LANES + LANES).min(m);
            let done = self.samples.len() / dim / TALL * TALL;
            let (tall, rest) = self.samples.split_at(done * dim);
            for (block, rows) in tall.chunks_exact(TALL * dim).enumerate() {
                let sums = across::<TALL>(rows, &panel);
                for (row, sums) in (block * TALL..).zip(&sums) {
                    self.out[row * m..][columns.clone()].copy_from_slice(&sums[..columns.len()]);
                }
            }
            for (row, rows) in (done..).zip(rest.chunks_exact(dim)) {
                let [sums] = across::<1>(rows, &panel);
                self.out[row * m..][columns.clone()].copy_from_slice(&sums[..columns.len()]);
            }
        }
    }
}

/// `N` rows [N, dim] times a panel [dim, LANES].
#[inline(always)]
fn across<const N: usize>(rows: &[f32], panel: &[[f64; LANES]]) -> [[f64; LANES]; N] {
    let dim = panel.len();
    let rows: [&[f32]; N] = std::array::from_fn(|row| &rows[row * dim..][..dim]);
    let mut sums = [[0f64; LANES]; N];
    for (column, right) in panel.iter().enumerate() {
        for (sums, row) in sums.iter_mut().zip(&rows) {
            let factor = f64::from(row[column]);
            for (sum, right) in sums.iter_mut().zip(right) {
                *sum += factor * right;
            }
        }
    }
    sums
}

/// One thread's rows of [`gradients`], from `first` on.
struct Gradients<'a> {
    residuals: &'a [f64],
    samples: &'a [f32],
    first: usize,
    /// Rows and columns of the whole output.
    shape: [usize; 2],
    out: &'a mut [f64],
}

impl Job for Gradients<'_> {
    #[inline(always)]
    unsafe fn run<V: Simd>(mut self) {
        let [m, dim] = self.shape;
        let mut panel = vec![[0f64; LANES]; SAMPLES];
        let residuals = self.residuals.chunks(SAMPLES * m);
        for (residuals, samples) in residuals.zip(self.samples.chunks(SAMPLES * dim)) {
            for column in (0..dim).step_by(LANES) {
                let count = LANES.min(dim - column);
                for (at, row) in panel.iter_mut().zip(samples.chunks_exact(dim)) {
                    for (to, from) in at.iter_mut().zip(&row[column..column + count]) {
                        *to = f64::from(*from);
                    }
                }
                let panel = &panel[..samples.len() / dim];
                self.panel(residuals, panel, column..column + count);
            }
        }
    }
}

impl Gradients<'_> {
    /// Adds the contribution of some samples to some columns.
    #[inline(always)]
    fn panel(
        &mut self,
        residuals: &[f64],
        panel: &[[f64; LANES]],
        columns: std::ops::Range<usize>,
    ) {
        let rows = self.out.len() / self.shape[1];
        let done = rows / TALL * TALL;
        for row in (0..done).step_by(TALL) {
            self.rows::<TALL>(row, residuals, panel, columns.clone());
        }
        for row in done..rows {
            self.rows::<1>(row, residuals, panel, columns.clone());
        }
    }

    #[inline(always)]
    fn rows<const N: usize>(
        &mut self,
        row: usize,
        residuals: &[f64],
        panel: &[[f64; LANES]],
        columns: std::ops::Range<usize>,
    ) {
        let [m, dim] = self.shape;
        let mut sums = [[0f64; LANES]; N];
        for (at, sums) in sums.iter_mut().enumerate() {
            let out = &self.out[(row + at) * dim..][columns.clone()];
            sums[..columns.len()].copy_from_slice(out);
        }
        for (residuals, right) in residuals.chunks_exact(m).zip(panel) {
            let factors = &residuals[self.first + row..][..N];
            for (sums, factor) in sums.iter_mut().zip(factors) {
                for (sum, right) in sums.iter_mut().zip(right) {
                    *sum += factor * right;
                }
            }
        }
        for (at, sums) in sums.iter().enumerate() {
            let out = &mut self.out[(row + at) * dim..][columns.clone()];
            out.copy_from_slice(&sums[..columns.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::{levels, randoms};

    #[test]
    fn every_value_is_bit_identical_to_the_plain_sum() {
        for (n, m, dim) in [
            (1, 1, 1),
            (3, 9, 5),
            (300, 7, 17),
            (520, 70, 24),
            (5, 40, 8),
        ] {
            let samples = randoms(1, n * dim);
            let wide = |seed, count| -> Vec<f64> {
                randoms(seed, count)
                    .iter()
                    .map(|v| f64::from(*v) / 3.0)
                    .collect()
            };
            let (weights, residuals) = (wide(2, m * dim), wide(3, n * m));
            let score = |at: usize| {
                let (row, class) = (at / m, at % m);
                (0..dim).fold(0.0, |sum, c| {
                    sum + f64::from(samples[row * dim + c]) * weights[class * dim + c]
                })
            };
            let gradient = |at: usize| {
                let (class, column) = (at / dim, at % dim);
                (0..n).fold(0.0, |sum, row| {
                    sum + residuals[row * m + class] * f64::from(samples[row * dim + column])
                })
            };
            let expected: (Vec<f64>, Vec<f64>) = (
                (0..n * m).map(score).collect(),
                (0..m * dim).map(gradient).collect(),
            );
            for level in levels() {
                let found = (
                    scores_at(level, &samples, &weights, dim),
                    gradients_at(level, &residuals, &samples, [m, dim]),
                );
                assert!(found == expected, "{level:?} {n} {m} {dim}");
            }
        }
        assert!(scores(&[], &[1.0], 1).is_empty());
        assert_eq!(gradients(&[], &[], 1, 2), [0.0, 0.0]);
    }
}
