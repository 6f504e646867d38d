//! Element-wise activations and their derivatives, bias addition and sums over rows.
#![allow(
    unsafe_code,
    reason = "generic over the vector types, whose methods are unsafe"
)]

use rayon::prelude::*;

use crate::kernel::activation::{Activation, activate, derivative};
use crate::kernel::level::{Job, Level, level, run};
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

/// Rows per partial sum; fixed, so that the result does not depend on the number of threads.
const ROWS: usize = 128;
/// Squares per partial sum.
const SQUARES: usize = 1 << 15;

/// The sum of each column of `rows` [m, width].
///
/// Panics when `rows` is not a whole number of rows.
#[must_use]
pub fn column_sums(rows: &[f32], width: usize) -> Vec<f32> {
    assert_eq!(rows.len() % width.max(1), 0, "not a whole number of rows");
    let parts: Vec<Vec<f32>> = rows
        .par_chunks((ROWS * width).max(1))
        .map(|part| {
            let mut sums = vec![0.0; width];
            for row in part.chunks_exact(width) {
                sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
            }
            sums
        })
        .collect();
    total(&parts, width)
}

/// The element-wise sum of vectors, in f64.
pub(super) fn total(parts: &[Vec<f32>], width: usize) -> Vec<f32> {
    let mut sums = vec![0.0f64; width];
    for part in parts {
        sums.iter_mut()
            .zip(part)
            .for_each(|(sum, x)| *sum += f64::from(*x));
    }
    sums.into_iter().map(|sum| sum as f32).collect()
}

/// The initial output of a linear layer: its bias (if any) in every row, added to `onto` if given;
/// [rows, width].
#[must_use]
pub fn add_bias(rows: usize, width: usize, bias: Option<&[f32]>, onto: Option<&[f32]>) -> Vec<f32> {
    let mut out = match onto {
        Some(values) => values.to_vec(),
        None => vec![0.0; rows * width],
    };
    assert_eq!(out.len(), rows * width, "not [{rows}, {width}]");
    if let Some(bias) = bias {
        assert_eq!(bias.len(), width, "the bias does not have {width} values");
        out.par_chunks_mut((ROWS * width).max(1)).for_each(|part| {
            for row in part.chunks_exact_mut(width) {
                row.iter_mut().zip(bias).for_each(|(x, b)| *x += b);
            }
        });
    }
    out
}

/// The sum of all squares, in f64 and in an order independent of the number of threads.
#[must_use]
pub fn squared_norm(values: &[f32]) -> f64 {
    let squares = |part: &[f32]| -> f64 {
        let mut sums = [0.0f64; 8];
        let blocks = part.chunks_exact(8);
        let rest: f64 = blocks
            .remainder()
            .iter()
            .map(|x| f64::from(*x) * f64::from(*x))
            .sum();
        for block in blocks {
            for (sum, x) in sums.iter_mut().zip(block) {
                *sum += f64::from(*x) * f64::from(*x);
            }
        }
        sums.iter().sum::<f64>() + rest
    };
    let parts: Vec<f64> = values.par_chunks(SQUARES).map(squares).collect();
    parts.iter().sum()
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

    #[test]
    fn columns_are_summed() {
        for (m, width) in [(0, 3), (1, 1), (300, 7), (129, 64)] {
            let rows = randoms(1, m * width);
            let sums = column_sums(&rows, width);
            for (j, sum) in sums.iter().enumerate() {
                let column = rows.iter().skip(j).step_by(width);
                let exact: f64 = column.map(|x| f64::from(*x)).sum();
                assert!((f64::from(*sum) - exact).abs() < 1e-4, "{m} {width} {j}");
            }
        }
    }

    #[test]
    fn a_bias_is_added_to_every_row() {
        let onto = [1.0, 2.0, 3.0, 4.0];
        assert_eq!(
            add_bias(2, 2, Some(&[10.0, 20.0]), Some(&onto)),
            [11.0, 22.0, 13.0, 24.0]
        );
        assert_eq!(add_bias(2, 2, None, None), [0.0; 4]);
    }

    #[test]
    fn squares_are_summed() {
        let values = randoms(5, 100_003);
        let exact: f64 = values.iter().map(|x| f64::from(*x).powi(2)).sum();
        assert!((squared_norm(&values) / exact - 1.0).abs() < 1e-12);
    }
}
