//! The inner loop of all products: a few rows times a few vectors, sums kept in registers.
#![allow(
    unsafe_code,
    reason = "vector methods and raw pointers; contracts are stated"
)]

use crate::kernel::simd::Simd;

/// The multiply-accumulate step of a product.
pub(in crate::kernel) trait Arithmetic {
    /// Lanes of k that a step takes: one or two.
    const LANES: usize = 1;

    /// `acc` plus the products of the values in the lanes of `a` and `b`; the second ones count if
    /// a step takes two.
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`.
    unsafe fn step<V: Simd>(acc: V, a: [V; 2], b: [V; 2]) -> V;
}

/// One f32 per lane.
pub(in crate::kernel) struct F32;
/// Two bf16 per lane.
pub(in crate::kernel) struct Bf16;
/// Two 16-bit integers per lane.
pub(in crate::kernel) struct Int16;
/// Four bytes per lane: unsigned in `a`, signed in `b`.
pub(in crate::kernel) struct Int8;
/// The same two lanes at a time, with weights limited to what 16 bits hold.
#[cfg(target_arch = "x86_64")]
pub(in crate::kernel) struct Int8Pairs;

impl Arithmetic for F32 {
    #[inline(always)]
    unsafe fn step<V: Simd>(acc: V, a: [V; 2], b: [V; 2]) -> V {
        // SAFETY: the caller vouches for the CPU.
        unsafe { a[0].mul_add(b[0], acc) }
    }
}

impl Arithmetic for Bf16 {
    #[inline(always)]
    unsafe fn step<V: Simd>(acc: V, a: [V; 2], b: [V; 2]) -> V {
        // SAFETY: the caller vouches for the CPU.
        unsafe { V::dot_bf16(acc, a[0], b[0]) }
    }
}

impl Arithmetic for Int16 {
    #[inline(always)]
    unsafe fn step<V: Simd>(acc: V, a: [V; 2], b: [V; 2]) -> V {
        // SAFETY: the caller vouches for the CPU.
        unsafe { V::dot_int16(acc, a[0], b[0]) }
    }
}

impl Arithmetic for Int8 {
    #[inline(always)]
    unsafe fn step<V: Simd>(acc: V, a: [V; 2], b: [V; 2]) -> V {
        // SAFETY: the caller vouches for the CPU.
        unsafe { V::dot_int8(acc, a[0], b[0]) }
    }
}

#[cfg(target_arch = "x86_64")]
impl Arithmetic for Int8Pairs {
    const LANES: usize = 2;

    #[inline(always)]
    unsafe fn step<V: Simd>(acc: V, a: [V; 2], b: [V; 2]) -> V {
        // SAFETY: the caller vouches for the CPU.
        unsafe { V::dot_int8_pairs(acc, a, b) }
    }
}

/// The operands of a tile.
#[derive(Clone, Copy)]
pub(in crate::kernel) struct Operands {
    /// Rows of the result.
    pub(in crate::kernel) rows: usize,
    /// Lanes of k, a whole number of steps.
    pub(in crate::kernel) lanes: usize,
    /// Row r, lane i at `a[r * ROW + i * STEP]`.
    pub(in crate::kernel) a: *const f32,
    /// Vector c, lane i at `b[c * b_vector + i * b_step]`.
    pub(in crate::kernel) b: *const f32,
    pub(in crate::kernel) b_vector: usize,
    pub(in crate::kernel) b_step: usize,
    /// Distance between rows of the result, in lanes.
    pub(in crate::kernel) to_row: usize,
}

/// Memory that a tile prefetches for a later one while it computes.
#[derive(Clone, Copy)]
pub(in crate::kernel) struct Ahead {
    pub(in crate::kernel) next: *const f32,
    pub(in crate::kernel) end: *const f32,
    /// Cache lines per [`RUN`] lanes of k.
    pub(in crate::kernel) rate: usize,
    /// Destination of the sums, or null.
    pub(in crate::kernel) out: *const f32,
    /// Distance between rows there, in lanes.
    pub(in crate::kernel) out_row: usize,
}

impl Ahead {
    /// Nothing to prefetch.
    pub(in crate::kernel) const NOTHING: Ahead = Ahead {
        next: std::ptr::null(),
        end: std::ptr::null(),
        rate: 0,
        out: std::ptr::null(),
        out_row: 0,
    };

    /// Prefetches the next few cache lines.
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`.
    #[inline(always)]
    unsafe fn advance<V: Simd>(&mut self) {
        for _ in 0..self.rate {
            if self.next < self.end {
                // SAFETY: below the end of the memory to prefetch.
                unsafe {
                    V::prefetch(self.next);
                    self.next = self.next.add(16);
                }
            }
        }
    }
}

/// Lanes of k between prefetches.
pub(in crate::kernel) const RUN: usize = 8;

/// Writes the R x C vectors of sums to `to`. Each sum runs over the steps in
/// order, whatever R and C.
///
/// # Safety
/// The CPU has the instruction set of `V`; the operands hold what R, C and `lanes` imply.
#[inline(always)]
pub(in crate::kernel) unsafe fn tile<
    V: Simd,
    A: Arithmetic,
    const R: usize,
    const C: usize,
    const ROW: usize,
    const STEP: usize,
>(
    operands: &Operands,
    ahead: &mut Ahead,
    to: *mut f32,
) {
    // SAFETY: the caller vouches for all addresses.
    unsafe {
        let mut sums = [[V::splat(0.0); C]; R];
        let (mut a, mut b) = (operands.a, operands.b);
        if !ahead.out.is_null() {
            for r in 0..R {
                for lane in (0..C * V::LANES).step_by(16) {
                    V::prefetch_to_write(ahead.out.wrapping_add(r * ahead.out_row + lane));
                }
            }
        }
        let mut left = operands.lanes;
        while left > 0 {
            let run = left.min(RUN);
            for _ in 0..run / A::LANES {
                step::<V, A, R, C, ROW, STEP>(&mut sums, a, b, operands);
                a = a.add(A::LANES * STEP);
                b = b.add(A::LANES * operands.b_step);
            }
            ahead.advance::<V>();
            left -= run;
        }
        for (r, row) in sums.iter().enumerate() {
            for (c, sum) in row.iter().enumerate() {
                sum.store(to.add(r * operands.to_row + c * V::LANES));
            }
        }
    }
}

/// One step of all sums.
///
/// # Safety
/// As for [`tile`], for one step.
#[inline(always)]
unsafe fn step<
    V: Simd,
    A: Arithmetic,
    const R: usize,
    const C: usize,
    const ROW: usize,
    const STEP: usize,
>(
    sums: &mut [[V; C]; R],
    a: *const f32,
    b: *const f32,
    operands: &Operands,
) {
    // SAFETY: the caller vouches for the CPU and the addresses; of a second lane only if there is
    // one.
    unsafe {
        let mut vectors = [[V::splat(0.0); 2]; C];
        for (c, vector) in vectors.iter_mut().enumerate() {
            let b = b.add(c * operands.b_vector);
            vector[0] = V::load(b);
            if A::LANES == 2 {
                vector[1] = V::load(b.add(operands.b_step));
            }
        }
        for (r, row) in sums.iter_mut().enumerate() {
            let mut values = [V::splat(*a.add(r * ROW)); 2];
            if A::LANES == 2 {
                values[1] = V::splat(*a.add(r * ROW + STEP));
            }
            for (sum, vector) in row.iter_mut().zip(vectors) {
                *sum = A::step(*sum, values, vector);
            }
        }
    }
}
