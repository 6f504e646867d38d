//! The exponential function, vectorised.
#![allow(
    unsafe_code,
    reason = "generic over the vector types, whose methods are unsafe"
)]

use std::f32::consts::LOG2_E;

use super::simd::Simd;

/// ln 2 in two parts: the first has so few bits that its product with an exponent is exact.
const LN_2_HIGH: f32 = 0.693_359_4;
const LN_2_LOW: f32 = -2.121_944_4e-4;

/// Beyond this size e^x is 0 or infinite in f32.
const RANGE: f32 = 106.0;

/// (e^r - 1 - r) / r^2 for |r| <= ln 2 / 2: Chebyshev fit of degree 4, highest power first;
/// contributes less than 8e-9 relative error to e^r.
const TAIL: [f32; 5] = [
    1.393_373_4e-3,
    8.363_236e-3,
    4.166_646_3e-2,
    0.166_665_76,
    0.5,
];

/// e^x to about one unit in the last place; 0 below -104, infinite above 88.73, NaN for NaN.
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn exp<V: Simd>(x: V) -> V {
    // SAFETY: the caller vouches for the CPU.
    unsafe {
        // Bounds first, so that NaN (the second operand) propagates.
        let x = V::splat(RANGE).min(V::splat(-RANGE).max(x));
        let n = x.mul(V::splat(LOG2_E)).round();
        let r = n.mul_add(V::splat(-LN_2_HIGH), x);
        let r = n.mul_add(V::splat(-LN_2_LOW), r);
        let mut tail = V::splat(TAIL[0]);
        for coefficient in &TAIL[1..] {
            tail = tail.mul_add(r, V::splat(*coefficient));
        }
        let power = tail.mul_add(r.mul(r), r).add(V::splat(1.0));
        power.scale_by_power(n)
    }
}

/// 2^f for |f| <= 1/2: Chebyshev fit of degree 6, highest power first, error below 2e-8.
const POWER: [f32; 7] = [
    1.546_973_2e-4,
    1.340_043_3e-3,
    9.618_025e-3,
    5.550_327e-2,
    0.240_226_5,
    std::f32::consts::LN_2,
    1.0,
];

/// 2^x for x <= 126, 0 below -150, NaN for NaN: fewer steps than [`exp`], for callers that can
/// scale their argument. Its error is that of x: 2^x (1 + 1e-7 |x|).
///
/// # Safety
/// The CPU has the instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn power_of_two<V: Simd>(x: V) -> V {
    // SAFETY: the caller vouches for the CPU.
    unsafe {
        // The bound first, so that NaN (the second operand) propagates.
        let x = V::splat(-152.0).max(x);
        let n = x.round();
        let f = x.sub(n);
        let mut power = V::splat(POWER[0]);
        for coefficient in &POWER[1..] {
            power = power.mul_add(f, V::splat(*coefficient));
        }
        power.scale_by_power(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::level::{Job, Level, run};
    use crate::kernel::testing::levels;

    struct Exp<'a>(&'a mut [f32]);

    impl Job for Exp<'_> {
        #[inline(always)]
        unsafe fn run<V: Simd>(self) {
            for x in self.0 {
                // SAFETY: the dispatcher vouches for the CPU.
                unsafe { exp(V::splat(*x)).store_part(x, 1) };
            }
        }
    }

    fn exps(level: Level, mut values: Vec<f32>) -> Vec<f32> {
        run(level, Exp(&mut values));
        values
    }

    #[test]
    fn exp_agrees_with_f64_over_its_range() {
        let inputs: Vec<f32> = (-86_000..88_700)
            .map(|i| i as f32 * 1e-3 + 1.7e-4)
            .collect();
        for level in levels() {
            let outputs = exps(level, inputs.clone());
            for (x, y) in inputs.iter().zip(outputs) {
                let exact = f64::from(*x).exp();
                let error = (f64::from(y) / exact - 1.0).abs();
                assert!(error < 2.5e-7, "{level:?}: exp({x}) = {y}, not {exact}");
            }
        }
    }

    struct Power<'a>(&'a mut [f32]);

    impl Job for Power<'_> {
        #[inline(always)]
        unsafe fn run<V: Simd>(self) {
            for x in self.0 {
                // SAFETY: the dispatcher vouches for the CPU.
                unsafe { power_of_two(V::splat(*x)).store_part(x, 1) };
            }
        }
    }

    #[test]
    fn powers_of_two_agree_with_f64() {
        let inputs: Vec<f32> = (-125_000..126_000).map(|i| i as f32 * 1e-3).collect();
        for level in levels() {
            let mut outputs = inputs.clone();
            run(level, Power(&mut outputs));
            for (x, y) in inputs.iter().zip(outputs) {
                let error = (f64::from(y) / f64::from(*x).exp2() - 1.0).abs();
                assert!(error < 2e-7, "{level:?}: 2^{x} = {y}");
            }
            let mut extremes = [f32::NEG_INFINITY, -1e30, -151.0, f32::NAN, 0.0];
            run(level, Power(&mut extremes));
            assert_eq!(
                (extremes[0], extremes[1], extremes[2], extremes[4]),
                (0.0, 0.0, 0.0, 1.0)
            );
            assert!(extremes[3].is_nan());
        }
    }

    #[test]
    fn exp_of_extreme_values() {
        let inputs = vec![
            f32::NEG_INFINITY,
            -200.0,
            -103.0,
            0.0,
            -0.0,
            89.0,
            f32::INFINITY,
            f32::NAN,
        ];
        for level in levels() {
            let y = exps(level, inputs.clone());
            assert_eq!((y[0], y[1], y[3], y[4]), (0.0, 0.0, 1.0, 1.0), "{level:?}");
            assert!(y[2] < 1e-44, "{level:?}: the denormal {}", y[2]);
            assert_eq!((y[5], y[6]), (f32::INFINITY, f32::INFINITY), "{level:?}");
            assert!(y[7].is_nan(), "{level:?}");
        }
    }
}
