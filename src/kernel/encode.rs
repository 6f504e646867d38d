//! Encodes rows of f32 into the lanes that products read: f32, pairs of bf16 or of 16-bit integers,
//! or four 8-bit integers.
//!
//! Multiplications and additions are not fused, so a row becomes the same bytes at every level that
//! takes the same integers.
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
    /// 16-bit integers, for CPUs without products of bf16: weights with one scale per output
    /// feature, activations in 4,096 steps between a row's extremes, sums in i32: exact.
    Int16,
    /// Weights as signed bytes with one scale per output feature, activations as unsigned bytes
    /// with a step and a minimum per row, sums in i32: exact.
    Int8,
}

impl Precision {
    /// The number of 32-bit lanes that hold `k` values; the rest of the last one is zero.
    pub(super) fn lanes(self, k: usize) -> usize {
        match self {
            Precision::F32 => k,
            Precision::Bf16 | Precision::Int16 => k.div_ceil(2),
            Precision::Int8 => k.div_ceil(4),
        }
    }

    /// Whether values are rounded to integers with a scale.
    pub(crate) fn is_integer(self) -> bool {
        matches!(self, Precision::Int16 | Precision::Int8)
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

/// Added to a value below 2^22 in size, leaves the nearest integer (ties to even) in the lowest bits.
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

/// The dequantisation of a row's integers q: x = step * q + zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct RowScale {
    pub(super) step: f32,
    pub(super) zero: f32,
}

/// An integer of a product.
pub(super) trait Code: Copy {
    /// The value in the lowest bits.
    fn from_bits(bits: u32) -> Self;
}

macro_rules! codes {
    ($($integer:ty),*) => {$(
        impl Code for $integer {
            #[inline(always)]
            fn from_bits(bits: u32) -> Self {
                bits as $integer
            }
        }
    )*};
}

codes!(u8, i8, i16);

/// The integers of an activation.
pub(super) trait Quantised: Code {
    /// Steps between a row's minimum and its maximum.
    const STEPS: f32;
    /// The minimum's integer is minus this.
    const CENTRE: f32;
}

impl Quantised for u8 {
    const STEPS: f32 = 255.0;
    const CENTRE: f32 = 0.0;
}

/// For CPUs whose products of bytes are signed on both sides.
#[cfg(target_arch = "aarch64")]
impl Quantised for i8 {
    const STEPS: f32 = 255.0;
    const CENTRE: f32 = 128.0;
}

impl Quantised for i16 {
    const STEPS: f32 = 4095.0;
    const CENTRE: f32 = 2048.0;
}

/// The integers of a weight.
pub(super) trait QuantisedWeight: Code + Into<i32> {
    /// The largest.
    const LARGEST: f32;
    /// The least scale of a feature's weights, fewer than 2^16, with which no sum of products
    /// overflows.
    fn least_scale(row: &[f32]) -> f32;
}

impl QuantisedWeight for i8 {
    const LARGEST: f32 = 127.0;

    /// None: 2^16 products of 255 x 127 fit 31 bits.
    #[inline(always)]
    fn least_scale(_row: &[f32]) -> f32 {
        0.0
    }
}

impl QuantisedWeight for i16 {
    const LARGEST: f32 = 32_767.0;

    /// 2,048 x 2^20 is 2^31, and rounding adds up to half to each size.
    #[inline(always)]
    fn least_scale(row: &[f32]) -> f32 {
        total(row) / ((1 << 20) - row.len()) as f32
    }
}

/// A weight of the instructions that add products of neighbouring bytes in 16 bits, of which two
/// are added again before the sum is widened ([`Simd::dot_int8_pairs`]): four weights at a time.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct PairedWeight(i8);

impl From<PairedWeight> for i32 {
    fn from(weight: PairedWeight) -> i32 {
        weight.0.into()
    }
}

impl Code for PairedWeight {
    #[inline(always)]
    fn from_bits(bits: u32) -> Self {
        PairedWeight(bits as i8)
    }
}

impl QuantisedWeight for PairedWeight {
    const LARGEST: f32 = 127.0;

    /// 255 x 128 fits 15 bits: so much may the positive weights of a sum add up to, and so much the
    /// negative ones. Rounding adds up to half to each of the four.
    #[inline(always)]
    fn least_scale(row: &[f32]) -> f32 {
        let mut largest = 0f32;
        for eight in row.chunks(8) {
            // Positive and negative, first and second 16 bits of a lane.
            let mut sums = [[0f32; 2]; 2];
            for (i, x) in eight.iter().enumerate() {
                sums[usize::from(*x < 0.0)][i / 2 % 2] += x.abs();
            }
            largest = sums.iter().flatten().fold(largest, |a, b| a.max(*b));
        }
        largest / 126.0
    }
}

/// Quantises `row` into `out`, which is longer by the padding: q = round((x - least) / step) -
/// centre. A row with NaN or infinity gets a NaN step.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn quantise<V: Simd, Q: Quantised>(row: &[f32], out: &mut [Q]) -> RowScale {
    // SAFETY: the caller vouches for the CPU.
    let (least, largest, poison) = unsafe { extremes::<V>(row) };
    let step = (largest - least) / Q::STEPS + poison;
    // A row of equal values has step 0: all integers are the minimum's, the value in `zero`.
    let inverse = if step > 0.0 { 1.0 / step } else { 0.0 };
    let (values, padding) = out.split_at_mut(row.len());
    for (q, x) in values.iter_mut().zip(row) {
        let level = (x - least) * inverse;
        let level = if level < Q::STEPS { level } else { Q::STEPS };
        *q = Q::from_bits((level + (MAGIC - Q::CENTRE)).to_bits());
    }
    padding.fill(Q::from_bits(0));
    let zero = least + Q::CENTRE * step;
    RowScale { step, zero }
}

/// The sum of the sizes, in an order that does not depend on the instruction set.
#[inline(always)]
fn total(row: &[f32]) -> f32 {
    let mut sums = [0f64; 8];
    for chunk in row.chunks(8) {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *sum += f64::from(x.abs());
        }
    }
    sums.iter().sum::<f64>() as f32
}

/// Quantises one output feature's weights symmetrically and returns the scale of the integers and
/// their sum. Weights with NaN or infinity get a NaN scale.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn quantise_weights<V: Simd, Q: QuantisedWeight>(
    row: &[f32],
    out: &mut [Q],
) -> (f32, i32) {
    assert!(row.len() < 1 << 16, "{} products may overflow", row.len());
    // SAFETY: the caller vouches for the CPU.
    let (least, largest, poison) = unsafe { extremes::<V>(row) };
    let size = if largest > -least { largest } else { -least };
    let factor = (size / Q::LARGEST).max(Q::least_scale(row)) + poison;
    let inverse = if factor > 0.0 { 1.0 / factor } else { 0.0 };
    let (values, padding) = out.split_at_mut(row.len());
    let mut sum = 0i32;
    for (q, x) in values.iter_mut().zip(row) {
        let level = x * inverse;
        let level = if level < Q::LARGEST {
            level
        } else {
            Q::LARGEST
        };
        let level = if level > -Q::LARGEST {
            level
        } else {
            -Q::LARGEST
        };
        *q = Q::from_bits((level + MAGIC).to_bits());
        sum += Into::<i32>::into(*q);
    }
    padding.fill(Q::from_bits(0));
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

    /// Checks that activations come back within half a step, and padding is 0.
    fn recovered<Q: Quantised + Into<i32> + PartialEq + std::fmt::Debug>(shift: f32, width: usize) {
        let row: Vec<f32> = randoms(2, width).iter().map(|x| x + shift).collect();
        let mut codes = vec![Q::from_bits(9); width + 3];
        let scale = quantise(&row, &mut codes);
        for (x, q) in row.iter().zip(&codes) {
            let back = scale.step * Into::<i32>::into(*q) as f32 + scale.zero;
            let rounding = scale.zero.abs() * 3e-7 + 1e-4 * scale.step;
            assert!(
                (back - x).abs() <= scale.step * 0.502 + 1e-4 * shift.abs() + rounding,
                "{x} became {back}"
            );
        }
        assert_eq!(codes[width..], [Q::from_bits(0); 3]);
    }

    #[test]
    fn activations_are_recovered_within_half_a_step() {
        for (shift, width) in [(0.0, 100), (5.0, 33), (-700.0, 64), (0.0, 1)] {
            recovered::<u8>(shift, width);
            recovered::<i16>(shift, width);
            #[cfg(target_arch = "aarch64")]
            recovered::<i8>(shift, width);
        }
    }

    #[test]
    fn weights_are_recovered_within_half_a_step() {
        let row = randoms(3, 77);
        let mut bytes = [9i8; 80];
        let (factor, sum) = quantise_weights(&row, &mut bytes);
        for (w, q) in row.iter().zip(&bytes) {
            assert!((f32::from(*q) * factor - w).abs() <= factor * 0.501);
        }
        assert_eq!(sum, bytes.iter().map(|q| i32::from(*q)).sum::<i32>());
        let mut shorts = [9i16; 80];
        let (factor, sum) = quantise_weights(&row, &mut shorts);
        for (w, q) in row.iter().zip(&shorts) {
            assert!((f32::from(*q) * factor - w).abs() <= factor * 0.51);
        }
        assert_eq!(sum, shorts.iter().map(|q| i32::from(*q)).sum::<i32>());
    }

    #[test]
    fn no_sum_of_16_bit_products_overflows() {
        for k in [1, 77, 3072, 8192, 65_535] {
            // The worst weights: all of the largest size; and usual ones.
            for row in [vec![-1.0; k], randoms(5, k)] {
                let mut shorts = vec![0i16; k];
                let (factor, _) = quantise_weights(&row, &mut shorts);
                let sizes: i64 = shorts.iter().map(|q| i64::from(*q).abs()).sum();
                assert!(sizes * 2048 <= i64::from(i32::MAX), "{k}: {sizes}");
                assert!(sizes > (1 << 18) || k == 1, "{k}: {sizes} wastes bits");
                assert!(factor > 0.0);
            }
        }
    }

    #[test]
    fn no_four_weights_of_a_pair_of_pairs_exceed_16_bits() {
        for k in [1, 2, 8, 77, 3072] {
            for row in [vec![1.0; k], vec![-1.0; k], randoms(5, k)] {
                let mut weights = vec![PairedWeight(0); k.next_multiple_of(8)];
                quantise_weights(&row, &mut weights);
                for eight in weights.chunks(8) {
                    for places in [[0, 1, 4, 5], [2, 3, 6, 7]] {
                        let four = places.map(|i| i32::from(eight[i]));
                        let positive: i32 = four.iter().map(|w| w.max(&0)).sum();
                        let negative: i32 = four.iter().map(|w| w.min(&0)).sum();
                        assert!(255 * positive <= 32_767 && 255 * negative >= -32_768);
                    }
                }
            }
        }
    }

    #[test]
    fn constant_rows_and_rows_with_nan() {
        let mut bytes = [1u8; 4];
        let constant = RowScale {
            step: 0.0,
            zero: 2.5,
        };
        assert_eq!(quantise(&[2.5; 4], &mut bytes), constant);
        assert_eq!(bytes, [0; 4]);
        assert_eq!(quantise(&[2.5; 4], &mut [1i16; 4]), constant);
        for broken in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let row = [1.0, broken, 2.0];
            assert!(quantise(&row, &mut [0u8; 3]).step.is_nan());
            assert!(quantise(&row, &mut [0i16; 3]).step.is_nan());
            assert!(quantise_weights(&row, &mut [0i8; 3]).0.is_nan());
            assert!(quantise_weights(&row, &mut [0i16; 3]).0.is_nan());
        }
        assert_eq!(quantise_weights(&[0.0; 4], &mut [1i8; 4]), (0.0, 0));
        assert_eq!(quantise_weights(&[0.0; 4], &mut [1i16; 4]), (0.0, 0));
    }
}
