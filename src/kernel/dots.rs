//! Dot products of many rows with many rows, in f64 with a fixed order of summation.
#![allow(
    unsafe_code,
    reason = "compiled once for each instruction set, like every kernel"
)]

use rayon::prelude::*;

use super::dispatch::{Job, run};
use super::level::{Level, level};
use super::parallel::threads_for;
use super::simd::Simd;

/// Right-hand rows summed in parallel, one per lane.
const LANES: usize = 8;
/// Left-hand rows that share loads of the right-hand side.
const TALL: usize = 4;
/// Left-hand rows per thread: enough that laying out the right-hand side is negligible.
const BLOCK: usize = 64;

/// Multiplies `left` [n, dim] by the transpose of `right` [m, dim] -> [n, m].
///
/// Each value is the sum of the products (exact in f64) in the order of the columns, rounded to f32
/// at the end. It does not depend on the other rows, on the threads or on the instruction set, so
/// ranking by it gives the same order for a row alone and among a million. A product in f32 would
/// be twice as fast, but would reorder classes that are nearly equal.
///
/// Panics when the lengths are not multiples of `dim`.
#[must_use]
pub fn dots(left: &[f32], right: &[f32], dim: usize) -> Vec<f32> {
    dots_at(level(), left, right, dim)
}

fn dots_at(level: Level, left: &[f32], right: &[f32], dim: usize) -> Vec<f32> {
    assert!(dim > 0, "rows without columns");
    assert_eq!(left.len() % dim, 0, "the left side is not rows of {dim}");
    assert_eq!(right.len() % dim, 0, "the right side is not rows of {dim}");
    let (n, m) = (left.len() / dim, right.len() / dim);
    let mut out = vec![0.0; n * m];
    if out.is_empty() {
        return out;
    }
    let work = |(left, out): (&[f32], &mut [f32])| {
        let rows = Rows {
            left,
            right,
            dim,
            out,
        };
        run(level, rows);
    };
    if threads_for(2 * n * m * dim) == 1 {
        work((left, &mut out));
    } else {
        let blocks = left.par_chunks(BLOCK * dim);
        blocks.zip(out.par_chunks_mut(BLOCK * m)).for_each(work);
    }
    out
}

/// The dot products of one thread's rows.
struct Rows<'a> {
    left: &'a [f32],
    right: &'a [f32],
    dim: usize,
    out: &'a mut [f32],
}

impl Job for Rows<'_> {
    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        let (dim, m) = (self.dim, self.right.len() / self.dim);
        let mut panel = vec![[0f64; LANES]; dim];
        for (index, rows) in self.right.chunks(LANES * dim).enumerate() {
            lay_out(rows, dim, &mut panel);
            let columns = index * LANES..(index * LANES + LANES).min(m);
            let tall = self.left.chunks_exact(TALL * dim);
            let rest = tall.remainder();
            let done = self.left.len() / dim / TALL * TALL;
            for (block, left) in tall.enumerate() {
                let sums = products::<TALL>(left, &panel);
                for (row, sums) in (block * TALL..).zip(&sums) {
                    write(&mut self.out[row * m..][columns.clone()], sums);
                }
            }
            for (row, left) in (done..).zip(rest.chunks_exact(dim)) {
                let [sums] = products::<1>(left, &panel);
                write(&mut self.out[row * m..][columns.clone()], &sums);
            }
        }
    }
}

/// Up to [`LANES`] rows [rows, dim] -> [dim, LANES]; lanes without a row keep their old content,
/// and are never read.
#[inline(always)]
fn lay_out(rows: &[f32], dim: usize, panel: &mut [[f64; LANES]]) {
    for (lane, row) in rows.chunks_exact(dim).enumerate() {
        for (at, value) in panel.iter_mut().zip(row) {
            at[lane] = f64::from(*value);
        }
    }
}

/// `N` rows [N, dim] times a panel [dim, LANES].
#[inline(always)]
fn products<const N: usize>(left: &[f32], panel: &[[f64; LANES]]) -> [[f64; LANES]; N] {
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
fn write(out: &mut [f32], sums: &[f64; LANES]) {
    for (out, sum) in out.iter_mut().zip(sums) {
        *out = *sum as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::{levels, randoms};

    fn plain(a: &[f32], b: &[f32]) -> f32 {
        let products = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b));
        products.fold(0.0, |sum, product| sum + product) as f32
    }

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
            let row = |side: &[f32], index: usize| side[index * dim..][..dim].to_vec();
            let expected: Vec<f32> = (0..n * m)
                .map(|at| plain(&row(&left, at / m), &row(&right, at % m)))
                .collect();
            for level in levels() {
                assert_eq!(dots_at(level, &left, &right, dim), expected, "{level:?}");
            }
        }
    }

    #[test]
    fn empty_inputs_give_empty_products() {
        assert!(dots(&[], &[1.0, 2.0], 2).is_empty());
        assert!(dots(&[1.0, 2.0], &[], 2).is_empty());
    }
}
