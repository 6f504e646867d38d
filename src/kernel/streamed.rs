//! Products of rows with rows in f32 without packing, because most rows are read only once.
#![allow(
    unsafe_code,
    reason = "generic over the vector types, whose methods are unsafe"
)]

use super::level::{Job, Level, level, run};
use super::simd::{Simd, load_up_to};

/// Rows per tile.
const ROWS: usize = 4;

/// Writes to `out` [queries, rows] the dot product of every row of `queries` [queries, dim] with
/// every row of `rows` [rows, dim].
///
/// Runs on the calling thread. A product depends, to the bit, only on its two rows, not on the rows
/// next to them: one vector of sums for each, over the columns in order. Fastest if `rows` fit the
/// L2 cache or are read once.
///
/// Panics when the lengths do not match.
pub fn streamed_products(queries: &[f32], rows: &[f32], dim: usize, out: &mut [f32]) {
    streamed_products_at(level(), queries, rows, dim, out);
}

/// [`streamed_products`] at instruction level `level`.
fn streamed_products_at(level: Level, queries: &[f32], rows: &[f32], dim: usize, out: &mut [f32]) {
    assert!(
        dim > 0 && queries.len().is_multiple_of(dim) && rows.len().is_multiple_of(dim),
        "queries or rows are not a whole number of rows of {dim}"
    );
    assert_eq!(
        out.len(),
        queries.len() / dim * (rows.len() / dim),
        "the output is not [queries, rows]"
    );
    if out.is_empty() {
        return;
    }
    let products = StreamedProducts {
        queries,
        rows,
        dim,
        out,
    };
    run(level, products);
}

/// Operands and output of [`streamed_products`].
struct StreamedProducts<'a> {
    queries: &'a [f32],
    rows: &'a [f32],
    dim: usize,
    out: &'a mut [f32],
}

impl Job for StreamedProducts<'_> {
    #[inline(always)]
    unsafe fn run<V: Simd>(mut self) {
        let queries = self.queries.len() / self.dim;
        let mut query = 0;
        // SAFETY: the dispatcher vouches for the CPU.
        unsafe {
            // Enough sums to hide the latency while leaving registers for the operands.
            while V::LANES >= 16 && query + 4 <= queries {
                self.strip::<V, 4>(query);
                query += 4;
            }
            while query + 2 <= queries {
                self.strip::<V, 2>(query);
                query += 2;
            }
            if query < queries {
                self.strip::<V, 1>(query);
            }
        }
    }
}

impl StreamedProducts<'_> {
    /// The products of `Q` queries from `first` on with all rows.
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`.
    #[inline(always)]
    unsafe fn strip<V: Simd, const Q: usize>(&mut self, first: usize) {
        let rows = self.rows.len() / self.dim;
        let mut row = 0;
        // SAFETY: the caller vouches for the CPU.
        unsafe {
            while row + ROWS <= rows {
                self.tile::<V, Q, ROWS>(first, row);
                row += ROWS;
            }
            while row < rows {
                self.tile::<V, Q, 1>(first, row);
                row += 1;
            }
        }
    }

    /// The products of `Q` queries with `R` rows.
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`.
    #[inline(always)]
    unsafe fn tile<V: Simd, const Q: usize, const R: usize>(&mut self, query: usize, row: usize) {
        let dim = self.dim;
        let pair = Tile {
            queries: self.queries[query * dim..][..Q * dim].as_ptr(),
            rows: self.rows[row * dim..][..R * dim].as_ptr(),
            dim,
        };
        let rest = dim % V::LANES;
        // SAFETY: whole vectors lie inside the rows, and the last one is read partially; the caller
        // vouches for the CPU.
        unsafe {
            let mut sums = [[V::splat(0.0); R]; Q];
            let mut column = 0;
            while column < dim - rest {
                pair.add(&mut sums, column, V::LANES);
                column += V::LANES;
            }
            if rest > 0 {
                pair.add(&mut sums, column, rest);
            }
            let stride = self.rows.len() / dim;
            for (i, sums) in sums.iter().enumerate() {
                let out = &mut self.out[(query + i) * stride + row..][..R];
                for (out, sum) in out.iter_mut().zip(sums) {
                    *out = sum.sum_lanes();
                }
            }
        }
    }
}

/// The start addresses of a tile's rows.
struct Tile {
    queries: *const f32,
    rows: *const f32,
    dim: usize,
}

impl Tile {
    /// Adds the products of `count` columns, a vector or less, from `column` on.
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`; the rows have these columns.
    #[inline(always)]
    unsafe fn add<V: Simd, const Q: usize, const R: usize>(
        &self,
        sums: &mut [[V; R]; Q],
        column: usize,
        count: usize,
    ) {
        // SAFETY: the columns lie inside `Q` and `R` rows; the caller vouches for the CPU.
        unsafe {
            let mut rows = [V::splat(0.0); R];
            for (i, row) in rows.iter_mut().enumerate() {
                *row = load_up_to(self.rows.add(i * self.dim + column), count, 0.0);
            }
            for (i, sums) in sums.iter_mut().enumerate() {
                let query = load_up_to::<V>(self.queries.add(i * self.dim + column), count, 0.0);
                for (sum, row) in sums.iter_mut().zip(rows) {
                    *sum = query.mul_add(row, *sum);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::{levels, randoms};

    #[test]
    fn every_level_agrees_with_sums_in_f64() {
        for dim in [1, 3, 4, 15, 16, 17, 64, 513] {
            for (m, n) in [(1, 1), (1, 9), (2, 4), (3, 5), (4, 4), (7, 6), (9, 11)] {
                let (queries, rows) = (randoms(1, m * dim), randoms(2, n * dim));
                let pairs = queries.chunks(dim).flat_map(|query| {
                    let rows = rows.chunks(dim);
                    rows.map(move |row| query.iter().zip(row))
                });
                // The sum, and the sum of magnitudes: sums that cancel are no more exact than their
                // parts.
                let exact: Vec<(f64, f64)> = pairs
                    .map(|pair| {
                        let products = pair.map(|(a, b)| f64::from(*a) * f64::from(*b));
                        products.fold((0.0, 0.0), |(sum, size), x| (sum + x, size + x.abs()))
                    })
                    .collect();
                for level in levels() {
                    let mut out = vec![f32::NAN; m * n];
                    streamed_products_at(level, &queries, &rows, dim, &mut out);
                    for (found, (sum, size)) in out.iter().zip(&exact) {
                        let error = (f64::from(*found) - sum).abs();
                        assert!(
                            error <= 1e-6 * size,
                            "{level:?} {m} x {n} x {dim}: {found}, not {sum}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_product_has_the_same_bytes_next_to_any_others() {
        let (dim, m, n) = (77, 7, 10);
        let (queries, rows) = (randoms(3, m * dim), randoms(4, n * dim));
        for level in levels() {
            let mut together = vec![0.0; m * n];
            streamed_products_at(level, &queries, &rows, dim, &mut together);
            for (i, query) in queries.chunks(dim).enumerate() {
                for (j, row) in rows.chunks(dim).enumerate() {
                    let mut alone = [0.0];
                    streamed_products_at(level, query, row, dim, &mut alone);
                    let place = i * n + j;
                    let same = alone[0].to_bits() == together[place].to_bits();
                    assert!(same, "{level:?} {i} {j}: {} {}", alone[0], together[place]);
                    // Swap the operands.
                    streamed_products_at(level, row, query, dim, &mut alone);
                    assert_eq!(alone[0].to_bits(), together[place].to_bits(), "{level:?}");
                }
            }
        }
    }

    #[test]
    fn empty_inputs_give_empty_products() {
        streamed_products(&[], &[1.0, 2.0], 2, &mut []);
        streamed_products(&[1.0, 2.0], &[], 2, &mut []);
    }
}
