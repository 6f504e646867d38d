//! Exact nearest-neighbour search: every dot product is computed.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use anyhow::{Result, ensure};
use half::f16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

use crate::kernel::streamed_products;

/// Values of vectors per block: a quarter of a megabyte stays in the L2 cache
/// while several queries use it.
const VALUES: usize = 1 << 16;
/// Blocks of [`VALUES`] that a thread processes at once.
const BLOCKS: usize = 32;
/// Queries per block of scores.
const QUERIES: usize = 64;

/// Vectors [rows, dim] in memory, row-major, for example in a memory map.
#[derive(Clone, Copy, Debug)]
pub enum Vectors<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// Half precision.
    F16(&'a [f16]),
}

/// One result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// The row of the vector.
    pub row: usize,
    /// Its product with the query: the cosine, for unit vectors.
    pub score: f32,
}

impl Vectors<'_> {
    fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F16(values) => values.len(),
        }
    }
}

/// The `k` vectors with the largest dot products with each of `queries` [queries, dim], best first,
/// ties by the lower row. A vector with a product that is not a number is never found.
///
/// Sums are f32, each in an order that depends only on the instruction set: neither the other
/// queries nor the number of threads change the result.
///
/// # Errors
/// When the lengths are not whole numbers of rows.
pub fn search(queries: &[f32], vectors: Vectors, dim: usize, k: usize) -> Result<Vec<Vec<Hit>>> {
    ensure!(dim > 0, "vectors without columns cannot be searched");
    for (what, values) in [("queries", queries.len()), ("vectors", vectors.len())] {
        ensure!(
            values.is_multiple_of(dim),
            "{values} values are not a whole number of {what} with {dim} columns"
        );
    }
    let (count, rows) = (queries.len() / dim, vectors.len() / dim);
    if count == 0 {
        return Ok(Vec::new());
    }
    let block = (VALUES / dim).max(1);
    let best = (0..rows.div_ceil(block * BLOCKS))
        .into_par_iter()
        .fold(
            || Best::new(count, k),
            |mut best, part| {
                let start = part * BLOCKS * block;
                for first in (start..rows.min(start + BLOCKS * block)).step_by(block) {
                    best.look(queries, vectors, dim, first..rows.min(first + block));
                }
                best
            },
        )
        .reduce(|| Best::new(count, k), Best::merge);
    Ok(best.sorted())
}

/// The best hits of each query so far.
struct Best {
    k: usize,
    /// One heap per query, the worst hit on top.
    heaps: Vec<BinaryHeap<Ranked>>,
    /// The rows in single precision, and scores [queries, rows]: reused buffers.
    rows: Vec<f32>,
    scores: Vec<f32>,
}

/// A hit ordered so that better hits are smaller.
#[derive(Clone, Copy, PartialEq)]
struct Ranked(Hit);

impl Eq for Ranked {}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (self.0, other.0);
        b.score.total_cmp(&a.score).then(a.row.cmp(&b.row))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Best {
    fn new(queries: usize, k: usize) -> Self {
        Self {
            k,
            heaps: vec![BinaryHeap::new(); queries],
            rows: Vec::new(),
            scores: Vec::new(),
        }
    }

    /// Adds the products with some rows of `vectors`, in any order of the rows.
    fn look(
        &mut self,
        queries: &[f32],
        vectors: Vectors,
        dim: usize,
        range: std::ops::Range<usize>,
    ) {
        let values = range.start * dim..range.end * dim;
        let rows = match vectors {
            Vectors::F32(all) => &all[values],
            Vectors::F16(all) => {
                self.rows.resize(values.len(), 0.0);
                all[values].convert_to_f32_slice(&mut self.rows);
                &self.rows
            }
        };
        let heaps = self.heaps.chunks_mut(QUERIES);
        for (queries, heaps) in queries.chunks(QUERIES * dim).zip(heaps) {
            self.scores.resize(heaps.len() * range.len(), 0.0);
            streamed_products(queries, rows, dim, &mut self.scores);
            let lines = self.scores.chunks_exact(range.len());
            for (heap, line) in heaps.iter_mut().zip(lines) {
                for (row, score) in range.clone().zip(line) {
                    keep(heap, self.k, Hit { row, score: *score });
                }
            }
        }
    }

    /// Merges two sets of hits.
    fn merge(mut self, other: Self) -> Self {
        for (heap, more) in self.heaps.iter_mut().zip(other.heaps) {
            for hit in more {
                keep(heap, self.k, hit.0);
            }
        }
        self
    }

    fn sorted(self) -> Vec<Vec<Hit>> {
        let hits = |heap: BinaryHeap<Ranked>| {
            let ranked = heap.into_sorted_vec().into_iter();
            ranked.map(|ranked| ranked.0).collect()
        };
        self.heaps.into_iter().map(hits).collect()
    }
}

/// Keeps a hit if it is among the `k` best.
fn keep(heap: &mut BinaryHeap<Ranked>, k: usize, hit: Hit) {
    if hit.score.is_nan() {
        return;
    }
    // Treats -0 and 0 as equal.
    let score = hit.score + 0.0;
    let ranked = Ranked(Hit { score, ..hit });
    if heap.len() < k {
        heap.push(ranked);
    } else if let Some(mut worst) = heap.peek_mut()
        && ranked < *worst
    {
        *worst = ranked;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Few distinct values, so that many products are equal.
    fn values(seed: u64, count: usize) -> Vec<f32> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let next = |_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 % 5.0 - 2.0
        };
        (0..count).map(next).collect()
    }

    /// Small integers: their sums are exact in any order.
    fn by_sorting(query: &[f32], vectors: &[f32], dim: usize, k: usize) -> Vec<Hit> {
        let products = vectors.chunks(dim).enumerate().map(|(row, vector)| Hit {
            row,
            score: query.iter().zip(vector).map(|(a, b)| a * b).sum::<f32>() + 0.0,
        });
        let mut hits: Vec<Hit> = products.filter(|hit| !hit.score.is_nan()).collect();
        hits.sort_by(|a, b| b.score.total_cmp(&a.score));
        hits.truncate(k);
        hits
    }

    #[test]
    fn hits_match_a_stable_sort() {
        // The last one has more rows than a thread processes at once.
        for (count, rows, dim, k) in [
            (1, 1, 1, 1),
            (3, 50, 7, 10),
            (70, 20, 3, 30),
            (2, 500, 16, 0),
            (2, 300_000, 8, 25),
        ] {
            let (queries, vectors) = (values(1, count * dim), values(2, rows * dim));
            let found = search(&queries, Vectors::F32(&vectors), dim, k).unwrap();
            assert_eq!(found.len(), count);
            for (query, found) in queries.chunks(dim).zip(&found) {
                let expected = by_sorting(query, &vectors, dim, k);
                assert_eq!(*found, expected, "{count} {rows} {dim} {k}");
            }
            // f16 represents these numbers exactly.
            let halves: Vec<f16> = vectors.iter().map(|x| f16::from_f32(*x)).collect();
            let halves = search(&queries, Vectors::F16(&halves), dim, k).unwrap();
            assert_eq!(halves, found);
        }
    }

    #[test]
    fn the_number_of_threads_does_not_change_the_result() {
        let (queries, vectors) = (values(3, 2 * 33), values(4, 70_000 * 33));
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            let find = || search(&queries, Vectors::F32(&vectors), 33, 100).unwrap();
            pool.build().unwrap().install(find)
        };
        assert_eq!(on(1), on(3));
    }

    #[test]
    fn nan_is_never_found() {
        let vectors = [f32::NAN, 1.0, f32::INFINITY, f32::NEG_INFINITY, -0.0, 0.0];
        for k in [1, 4, 6] {
            let found = search(&[1.0], Vectors::F32(&vectors), 1, k).unwrap();
            let rows: Vec<usize> = found[0].iter().map(|hit| hit.row).collect();
            assert_eq!(rows, [2, 1, 4, 5, 3][..k.min(5)], "{k}");
        }
    }

    #[test]
    fn mismatched_lengths_are_refused() {
        let vectors = Vectors::F32(&[1.0, 2.0, 3.0, 4.0]);
        assert!(search(&[1.0, 2.0], vectors, 0, 1).is_err());
        assert!(search(&[1.0, 2.0, 3.0], vectors, 2, 1).is_err());
        assert!(search(&[1.0, 2.0, 3.0], vectors, 3, 1).is_err());
        assert!(search(&[], vectors, 2, 1).unwrap().is_empty());
        let nothing = search(&[1.0, 2.0], Vectors::F32(&[]), 2, 3).unwrap();
        assert_eq!(nothing, [Vec::new()]);
    }
}
