//! The derivative of a layer normalisation.
#![allow(
    unsafe_code,
    reason = "runs plain loops with the instructions found on this CPU"
)]

use rayon::prelude::*;

use super::activation::total;
use crate::kernel::level::{Job, Level, level, run};
use crate::kernel::norm::Norm;
use crate::kernel::simd::Simd;

/// Rows per partial sum of the gradients of gain and bias; fixed, so that the result does not
/// depend on the number of threads.
const ROWS: usize = 64;
/// Parallel sums, so that additions do not wait for each other.
const LANES: usize = 32;

/// The gradients of a layer normalisation.
#[derive(Debug)]
pub struct NormGradients {
    /// Of its input, [m, width].
    pub rows: Vec<f32>,
    /// Of its gain, `[width]`.
    pub gain: Vec<f32>,
    /// Of its bias, `[width]`.
    pub bias: Vec<f32>,
}

/// Computes the gradients of [`layer_norm`](crate::kernel::layer_norm) from that of its output,
/// `gradient` [m, width], for its input `rows` [m, width] and its parameters. `onto` [m, width] is
/// added to the input's: a residual's gradient flows along both paths.
///
/// Panics when the lengths do not match.
#[must_use]
pub fn layer_norm_backward(
    rows: &[f32],
    norm: &Norm,
    gradient: &[f32],
    onto: Option<&[f32]>,
) -> NormGradients {
    backward_at(level(), rows, norm, gradient, onto)
}

fn backward_at(
    level: Level,
    rows: &[f32],
    norm: &Norm,
    gradient: &[f32],
    onto: Option<&[f32]>,
) -> NormGradients {
    let width = norm.gain.len();
    assert!(
        width > 0 && rows.len().is_multiple_of(width) && rows.len() == gradient.len(),
        "a LayerNorm's gradient does not match its input"
    );
    let mut out = match onto {
        Some(values) => values.to_vec(),
        None => vec![0.0; rows.len()],
    };
    assert_eq!(
        out.len(),
        rows.len(),
        "a residual does not match its LayerNorm"
    );
    let chunk = ROWS * width;
    let parts: Vec<(Vec<f32>, Vec<f32>)> = out
        .par_chunks_mut(chunk)
        .enumerate()
        .map(|(i, out)| {
            let range = i * chunk..i * chunk + out.len();
            let mut sums = (vec![0.0; width], vec![0.0; width]);
            let part = Part {
                rows: &rows[range.clone()],
                norm,
                gradient: &gradient[range],
                out,
                sums: &mut sums,
            };
            run(level, part);
            sums
        })
        .collect();
    let (gains, biases): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
    NormGradients {
        rows: out,
        gain: total(&gains, width),
        bias: total(&biases, width),
    }
}

/// Some rows, their gradients and the sums over them.
struct Part<'a> {
    rows: &'a [f32],
    norm: &'a Norm<'a>,
    gradient: &'a [f32],
    out: &'a mut [f32],
    sums: &'a mut (Vec<f32>, Vec<f32>),
}

impl Job for Part<'_> {
    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        let width = self.norm.gain.len();
        let gain = self.norm.gain;
        let rows = self.rows.chunks_exact(width);
        let gradients = self.gradient.chunks_exact(width);
        for ((x, dy), out) in rows.zip(gradients).zip(self.out.chunks_exact_mut(width)) {
            let n = width as f32;
            let mean = sum(width, |i| x[i]) / n;
            let variance = sum(width, |i| (x[i] - mean) * (x[i] - mean)) / n;
            let factor = 1.0 / (variance + self.norm.epsilon).sqrt();
            // With g = gradient * gain and z the normalised row: dx = (g - mean(g) - z mean(g z)) /
            // deviation.
            let straight = sum(width, |i| dy[i] * gain[i]) / n;
            let along = sum(width, |i| dy[i] * gain[i] * (x[i] - mean)) * factor / n;
            let (gains, biases) = &mut *self.sums;
            for i in 0..width {
                let z = (x[i] - mean) * factor;
                gains[i] += dy[i] * z;
                biases[i] += dy[i];
                out[i] += factor * (dy[i] * gain[i] - straight - z * along);
            }
        }
    }
}

/// value(0) + … + value(count - 1).
#[inline(always)]
fn sum(count: usize, value: impl Fn(usize) -> f32) -> f32 {
    let mut sums = [0.0f32; LANES];
    let whole = count / LANES * LANES;
    for start in (0..whole).step_by(LANES) {
        for (lane, sum) in sums.iter_mut().enumerate() {
            *sum += value(start + lane);
        }
    }
    let rest: f32 = (whole..count).map(&value).sum();
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
        width /= 2;
    }
    sums[0] + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::{levels, randoms};

    /// The output in f64.
    fn forward(x: &[f64], gain: &[f64], bias: &[f64]) -> Vec<f64> {
        let n = x.len() as f64;
        let mean = x.iter().sum::<f64>() / n;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        let at = |i: usize| (x[i] - mean) / (variance + 1e-5).sqrt() * gain[i] + bias[i];
        (0..x.len()).map(at).collect()
    }

    fn wide(values: &[f32]) -> Vec<f64> {
        values.iter().map(|x| f64::from(*x)).collect()
    }

    #[test]
    fn gradients_agree_with_differences_in_f64() {
        for (m, width) in [(1, 3), (3, 33), (130, 8)] {
            let (rows, dy) = (randoms(1, m * width), randoms(2, m * width));
            let (gain, bias) = (randoms(3, width), randoms(4, width));
            let onto = randoms(5, m * width);
            let norm = Norm {
                gain: &gain,
                bias: &bias,
                epsilon: 1e-5,
            };
            let loss = |rows: &[f64], gain: &[f64], bias: &[f64]| -> f64 {
                let out = rows.chunks(width).flat_map(|x| forward(x, gain, bias));
                out.zip(&dy).map(|(y, dy)| y * f64::from(*dy)).sum()
            };
            let (rows64, gain64, bias64) = (wide(&rows), wide(&gain), wide(&bias));
            let slope = |which: usize, i: usize| {
                let moved = |step: f64| {
                    let mut all = [rows64.clone(), gain64.clone(), bias64.clone()];
                    all[which][i] += step;
                    loss(&all[0], &all[1], &all[2])
                };
                (moved(1e-5) - moved(-1e-5)) / 2e-5
            };
            for level in levels() {
                let found = backward_at(level, &rows, &norm, &dy, Some(&onto));
                for i in (0..m * width).step_by(7) {
                    let exact = slope(0, i) + f64::from(onto[i]);
                    assert!((f64::from(found.rows[i]) - exact).abs() < 2e-4, "{level:?}");
                }
                for i in 0..width {
                    assert!((f64::from(found.gain[i]) - slope(1, i)).abs() < 2e-3);
                    assert!((f64::from(found.bias[i]) - slope(2, i)).abs() < 2e-3);
                }
            }
        }
    }
}
