//! The temperature that logits are divided by before the softmax.
//!
//! Guo et al., On Calibration of Modern Neural Networks (2017). The mean negative log likelihood is
//! convex in 1 / temperature, so there is one minimum and no optimiser to configure.

use anyhow::{Result, ensure};

use super::samples::{LabelledLogits, check, fold_chunks};

/// Bounds of 1 / temperature: beyond, every softmax is one-hot or uniform.
const LIMITS: [f64; 2] = [1e-4, 1e4];
/// Maximum steps; bisection alone needs 40.
const MOST_STEPS: usize = 100;

/// A fitted temperature.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Temperature {
    /// The temperature, by which logits are divided.
    pub temperature: f64,
    /// Whether the samples determine it. They do not if they are all right or more often wrong than
    /// chance (an ever sharper or flatter softmax would fit better still), or if all logits are
    /// equal; the temperature is then 1.
    pub determined: bool,
    /// The mean negative log likelihood at temperature 1.
    pub nll_before: f64,
    /// The mean negative log likelihood at `temperature`.
    pub nll_after: f64,
}

/// The mean negative log likelihood of the samples that belong to a class, with logits divided by
/// `temperature`; `None` if there are none.
#[must_use]
pub fn negative_log_likelihood<S: LabelledLogits>(samples: &S, temperature: f64) -> Option<f64> {
    let slope = Slope::of(samples, temperature.recip());
    (slope.count > 0).then_some(slope.nll)
}

/// Fits the temperature to the samples that belong to a class (the others have no likelihood). The
/// result does not depend on the number of threads.
///
/// # Errors
/// When no sample belongs to a class, one has an unknown class, or a logit is not finite.
pub fn fit_temperature<S: LabelledLogits>(samples: &S) -> Result<Temperature> {
    check(samples)?;
    let at = |inverse: f64| Slope::of(samples, inverse);
    let start = at(1.0);
    ensure!(
        start.count > 0,
        "cannot fit a temperature: no sample belongs to one of the classes"
    );
    let [low, high] = LIMITS;
    let kept = Temperature {
        temperature: 1.0,
        determined: false,
        nll_before: start.nll,
        nll_after: start.nll,
    };
    if at(low).first >= 0.0 || at(high).first <= 0.0 {
        return Ok(kept);
    }
    let (inverse, end) = root(&at, start);
    Ok(Temperature {
        temperature: 1.0 / inverse,
        determined: true,
        nll_after: end.nll,
        ..kept
    })
}

/// The zero of the first derivative, by Newton's method from 1, and by bisection (of logarithms)
/// whenever a step would leave the interval or gain less than bisection.
fn root(at: &impl Fn(f64) -> Slope, start: Slope) -> (f64, Slope) {
    let [mut low, mut high] = LIMITS;
    let (mut inverse, mut slope, mut last_step) = (1.0, start, f64::INFINITY);
    for _ in 0..MOST_STEPS {
        if slope.first < 0.0 {
            low = inverse;
        } else {
            high = inverse;
        }
        let newton = inverse - slope.first / slope.second;
        let good = newton > low && newton < high && 2.0 * (newton - inverse).abs() <= last_step;
        let next = if good { newton } else { (low * high).sqrt() };
        last_step = (next - inverse).abs();
        inverse = next;
        slope = at(inverse);
        if last_step <= 1e-10 * inverse {
            break;
        }
    }
    (inverse, slope)
}

/// The mean negative log likelihood at some 1 / temperature, and its derivatives with respect to
/// it.
#[derive(Clone, Copy)]
struct Slope {
    count: usize,
    nll: f64,
    first: f64,
    second: f64,
}

impl Slope {
    fn of<S: LabelledLogits>(samples: &S, inverse: f64) -> Self {
        let terms = fold_chunks(samples, |sample, logits| {
            let target = samples.target(sample)?;
            let softmax = Softmax::new(logits, inverse);
            let own = f64::from(logits[target]) - softmax.largest;
            Some([
                softmax.sum.ln() - inverse * own,
                softmax.mean - own,
                softmax.variance,
            ])
        });
        let (mut count, mut sums) = (0, [0.0; 3]);
        for term in terms.into_iter().flatten() {
            count += 1;
            sums.iter_mut().zip(term).for_each(|(sum, x)| *sum += x);
        }
        let [nll, first, second] = sums.map(|sum| sum / f64::from(count.max(1)));
        Self {
            count: count as usize,
            nll,
            first,
            second,
        }
    }
}

/// The softmax of one sample, relative to its largest logit, so that no exponential overflows.
pub(super) struct Softmax {
    /// The largest logit.
    pub(super) largest: f64,
    /// Its class, the first on ties.
    pub(super) class: usize,
    /// The sum of exp((logit - largest) / temperature).
    pub(super) sum: f64,
    /// Mean and variance of logit - largest under the probabilities.
    mean: f64,
    variance: f64,
}

impl Softmax {
    /// For finite logits, at some 1 / temperature.
    pub(super) fn new(logits: &[f32], inverse: f64) -> Self {
        let mut class = 0;
        for (i, logit) in logits.iter().enumerate() {
            if *logit > logits[class] {
                class = i;
            }
        }
        let largest = f64::from(logits[class]);
        let [mut sum, mut first, mut second] = [0.0; 3];
        for logit in logits {
            let below = f64::from(*logit) - largest;
            let weight = (inverse * below).exp();
            sum += weight;
            first += weight * below;
            second += weight * below * below;
        }
        let mean = first / sum;
        Self {
            largest,
            class,
            sum,
            mean,
            variance: (second / sum - mean * mean).max(0.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::Stored;
    use super::*;

    fn fit(logits: &[f32], targets: &[usize], classes: usize) -> Temperature {
        let targets: Vec<_> = targets.iter().copied().map(Some).collect();
        fit_temperature(&Stored::new(logits, &targets, classes).unwrap()).unwrap()
    }

    #[test]
    fn three_of_four_right_gives_a_probability_of_three_quarters() {
        // Two classes whose logits differ by d: the best p is 3/4, so d / T = ln 3.
        for d in [1e-3f32, 0.5, 1.0, 30.0, 1e4] {
            let logits = [d, 0.0].repeat(4);
            let found = fit(&logits, &[0, 0, 0, 1], 2);
            let expected = f64::from(d) / 3f64.ln();
            let ratio = found.temperature / expected;
            assert!(
                found.determined && (ratio - 1.0).abs() < 1e-8,
                "{d}: {found:?}"
            );
            let entropy = -(0.75 * 0.75f64.ln() + 0.25 * 0.25f64.ln());
            assert!((found.nll_after - entropy).abs() < 1e-9, "{d}: {found:?}");
            assert!(found.nll_before >= found.nll_after);
        }
    }

    #[test]
    fn undetermined_temperatures_stay_at_one() {
        let cases: [(&[f32], &[usize]); 4] = [
            // All right, all wrong, at chance level, all equal.
            (&[2.0, 0.0, 0.0, 3.0], &[0, 1]),
            (&[2.0, 0.0, 0.0, 3.0], &[1, 0]),
            (&[1.0, 0.0, 1.0, 0.0], &[0, 1]),
            (&[4.0, 4.0, 7.0, 7.0], &[0, 1]),
        ];
        for (logits, targets) in cases {
            let found = fit(logits, targets, 2);
            assert!(!found.determined, "{logits:?}: {found:?}");
            assert_eq!(found.temperature, 1.0);
            assert_eq!(found.nll_before, found.nll_after);
        }
    }

    #[test]
    fn extreme_logits_do_not_overflow() {
        // One narrowly wrong answer among clearly right ones, and the reverse.
        for logits in [
            [3e38, -3e38, 3e38, -3e38, 1e-3, 0.0],
            [1e-3, 0.0, 1e-3, 0.0, 3e38, -3e38],
        ] {
            let found = fit(&logits, &[0, 0, 1], 2);
            assert!(found.temperature.is_finite() && found.temperature > 0.0);
            assert!(
                found.nll_after.is_finite() || !found.determined,
                "{found:?}"
            );
        }
    }

    #[test]
    fn samples_of_no_class_are_ignored() {
        let logits = [1.0, 0.0].repeat(5);
        let targets = [Some(0), None, Some(0), Some(0), Some(1)];
        let with = fit_temperature(&Stored::new(&logits, &targets, 2).unwrap()).unwrap();
        let without = fit(&logits[2..], &[0, 0, 0, 1], 2);
        assert_eq!(with, without);
    }

    #[test]
    fn invalid_samples_are_refused() {
        let none = Stored::new(&[1.0, 0.0], &[None], 2).unwrap();
        assert!(fit_temperature(&none).is_err());
        let other = Stored::new(&[1.0, 0.0], &[Some(2)], 2).unwrap();
        assert!(fit_temperature(&other).is_err());
        for bad in [f32::NAN, f32::INFINITY] {
            let logits = [1.0, 0.0, 1.0, bad];
            let stored = Stored::new(&logits, &[Some(0), Some(0)], 2).unwrap();
            let error = fit_temperature(&stored).unwrap_err().to_string();
            assert!(error.contains("sample 1"), "{error}");
        }
        assert!(Stored::new(&[1.0], &[Some(0)], 2).is_err());
        assert!(fit_temperature(&Stored::new(&[], &[], 2).unwrap()).is_err());
        assert!(fit_temperature(&Stored::new(&[], &[None], 0).unwrap()).is_err());
    }
}
