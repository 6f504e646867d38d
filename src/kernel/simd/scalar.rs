//! The plain Rust version of the vector types: the reference for tests and the fallback for any
//! CPU.
#![allow(
    unsafe_code,
    reason = "implements the unsafe trait with plain arithmetic and raw pointers"
)]

use super::Simd;

/// Four lanes in an array.
#[derive(Clone, Copy)]
pub(in crate::kernel) struct Scalar([f32; 4]);

/// Applies `f` to each lane.
#[inline(always)]
fn map(a: Scalar, f: impl Fn(f32) -> f32) -> Scalar {
    Scalar(a.0.map(f))
}

/// Applies `f` to each pair of lanes.
#[inline(always)]
fn zip(a: Scalar, b: Scalar, f: impl Fn(f32, f32) -> f32) -> Scalar {
    Scalar(std::array::from_fn(|i| f(a.0[i], b.0[i])))
}

/// 2^n as f32 for -126 <= n <= 127.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits(((n + 127) as u32) << 23)
}

/// The two bf16 of a lane, low half first.
#[inline(always)]
fn halves(lane: f32) -> (f32, f32) {
    let bits = lane.to_bits();
    (
        f32::from_bits(bits << 16),
        f32::from_bits(bits & 0xffff_0000),
    )
}

impl Simd for Scalar {
    const LANES: usize = 4;
    const ROWS: usize = 4;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Scalar([x; 4])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller vouches for four lanes.
        Scalar(unsafe { from.cast::<[f32; 4]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller vouches for four lanes.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn load_part(from: *const f32, count: usize, fill: f32) -> Self {
        Scalar(std::array::from_fn(|i| {
            if i < count {
                // SAFETY: only the first `count` lanes are read, for which the caller vouches.
                unsafe { *from.add(i) }
            } else {
                fill
            }
        }))
    }

    #[inline(always)]
    unsafe fn store_part(self, to: *mut f32, count: usize) {
        for (i, lane) in self.0.iter().take(count).enumerate() {
            // SAFETY: only the first `count` lanes are written, for which the caller vouches.
            unsafe { *to.add(i) = *lane };
        }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        zip(self, other, |a, b| a + b)
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        zip(self, other, |a, b| a - b)
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        zip(self, other, |a, b| a * b)
    }

    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        zip(self, other, |a, b| a / b)
    }

    #[inline(always)]
    unsafe fn mul_add(self, a: Self, b: Self) -> Self {
        // Not `f32::mul_add`: without the instruction that is a slow library call.
        Scalar(std::array::from_fn(|i| self.0[i] * a.0[i] + b.0[i]))
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        zip(self, other, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        zip(self, other, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    unsafe fn abs(self) -> Self {
        map(self, f32::abs)
    }

    #[inline(always)]
    unsafe fn round(self) -> Self {
        // Adding 1.5 * 2^23 leaves no bits for a fraction: the CPU rounds to nearest even.
        const MAGIC: f32 = 12_582_912.0;
        map(self, |x| (x + MAGIC) - MAGIC)
    }

    #[inline(always)]
    unsafe fn scale_by_power(self, n: Self) -> Self {
        zip(self, n, |x, n| {
            let n = n as i32;
            let half = n >> 1;
            x * power_of_two(half) * power_of_two(n - half)
        })
    }

    #[inline(always)]
    unsafe fn int_to_float(self) -> Self {
        map(self, |x| x.to_bits() as i32 as f32)
    }

    #[inline(always)]
    unsafe fn max_lane(self) -> f32 {
        self.0.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b))
    }

    #[inline(always)]
    unsafe fn sum_lanes(self) -> f32 {
        (self.0[0] + self.0[2]) + (self.0[1] + self.0[3])
    }

    #[inline(always)]
    unsafe fn dot_bf16(acc: Self, a: Self, b: Self) -> Self {
        Scalar(std::array::from_fn(|i| {
            let ((a0, a1), (b0, b1)) = (halves(a.0[i]), halves(b.0[i]));
            acc.0[i] + a0 * b0 + a1 * b1
        }))
    }

    #[inline(always)]
    unsafe fn prefetch(_at: *const f32) {}

    #[inline(always)]
    unsafe fn prefetch_to_write(_at: *const f32) {}
}
