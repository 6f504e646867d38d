//! The losses and their gradients with respect to the towers' outputs.

use anyhow::Result;
use rayon::prelude::*;

use super::principal::Principal;
use super::settings::{Objective, Short};
use crate::kernel::{View, product};

/// Embeddings before normalisation, [n, dim] each.
pub struct Outputs<'a> {
    /// Of the images.
    pub images: &'a [f32],
    /// Of the long captions.
    pub long: &'a [f32],
    /// Of the short captions.
    pub short: Option<&'a [f32]>,
    /// Columns.
    pub dim: usize,
}

/// The loss and its gradients with respect to the outputs.
#[derive(Debug)]
pub struct Loss {
    /// The total that is minimised.
    pub total: f64,
    /// The loss of images and long captions.
    pub long: f64,
    /// The unweighted loss of images (or their principal components) and short captions.
    pub short: Option<f64>,
    /// Gradient of the image embeddings.
    pub images_gradient: Vec<f32>,
    /// Gradient of the long captions' embeddings.
    pub long_gradient: Vec<f32>,
    /// Gradient of the short captions' embeddings.
    pub short_gradient: Option<Vec<f32>>,
    /// Gradient of the logarithm of the logit scale.
    pub scale_gradient: f64,
}

/// The loss of a batch. `logarithm` is the logarithm of the logit scale.
///
/// # Errors
/// When principal components cannot be computed.
pub fn loss(outputs: &Outputs, logarithm: f64, objective: &Objective) -> Result<Loss> {
    let dim = outputs.dim;
    let images = Unit::new(outputs.images, dim);
    let long = Unit::new(outputs.long, dim);
    let smoothing = objective.label_smoothing;
    let first = contrast(&images.rows, &long.rows, dim, logarithm, smoothing);
    let mut result = Loss {
        total: first.value,
        long: first.value,
        short: None,
        images_gradient: Vec::new(),
        long_gradient: long.backward(&first.right),
        short_gradient: None,
        scale_gradient: first.logarithm,
    };
    let mut images_gradient = first.left;
    if let (Some(short), false) = (outputs.short, matches!(objective.short, Short::None)) {
        let short = Unit::new(short, dim);
        let principal = match objective.short {
            Short::Principal { rank } => Some(Principal::new(&images.rows, dim, rank)?),
            Short::Plain | Short::None => None,
        };
        let reduced = principal.as_ref().map(Principal::rows);
        let left = reduced.as_deref().unwrap_or(&images.rows);
        let mut second = contrast(left, &short.rows, dim, logarithm, smoothing);
        second.weigh(objective.short_weight);
        result.total += second.value * objective.short_weight;
        result.short = Some(second.value);
        result.scale_gradient += second.logarithm;
        result.short_gradient = Some(short.backward(&second.right));
        let back = match &principal {
            Some(principal) => principal.backward(&second.left),
            None => second.left,
        };
        images_gradient
            .iter_mut()
            .zip(back)
            .for_each(|(sum, x)| *sum += x);
    }
    result.images_gradient = images.backward(&images_gradient);
    Ok(result)
}

/// Normalised rows and their norms.
struct Unit {
    rows: Vec<f32>,
    norms: Vec<f64>,
    dim: usize,
}

impl Unit {
    fn new(outputs: &[f32], dim: usize) -> Self {
        let mut rows = outputs.to_vec();
        let norms = rows
            .chunks_exact_mut(dim)
            .map(|row| {
                let squares: f64 = row.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
                let norm = squares.sqrt();
                row.iter_mut()
                    .for_each(|x| *x = (f64::from(*x) / norm) as f32);
                norm
            })
            .collect();
        Self { rows, norms, dim }
    }

    /// (g - y (y g)) / norm for each row y.
    fn backward(&self, gradient: &[f32]) -> Vec<f32> {
        let rows = self.rows.chunks_exact(self.dim).zip(&self.norms);
        let mut out = gradient.to_vec();
        for ((row, norm), g) in rows.zip(out.chunks_exact_mut(self.dim)) {
            let along: f64 = row
                .iter()
                .zip(&*g)
                .map(|(y, g)| f64::from(*y) * f64::from(*g))
                .sum();
            for (g, y) in g.iter_mut().zip(row) {
                *g = ((f64::from(*g) - f64::from(*y) * along) / norm) as f32;
            }
        }
        out
    }
}

/// CLIP's loss of n pairs and its gradients.
struct Contrast {
    value: f64,
    left: Vec<f32>,
    right: Vec<f32>,
    logarithm: f64,
}

impl Contrast {
    fn weigh(&mut self, weight: f64) {
        self.logarithm *= weight;
        let both = self.left.iter_mut().chain(&mut self.right);
        both.for_each(|x| *x = (f64::from(*x) * weight) as f32);
    }
}

/// The mean of the cross entropies of images over texts and of texts over images, with logits
/// `exp(logarithm) left right^T`, and smoothed labels: (1 - e) for the pair itself plus e / n for
/// every pair.
fn contrast(left: &[f32], right: &[f32], dim: usize, logarithm: f64, e: f64) -> Contrast {
    let n = left.len() / dim;
    let scale = logarithm.exp();
    let mut logits = product(View::new(left, [n, dim]), View::new(right, [n, dim]).t());
    logits
        .par_iter_mut()
        .for_each(|x| *x = (f64::from(*x) * scale) as f32);
    let across: Vec<f64> = (0..n)
        .into_par_iter()
        .map(|i| log_sum(logits[i * n..(i + 1) * n].iter()))
        .collect();
    let down: Vec<f64> = (0..n)
        .into_par_iter()
        .map(|j| log_sum(logits[j..].iter().step_by(n)))
        .collect();
    let own: f64 = (0..n).map(|i| f64::from(logits[i * n + i])).sum();
    let all: f64 = logits.iter().map(|x| f64::from(*x)).sum();
    let normalisers = across.iter().chain(&down).sum::<f64>() / 2.0;
    let count = n as f64;
    let value = (normalisers - (1.0 - e) * own - e / count * all) / count;
    // In place: logits become their gradients.
    let parts: Vec<f64> = logits
        .par_chunks_mut(n)
        .enumerate()
        .map(|(i, row)| {
            let mut along = 0.0;
            for (j, x) in row.iter_mut().enumerate() {
                let logit = f64::from(*x);
                let target = e / count + if i == j { 1.0 - e } else { 0.0 };
                let share = (logit - across[i]).exp() + (logit - down[j]).exp();
                let slope = (share / 2.0 - target) / count;
                along += slope * logit;
                *x = (slope * scale) as f32;
            }
            along
        })
        .collect();
    let slopes = View::new(&logits, [n, n]);
    Contrast {
        value,
        left: product(slopes, View::new(right, [n, dim])),
        right: product(slopes.t(), View::new(left, [n, dim])),
        logarithm: parts.iter().sum(),
    }
}

/// ln(sum(e^x)).
fn log_sum<'a>(values: impl Iterator<Item = &'a f32> + Clone) -> f64 {
    let largest = values.clone().copied().fold(f32::NEG_INFINITY, f32::max);
    let largest = f64::from(largest);
    let sum: f64 = values.map(|x| (f64::from(*x) - largest).exp()).sum();
    largest + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::randoms;

    fn check(objective: &Objective) {
        let (n, dim) = (9, 6);
        let all = randoms(11, 3 * n * dim + 1);
        let mut values = all.clone();
        let of = |values: &[f32], logarithm: f64| {
            let part = |i: usize| &values[i * n * dim..(i + 1) * n * dim];
            let outputs = Outputs {
                images: part(0),
                long: part(1),
                short: Some(part(2)),
                dim,
            };
            loss(&outputs, logarithm, objective).unwrap()
        };
        let found = of(&values, 1.5);
        let short = found.short_gradient.clone().unwrap_or(vec![0.0; n * dim]);
        let gradients = [&found.images_gradient, &found.long_gradient, &short];
        let gradient: Vec<f32> = gradients.into_iter().flatten().copied().collect();
        for i in (0..3 * n * dim).step_by(5) {
            let step = 2e-3f32;
            values[i] = all[i] + step;
            let above = of(&values, 1.5).total;
            values[i] = all[i] - step;
            let exact = (above - of(&values, 1.5).total) / f64::from(2.0 * step);
            values[i] = all[i];
            assert!(
                (f64::from(gradient[i]) - exact).abs() < 2e-3 * exact.abs().max(0.1),
                "{i}: {}, not {exact}",
                gradient[i]
            );
        }
        let exact = (of(&all, 1.501).total - of(&all, 1.499).total) / 0.002;
        assert!((found.scale_gradient - exact).abs() < 1e-3);
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        for short in [Short::None, Short::Plain, Short::Principal { rank: 3 }] {
            check(&Objective {
                label_smoothing: 0.1,
                short,
                short_weight: 0.7,
            });
        }
    }

    #[test]
    fn the_loss_of_identical_pairs_is_the_logarithm_of_their_number() {
        let rows = [1.0f32, 0.0].repeat(5);
        let outputs = Outputs {
            images: &rows,
            long: &rows,
            short: None,
            dim: 2,
        };
        let objective = Objective {
            label_smoothing: 0.1,
            short: Short::None,
            short_weight: 1.0,
        };
        let found = loss(&outputs, 3.0, &objective).unwrap();
        assert!((found.total - 5f64.ln()).abs() < 1e-6);
    }
}
