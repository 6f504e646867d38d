//! Encodes rows of f32 into the lanes that products read: f32, pairs of bf16, or four 8-bit
//! integers.
//!
//! Multiplications and additions are not fused, so a row becomes the same bytes at every level.
#![allow(
    unsafe_code,
    reason = "generic over the vector types, whose methods are unsafe"
)]

use super::simd::Simd;

/// The number format of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precision {
    /// 32-bit floats.
    F32,
    /// Weights and activations rounded to bfloat16, sums in f32.
    Bf16,
    /// Weights as signed bytes with one scale per output feature, activations as unsigned bytes
    /// with a step and a minimum per row, sums in i32: exact.
    Int8,
}

impl Precision {
    /// The number of 32-bit lanes that hold `k` values; the rest of the last one is zero.
    pub(super) fn lanes(self, k: usize) -> usize {
        match self {
            Precision::F32 => k,
            Precision::Bf16 => k.div_ceil(2),
            Precision::Int8 => k.div_ceil(4),
        }
    }
}

/// `x` rounded to the nearest bf16, ties to even; NaN stays NaN.
#[inline(always)]
pub(super) fn bf16_bits(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
    let quiet = bits | 0x40_0000;
    (if x.is_nan() { quiet } else { rounded } >> 16) as u16
}

/// Rounds `row` to bf16 into `out`, which is longer by the padding.
#[inline(always)]
pub(super) fn to_bf16(row: &[f32], out: &mut [u16]) {
    let (values, padding) = out.split_at_mut(row.len());
    for (y, x) in values.iter_mut().zip(row) {
        *y = bf16_bits(*x);
    }
    padding.fill(0);
}

/// Added to a value in 0..=255, leaves the nearest integer (ties to even) in the lowest byte.
const MAGIC: f32 = 12_582_912.0;

/// The minimum and the maximum, and 0, or NaN if a value is NaN or infinite.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
unsafe fn extremes<V: Simd>(row: &[f32]) -> (f32, f32, f32) {
    let Some(first) = row.first() else {
        return (0.0, 0.0, 0.0);
    };
    // SAFETY: whole vectors lie inside the slice, and the last one is read partially; the caller
    // vouches for the CPU.
    unsafe {
        let (mut least, mut largest, mut poison) = (
            [V::splat(*first); 2],
            [V::splat(*first); 2],
            [V::splat(0.0); 2],
        );
        let whole = row.len() / V::LANES * V::LANES;
        let mut i = 0;
        while i < row.len() {
            let from = row.as_ptr().add(i);
            let x = if i < whole {
                V::load(from)
            } else {
                V::load_part(from, row.len() - whole, *first)
            };
            least = [least[1], x.min(least[0])];
            largest = [largest[1], x.max(largest[0])];
            poison = [poison[1], x.mul(V::splat(0.0)).add(poison[0])];
            i += V::LANES;
        }
        let negated = V::splat(0.0).sub(least[0].min(least[1]));
        let poison = poison[0].add(poison[1]).sum_lanes();
        (
            -negated.max_lane(),
            largest[0].max(largest[1]).max_lane(),
            poison,
        )
    }
}

/// The dequantisation of a row's bytes q: x = step * q + least.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct RowScale {
    pub(super) step: f32,
    pub(super) least: f32,
}

/// Quantises `row` into `out`, which is longer by the padding: q = round((x - least) / step) in
/// 0..=255. A row with NaN or infinity gets a NaN step.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn quantise<V: Simd>(row: &[f32], out: &mut [u8]) -> RowScale {
    // SAFETY: the caller vouches for the CPU.
    let (least, largest, poison) = unsafe { extremes::<V>(row) };
    let step = (largest - least) / 255.0 + poison;
    // A row of equal values has step 0: all bytes 0, the value in `least`.
    let inverse = if step > 0.0 { 1.0 / step } else { 0.0 };
    let (values, padding) = out.split_at_mut(row.len());
    for (q, x) in values.iter_mut().zip(row) {
        let level = (x - least) * inverse;
        let level = if level < 255.0 { level } else { 255.0 };
        *q = (level + MAGIC).to_bits() as u8;
    }
    padding.fill(0);
    RowScale { step, least }
}

/// Quantises one output feature's weights symmetrically and returns the scale of the bytes and
/// their sum. Weights with NaN or infinity get a NaN scale.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn quantise_weights<V: Simd>(row: &[f32], out: &mut [u8]) -> (f32, i32) {
    // SAFETY: the caller vouches for the CPU.
    let (least, largest, poison) = unsafe { extremes::<V>(row) };
    let size = if largest > -least { largest } else { -least };
    let factor = size / 127.0 + poison;
    let inverse = if factor > 0.0 { 1.0 / factor } else { 0.0 };
    let (values, padding) = out.split_at_mut(row.len());
    let mut sum = 0i32;
    for (q, x) in values.iter_mut().zip(row) {
        let level = x * inverse;
        let level = if level < 127.0 { level } else { 127.0 };
        let level = if level > -127.0 { level } else { -127.0 };
        *q = (level + MAGIC).to_bits() as u8;
        sum += i32::from(*q as i8);
    }
    padding.fill(0);
    (factor, sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::{quantise, quantise_weights, randoms};

    #[test]
    fn bf16_rounds_as_the_half_crate_does() {
        let special = [
            0.0,
            -0.0,
            1e-40,
            -1e-45,
            f32::MAX,
            f32::INFINITY,
            f32::NEG_INFINITY,
            1.003_906_3,
            1.011_718_8,
        ];
        for x in special.into_iter().chain(randoms(1, 10_000)) {
            assert_eq!(bf16_bits(x), half::bf16::from_f32(x).to_bits(), "{x:e}");
        }
        for bits in [0x7f80_0001, 0x7fff_ffff, 0xff80_0001] {
            assert!(half::bf16::from_bits(bf16_bits(f32::from_bits(bits))).is_nan());
        }
    }

    #[test]
    fn activations_are_recovered_within_half_a_step() {
        for (shift, width) in [(0.0, 100), (5.0, 33), (-700.0, 64), (0.0, 1)] {
            let row: Vec<f32> = randoms(2, width).iter().map(|x| x + shift).collect();
            let mut bytes = vec![9; width + 3];
            let scale = quantise(&row, &mut bytes);
            for (x, q) in row.iter().zip(&bytes) {
                let back = scale.step * f32::from(*q) + scale.least;
                assert!(
                    (back - x).abs() <= scale.step * 0.502 + 1e-4,
                    "{x} became {back}"
                );
            }
            assert_eq!(bytes[width..], [0; 3]);
        }
    }

    #[test]
    fn weights_are_recovered_within_half_a_step() {
        let row = randoms(3, 77);
        let mut bytes = [9; 80];
        let (factor, sum) = quantise_weights(&row, &mut bytes);
        for (w, q) in row.iter().zip(&bytes) {
            assert!((f32::from(*q as i8) * factor - w).abs() <= factor * 0.501);
        }
        assert_eq!(sum, bytes.iter().map(|q| i32::from(*q as i8)).sum::<i32>());
    }

    #[test]
    fn constant_rows_and_rows_with_nan() {
        let mut bytes = [1; 4];
        assert_eq!(
            quantise(&[2.5; 4], &mut bytes),
            RowScale {
                step: 0.0,
                least: 2.5
            }
        );
        assert_eq!(bytes, [0; 4]);
        for broken in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(quantise(&[1.0, broken, 2.0], &mut [0; 3]).step.is_nan());
            assert!(
                quantise_weights(&[1.0, broken, 2.0], &mut [0; 3])
                    .0
                    .is_nan()
            );
        }
        assert_eq!(quantise_weights(&[0.0; 4], &mut bytes), (0.0, 0));
    }
}
