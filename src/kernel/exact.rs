//! Products in f64 with a fixed order of summation: their bits depend on the two rows alone.
#![allow(
    unsafe_code,
    reason = "compiled once for each instruction set, like every kernel"
)]

use rayon::prelude::*;

use super::level::{Job, Level, level, run};
use super::parallel::threads_for;
use super::simd::Simd;

/// Values summed in parallel, one per lane.
const LANES: usize = 8;
/// Output rows that share loads.
const TALL: usize = 4;
/// Left-hand rows per thread, at most: enough that laying out the right-hand side is negligible.
const BLOCK: usize = 64;
/// Rows of gradients per thread.
const GRADIENT_BLOCK: usize = 32;
/// Samples laid out together: with [`LANES`] columns in f64 they stay in the L1 cache.
const SAMPLES: usize = 256;

/// Multiplies `left` [n, dim] by the transpose of `right` [m, dim] -> [n, m].
///
/// Each value is the sum of the products (exact in f64) in the order of the columns, rounded to f32
/// at the end. It does not depend on the other rows, on the threads or on the instruction set, so
/// ranking by it gives the same order for a row alone and among a million. A product in f32 would
/// be twice as fast, but would reorder classes that are nearly equal.
///
/// Panics when the lengths are not multiples of `dim`.
#[must_use]
pub fn exact_products(left: &[f32], right: &[f32], dim: usize) -> Vec<f32> {
    products_at(level(), left, right, dim)
}

/// The scores of a linear classifier: `samples` [n, dim] times the transpose of `weights` [m, dim]
/// -> [n, m].
///
/// Each value is summed in column order, whatever the threads and the instruction set.
///
/// Panics when the lengths are not multiples of `dim`.
#[must_use]
pub fn exact_scores(samples: &[f32], weights: &[f64], dim: usize) -> Vec<f64> {
    products_at(level(), samples, weights, dim)
}

/// The gradients of a linear classifier: the transpose of `residuals` [n, m] times `samples`
/// [n, dim] -> [m, dim].
///
/// Each value is summed in sample order, whatever the threads and the instruction set.
///
/// Panics when the lengths are not multiples of `dim` and `m`, or the numbers of samples differ.
#[must_use]
pub fn exact_gradients(residuals: &[f64], samples: &[f32], m: usize, dim: usize) -> Vec<f64> {
    gradients_at(level(), residuals, samples, m, dim)
}

/// A number that a sum in f64 becomes.
trait Rounded: Copy + Default + Send {
    fn rounded(sum: f64) -> Self;
}

impl Rounded for f32 {
    #[inline(always)]
    fn rounded(sum: f64) -> Self {
        sum as f32
    }
}

impl Rounded for f64 {
    #[inline(always)]
    fn rounded(sum: f64) -> Self {
        sum
    }
}

fn products_at<R, O>(level: Level, left: &[f32], right: &[R], dim: usize) -> Vec<O>
where
    R: Copy + Into<f64> + Sync,
    O: Rounded,
{
    assert!(dim > 0, "rows without columns");
    assert_eq!(left.len() % dim, 0, "the left side is not rows of {dim}");
    assert_eq!(right.len() % dim, 0, "the right side is not rows of {dim}");
    let (n, m) = (left.len() / dim, right.len() / dim);
    let mut out = vec![O::default(); n * m];
    if out.is_empty() {
        return out;
    }
    let work = |(left, out): (&[f32], &mut [O])| {
        let products = Products {
            left,
            right,
            dim,
            out,
        };
        run(level, products);
    };
    let threads = threads_for(2 * n * m * dim);
    if threads == 1 {
        work((left, &mut out));
    } else {
        let block = n.div_ceil(threads).next_multiple_of(TALL).min(BLOCK);
        let blocks = left.par_chunks(block * dim);
        blocks.zip(out.par_chunks_mut(block * m)).for_each(work);
    }
    out
}

/// The products of one thread's rows.
struct Products<'a, R, O> {
    left: &'a [f32],
    right: &'a [R],
    dim: usize,
    out: &'a mut [O],
}

impl<R: Copy + Into<f64>, O: Rounded> Job for Products<'_, R, O> {
    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        let (dim, m) = (self.dim, self.right.len() / self.dim);
        let mut panel = vec![[0f64; LANES]; dim];
        for (index, rows) in self.right.chunks(LANES * dim).enumerate() {
            // Lanes without a row keep their old content, and are never read.
            for (lane, row) in rows.chunks_exact(dim).enumerate() {
                for (at, value) in panel.iter_mut().zip(row) {
                    at[lane] = (*value).into();
                }
            }
            let columns = index * LANES..(index * LANES + LANES).min(m);
            let done = self.left.len() / dim / TALL * TALL;
            let (tall, rest) = self.left.split_at(done * dim);
            for (block, left) in tall.chunks_exact(TALL * dim).enumerate() {
                let sums = sums::<TALL>(left, &panel);
                for (row, sums) in (block * TALL..).zip(&sums) {
                    write(&mut self.out[row * m..][columns.clone()], sums);
                }
            }
            for (row, left) in (done..).zip(rest.chunks_exact(dim)) {
                let [sums] = sums::<1>(left, &panel);
                write(&mut self.out[row * m..][columns.clone()], &sums);
            }
        }
    }
}

/// `N` rows [N, dim] times a panel [dim, LANES].
#[inline(always)]
fn sums<const N: usize>(left: &[f32], panel: &[[f64; LANES]]) -> [[f64; LANES]; N] {
    let dim = panel.len();
    let rows: [&[f32]; N] = std::array::from_fn(|row| &left[row * dim..][..dim]);
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

#[inline(always)]
fn write<O: Rounded>(out: &mut [O], sums: &[f64; LANES]) {
    for (out, sum) in out.iter_mut().zip(sums) {
        *out = O::rounded(*sum);
    }
}

fn gradients_at(
    level: Level,
    residuals: &[f64],
    samples: &[f32],
    m: usize,
    dim: usize,
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
        let gradients = Gradients {
            residuals,
            samples,
            first: block * GRADIENT_BLOCK,
            m,
            dim,
            out,
        };
        run(level, gradients);
    };
    if threads_for(2 * residuals.len() * dim) == 1 {
        out.chunks_mut(GRADIENT_BLOCK * dim)
            .enumerate()
            .for_each(work);
    } else {
        out.par_chunks_mut(GRADIENT_BLOCK * dim)
            .enumerate()
            .for_each(work);
    }
    out
}

/// One thread's rows of [`exact_gradients`], from `first` on.
struct Gradients<'a> {
    residuals: &'a [f64],
    samples: &'a [f32],
    first: usize,
    /// Rows of the whole output.
    m: usize,
    dim: usize,
    out: &'a mut [f64],
}

impl Job for Gradients<'_> {
    #[inline(always)]
    unsafe fn run<V: Simd>(mut self) {
        let (m, dim) = (self.m, self.dim);
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
        let rows = self.out.len() / self.dim;
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
        let (m, dim) = (self.m, self.dim);
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
    fn every_product_is_bit_identical_to_the_plain_sum_whatever_the_other_rows() {
        for (n, m, dim) in [
            (1, 1, 1),
            (1, 9, 3),
            (3, 8, 33),
            (4, 7, 16),
            (9, 17, 5),
            (150, 40, 64),
        ] {
            let (left, right) = (randoms(1, n * dim), randoms(2, m * dim));
            let plain = |at: usize| {
                let (a, b) = (&left[at / m * dim..][..dim], &right[at % m * dim..][..dim]);
                let products = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b));
                products.fold(0.0, |sum, product| sum + product) as f32
            };
            let expected: Vec<f32> = (0..n * m).map(plain).collect();
            for level in levels() {
                let found: Vec<f32> = products_at(level, &left, &right, dim);
                assert_eq!(found, expected, "{level:?}");
            }
        }
        assert!(exact_products(&[], &[1.0, 2.0], 2).is_empty());
        assert!(exact_products(&[1.0, 2.0], &[], 2).is_empty());
    }

    #[test]
    fn every_score_and_gradient_is_bit_identical_to_the_plain_sum() {
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
                    products_at(level, &samples, &weights, dim),
                    gradients_at(level, &residuals, &samples, m, dim),
                );
                assert!(found == expected, "{level:?} {n} {m} {dim}");
            }
        }
        assert!(exact_scores(&[], &[1.0], 1).is_empty());
        assert_eq!(exact_gradients(&[], &[], 1, 2), [0.0, 0.0]);
    }
}
