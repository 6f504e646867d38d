//! 256-bit vectors and fused multiply-add of x86-64.
#![allow(
    unsafe_code,
    reason = "vector instructions; the trait states that the CPU has them"
)]

use std::arch::x86_64::*;

use super::{Rows, Simd, lane_by_lane_int8};

/// Eight lanes; with `VNNI`, products of integers add up in one instruction (AVX-VNNI).
#[derive(Clone, Copy)]
pub(in crate::kernel) struct Avx2<const VNNI: bool>(__m256);

/// A table of sixteen lanes; the eight from `8 - count` on mask the first `count`.
static MASKS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

/// The mask of the first `count <= 8` lanes.
///
/// # Safety
/// Requires avx2.
#[inline(always)]
unsafe fn first(count: usize) -> __m256i {
    // SAFETY: 8 - count .. 16 - count lies inside the table.
    unsafe { _mm256_loadu_si256(MASKS.as_ptr().add(8 - count).cast()) }
}

/// 2^n for -126 <= n <= 127.
///
/// # Safety
/// Requires avx2.
#[inline(always)]
unsafe fn power_of_two(n: __m256i) -> __m256 {
    // SAFETY: the caller vouches for the CPU.
    unsafe {
        let biased = _mm256_add_epi32(n, _mm256_set1_epi32(127));
        _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
    }
}

/// Wraps intrinsics that require only the CPU that the trait promises.
macro_rules! lanes {
    ($value:expr) => {
        // SAFETY: the trait's caller vouches for the CPU and for the pointers.
        Avx2(unsafe { $value })
    };
}

impl<const VNNI: bool> Simd for Avx2<VNNI> {
    const LANES: usize = 8;
    const ROWS: usize = 6;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        lanes!(_mm256_set1_ps(x))
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        lanes!(_mm256_loadu_ps(from))
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller vouches for the CPU and for 8 lanes.
        unsafe { _mm256_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    unsafe fn load_part(from: *const f32, count: usize, fill: f32) -> Self {
        lanes!({
            let mask = first(count);
            let loaded = _mm256_maskload_ps(from, mask);
            _mm256_blendv_ps(_mm256_set1_ps(fill), loaded, _mm256_castsi256_ps(mask))
        })
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Self {
        lanes!(_mm256_cvtph_ps(_mm_loadu_si128(from.cast())))
    }

    #[inline(always)]
    unsafe fn store_part(self, to: *mut f32, count: usize) {
        // SAFETY: the mask keeps the store to the `count` lanes that the caller vouches for.
        unsafe { _mm256_maskstore_ps(to, first(count), self.0) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        lanes!(_mm256_add_ps(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        lanes!(_mm256_sub_ps(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        lanes!(_mm256_mul_ps(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        lanes!(_mm256_div_ps(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn mul_add(self, a: Self, b: Self) -> Self {
        lanes!(_mm256_fmadd_ps(self.0, a.0, b.0))
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        lanes!(_mm256_max_ps(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        lanes!(_mm256_min_ps(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn abs(self) -> Self {
        lanes!(_mm256_andnot_ps(_mm256_set1_ps(-0.0), self.0))
    }

    #[inline(always)]
    unsafe fn round(self) -> Self {
        lanes!(_mm256_round_ps::<0>(self.0))
    }

    #[inline(always)]
    unsafe fn scale_by_power(self, n: Self) -> Self {
        // Two steps: one power alone cannot reach the denormals.
        lanes!({
            let n = _mm256_cvtps_epi32(n.0);
            let half = _mm256_srai_epi32::<1>(n);
            let rest = _mm256_sub_epi32(n, half);
            _mm256_mul_ps(
                _mm256_mul_ps(self.0, power_of_two(half)),
                power_of_two(rest),
            )
        })
    }

    #[inline(always)]
    unsafe fn int_to_float(self) -> Self {
        lanes!(_mm256_cvtepi32_ps(_mm256_castps_si256(self.0)))
    }

    #[inline(always)]
    unsafe fn max_lane(self) -> f32 {
        // SAFETY: the caller vouches for the CPU.
        unsafe {
            let four = _mm_max_ps(
                _mm256_castps256_ps128(self.0),
                _mm256_extractf128_ps::<1>(self.0),
            );
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        }
    }

    #[inline(always)]
    unsafe fn sum_lanes(self) -> f32 {
        // SAFETY: the caller vouches for the CPU.
        unsafe {
            let four = _mm_add_ps(
                _mm256_castps256_ps128(self.0),
                _mm256_extractf128_ps::<1>(self.0),
            );
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }

    #[inline(always)]
    unsafe fn dot_bf16(acc: Self, a: Self, b: Self) -> Self {
        lanes!({
            let high = _mm256_set1_epi32(0xffff_0000_u32 as i32);
            let (a, b) = (_mm256_castps_si256(a.0), _mm256_castps_si256(b.0));
            let low_a = _mm256_castsi256_ps(_mm256_slli_epi32::<16>(a));
            let low_b = _mm256_castsi256_ps(_mm256_slli_epi32::<16>(b));
            let high_a = _mm256_castsi256_ps(_mm256_and_si256(a, high));
            let high_b = _mm256_castsi256_ps(_mm256_and_si256(b, high));
            _mm256_fmadd_ps(high_a, high_b, _mm256_fmadd_ps(low_a, low_b, acc.0))
        })
    }

    #[inline(always)]
    unsafe fn dot_int16(acc: Self, a: Self, b: Self) -> Self {
        lanes!({
            let acc = _mm256_castps_si256(acc.0);
            let (a, b) = (_mm256_castps_si256(a.0), _mm256_castps_si256(b.0));
            _mm256_castsi256_ps(if VNNI {
                _mm256_dpwssd_avx_epi32(acc, a, b)
            } else {
                _mm256_add_epi32(acc, _mm256_madd_epi16(a, b))
            })
        })
    }

    #[inline(always)]
    unsafe fn dot_int8(acc: Self, a: Self, b: Self) -> Self {
        // SAFETY: the caller vouches for the CPU.
        unsafe {
            if !VNNI {
                return lane_by_lane_int8(acc, a, b);
            }
            let acc = _mm256_castps_si256(acc.0);
            let (a, b) = (_mm256_castps_si256(a.0), _mm256_castps_si256(b.0));
            Avx2(_mm256_castsi256_ps(_mm256_dpbusd_avx_epi32(acc, a, b)))
        }
    }

    #[inline(always)]
    unsafe fn dot_int8_pairs(acc: Self, a: [Self; 2], b: [Self; 2]) -> Self {
        lanes!({
            let bits = |x: Self| _mm256_castps_si256(x.0);
            let pairs = |i: usize| _mm256_maddubs_epi16(bits(a[i]), bits(b[i]));
            let fours = _mm256_add_epi16(pairs(0), pairs(1));
            let eights = _mm256_madd_epi16(fours, _mm256_set1_epi16(1));
            _mm256_castsi256_ps(_mm256_add_epi32(bits(acc), eights))
        })
    }

    #[inline(always)]
    unsafe fn prefetch(at: *const f32) {
        // SAFETY: a prefetch of any address is harmless.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
    }

    #[inline(always)]
    unsafe fn prefetch_to_write(at: *const f32) {
        // SAFETY: as above.
        unsafe { _mm_prefetch::<_MM_HINT_ET0>(at.cast()) }
    }

    #[inline(always)]
    unsafe fn interleave(from: Rows, columns: usize, tile_rows: usize, to: *mut f32) {
        for column in (0..columns).step_by(8) {
            let width = (columns - column).min(8);
            // SAFETY: rows below `rows` (the last one repeated in place of missing ones) and
            // columns below `columns` are read. The caller allows 8 lanes past the end of `to`;
            // ascending columns repair what a store wrote past its own.
            unsafe {
                let start = from.start.add(column);
                let to = to.add(column * tile_rows);
                let mut block = [Avx2(_mm256_setzero_ps()); 8];
                if width == 8 {
                    for (row, lanes) in block.iter_mut().enumerate() {
                        *lanes = Self::load(start.add(row.min(from.rows - 1) * from.stride));
                    }
                    for (i, lanes) in transpose(block).iter().enumerate() {
                        lanes.store(to.add(i * tile_rows));
                    }
                } else {
                    for (row, lanes) in block.iter_mut().enumerate() {
                        *lanes = Self::load_part(
                            start.add(row.min(from.rows - 1) * from.stride),
                            width,
                            0.0,
                        );
                    }
                    for (i, lanes) in transpose(block).iter().enumerate().take(width) {
                        lanes.store(to.add(i * tile_rows));
                    }
                }
            }
        }
    }
}

/// The transpose of 8 rows of 8 lanes.
///
/// # Safety
/// Requires avx2.
#[inline(always)]
unsafe fn transpose<const VNNI: bool>(r: [Avx2<VNNI>; 8]) -> [Avx2<VNNI>; 8] {
    // SAFETY: the caller vouches for the CPU.
    unsafe {
        // After two rounds `b[4g + c]` holds, in its half h, column 4h + c of rows 4g..4g + 4.
        let mut b = r;
        for g in 0..2 {
            let [r0, r1, r2, r3] = [r[4 * g].0, r[4 * g + 1].0, r[4 * g + 2].0, r[4 * g + 3].0];
            let low01 = _mm256_castps_pd(_mm256_unpacklo_ps(r0, r1));
            let high01 = _mm256_castps_pd(_mm256_unpackhi_ps(r0, r1));
            let low23 = _mm256_castps_pd(_mm256_unpacklo_ps(r2, r3));
            let high23 = _mm256_castps_pd(_mm256_unpackhi_ps(r2, r3));
            b[4 * g] = Avx2(_mm256_castpd_ps(_mm256_unpacklo_pd(low01, low23)));
            b[4 * g + 1] = Avx2(_mm256_castpd_ps(_mm256_unpackhi_pd(low01, low23)));
            b[4 * g + 2] = Avx2(_mm256_castpd_ps(_mm256_unpacklo_pd(high01, high23)));
            b[4 * g + 3] = Avx2(_mm256_castpd_ps(_mm256_unpackhi_pd(high01, high23)));
        }
        let mut out = b;
        for c in 0..4 {
            out[c] = Avx2(_mm256_permute2f128_ps::<0x20>(b[c].0, b[4 + c].0));
            out[4 + c] = Avx2(_mm256_permute2f128_ps::<0x31>(b[c].0, b[4 + c].0));
        }
        out
    }
}
