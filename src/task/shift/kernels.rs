//! Maximum mean discrepancies: how different two sets of embeddings are, by one pass over the
//! products of all pairs of rows.
//!
//! The test takes the unbiased squared discrepancy under a Gaussian kernel with the bandwidth of
//! the median rule: 2 sigma^2 is the median of the squared distances of all pairs. Under permutations of
//! the rows only the labels move, so that all of them are one product of the kernel matrix with a
//! matrix of members; blocks of it bound the memory. CMMD (arXiv 2401.09603) is the biased squared
//! discrepancy with sigma = 10, times 1000.

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::{drawn, rows, shuffle};
use crate::kernel::{View, product};

/// Rows per block of the kernel matrix: 4 MB, which stays in the cache.
const BLOCK: usize = 1024;
/// Rows that the median is taken from, at most.
const MEDIAN_ROWS: usize = 2048;
/// 1 / (2 sigma^2) of CMMD.
const CMMD_GAMMA: f64 = 0.005;
/// What kernel values are stored without: the value at the median distance. The unbiased statistic
/// does not depend on it, and sums in f32 keep more digits.
const CENTRE: f32 = 0.367_879_44;
/// Statistics that differ by less than this, divided by the root of the smaller set's size, are
/// equal: rounding must not decide between equal partitions.
const SAME: f64 = 1e-6;

/// How different two sets are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Discrepancy {
    /// The unbiased squared maximum mean discrepancy; may be below 0.
    pub squared: f64,
    /// (1 + permutations with at least this statistic) / (1 + permutations).
    pub p: f64,
    /// The bandwidth sigma of the Gaussian kernel.
    pub sigma: f64,
    /// CMMD.
    pub cmmd: f64,
}

/// Compares `sets` [n, dim] of unit rows, with this number of random permutations.
///
/// Panics when a set has fewer than two rows.
#[must_use]
pub(crate) fn compare(
    sets: [&[f32]; 2],
    dim: usize,
    permutations: usize,
    seed: u64,
) -> Discrepancy {
    let counts = sets.map(|set| set.len() / dim);
    assert!(
        counts.iter().all(|&n| n > 1),
        "a set has fewer than two rows"
    );
    let all = sets.concat();
    let scale = bandwidth(&all, dim, seed);
    let members = members(counts, permutations, seed);
    let sums = Sums::new(&all, dim, counts, &members, scale);
    let found: Vec<f64> = sums.statistics(counts, &members);
    let (squared, others) = (found[0], &found[1..]);
    let [m, n] = counts.map(|n| n as f64);
    let least = squared - SAME / m.min(n).sqrt();
    let reached = others.iter().filter(|&&other| other >= least);
    let [aa, bb, ab] = sums.cmmd;
    Discrepancy {
        squared,
        p: (1 + reached.count()) as f64 / (1 + permutations) as f64,
        sigma: (scale / 2.0).sqrt(),
        cmmd: 1000.0 * (aa / (m * m) + bb / (n * n) - 2.0 * ab / (m * n)),
    }
}

/// The lower median of the squared distances of all pairs, or of those of [`MEDIAN_ROWS`] rows
/// drawn without regard to their set, so that permutations leave it as it is; where it is 0, their
/// mean, or 1.
fn bandwidth(all: &[f32], dim: usize, seed: u64) -> f64 {
    let drawn = drawn(all.len() / dim, MEDIAN_ROWS, seed);
    let (n, some) = (drawn.len(), rows(all, dim, &drawn));
    let some = View::new(&some, [n, dim]);
    let products = product(some, some.t());
    let mut distances: Vec<f32> = (0..n)
        .flat_map(|row| &products[row * n + row + 1..(row + 1) * n])
        .map(|cosine| squared(*cosine))
        .collect();
    let middle = (distances.len() - 1) / 2;
    let (_, median, _) = distances.select_nth_unstable_by(middle, f32::total_cmp);
    if *median > 0.0 {
        return f64::from(*median);
    }
    let mean = distances.iter().map(|d| f64::from(*d)).sum::<f64>() / distances.len() as f64;
    if mean > 0.0 { mean } else { 1.0 }
}

/// The squared distance of unit vectors with this product.
fn squared(cosine: f32) -> f32 {
    (2.0 - 2.0 * cosine).max(0.0)
}

/// Which rows are in A, [1 + permutations, rows]: first as given, then at random.
fn members([m, n]: [usize; 2], permutations: usize, seed: u64) -> Vec<u8> {
    let total = m + n;
    let mut members = vec![0; (permutations + 1) * total];
    members[..m].fill(1);
    let shuffled = members[total..].par_chunks_exact_mut(total);
    shuffled.enumerate().for_each(|(at, row)| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // The stream 0 draws subsets.
        rng.set_stream(at as u64 + 1);
        let mut order: Vec<u32> = (0..total as u32).collect();
        shuffle(&mut order, m, &mut rng);
        order[..m].iter().for_each(|&at| row[at as usize] = 1);
    });
    members
}

/// Sums of the kernel over pairs of different rows.
struct Sums {
    /// Of each row with all others.
    of_row: Vec<f64>,
    /// Of all ordered pairs inside A, for each membership.
    inside: Vec<f64>,
    /// Of CMMD's kernel minus 1 over all ordered pairs in A, in B, and between them.
    cmmd: [f64; 3],
}

/// A block of the rows.
#[derive(Clone, Copy)]
struct Block {
    start: usize,
    count: usize,
    is_b: bool,
}

impl Sums {
    fn new(all: &[f32], dim: usize, [m, n]: [usize; 2], members: &[u8], scale: f64) -> Self {
        let total = m + n;
        let blocks: Vec<Block> = [(0..m, false), (m..total, true)]
            .into_iter()
            .flat_map(|(range, is_b)| {
                let end = range.end;
                range.step_by(BLOCK).map(move |start| Block {
                    start,
                    count: BLOCK.min(end - start),
                    is_b,
                })
            })
            .collect();
        let mut sums = Self {
            of_row: vec![0.0; total],
            inside: vec![0.0; members.len() / total],
            cmmd: [0.0; 3],
        };
        for (at, &rows) in blocks.iter().enumerate() {
            let columns_in = |block: Block| -> Vec<f32> {
                let parts = members.par_chunks_exact(total);
                let part = parts.flat_map_iter(|row| &row[block.start..][..block.count]);
                part.map(|member| f32::from(*member)).collect()
            };
            let mine = columns_in(rows);
            let mut seen = vec![0.0; mine.len()];
            for &columns in &blocks[at..] {
                let kernel = sums.block(all, dim, rows, columns, scale);
                let kernel = View::new(&kernel, [rows.count, columns.count]);
                let is_diagonal = rows.start == columns.start;
                let theirs = match is_diagonal {
                    true => &mine,
                    false => &columns_in(columns),
                };
                let count = sums.inside.len();
                let theirs = View::new(theirs, [count, columns.count]);
                let found = product(theirs, kernel.t()); // [memberships, rows]
                let twice = if is_diagonal { 1.0 } else { 2.0 };
                let seen = seen.par_iter_mut().zip(&found);
                seen.for_each(|(sum, value)| *sum += twice * value);
            }
            let pairs = mine.par_chunks_exact(rows.count);
            let found = pairs.zip(seen.par_chunks_exact(rows.count));
            sums.inside
                .par_iter_mut()
                .zip(found)
                .for_each(|(sum, (mine, seen))| {
                    let terms = mine.iter().zip(seen);
                    *sum += terms.map(|(a, b)| f64::from(a * b)).sum::<f64>();
                });
        }
        sums
    }

    /// The kernel between two blocks of rows [rows, columns], without pairs of a row with itself;
    /// adds its sums.
    fn block(
        &mut self,
        all: &[f32],
        dim: usize,
        rows: Block,
        columns: Block,
        scale: f64,
    ) -> Vec<f32> {
        let view = |block: Block| {
            let values = &all[block.start * dim..][..block.count * dim];
            View::new(values, [block.count, dim])
        };
        let mut kernel = product(view(rows), view(columns).t());
        let is_diagonal = rows.start == columns.start;
        let inverse = (-1.0 / scale) as f32;
        let of_rows: Vec<(f64, f64)> = kernel
            .par_chunks_exact_mut(columns.count)
            .enumerate()
            .map(|(row, values)| {
                let mut cmmd = 0.0;
                let mut sum = 0.0;
                for value in values.iter_mut() {
                    let distance = squared(*value);
                    *value = (distance * inverse).exp() - CENTRE;
                    cmmd += decay(f64::from(distance) * CMMD_GAMMA);
                    sum += f64::from(*value);
                }
                if is_diagonal {
                    // A row and itself: a kernel of 1, whatever rounding made of it.
                    sum -= f64::from(values[row]);
                    values[row] = 0.0;
                }
                (sum, cmmd)
            })
            .collect();
        let weight = if is_diagonal { 1.0 } else { 2.0 };
        let kind = match (rows.is_b, columns.is_b) {
            (false, false) => 0,
            (true, true) => 1,
            _ => 2,
        };
        // Between A and B each pair is counted once.
        let cmmd_weight = if kind == 2 { 1.0 } else { weight };
        for (row, (sum, cmmd)) in of_rows.into_iter().enumerate() {
            self.of_row[rows.start + row] += sum;
            self.cmmd[kind] += cmmd_weight * cmmd;
        }
        if !is_diagonal {
            let sums = &mut self.of_row[columns.start..][..columns.count];
            for row in kernel.chunks_exact(columns.count) {
                let terms = sums.iter_mut().zip(row);
                terms.for_each(|(sum, value)| *sum += f64::from(*value));
            }
        }
        kernel
    }

    /// The unbiased statistic of each membership.
    fn statistics(&self, [m, n]: [usize; 2], members: &[u8]) -> Vec<f64> {
        let total: f64 = self.of_row.iter().sum();
        let [m, n] = [m, n].map(|n| n as f64);
        let statistic = |(members, inside): (&[u8], &f64)| {
            // The sums over ordered pairs that start in A.
            let terms = members.iter().zip(&self.of_row);
            let from_a: f64 = terms.map(|(member, sum)| f64::from(*member) * sum).sum();
            let between = from_a - inside;
            let outside = total - from_a - between;
            inside / (m * (m - 1.0)) + outside / (n * (n - 1.0)) - 2.0 * between / (m * n)
        };
        let all = members.par_chunks_exact(self.of_row.len());
        all.zip(&self.inside).map(statistic).collect()
    }
}

/// e^-x - 1 for 0 <= x <= 0.02, to 1e-13.
fn decay(x: f64) -> f64 {
    -x * (1.0 - x / 2.0 * (1.0 - x / 3.0 * (1.0 - x / 4.0 * (1.0 - x / 5.0))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::shift::statistics::testing::{distance_from_uniform, unit_rows};

    /// The statistics by their definitions, pair by pair.
    fn defined(sets: [&[f32]; 2], dim: usize) -> (f64, f64, f64) {
        let rows: Vec<Vec<&[f32]>> = sets.map(|set| set.chunks_exact(dim).collect()).to_vec();
        let distance = |a: &[f32], b: &[f32]| -> f64 {
            let terms = a.iter().zip(b);
            terms
                .map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2))
                .sum()
        };
        let all: Vec<&[f32]> = rows.concat();
        let mut distances: Vec<f64> = (0..all.len())
            .flat_map(|i| (0..i).map(move |j| (i, j)))
            .map(|(i, j)| distance(all[i], all[j]))
            .collect();
        distances.sort_by(f64::total_cmp);
        let scale = distances[(distances.len() - 1) / 2];
        let mean = |a: &[&[f32]], b: &[&[f32]], skip: bool, scale: f64| {
            let pairs = (0..a.len()).flat_map(|i| (0..b.len()).map(move |j| (i, j)));
            let kept: Vec<f64> = pairs
                .filter(|(i, j)| !(skip && i == j))
                .map(|(i, j)| (-distance(a[i], b[j]) / scale).exp())
                .collect();
            kept.iter().sum::<f64>() / kept.len() as f64
        };
        let of = |skip, scale| {
            mean(&rows[0], &rows[0], skip, scale) + mean(&rows[1], &rows[1], skip, scale)
                - 2.0 * mean(&rows[0], &rows[1], false, scale)
        };
        (
            of(true, scale),
            (scale / 2.0).sqrt(),
            1000.0 * of(false, 200.0),
        )
    }

    #[test]
    fn discrepancies_match_their_definitions() {
        let dim = 12;
        for (m, n, shift) in [
            (2, 2, 0.0),
            (2, 3, 0.5),
            (40, 25, 0.3),
            (BLOCK + 30, 70, 0.1),
        ] {
            let sets = [unit_rows(m, dim, 0.0, 1), unit_rows(n, dim, shift, 2)];
            let sets = [&sets[0][..], &sets[1][..]];
            let found = compare(sets, dim, 9, 0);
            let (squared, sigma, cmmd) = defined(sets, dim);
            assert!(
                (found.squared - squared).abs() < 1e-6,
                "{found:?} {squared}"
            );
            assert!((found.sigma - sigma).abs() < 1e-6, "{found:?} {sigma}");
            assert!((found.cmmd - cmmd).abs() < 1e-5, "{found:?} {cmmd}");
        }
    }

    #[test]
    fn each_permutation_has_the_statistic_of_its_sets() {
        let (counts, dim) = ([BLOCK + 5, 30], 8);
        let all = unit_rows(counts[0] + counts[1], dim, 0.2, 3);
        let members = members(counts, 3, 7);
        let scale = bandwidth(&all, dim, 0);
        let sums = Sums::new(&all, dim, counts, &members, scale);
        let found = sums.statistics(counts, &members);
        for (row, found) in members.chunks_exact(counts[0] + counts[1]).zip(found) {
            let of = |member: u8| -> Vec<f32> {
                let rows = all.chunks_exact(dim).zip(row);
                let rows = rows.filter(|(_, is)| **is == member);
                rows.flat_map(|(row, _)| row).copied().collect()
            };
            assert_eq!(of(1).len(), counts[0] * dim);
            let (squared, _, _) = defined([&of(1), &of(0)], dim);
            assert!((found - squared).abs() < 1e-6, "{found} {squared}");
        }
    }

    #[test]
    fn p_is_uniform_for_two_draws_of_one_distribution() {
        let dim = 6;
        let draw = |seed| {
            let all = unit_rows(24, dim, 0.0, 1000 + seed);
            let (a, b) = all.split_at(10 * dim);
            compare([a, b], dim, 99, seed).p
        };
        let found: Vec<f64> = (0..200).map(draw).collect();
        // The bound of Kolmogorov and Smirnov for 200 draws at 1%.
        let distance = distance_from_uniform(found);
        assert!(distance < 1.63 / 200f64.sqrt(), "{distance}");
    }

    #[test]
    fn different_sets_have_a_small_p_and_equal_ones_the_largest() {
        let dim = 16;
        let sets = [unit_rows(60, dim, 0.0, 1), unit_rows(60, dim, 1.0, 2)];
        let found = compare([&sets[0], &sets[1]], dim, 199, 0);
        assert!((found.p - 1.0 / 200.0).abs() < 1e-12, "{found:?}");
        let twins = [1.0f32, 0.0].repeat(5);
        let found = compare([&twins, &twins], 2, 19, 0);
        assert_eq!((found.p, found.squared, found.cmmd), (1.0, 0.0, 0.0));
        // A set and itself: the same rows in both are closer than two draws.
        let found = compare([&sets[0], &sets[0]], dim, 199, 0);
        assert!(found.p > 0.9, "{found:?}");
    }

    #[test]
    fn the_series_is_the_exponential() {
        for x in [0.0, 1e-9, 1e-4, 0.01, 0.02] {
            assert!((decay(x) - (-x).exp_m1()).abs() < 1e-13, "{x}");
        }
    }
}
