//! The inner loop of products for instructions that multiply two rows by two features.
#![allow(
    unsafe_code,
    reason = "vector methods and raw pointers; contracts are stated"
)]

use super::tile::{Bf16, Int8, Operands};
use crate::kernel::simd::Simd;
use crate::kernel::simd::neon::{BASE, Neon};

type Vector = Neon<BASE>;

/// The multiply-accumulate step of a block, for two lanes of k.
pub(super) trait Blocks {
    /// The sums `acc` of two rows by two features, plus the products of their lanes.
    ///
    /// # Safety
    /// The CPU has the instruction.
    unsafe fn step(acc: Vector, rows: Vector, features: Vector) -> Vector;
}

impl Blocks for Bf16 {
    // By default the instruction rounds each pair of products and each sum to odd and flushes
    // denormals, where other levels round to nearest. Linux leaves it at that (FPCR.EBF is 0), so
    // every CPU gives the same bytes.
    #[inline(always)]
    unsafe fn step(acc: Vector, rows: Vector, features: Vector) -> Vector {
        // SAFETY: the caller vouches for the CPU.
        unsafe { Vector::block_bf16(acc, rows, features) }
    }
}

impl Blocks for Int8 {
    #[inline(always)]
    unsafe fn step(acc: Vector, rows: Vector, features: Vector) -> Vector {
        // SAFETY: the caller vouches for the CPU.
        unsafe { Vector::block_int8(acc, rows, features) }
    }
}

/// Maximum pairs of rows, and of features: those of 8 rows, and of 4 vectors.
const MOST_PAIRS: (usize, usize) = (4, 8);

/// Writes the R x C vectors of sums to `to`. The operands are interleaved in pairs of lanes
/// ([`interleave_pairs`](crate::kernel::simd::interleave_pairs)). Each sum runs over the steps in
/// order, whatever R and C.
///
/// # Safety
/// The CPU has the instruction of `A`; the operands hold what R, C and `lanes`, an even number,
/// imply.
#[inline(always)]
pub(super) unsafe fn tile_of_blocks<A: Blocks, const R: usize, const C: usize>(
    operands: &Operands,
    to: *mut f32,
) {
    const { assert!(R.div_ceil(2) <= MOST_PAIRS.0 && 2 * C <= MOST_PAIRS.1) };
    debug_assert!(operands.rows == R && operands.lanes.is_multiple_of(2));
    // SAFETY: the caller vouches for all addresses.
    unsafe {
        let zero = Vector::splat(0.0);
        let mut sums = [[zero; MOST_PAIRS.1]; MOST_PAIRS.0];
        let (mut a, mut b) = (operands.a, operands.b);
        for _ in 0..operands.lanes / 2 {
            let mut features = [zero; MOST_PAIRS.1];
            for (pair, vector) in features.iter_mut().enumerate().take(2 * C) {
                *vector = Vector::load(b.add(pair / 2 * operands.b_vector + pair % 2 * 4));
            }
            for (pair, sums) in sums.iter_mut().enumerate().take(R.div_ceil(2)) {
                let at = a.add(4 * pair);
                // The last of an odd number of rows stands in for its missing neighbour.
                let rows = if 2 * pair + 1 < R {
                    Vector::load(at)
                } else {
                    Vector::load_twice(at)
                };
                for (sum, features) in sums.iter_mut().zip(features).take(2 * C) {
                    *sum = A::step(*sum, rows, features);
                }
            }
            a = a.add(2 * R);
            b = b.add(2 * operands.b_step);
        }
        for r in 0..R {
            for c in 0..C {
                let [left, right] = [sums[r / 2][2 * c], sums[r / 2][2 * c + 1]];
                let row = Vector::rows_of_blocks(left, right)[r % 2];
                row.store(to.add(r * operands.to_row + c * Vector::LANES));
            }
        }
    }
}
