//! Activation functions, vectorised.
#![allow(
    unsafe_code,
    reason = "generic over the vector types, whose methods are unsafe"
)]

use super::exp::{exp, power_of_two};
use super::simd::Simd;

/// The activation after a linear layer or a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// x * sigmoid(1.702 x), in OpenAI's CLIP and Long-CLIP.
    QuickGelu,
    /// x * Phi(x), with Phi the normal CDF (erf, not tanh), in most open_clip models.
    Gelu,
    /// max(x, 0), after the convolutions of ResNets.
    Relu,
}

/// ln(erfc(z) e^(z^2) / t) with t = 2 / (2 + z), for 0 <= z <= 10: Chebyshev fit of degree 9 in t,
/// highest power first, error below 6e-8.
const ERFC_TAIL: [f32; 10] = [
    0.151_551_22,
    -0.716_805_3,
    1.241_164_2,
    -0.808_233_8,
    0.011_933_237,
    -0.047_455_08,
    0.051_060_405,
    0.383_226_1,
    0.999_026_2,
    -1.265_467_2,
];

/// From here on, the upper tail of the normal distribution is 0 in f32.
const TAIL_END: f32 = 14.0;

/// Applies `activation` to every lane.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn activate<V: Simd>(activation: Activation, x: V) -> V {
    // SAFETY: the caller vouches for the CPU.
    unsafe {
        match activation {
            Activation::QuickGelu => quick_gelu(x),
            Activation::Gelu => gelu(x),
            // This order: NaN (the second operand) propagates.
            Activation::Relu => V::splat(0.0).max(x),
        }
    }
}

/// x / (1 + e^(-1.702 x)).
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
unsafe fn quick_gelu<V: Simd>(x: V) -> V {
    // SAFETY: the caller vouches for the CPU.
    unsafe {
        // The bound keeps the reciprocal finite; it comes first, so that NaN (the second operand)
        // propagates.
        let exponent = V::splat(125.0).min(x.mul(V::splat(-1.702 * std::f32::consts::LOG2_E)));
        x.mul(power_of_two(exponent).add(V::splat(1.0)).reciprocal())
    }
}

/// x Phi(x) = max(x, 0) - |x| Q(|x|), Q = erfc(|x| / sqrt 2) / 2 the upper tail: no cancellation
/// for negative x.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
unsafe fn gelu<V: Simd>(x: V) -> V {
    // SAFETY: the caller vouches for the CPU.
    unsafe {
        let (size, upper) = tail(x);
        let positive = V::splat(0.0).max(x);
        V::splat(0.0).sub(size).mul_add(upper, positive)
    }
}

/// |x|, at most [`TAIL_END`], and Q(|x|).
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
unsafe fn tail<V: Simd>(x: V) -> (V, V) {
    // SAFETY: the caller vouches for the CPU.
    unsafe {
        // Constants first, so that NaN (the second operand) propagates.
        let size = V::splat(TAIL_END).min(x.abs());
        let z = size.mul(V::splat(std::f32::consts::FRAC_1_SQRT_2));
        let t = V::splat(0.5).mul_add(z, V::splat(1.0)).reciprocal();
        let mut tail = V::splat(ERFC_TAIL[0]);
        for coefficient in &ERFC_TAIL[1..] {
            tail = tail.mul_add(t, V::splat(*coefficient));
        }
        // z^2 = x^2 / 2, without the rounding of z.
        let exponent = size.mul(V::splat(-0.5)).mul_add(size, tail);
        (size, exp(exponent).mul(t).mul(V::splat(0.5)))
    }
}

/// The derivative of `activation` for every lane.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn derivative<V: Simd>(activation: Activation, x: V) -> V {
    // SAFETY: the caller vouches for the CPU.
    unsafe {
        let one = V::splat(1.0);
        match activation {
            Activation::QuickGelu => {
                // s (1 + z (1 - s)) with z = 1.702 x, s = sigmoid(z); beyond the bound it is 0 or 1
                // in f32.
                let z = V::splat(60.0).min(V::splat(-60.0).max(x.mul(V::splat(1.702))));
                let power = power_of_two(z.mul(V::splat(-std::f32::consts::LOG2_E)));
                let s = power.add(one).reciprocal();
                // 1 - s without cancellation.
                let rest = power.mul(s);
                z.mul(rest).mul_add(s, s)
            }
            Activation::Gelu => {
                // Phi(x) + x phi(x), Phi by the upper tail of |x|.
                let (size, upper) = tail(x);
                let sign = V::splat(1.0).min(V::splat(-1.0).max(x.mul(V::splat(1e38))));
                let half = V::splat(0.5);
                let step = sign.mul_add(half, half);
                let below = step.sub(sign.mul(upper));
                let density = exp(size.mul(V::splat(-0.5)).mul(size));
                let density = density.mul(V::splat(0.398_942_3));
                sign.mul(size).mul_add(density, below)
            }
            Activation::Relu => one.min(V::splat(0.0).max(x.mul(V::splat(1e38)))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::level::{Job, run};
    use crate::kernel::testing::levels;

    struct Apply<'a>(Activation, &'a mut [f32]);

    impl Job for Apply<'_> {
        #[inline(always)]
        unsafe fn run<V: Simd>(self) {
            for x in self.1 {
                // SAFETY: the dispatcher vouches for the CPU.
                unsafe { activate(self.0, V::splat(*x)).store_part(x, 1) };
            }
        }
    }

    /// The upper tail of the normal distribution in f64: Taylor series of erf near 0, continued
    /// fraction beyond.
    fn upper_tail(x: f64) -> f64 {
        let z = x * std::f64::consts::FRAC_1_SQRT_2;
        if z < 2.0 {
            let (mut term, mut sum) = (z, z);
            for n in 1..80 {
                term *= -z * z / f64::from(n);
                sum += term / f64::from(2 * n + 1);
            }
            return 0.5 - sum * std::f64::consts::FRAC_2_SQRT_PI / 2.0;
        }
        let fraction = (1..200).rev().fold(z, |f, n| z + f64::from(n) / 2.0 / f);
        (-z * z).exp() / fraction * std::f64::consts::FRAC_2_SQRT_PI / 4.0
    }

    fn exact(activation: Activation, x: f64) -> f64 {
        match activation {
            Activation::QuickGelu => x / (1.0 + (-1.702 * x).exp()),
            Activation::Gelu if x < 0.0 => x * upper_tail(-x),
            Activation::Gelu => x - x * upper_tail(x),
            Activation::Relu => x.max(0.0),
        }
    }

    #[test]
    fn the_reference_tail_is_right() {
        // erfc(1) / 2 and erfc(3) / 2 to 15 digits.
        let root = std::f64::consts::SQRT_2;
        assert!((upper_tail(root) - 0.078_649_603_525_142_9).abs() < 1e-14);
        assert!((upper_tail(3.0 * root) / 1.104_524_849_929_272e-5 - 1.0).abs() < 1e-12);
    }

    #[test]
    fn activations_agree_with_f64() {
        let inputs: Vec<f32> = (-60_000..100_000).map(|i| i as f32 * 1e-4 + 3e-5).collect();
        for (activation, bound) in [(Activation::QuickGelu, 2e-6), (Activation::Gelu, 2e-6)] {
            for level in levels() {
                let mut outputs = inputs.clone();
                run(level, Apply(activation, &mut outputs));
                for (x, y) in inputs.iter().zip(outputs) {
                    let exact = exact(activation, f64::from(*x));
                    let error = (f64::from(y) / exact - 1.0).abs();
                    assert!(
                        error < bound,
                        "{level:?} {activation:?}({x}) = {y}, not {exact}: {error:e}"
                    );
                }
            }
        }
    }

    #[test]
    fn relu_zeroes_negative_values_and_propagates_nan() {
        for level in levels() {
            let mut values = [
                -1.5,
                2.5,
                -0.0,
                0.0,
                f32::INFINITY,
                f32::NEG_INFINITY,
                f32::NAN,
            ];
            run(level, Apply(Activation::Relu, &mut values));
            assert_eq!(
                values[..6],
                [0.0, 2.5, 0.0, 0.0, f32::INFINITY, 0.0],
                "{level:?}"
            );
            assert!(values[6].is_nan(), "{level:?}");
        }
    }

    #[test]
    fn activations_of_extreme_values() {
        for activation in [Activation::QuickGelu, Activation::Gelu] {
            for level in levels() {
                let mut values = [f32::INFINITY, f32::NAN, 0.0, -200.0, 1e30, 1e-40];
                run(level, Apply(activation, &mut values));
                assert_eq!(values[0], f32::INFINITY, "{level:?} {activation:?}");
                assert!(values[1].is_nan(), "{level:?} {activation:?}");
                assert_eq!(
                    (values[2], values[4]),
                    (0.0, 1e30),
                    "{level:?} {activation:?}"
                );
                assert!(values[3].abs() < 1e-30, "{level:?} {activation:?}");
                assert!(
                    (values[5] / 5e-41 - 1.0).abs() < 1e-3,
                    "{level:?} {activation:?}"
                );
            }
        }
    }
}
