//! One vector type per instruction set, behind one trait, so that every kernel is written once.
//!
//! Kernels are generic over [`Simd`] and `inline(always)` up to a function that enables the
//! instruction set (see [`super::level`]); only there do these methods become single
//! instructions.
#![allow(
    unsafe_code,
    reason = "vector instructions and raw pointers; contracts are stated on the trait"
)]

#[cfg(target_arch = "x86_64")]
pub(super) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(super) mod avx512;
#[cfg(target_arch = "aarch64")]
pub(super) mod neon;
pub(super) mod scalar;

use super::encode::bf16_bits;

/// A vector of 32-bit lanes, seen as f32 or as the integers packed in its bits.
///
/// # Safety
/// Every method needs a CPU with the type's instruction set. Pointers must be valid for the lanes
/// they name; no alignment is needed.
pub(super) trait Simd: Copy {
    /// Lanes of 32 bits.
    const LANES: usize;
    /// Maximum rows of a product tile of two vectors that fits the registers.
    const ROWS: usize;

    /// Every lane `x`.
    unsafe fn splat(x: f32) -> Self;
    /// `LANES` lanes from memory.
    unsafe fn load(from: *const f32) -> Self;
    /// `LANES` lanes to memory.
    unsafe fn store(self, to: *mut f32);
    /// `count < LANES` lanes from memory, the rest `fill`.
    unsafe fn load_part(from: *const f32, count: usize, fill: f32) -> Self;
    /// `LANES` f16 from memory, widened.
    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Self {
        let mut lanes = [0.0; 16];
        // SAFETY: no vector has more than 16 lanes; the caller vouches for `LANES` halves.
        unsafe {
            for (i, lane) in lanes.iter_mut().enumerate().take(Self::LANES) {
                *lane = half::f16::from_bits(*from.add(i)).to_f32();
            }
            Self::load(lanes.as_ptr())
        }
    }
    /// The first `count < LANES` lanes to memory.
    unsafe fn store_part(self, to: *mut f32, count: usize);

    /// Lane sums.
    unsafe fn add(self, other: Self) -> Self;
    /// Lane differences.
    unsafe fn sub(self, other: Self) -> Self;
    /// Lane products.
    unsafe fn mul(self, other: Self) -> Self;
    /// Lane quotients.
    unsafe fn div(self, other: Self) -> Self;
    /// `self * a + b`, fused where the CPU can.
    unsafe fn mul_add(self, a: Self, b: Self) -> Self;
    /// The larger lanes; `other` where either is NaN.
    unsafe fn max(self, other: Self) -> Self;
    /// The smaller lanes; `other` where either is NaN.
    unsafe fn min(self, other: Self) -> Self;
    /// Lanes without their signs.
    unsafe fn abs(self) -> Self;
    /// 1 / lane to about one unit in the last place, for lanes between 2^-126 and 2^126 in size.
    #[inline(always)]
    unsafe fn reciprocal(self) -> Self {
        // SAFETY: the caller vouches for the CPU.
        unsafe { Self::splat(1.0).div(self) }
    }
    /// Nearest integers, ties to even, for lanes below 2^22 in size.
    unsafe fn round(self) -> Self;
    /// `self * 2^n` for integral lanes `n` between -252 and 252.
    unsafe fn scale_by_power(self, n: Self) -> Self;
    /// Lanes read as i32, converted to f32.
    unsafe fn int_to_float(self) -> Self;

    /// The largest lane; unspecified if a lane is NaN.
    unsafe fn max_lane(self) -> f32;
    /// The sum of the lanes, in an order that depends on `LANES` only.
    unsafe fn sum_lanes(self) -> f32;

    /// `acc + a.low * b.low + a.high * b.high` with two bf16 in each lane of `a` and `b`.
    unsafe fn dot_bf16(acc: Self, a: Self, b: Self) -> Self;
    /// The i32 lanes `acc` plus the two products of the 16-bit integers of `a` and `b`; exact.
    #[inline(always)]
    unsafe fn dot_int16(acc: Self, a: Self, b: Self) -> Self {
        // SAFETY: the caller vouches for the CPU.
        unsafe {
            lane_by_lane(acc, a, b, |a, b| {
                let halves = |x: u32| [x as i16, (x >> 16) as i16].map(i32::from);
                let ([a0, a1], [b0, b1]) = (halves(a), halves(b));
                a0 * b0 + a1 * b1
            })
        }
    }
    /// The i32 lanes `acc` plus the four products of the bytes of `a` (unsigned; signed at
    /// [`Level::NeonDot`](super::level::Level::NeonDot)) and `b` (signed); exact.
    #[inline(always)]
    unsafe fn dot_int8(acc: Self, a: Self, b: Self) -> Self {
        // SAFETY: the caller vouches for the CPU.
        unsafe { lane_by_lane_int8(acc, a, b) }
    }

    /// [`Simd::dot_int8`] of two lanes each, exact as long as the two pairs of products of a half
    /// of a lane add up to 16 bits.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn dot_int8_pairs(acc: Self, a: [Self; 2], b: [Self; 2]) -> Self {
        // SAFETY: the caller vouches for the CPU.
        unsafe { Self::dot_int8(Self::dot_int8(acc, a[0], b[0]), a[1], b[1]) }
    }

    /// Writes the lanes rounded to bf16.
    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16) {
        let mut lanes = [0.0; 16];
        // SAFETY: no vector has more than 16 lanes; the caller vouches for `LANES` halves at `to`.
        unsafe {
            self.store(lanes.as_mut_ptr());
            for (i, x) in lanes.iter().enumerate().take(Self::LANES) {
                *to.add(i) = bf16_bits(*x);
            }
        }
    }
    /// `low` and `high` rounded to bf16, side by side in each lane.
    #[inline(always)]
    unsafe fn pair_bf16(low: Self, high: Self) -> Self {
        let (mut lows, mut highs) = ([0.0f32; 16], [0.0f32; 16]);
        // SAFETY: no vector has more than 16 lanes.
        unsafe {
            low.store(lows.as_mut_ptr());
            high.store(highs.as_mut_ptr());
            for (low, high) in lows.iter_mut().zip(highs) {
                let bits = u32::from(bf16_bits(high)) << 16 | u32::from(bf16_bits(*low));
                *low = f32::from_bits(bits);
            }
            Self::load(lows.as_ptr())
        }
    }

    /// Prefetches the cache line at `at` into the L2 cache.
    unsafe fn prefetch(at: *const f32);

    /// Prefetches the cache line at `at` into the L1 cache for writing.
    unsafe fn prefetch_to_write(at: *const f32);

    /// Writes the transpose of `rows` row-major rows (`stride` lanes apart, `rows <= tile_rows`) of
    /// `columns` lanes to `to`, where column `c` starts at `c * tile_rows`; needs `tile_rows <=
    /// LANES` or the default body. May write `LANES` lanes past the end of `to`.
    #[inline(always)]
    unsafe fn interleave(from: Rows, columns: usize, tile_rows: usize, to: *mut f32) {
        for column in 0..columns {
            for row in 0..from.rows {
                // SAFETY: the caller vouches for `rows` rows of `columns` lanes and for `to`.
                unsafe {
                    *to.add(column * tile_rows + row) = *from.start.add(row * from.stride + column)
                };
            }
        }
    }
}

/// The i32 lanes `acc` plus `product` of those of `a` and `b`: the definition of the products of
/// integers, and their body where no instruction computes them.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
unsafe fn lane_by_lane<V: Simd>(acc: V, a: V, b: V, product: impl Fn(u32, u32) -> i32) -> V {
    // SAFETY: no vector has more than 16 lanes; the caller vouches for the CPU.
    unsafe {
        let [mut sums, mut left, mut right] = [[0f32; 16]; 3];
        acc.store(sums.as_mut_ptr());
        a.store(left.as_mut_ptr());
        b.store(right.as_mut_ptr());
        for ((sum, a), b) in sums.iter_mut().zip(left).zip(right) {
            let more = product(a.to_bits(), b.to_bits()) as u32;
            *sum = f32::from_bits(sum.to_bits().wrapping_add(more));
        }
        V::load(sums.as_ptr())
    }
}

/// [`lane_by_lane`] for four bytes per lane, unsigned and signed.
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn lane_by_lane_int8<V: Simd>(acc: V, a: V, b: V) -> V {
    // SAFETY: the caller vouches for the CPU.
    unsafe {
        lane_by_lane(acc, a, b, |a, b| {
            let pairs = a.to_le_bytes().into_iter().zip(b.to_le_bytes());
            pairs.map(|(a, b)| i32::from(a) * i32::from(b as i8)).sum()
        })
    }
}

/// Row-major lanes: `rows` rows, `stride` lanes apart.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    pub(super) start: *const f32,
    pub(super) stride: usize,
    pub(super) rows: usize,
}

/// As [`Simd::interleave`], but keeps pairs of lanes together: `[pair of lanes][row][2 lanes]`.
///
/// # Safety
/// `from` is readable for `columns` lanes, an even number, per row; `to` has room for `columns`
/// times `tile_rows` lanes.
pub(super) unsafe fn interleave_pairs(from: Rows, columns: usize, tile_rows: usize, to: *mut f32) {
    for pair in 0..columns / 2 {
        for row in 0..from.rows {
            // SAFETY: the caller's promises.
            unsafe {
                let lanes = from
                    .start
                    .add(row * from.stride + 2 * pair)
                    .cast::<[f32; 2]>();
                *to.cast::<[f32; 2]>().add(pair * tile_rows + row) = *lanes;
            }
        }
    }
}

/// The `count` lanes at `from`, all of them or fewer; the others are `fill`.
///
/// # Safety
/// The CPU has the instruction set of `V`; `count` values at `from` are readable.
#[inline(always)]
pub(super) unsafe fn load_up_to<V: Simd>(from: *const f32, count: usize, fill: f32) -> V {
    // SAFETY: the caller's promises.
    unsafe {
        if count < V::LANES {
            V::load_part(from, count, fill)
        } else {
            V::load(from)
        }
    }
}

/// Stores the first `count` lanes, all of them or fewer.
///
/// # Safety
/// The CPU has the instruction set of `V`; `count` values at `to` are writable.
#[inline(always)]
pub(super) unsafe fn store_up_to<V: Simd>(x: V, to: *mut f32, count: usize) {
    // SAFETY: the caller's promises.
    unsafe {
        if count < V::LANES {
            x.store_part(to, count)
        } else {
            x.store(to)
        }
    }
}
