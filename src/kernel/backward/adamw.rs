//! The AdamW step (Loshchilov and Hutter, arXiv 1711.05101), as computed by PyTorch.
#![allow(
    unsafe_code,
    reason = "runs plain loops with the instructions found on this CPU"
)]

use rayon::prelude::*;

use crate::kernel::level::{Job, level, run};
use crate::kernel::simd::Simd;

/// Values that a thread processes at once.
const PIECE: usize = 1 << 14;

/// Parameters of one step.
#[derive(Clone, Copy, Debug)]
pub struct AdamWStep {
    /// Learning rate.
    pub rate: f64,
    /// beta1 and beta2: decay rates of the running mean and mean square.
    pub betas: [f64; 2],
    /// Epsilon, added to the root of the mean square.
    pub epsilon: f64,
    /// Weight decay, multiplied by the learning rate.
    pub weight_decay: f64,
    /// Factor applied to gradients first, for clipping.
    pub factor: f64,
    /// The step number, from 1.
    pub step: usize,
}

/// Updates `parameters` by `gradient`; `means` and `squares` are the running moments.
///
/// Panics when they differ in length.
pub fn adamw(
    step: &AdamWStep,
    parameters: &mut [f32],
    gradient: &[f32],
    [means, squares]: [&mut [f32]; 2],
) {
    let count = parameters.len();
    assert!(
        [gradient.len(), means.len(), squares.len()] == [count; 3],
        "AdamW's vectors differ in length"
    );
    let level = level();
    let pieces = parameters
        .par_chunks_mut(PIECE)
        .zip(gradient.par_chunks(PIECE))
        .zip(
            means
                .par_chunks_mut(PIECE)
                .zip(squares.par_chunks_mut(PIECE)),
        );
    pieces.for_each(|((parameters, gradient), (means, squares))| {
        let piece = Piece {
            step,
            parameters,
            gradient,
            means,
            squares,
        };
        run(level, piece);
    });
}

struct Piece<'a> {
    step: &'a AdamWStep,
    parameters: &'a mut [f32],
    gradient: &'a [f32],
    means: &'a mut [f32],
    squares: &'a mut [f32],
}

impl Job for Piece<'_> {
    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        let step = self.step;
        let [b1, b2] = step.betas;
        let power = i32::try_from(step.step).unwrap_or(i32::MAX);
        // Scalars in f64, as in PyTorch, each rounded once.
        let keep = (1.0 - step.rate * step.weight_decay) as f32;
        let factor = step.factor as f32;
        let (mean_new, square_old) = ((1.0 - b1) as f32, b2 as f32);
        let square_new = (1.0 - b2) as f32;
        let size = (step.rate / (1.0 - b1.powi(power))) as f32;
        let root = (1.0 - b2.powi(power)).sqrt() as f32;
        let epsilon = step.epsilon as f32;
        let moments = self.means.iter_mut().zip(self.squares);
        let values = self.parameters.iter_mut().zip(self.gradient);
        for ((parameter, gradient), (mean, square)) in values.zip(moments) {
            let gradient = gradient * factor;
            *mean += (gradient - *mean) * mean_new;
            *square = *square * square_old + gradient * gradient * square_new;
            *parameter *= keep;
            *parameter -= size * *mean / (square.sqrt() / root + epsilon);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_steps_match_the_paper() {
        // The same steps in f64.
        let (mut p, mut m, mut v) = (0.5f64, 0.0f64, 0.0f64);
        let (mut parameters, mut means, mut squares) = ([0.5f32], [0.0f32], [0.0f32]);
        for (t, g) in [(1, 0.3f64), (2, -0.2)] {
            let step = AdamWStep {
                rate: 0.1,
                betas: [0.9, 0.999],
                epsilon: 1e-8,
                weight_decay: 0.01,
                factor: 0.5,
                step: t,
            };
            let moments = [&mut means[..], &mut squares[..]];
            adamw(&step, &mut parameters, &[g as f32], moments);
            let g = g * 0.5;
            m = 0.9 * m + 0.1 * g;
            v = 0.999 * v + 0.001 * g * g;
            let (mean, square) = (
                m / (1.0 - 0.9f64.powi(t as i32)),
                v / (1.0 - 0.999f64.powi(t as i32)),
            );
            p -= 0.1 * 0.01 * p + 0.1 * mean / (square.sqrt() + 1e-8);
            assert!((f64::from(parameters[0]) - p).abs() < 1e-6, "{t}");
        }
    }
}
