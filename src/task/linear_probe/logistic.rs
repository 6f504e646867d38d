//! Multinomial logistic regression, as scikit-learn's `LogisticRegression(solver="lbfgs")` defines
//! it.
//!
//! For samples `x_i` with classes `y_i`, weights `W` [classes, dim], bias `b` `[classes]` and an L2
//! penalty `l2`, this is the minimum of
//!
//! ```text
//! sum_i -ln softmax(W x_i + b)[y_i]  +  l2 / 2 * |W - W0|^2
//! ```
//!
//! `l2` is 1 / `C` of scikit-learn, and as there the bias is not regularised. `W0` is zero, or the
//! zero-shot classifier: then the bias is regularised as well (`+ l2 / 2 * |b|^2`), so that for
//! large `l2` the result approaches that classifier. For two classes, scikit-learn learns a single
//! vector, the difference of the two rows; to match it, the penalty counts twice in that case.
//!
//! Embeddings of one model all point in similar directions, which makes the function a narrow
//! valley. As a function of `c = b + W m` instead of `b`, with the samples' mean `m`, it is
//! well-conditioned and has the same minimum, so L-BFGS works on that form.

use anyhow::{Result, bail};
use rayon::prelude::*;

use super::Samples;
use super::lbfgs::{Minimum, Objective, StopReason, StoppingRule, minimize};
use crate::kernel;

/// Maximum steps, as in openai/CLIP's example.
const ITERATIONS: usize = 1000;

/// Maximum gradient, relative to its largest entry at zero, accepted if f64 allows no further
/// decrease.
const FLAT: f64 = 1e-3;

/// The regularisation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Penalty<'a> {
    /// The L2 penalty.
    pub l2: f64,
    /// Weights `[classes, dim]`, without a bias, that are not penalised; if there are none, these
    /// are zeros and the bias is not penalised.
    pub towards: Option<&'a [f64]>,
}

impl Penalty<'_> {
    /// The rounding error of its gradient at its own minimum.
    fn rounding(&self, samples: &Samples) -> f64 {
        let towards = self.towards.unwrap_or(&[]).iter();
        let largest = towards.fold(0.0f64, |most, value| most.max(value.abs()));
        8.0 * f64::EPSILON * largest * self.l2 / samples.len() as f64
    }
}

/// Stopping criteria of a fit.
#[derive(Clone, Copy)]
pub(crate) struct Effort<'a> {
    /// Gradient tolerance, relative to the largest entry at zero.
    pub tolerance: f64,
    /// Whether the run was cancelled.
    pub is_stopped: &'a (dyn Fn() -> bool + Sync),
}

impl Effort<'_> {
    /// For a final fit: six digits.
    pub(crate) const EXACT: f64 = 1e-6;
    /// For a fit that is only compared with others.
    pub(crate) const ROUGH: f64 = 1e-4;
}

/// The error of a cancelled run.
#[derive(Debug)]
pub(crate) struct Stopped;

impl std::fmt::Display for Stopped {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("stopped")
    }
}

impl std::error::Error for Stopped {}

/// A fitted regression.
#[derive(Clone, Debug)]
pub(crate) struct Fit {
    /// Weights `[classes, dim]`, then the bias `[classes]`.
    pub parameters: Vec<f64>,
    /// The minimum of the function above.
    pub objective: f64,
    /// Steps of L-BFGS.
    pub iterations: usize,
    /// Whether the gradient met the tolerance, or is as small as f64 allows.
    pub converged: bool,
}

/// Fits `samples`, from `start` if given, which only makes it faster.
///
/// # Errors
/// [`Stopped`], or when numbers overflow.
pub(crate) fn fit(
    samples: &Samples,
    penalty: Penalty<'_>,
    start: Option<&[f64]>,
    effort: Effort<'_>,
) -> Result<Fit> {
    let objective = Centred::new(Regression { samples, penalty });
    let weights = samples.class_count() * samples.dim();
    let mut origin = vec![0.0; weights + samples.class_count()];
    if let Some(towards) = penalty.towards {
        origin[..weights].copy_from_slice(towards);
    }
    // Measured at zero, where the gradient is not accidentally small, so that every start ends at
    // the same point.
    let mut gradient = vec![0.0; origin.len()];
    let zero = vec![0.0; origin.len()];
    let free = Penalty {
        l2: 0.0,
        towards: None,
    };
    let plain = Regression {
        samples,
        penalty: free,
    };
    Centred::new(plain).evaluate(&zero, &mut gradient);
    let largest = gradient
        .iter()
        .fold(0.0f64, |most, value| most.max(value.abs()));
    let ending = StoppingRule {
        tolerance: effort.tolerance * largest,
        iterations: ITERATIONS,
        is_stopped: effort.is_stopped,
    };
    let mut start = start.map_or(origin, <[f64]>::to_vec);
    objective.shift(&mut start, 1.0);
    let mut minimum = minimize(&objective, start, &ending);
    objective.shift(&mut minimum.point, -1.0);
    let slack = FLAT * largest + penalty.rounding(samples);
    finished(minimum, samples.len(), slack)
}

/// A run that stalled with a gradient above `slack` did not converge.
fn finished(minimum: Minimum, samples: usize, slack: f64) -> Result<Fit> {
    if minimum.end == StopReason::Stopped {
        return Err(Stopped.into());
    }
    if !minimum.value.is_finite() || !minimum.slope.is_finite() {
        bail!("the regression diverged because its numbers are too large; use a larger --l2");
    }
    Ok(Fit {
        parameters: minimum.point,
        objective: minimum.value * samples as f64,
        iterations: minimum.iterations,
        converged: match minimum.end {
            StopReason::Flat => minimum.slope <= slack,
            end => end == StopReason::Converged,
        },
    })
}

/// The function to minimise, divided by the number of samples.
#[derive(Clone, Copy)]
struct Regression<'a> {
    samples: &'a Samples,
    penalty: Penalty<'a>,
}

impl Regression<'_> {
    /// Adds the penalty to the gradient and returns its value, both divided by the number of
    /// samples.
    fn add_penalty(&self, point: &[f64], gradient: &mut [f64]) -> f64 {
        let (count, dim) = (self.samples.class_count(), self.samples.dim());
        let twice = if count == 2 { 2.0 } else { 1.0 };
        let strength = self.penalty.l2 * twice / self.samples.len() as f64;
        let (held, towards) = match self.penalty.towards {
            Some(towards) => (point.len(), towards),
            None => (count * dim, &[][..]),
        };
        let mut squares = 0.0;
        for at in 0..held {
            let away = point[at] - towards.get(at).copied().unwrap_or(0.0);
            squares += away * away;
            gradient[at] += strength * away;
        }
        0.5 * strength * squares
    }
}

impl Objective for Regression<'_> {
    fn evaluate(&self, point: &[f64], gradient: &mut [f64]) -> f64 {
        let (count, dim) = (self.samples.class_count(), self.samples.dim());
        let share = 1.0 / self.samples.len() as f64;
        let (weights, bias) = point.split_at(count * dim);
        let mut scores = kernel::exact_scores(self.samples.embeddings(), weights, dim); // [samples, classes]
        let losses: Vec<f64> = (scores.par_chunks_exact_mut(count))
            .zip(self.samples.classes())
            .map(|(scores, &class)| residuals(scores, bias, class, share))
            .collect();
        let (of_weights, of_bias) = gradient.split_at_mut(count * dim);
        of_weights.copy_from_slice(&kernel::exact_gradients(
            &scores,
            self.samples.embeddings(),
            count,
            dim,
        ));
        of_bias.fill(0.0);
        for row in scores.chunks_exact(count) {
            of_bias
                .iter_mut()
                .zip(row)
                .for_each(|(to, value)| *to += value);
        }
        let loss = losses.iter().fold(0.0, |sum, loss| sum + loss) * share;
        loss + self.add_penalty(point, gradient)
    }
}

/// The same as a function of the weights and `c = b + W m`.
struct Centred<'a> {
    regression: Regression<'a>,
    /// The mean of the samples, `[dim]`.
    mean: Vec<f64>,
}

impl<'a> Centred<'a> {
    fn new(regression: Regression<'a>) -> Self {
        let samples = regression.samples;
        let mut mean = vec![0.0; samples.dim()];
        for row in samples.embeddings().chunks_exact(samples.dim()) {
            for (mean, value) in mean.iter_mut().zip(row) {
                *mean += f64::from(*value);
            }
        }
        let share = 1.0 / samples.len() as f64;
        mean.iter_mut().for_each(|mean| *mean *= share);
        Self { regression, mean }
    }

    /// Adds `sign` times `W m` to the bias.
    fn shift(&self, point: &mut [f64], sign: f64) {
        let dim = self.mean.len();
        let (weights, bias) = point.split_at_mut(self.regression.samples.class_count() * dim);
        for (row, bias) in weights.chunks_exact(dim).zip(bias) {
            let product = row.iter().zip(&self.mean);
            *bias += sign * product.fold(0.0, |sum, (weight, mean)| sum + weight * mean);
        }
    }
}

impl Objective for Centred<'_> {
    fn evaluate(&self, point: &[f64], gradient: &mut [f64]) -> f64 {
        let mut plain = point.to_vec();
        self.shift(&mut plain, -1.0);
        let value = self.regression.evaluate(&plain, gradient);
        let dim = self.mean.len();
        let (of_weights, of_bias) = gradient.split_at_mut(point.len() / (dim + 1) * dim);
        for (row, of_bias) in of_weights.chunks_exact_mut(dim).zip(of_bias) {
            for (to, mean) in row.iter_mut().zip(&self.mean) {
                *to -= *of_bias * mean;
            }
        }
        value
    }
}

/// Turns the scores of one sample, without the bias, into its loss; the scores become the loss's
/// gradient with respect to them, times `share`.
fn residuals(scores: &mut [f64], bias: &[f64], class: usize, share: f64) -> f64 {
    scores
        .iter_mut()
        .zip(bias)
        .for_each(|(score, bias)| *score += bias);
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let own = scores[class] - largest;
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        *score = (*score - largest).exp();
        sum += *score;
    }
    scores.iter_mut().for_each(|score| *score *= share / sum);
    scores[class] -= share;
    sum.ln() - own
}

#[cfg(test)]
mod tests {
    use super::super::samples::testing::clusters;
    use super::*;

    const GO: Effort<'static> = Effort {
        tolerance: Effort::EXACT,
        is_stopped: &|| false,
    };

    fn plain(l2: f64) -> Penalty<'static> {
        Penalty { l2, towards: None }
    }

    #[test]
    fn the_gradient_matches_the_value() {
        let samples = clusters(3, 7, 5, 0.8, 1);
        let towards: Vec<f64> = (0..15).map(|at| f64::from(at) / 7.0).collect();
        let regression = Regression {
            samples: &samples,
            penalty: Penalty {
                l2: 0.7,
                towards: Some(&towards),
            },
        };
        let point: Vec<f64> = (0..18)
            .map(|at| f64::from(at * at % 11) / 4.0 - 1.0)
            .collect();
        for objective in [&regression as &dyn Objective, &Centred::new(regression)] {
            let mut gradient = vec![0.0; 18];
            objective.evaluate(&point, &mut gradient);
            let mut ignored = vec![0.0; 18];
            for at in 0..point.len() {
                let mut value = |by: f64| {
                    let mut point = point.clone();
                    point[at] += by;
                    objective.evaluate(&point, &mut ignored)
                };
                let slope = (value(1e-5) - value(-1e-5)) / 2e-5;
                assert!(
                    (slope - gradient[at]).abs() < 1e-8,
                    "{at}: {slope} {}",
                    gradient[at]
                );
            }
        }
    }

    #[test]
    fn the_penalty_pulls_to_zero_or_to_the_start() {
        let samples = clusters(4, 20, 8, 0.5, 2);
        let size = |fit: &Fit| {
            fit.parameters[..32]
                .iter()
                .map(|v| v * v)
                .sum::<f64>()
                .sqrt()
        };
        let sizes: Vec<f64> = [1e6, 1.0, 1e-2]
            .map(|l2| size(&fit(&samples, plain(l2), None, GO).unwrap()))
            .into();
        assert!(
            sizes[0] < 1e-3 && sizes[1] > 1.0 && sizes[2] > 2.0 * sizes[1],
            "{sizes:?}"
        );
        let towards: Vec<f64> = (0..32).map(|at| f64::from(at % 5)).collect();
        let penalty = Penalty {
            l2: 1e9,
            towards: Some(&towards),
        };
        let found = fit(&samples, penalty, None, GO).unwrap();
        for (weight, towards) in found.parameters.iter().zip(&towards) {
            assert!((weight - towards).abs() < 1e-4);
        }
    }

    #[test]
    fn the_minimum_does_not_depend_on_start_or_threads() {
        let samples = clusters(5, 30, 16, 0.6, 3);
        let found = fit(&samples, plain(0.1), None, GO).unwrap();
        assert!(found.converged);
        let start: Vec<f64> = (0..85).map(|at| f64::from(at % 7) - 3.0).collect();
        let other = fit(&samples, plain(0.1), Some(&start), GO).unwrap();
        assert!((found.objective - other.objective).abs() < 1e-6 * found.objective);
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            let again = pool.install(|| fit(&samples, plain(0.1), None, GO).unwrap());
            assert_eq!(again.parameters, found.parameters, "{threads}");
        }
    }

    #[test]
    fn a_fit_without_steps_is_not_converged() {
        let samples = clusters(3, 8, 6, 0.5, 5);
        let found = fit(&samples, plain(1e300), None, GO).unwrap();
        assert!(!found.converged, "{found:?}");
        let towards = vec![7.0; 18];
        for (l2, towards) in [(1e-6, None), (1e6, None), (1e12, Some(&*towards))] {
            let found = fit(&samples, Penalty { l2, towards }, None, GO).unwrap();
            assert!(found.converged, "{l2}: {found:?}");
        }
    }

    #[test]
    fn a_cancelled_fit_is_an_error() {
        let samples = clusters(2, 3, 4, 0.5, 4);
        let stopped = Effort {
            is_stopped: &|| true,
            ..GO
        };
        let error = fit(&samples, plain(1.0), None, stopped).unwrap_err();
        assert!(error.is::<Stopped>());
    }
}
