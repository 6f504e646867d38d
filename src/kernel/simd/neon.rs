//! 128-bit vectors of 64-bit ARM.
#![allow(
    unsafe_code,
    reason = "vector instructions; the trait states that the CPU has them"
)]

use std::arch::{aarch64::*, asm};

use super::{Simd, lane_by_lane_int8};

/// Emulated products of bf16 and bytes.
pub(in crate::kernel) const BASE: u8 = 0;
/// Products of bytes by `sdot`.
pub(in crate::kernel) const DOT: u8 = 1;
/// Products of bf16 by `bfdot`.
pub(in crate::kernel) const BF16: u8 = 2;

/// Four lanes; `EXTRA` says which extensions are available.
#[derive(Clone, Copy)]
pub(in crate::kernel) struct Neon<const EXTRA: u8>(float32x4_t);

/// Wraps intrinsics that require only the CPU that the caller promises.
macro_rules! lanes {
    ($value:expr) => {
        // SAFETY: the caller vouches for the CPU and for the pointers.
        Neon(unsafe { $value })
    };
}

/// Adds products of `$a` and `$b` to `$acc` by one instruction of an extension. In assembly,
/// because Rust's intrinsics for these are unstable.
macro_rules! add_products {
    ($extension:literal, $instruction:literal, $operands:literal, $acc:expr, $a:expr, $b:expr) => {{
        let mut acc = $acc.0;
        // SAFETY: the caller vouches for the extension; only registers are touched.
        unsafe {
            asm!(
                concat!(".arch_extension ", $extension),
                concat!($instruction, " {acc:v}.4s, {a:v}.", $operands, ", {b:v}.", $operands),
                acc = inlateout(vreg) acc,
                a = in(vreg) $a.0,
                b = in(vreg) $b.0,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        Neon(acc)
    }};
}

/// The 2 x 2 products of two rows and two features, for tiles of such blocks. A vector holds two
/// lanes of each of the two: of the row, or feature, of even number first.
impl Neon<BASE> {
    /// `acc` [row, feature] plus the sums of four products of bf16.
    ///
    /// # Safety
    /// Requires bf16.
    #[inline(always)]
    pub(in crate::kernel) unsafe fn block_bf16(acc: Self, rows: Self, features: Self) -> Self {
        add_products!("bf16", "bfmmla", "8h", acc, rows, features)
    }

    /// The i32 lanes `acc` [row, feature] plus the sums of eight products of unsigned bytes of the
    /// rows and signed ones of the features; exact.
    ///
    /// # Safety
    /// Requires i8mm.
    #[inline(always)]
    pub(in crate::kernel) unsafe fn block_int8(acc: Self, rows: Self, features: Self) -> Self {
        add_products!("i8mm", "usmmla", "16b", acc, rows, features)
    }

    /// The two lanes at `from`, twice.
    ///
    /// # Safety
    /// Requires neon; two lanes at `from` are readable and aligned to 8 bytes.
    #[inline(always)]
    pub(in crate::kernel) unsafe fn load_twice(from: *const f32) -> Self {
        lanes!(vreinterpretq_f32_f64(vld1q_dup_f64(from.cast())))
    }

    /// From blocks for four features, the sums of the first row and of the second.
    ///
    /// # Safety
    /// Requires neon.
    #[inline(always)]
    pub(in crate::kernel) unsafe fn rows_of_blocks(left: Self, right: Self) -> [Self; 2] {
        // SAFETY: the caller vouches for the CPU.
        let (left, right) = unsafe {
            (
                vreinterpretq_f64_f32(left.0),
                vreinterpretq_f64_f32(right.0),
            )
        };
        [
            lanes!(vreinterpretq_f32_f64(vzip1q_f64(left, right))),
            lanes!(vreinterpretq_f32_f64(vzip2q_f64(left, right))),
        ]
    }
}

impl<const EXTRA: u8> Simd for Neon<EXTRA> {
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
        if EXTRA == BF16 {
            return add_products!("bf16", "bfdot", "8h", acc, a, b);
        }
        lanes!({
            let (a, b) = (vreinterpretq_u32_f32(a.0), vreinterpretq_u32_f32(b.0));
            let low = |x| vreinterpretq_f32_u32(vshlq_n_u32::<16>(x));
            let upper = |x| vreinterpretq_f32_u32(vandq_u32(x, vdupq_n_u32(0xffff_0000)));
            vfmaq_f32(vfmaq_f32(acc.0, low(a), low(b)), upper(a), upper(b))
        })
    }

    #[inline(always)]
    unsafe fn dot_int8(acc: Self, a: Self, b: Self) -> Self {
        if EXTRA == DOT {
            return add_products!("dotprod", "sdot", "16b", acc, a, b);
        }
        // SAFETY: the caller vouches for the CPU.
        unsafe { lane_by_lane_int8(acc, a, b) }
    }

    #[inline(always)]
    unsafe fn prefetch(_at: *const f32) {}

    #[inline(always)]
    unsafe fn prefetch_to_write(_at: *const f32) {}
}
