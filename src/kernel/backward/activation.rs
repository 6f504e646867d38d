//! Element-wise activations and their derivatives.
#![allow(
    unsafe_code,
    reason = "generic over the vector types, whose methods are unsafe"
)]

use rayon::prelude::*;

use crate::kernel::activation::{Activation, activate, derivative};
use crate::kernel::dispatch::{Job, run};
use crate::kernel::level::{Level, level};
use crate::kernel::simd::{Simd, load_up_to, store_up_to};

/// Values that a thread processes at once.
const PIECE: usize = 1 << 14;

/// Applies `activation` to every value.
#[must_use]
pub fn activate_rows(activation: Activation, values: &[f32]) -> Vec<f32> {
    let mut out = values.to_vec();
    apply(level(), activation, None, &mut out);
    out
}

/// Turns `gradient`, of an activation's output, into that of its input `values`, in place.
///
/// Panics when they differ in length.
pub fn activation_backward(activation: Activation, values: &[f32], gradient: &mut [f32]) {
    assert_eq!(values.len(), gradient.len(), "an activation's sizes differ");
    apply(level(), activation, Some(values), gradient);
}

fn apply(level: Level, activation: Activation, inputs: Option<&[f32]>, out: &mut [f32]) {
    out.par_chunks_mut(PIECE).enumerate().for_each(|(i, out)| {
        let inputs = inputs.map(|inputs| &inputs[i * PIECE..][..out.len()]);
        let piece = Piece {
            activation,
            inputs,
            out,
        };
        run(level, piece);
    });
}

/// `out` = activation(out), or with `inputs` `out` *= activation'(inputs).
struct Piece<'a> {
    activation: Activation,
    inputs: Option<&'a [f32]>,
    out: &'a mut [f32],
}

impl Job for Piece<'_> {
    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        let count = self.out.len();
        let mut i = 0;
        while i < count {
            let part = V::LANES.min(count - i);
            // SAFETY: `part` values from `i` on lie inside both slices, which have the same length;
            // the dispatcher vouches for the CPU.
            unsafe {
                let at = self.out.as_mut_ptr().add(i);
                let old = load_up_to::<V>(at, part, 0.0);
                let new = match self.inputs {
                    None => activate(self.activation, old),
                    Some(inputs) => {
                        let x = load_up_to::<V>(inputs.as_ptr().add(i), part, 0.0);
                        derivative(self.activation, x).mul(old)
                    }
                };
                store_up_to(new, at, part);
            }
            i += part;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::{levels, randoms};

    #[test]
    fn derivatives_agree_with_differences_in_f64() {
        let gelu = |x: f64| x * 0.5 * (1.0 + libm::erf(x * std::f64::consts::FRAC_1_SQRT_2));
        let quick = |x: f64| x / (1.0 + (-1.702 * x).exp());
        let inputs: Vec<f32> = (-4001..4001).map(|i| i as f32 * 3e-3).collect();
        for level in levels() {
            for activation in [Activation::QuickGelu, Activation::Gelu] {
                let mut out = vec![2.0; inputs.len()];
                apply(level, activation, Some(&inputs), &mut out);
                for (x, y) in inputs.iter().zip(out) {
                    let (x, step) = (f64::from(*x), 1e-5);
                    let f = |x| match activation {
                        Activation::QuickGelu => quick(x),
                        _ => gelu(x),
                    };
                    let slope = (f(x + step) - f(x - step)) / (2.0 * step);
                    let found = f64::from(y) / 2.0;
                    assert!(
                        (found - slope).abs() < 1e-6,
                        "{level:?} {activation:?} at {x}: {found}, not {slope}"
                    );
                }
            }
        }
    }

    #[test]
    fn extreme_values_do_not_overflow() {
        for activation in [Activation::QuickGelu, Activation::Gelu] {
            let inputs = [-3e38, -200.0, -0.0, 0.0, 200.0, 3e38];
            let mut out = vec![1.0; inputs.len()];
            activation_backward(activation, &inputs, &mut out);
            for (found, exact) in out.iter().zip([0.0, 0.0, 0.5, 0.5, 1.0, 1.0f32]) {
                assert!((found - exact).abs() < 1e-20, "{activation:?}: {out:?}");
            }
        }
    }

    #[test]
    fn the_activation_is_applied_to_every_value() {
        let values = randoms(1, 2 * PIECE + 5);
        let out = activate_rows(Activation::QuickGelu, &values);
        for (x, y) in values.iter().zip(out) {
            assert!((y - x / (1.0 + (-1.702 * x).exp())).abs() < 1e-6);
        }
    }
}
