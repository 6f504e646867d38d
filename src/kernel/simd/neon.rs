//! 128-bit vectors of 64-bit ARM.
#![allow(
    unsafe_code,
    reason = "vector instructions; the trait states that the CPU has them"
)]

use std::arch::aarch64::*;

use super::Simd;

/// Four lanes.
#[derive(Clone, Copy)]
pub(in crate::kernel) struct Neon(float32x4_t);

/// Wraps intrinsics that require only the CPU that the trait promises.
macro_rules! lanes {
    ($value:expr) => {
        // SAFETY: the trait's caller vouches for the CPU and for the pointers.
        Neon(unsafe { $value })
    };
}

impl Simd for Neon {
    const LANES: usize = 4;
    const ROWS: usize = 8;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        lanes!(vdupq_n_f32(x))
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        lanes!(vld1q_f32(from))
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller vouches for the CPU and for 4 lanes.
        unsafe { vst1q_f32(to, self.0) }
    }

    #[inline(always)]
    unsafe fn load_part(from: *const f32, count: usize, fill: f32) -> Self {
        let mut lanes = [fill; 4];
        for (i, lane) in lanes.iter_mut().take(count).enumerate() {
            // SAFETY: the caller vouches for `count` lanes.
            *lane = unsafe { *from.add(i) };
        }
        lanes!(vld1q_f32(lanes.as_ptr()))
    }

    #[inline(always)]
    unsafe fn store_part(self, to: *mut f32, count: usize) {
        let mut lanes = [0.0; 4];
        // SAFETY: the caller vouches for the CPU and for `count` lanes at `to`.
        unsafe {
            vst1q_f32(lanes.as_mut_ptr(), self.0);
            std::ptr::copy_nonoverlapping(lanes.as_ptr(), to, count);
        }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        lanes!(vaddq_f32(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        lanes!(vsubq_f32(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        lanes!(vmulq_f32(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        lanes!(vdivq_f32(self.0, other.0))
    }

    #[inline(always)]
    unsafe fn mul_add(self, a: Self, b: Self) -> Self {
        lanes!(vfmaq_f32(b.0, self.0, a.0))
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        lanes!(vbslq_f32(vcgtq_f32(self.0, other.0), self.0, other.0))
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        lanes!(vbslq_f32(vcltq_f32(self.0, other.0), self.0, other.0))
    }

    #[inline(always)]
    unsafe fn abs(self) -> Self {
        lanes!(vabsq_f32(self.0))
    }

    #[inline(always)]
    unsafe fn round(self) -> Self {
        lanes!(vrndnq_f32(self.0))
    }

    #[inline(always)]
    unsafe fn scale_by_power(self, n: Self) -> Self {
        // Two steps: one power alone cannot reach the denormals.
        lanes!({
            let n = vcvtq_s32_f32(n.0);
            let half = vshrq_n_s32::<1>(n);
            let power =
                |n| vreinterpretq_f32_s32(vshlq_n_s32::<23>(vaddq_s32(n, vdupq_n_s32(127))));
            vmulq_f32(vmulq_f32(self.0, power(half)), power(vsubq_s32(n, half)))
        })
    }

    #[inline(always)]
    unsafe fn int_to_float(self) -> Self {
        lanes!(vcvtq_f32_s32(vreinterpretq_s32_f32(self.0)))
    }

    #[inline(always)]
    unsafe fn max_lane(self) -> f32 {
        // SAFETY: the caller vouches for the CPU.
        unsafe { vmaxnmvq_f32(self.0) }
    }

    #[inline(always)]
    unsafe fn sum_lanes(self) -> f32 {
        // SAFETY: the caller vouches for the CPU.
        unsafe { vaddvq_f32(self.0) }
    }

    #[inline(always)]
    unsafe fn dot_bf16(acc: Self, a: Self, b: Self) -> Self {
        lanes!({
            let (a, b) = (vreinterpretq_u32_f32(a.0), vreinterpretq_u32_f32(b.0));
            let low = |x| vreinterpretq_f32_u32(vshlq_n_u32::<16>(x));
            let upper = |x| vreinterpretq_f32_u32(vandq_u32(x, vdupq_n_u32(0xffff_0000)));
            vfmaq_f32(vfmaq_f32(acc.0, low(a), low(b)), upper(a), upper(b))
        })
    }

    #[inline(always)]
    unsafe fn prefetch(_at: *const f32) {}

    #[inline(always)]
    unsafe fn prefetch_to_write(_at: *const f32) {}
}
