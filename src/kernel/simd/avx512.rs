//! 512-bit vectors of x86-64.
#![allow(
    unsafe_code,
    reason = "vector instructions; the trait states that the CPU has them"
)]

use std::arch::x86_64::*;

use super::{Rows, Simd, lane_by_lane_int8};

/// Emulated products of bf16 and bytes.
pub(in crate::kernel) const BASE: u8 = 0;
/// Products of integers by `vpdpbusd` and `vpdpwssd`.
pub(in crate::kernel) const VNNI: u8 = 1;
/// Products of bf16 by `vdpbf16ps`.
pub(in crate::kernel) const BF16: u8 = 2;

/// Sixteen lanes; `EXTRA` says which extensions are available.
#[derive(Clone, Copy)]
pub(in crate::kernel) struct Avx512<const EXTRA: u8>(__m512);

/// The mask of the first `count < 16` lanes.
#[inline(always)]
fn first(count: usize) -> __mmask16 {
    (1u16 << count) - 1
}

/// Lanes whose upper halves are the nearest bf16, ties to even; NaN stays NaN.
///
/// # Safety
/// Requires avx512f.
#[inline(always)]
unsafe fn rounded(x: __m512) -> __m512i {
    // SAFETY: the caller vouches for the CPU.
    unsafe {
        let bits = _mm512_castps_si512(x);
        let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
        let up = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
        let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
        _mm512_mask_or_epi32(up, nan, bits, _mm512_set1_epi32(0x40_0000))
    }
}

/// Wraps intrinsics that require only the CPU that the trait promises.
macro_rules! lanes {
    ($value:expr) => {
        // SAFETY: the trait's caller vouches for the CPU and for the pointers.
        Avx512(unsafe { $value })
    };
}

impl<const EXTRA: u8> Simd for Avx512<EXTRA> {
    const LANES: usize = 16;
    const ROWS: usize = 14;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        lanes!(_mm512_set1_ps(x))
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        lanes!(_mm512_loadu_ps(from))
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller vouches for the CPU and for 16 lanes.
        unsafe { _mm512_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    unsafe fn load_part(from: *const f32, count: usize, fill: f32) -> Self {
        lanes!(_mm512_mask_loadu_ps(
            _mm512_set1_ps(fill),
            first(count),
            from
        ))
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Self {
        lanes!(_mm512_cvtph_ps(_mm256_loadu_si256(from.cast())))
    }

    #[inline(always)]
    unsafe fn store_part(self, to: *mut f32, count: usize) {
        // SAFETY: the mask keeps the store to the `count` lanes that the caller vouches for.
        unsafe { _mm512_mask_storeu_ps(to, first(count), self.0) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        lanes!(_mm512_add_ps(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        lanes!(_mm512_sub_ps(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        lanes!(_mm512_mul_ps(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        lanes!(_mm512_div_ps(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn mul_add(self, a: Self, b: Self) -> Self {
        lanes!(_mm512_fmadd_ps(self.0, a.0, b.0))
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        lanes!(_mm512_max_ps(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        lanes!(_mm512_min_ps(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn abs(self) -> Self {
        lanes!(_mm512_abs_ps(self.0))
    }

    #[inline(always)]
    unsafe fn reciprocal(self) -> Self {
        // One Newton step on 14 correct bits: r + r (1 - x r).
        lanes!({
            let r = _mm512_rcp14_ps(self.0);
            _mm512_fmadd_ps(r, _mm512_fnmadd_ps(self.0, r, _mm512_set1_ps(1.0)), r)
        })
    }

    #[inline(always)]
    unsafe fn round(self) -> Self {
        lanes!(_mm512_roundscale_ps::<0>(self.0))
    }

    #[inline(always)]
    unsafe fn scale_by_power(self, n: Self) -> Self {
        lanes!(_mm512_scalef_ps(self.0, n.0))
    }

    #[inline(always)]
    unsafe fn int_to_float(self) -> Self {
        lanes!(_mm512_cvtepi32_ps(_mm512_castps_si512(self.0)))
    }

    #[inline(always)]
    unsafe fn max_lane(self) -> f32 {
        // SAFETY: the caller vouches for the CPU.
        unsafe { _mm512_reduce_max_ps(self.0) }
    }

    #[inline(always)]
    unsafe fn sum_lanes(self) -> f32 {
        // SAFETY: the caller vouches for the CPU.
        unsafe { _mm512_reduce_add_ps(self.0) }
    }

    #[inline(always)]
    unsafe fn dot_bf16(acc: Self, a: Self, b: Self) -> Self {
        // SAFETY: the caller vouches for the CPU.
        unsafe {
            let (a, b) = (_mm512_castps_si512(a.0), _mm512_castps_si512(b.0));
            if EXTRA == BF16 {
                let (a, b) = (
                    std::mem::transmute::<__m512i, __m512bh>(a),
                    std::mem::transmute::<__m512i, __m512bh>(b),
                );
                return Avx512(_mm512_dpbf16_ps(acc.0, a, b));
            }
            let high = _mm512_set1_epi32(0xffff_0000_u32 as i32);
            let low_a = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(a));
            let low_b = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(b));
            let high_a = _mm512_castsi512_ps(_mm512_and_si512(a, high));
            let high_b = _mm512_castsi512_ps(_mm512_and_si512(b, high));
            Avx512(_mm512_fmadd_ps(
                high_a,
                high_b,
                _mm512_fmadd_ps(low_a, low_b, acc.0),
            ))
        }
    }

    #[inline(always)]
    unsafe fn dot_int16(acc: Self, a: Self, b: Self) -> Self {
        // SAFETY: the caller vouches for the CPU.
        unsafe {
            let acc = _mm512_castps_si512(acc.0);
            let (a, b) = (_mm512_castps_si512(a.0), _mm512_castps_si512(b.0));
            let sum = if EXTRA == VNNI {
                _mm512_dpwssd_epi32(acc, a, b)
            } else {
                _mm512_add_epi32(acc, _mm512_madd_epi16(a, b))
            };
            Avx512(_mm512_castsi512_ps(sum))
        }
    }

    #[inline(always)]
    unsafe fn dot_int8(acc: Self, a: Self, b: Self) -> Self {
        // SAFETY: the caller vouches for the CPU.
        unsafe {
            if EXTRA != VNNI {
                return lane_by_lane_int8(acc, a, b);
            }
            let acc = _mm512_castps_si512(acc.0);
            let (a, b) = (_mm512_castps_si512(a.0), _mm512_castps_si512(b.0));
            Avx512(_mm512_castsi512_ps(_mm512_dpbusd_epi32(acc, a, b)))
        }
    }

    #[inline(always)]
    unsafe fn dot_int8_pairs(acc: Self, a: [Self; 2], b: [Self; 2]) -> Self {
        lanes!({
            let bits = |x: Self| _mm512_castps_si512(x.0);
            let pairs = |i: usize| _mm512_maddubs_epi16(bits(a[i]), bits(b[i]));
            let fours = _mm512_add_epi16(pairs(0), pairs(1));
            let eights = _mm512_madd_epi16(fours, _mm512_set1_epi16(1));
            _mm512_castsi512_ps(_mm512_add_epi32(bits(acc), eights))
        })
    }

    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16) {
        // SAFETY: the caller vouches for the CPU and for 16 halves.
        unsafe {
            _mm256_storeu_si256(
                to.cast(),
                _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(rounded(self.0))),
            )
        }
    }

    #[inline(always)]
    unsafe fn pair_bf16(low: Self, high: Self) -> Self {
        lanes!({
            let low = _mm512_srli_epi32::<16>(rounded(low.0));
            // The upper half of `high`, the lower of `low`.
            _mm512_castsi512_ps(_mm512_mask_blend_epi16(0xaaaa_aaaa, low, rounded(high.0)))
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
        for column in (0..columns).step_by(16) {
            let width = (columns - column).min(16);
            // SAFETY: rows below `rows` (the last one repeated in place of missing ones) and
            // columns below `columns` are read. The caller allows 16 lanes past the end of `to`;
            // ascending columns repair what a store wrote past its own.
            unsafe {
                let start = from.start.add(column);
                let to = to.add(column * tile_rows);
                let mut block = [Avx512(_mm512_setzero_ps()); 16];
                if width == 16 {
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

/// The transpose of 16 rows of 16 lanes.
///
/// # Safety
/// Requires avx512f.
#[inline(always)]
unsafe fn transpose<const EXTRA: u8>(r: [Avx512<EXTRA>; 16]) -> [Avx512<EXTRA>; 16] {
    // SAFETY: the caller vouches for the CPU.
    unsafe {
        // Quarters: after two rounds `b[4g + c]` holds, in its 128-bit quarter q, column 4q + c of
        // rows 4g..4g + 4.
        let mut b = r;
        for g in 0..4 {
            let [r0, r1, r2, r3] = [r[4 * g].0, r[4 * g + 1].0, r[4 * g + 2].0, r[4 * g + 3].0];
            let low01 = _mm512_castps_pd(_mm512_unpacklo_ps(r0, r1));
            let high01 = _mm512_castps_pd(_mm512_unpackhi_ps(r0, r1));
            let low23 = _mm512_castps_pd(_mm512_unpacklo_ps(r2, r3));
            let high23 = _mm512_castps_pd(_mm512_unpackhi_ps(r2, r3));
            b[4 * g] = Avx512(_mm512_castpd_ps(_mm512_unpacklo_pd(low01, low23)));
            b[4 * g + 1] = Avx512(_mm512_castpd_ps(_mm512_unpackhi_pd(low01, low23)));
            b[4 * g + 2] = Avx512(_mm512_castpd_ps(_mm512_unpacklo_pd(high01, high23)));
            b[4 * g + 3] = Avx512(_mm512_castpd_ps(_mm512_unpackhi_pd(high01, high23)));
        }
        // Swaps whole quarters: a 4 x 4 transpose of 128-bit elements for each c.
        let mut out = b;
        for c in 0..4 {
            let [g0, g1, g2, g3] = [b[c].0, b[4 + c].0, b[8 + c].0, b[12 + c].0];
            let even01 = _mm512_shuffle_f32x4::<0x88>(g0, g1);
            let odd01 = _mm512_shuffle_f32x4::<0xdd>(g0, g1);
            let even23 = _mm512_shuffle_f32x4::<0x88>(g2, g3);
            let odd23 = _mm512_shuffle_f32x4::<0xdd>(g2, g3);
            out[c] = Avx512(_mm512_shuffle_f32x4::<0x88>(even01, even23));
            out[8 + c] = Avx512(_mm512_shuffle_f32x4::<0xdd>(even01, even23));
            out[4 + c] = Avx512(_mm512_shuffle_f32x4::<0x88>(odd01, odd23));
            out[12 + c] = Avx512(_mm512_shuffle_f32x4::<0xdd>(odd01, odd23));
        }
        out
    }
}
