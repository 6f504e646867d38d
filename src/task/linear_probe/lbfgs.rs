//! L-BFGS: minimises a smooth function of many variables from values and gradients alone.
//!
//! Nocedal and Wright, Numerical Optimization (2nd ed.), algorithms 7.4 and 7.5 for the direction,
//! 3.5 and 3.6 for a step that satisfies the strong Wolfe conditions. All in f64 and in a fixed
//! order of summation: the same function gives the same steps, to the bit. Knows nothing about the
//! function that it minimises.

mod line;

use std::collections::VecDeque;

use line::Line;

/// Number of past steps kept for the curvature.
const MEMORY: usize = 10;

/// A function to minimise.
pub(crate) trait Objective {
    /// Returns the value at `point` and overwrites `gradient`.
    fn evaluate(&self, point: &[f64], gradient: &mut [f64]) -> f64;
}

/// Stopping criteria.
#[derive(Clone, Copy)]
pub(crate) struct StoppingRule<'a> {
    /// Tolerance of the largest absolute gradient entry.
    pub tolerance: f64,
    /// Maximum number of steps.
    pub iterations: usize,
    /// Called before every step; true cancels the run.
    pub is_stopped: &'a (dyn Fn() -> bool + Sync),
}

/// Why it stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopReason {
    /// The gradient is small enough.
    Converged,
    /// No step decreases the value further in f64.
    Flat,
    /// The maximum number of steps was reached.
    Iterations,
    /// The run was cancelled.
    Stopped,
}

/// The result of a minimisation.
#[derive(Clone, Debug)]
pub(crate) struct Minimum {
    /// The lowest point.
    pub point: Vec<f64>,
    /// The value there.
    pub value: f64,
    /// The largest absolute gradient entry there.
    pub slope: f64,
    /// Steps taken.
    pub iterations: usize,
    /// Why it stopped.
    pub end: StopReason,
}

/// A point with its value and gradient.
#[derive(Clone)]
struct Place {
    point: Vec<f64>,
    value: f64,
    gradient: Vec<f64>,
}

/// A step and the change of the gradient along it.
struct Pair {
    step: Vec<f64>,
    change: Vec<f64>,
    product: f64,
}

/// Minimises from `start`.
#[must_use]
pub(crate) fn minimize(
    objective: &dyn Objective,
    start: Vec<f64>,
    ending: &StoppingRule<'_>,
) -> Minimum {
    let mut gradient = vec![0.0; start.len()];
    let value = objective.evaluate(&start, &mut gradient);
    let mut here = Place {
        point: start,
        value,
        gradient,
    };
    let mut memory: VecDeque<Pair> = VecDeque::new();
    let mut iterations = 0;
    let end = loop {
        let slope = largest(&here.gradient);
        if slope <= ending.tolerance {
            break StopReason::Converged;
        }
        if iterations == ending.iterations {
            break StopReason::Iterations;
        }
        if (ending.is_stopped)() {
            break StopReason::Stopped;
        }
        let mut line = Line::new(objective, &here, direction(&here.gradient, &memory));
        // The first step has no curvature information; length 1 is safe.
        let first = match memory.is_empty() {
            true => 1.0 / dot(&here.gradient, &here.gradient).sqrt(),
            false => 1.0,
        };
        let found = line.search(first);
        match found {
            Some(next) => {
                remember(&mut memory, &here, &next);
                here = next;
                iterations += 1;
            }
            // Stale curvature may mislead; the plain gradient is tried once without it.
            None if !memory.is_empty() => memory.clear(),
            None => break StopReason::Flat,
        }
    };
    Minimum {
        slope: largest(&here.gradient),
        value: here.value,
        point: here.point,
        iterations,
        end,
    }
}

fn remember(memory: &mut VecDeque<Pair>, here: &Place, next: &Place) {
    let step = difference(&next.point, &here.point);
    let change = difference(&next.gradient, &here.gradient);
    let product = dot(&step, &change);
    // Skip pairs without positive curvature.
    if product > f64::EPSILON * dot(&change, &change) {
        if memory.len() == MEMORY {
            memory.pop_front();
        }
        memory.push_back(Pair {
            step,
            change,
            product,
        });
    }
}

/// The search direction: the gradient transformed by the curvature estimate of earlier steps.
fn direction(gradient: &[f64], memory: &VecDeque<Pair>) -> Vec<f64> {
    let mut direction: Vec<f64> = gradient.iter().map(|value| -value).collect();
    let Some(last) = memory.back() else {
        return direction;
    };
    let mut factors = Vec::with_capacity(memory.len());
    for pair in memory.iter().rev() {
        let factor = dot(&pair.step, &direction) / pair.product;
        add(&mut direction, -factor, &pair.change);
        factors.push(factor);
    }
    let scale = last.product / dot(&last.change, &last.change);
    direction.iter_mut().for_each(|value| *value *= scale);
    for (pair, factor) in memory.iter().zip(factors.iter().rev()) {
        let back = dot(&pair.change, &direction) / pair.product;
        add(&mut direction, factor - back, &pair.step);
    }
    direction
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).fold(0.0, |sum, (a, b)| sum + a * b)
}

fn add(to: &mut [f64], factor: f64, what: &[f64]) {
    for (to, what) in to.iter_mut().zip(what) {
        *to += factor * what;
    }
}

fn difference(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

/// NaN counts as the largest.
fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |most, value| {
        let value = value.abs();
        if value <= most { most } else { value }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: StoppingRule<'_> = StoppingRule {
        tolerance: 1e-9,
        iterations: 500,
        is_stopped: &|| false,
    };

    struct Function<F>(F);

    impl<F: Fn(&[f64], &mut [f64]) -> f64> Objective for Function<F> {
        fn evaluate(&self, point: &[f64], gradient: &mut [f64]) -> f64 {
            self.0(point, gradient)
        }
    }

    fn rosenbrock(x: &[f64], g: &mut [f64]) -> f64 {
        let (a, b) = (1.0 - x[0], x[1] - x[0] * x[0]);
        g[0] = -2.0 * a - 400.0 * x[0] * b;
        g[1] = 200.0 * b;
        a * a + 100.0 * b * b
    }

    #[test]
    fn a_curved_valley_is_followed_to_the_minimum() {
        let found = minimize(&Function(rosenbrock), vec![-1.2, 1.0], &RULE);
        assert_eq!(found.end, StopReason::Converged);
        assert!((found.point[0] - 1.0).abs() < 1e-8 && (found.point[1] - 1.0).abs() < 1e-8);
        assert!(found.iterations < 60, "{}", found.iterations);
    }

    #[test]
    fn scales_that_differ_by_ten_thousand_are_handled() {
        let quadratic = |x: &[f64], g: &mut [f64]| {
            let scale = |at: usize| 10f64.powf(at as f64 / 7.5 - 2.0);
            (0..x.len()).fold(0.0, |sum, at| {
                g[at] = scale(at) * (x[at] - at as f64);
                sum + 0.5 * g[at] * (x[at] - at as f64)
            })
        };
        let patient = StoppingRule {
            tolerance: 1e-8,
            iterations: 5000,
            ..RULE
        };
        let found = minimize(&Function(quadratic), vec![0.0; 31], &patient);
        assert!(
            matches!(found.end, StopReason::Converged | StopReason::Flat),
            "{found:?}"
        );
        for (at, x) in found.point.iter().enumerate() {
            assert!((x - at as f64).abs() < 1e-5, "{at}: {x}");
        }
    }

    #[test]
    fn undefined_regions_are_avoided() {
        // ln is undefined at or below zero, where the first step would end.
        let barrier = |x: &[f64], g: &mut [f64]| {
            g[0] = 1e-3 - 1.0 / x[0];
            1e-3 * x[0] - x[0].ln()
        };
        let found = minimize(&Function(barrier), vec![1e-6], &RULE);
        assert!((found.point[0] - 1000.0).abs() < 1e-2, "{found:?}");
    }

    #[test]
    fn it_stops_when_requested() {
        let go =
            |ending: &StoppingRule<'_>| minimize(&Function(rosenbrock), vec![-1.2, 1.0], ending);
        let few = go(&StoppingRule {
            iterations: 3,
            ..RULE
        });
        assert_eq!((few.end, few.iterations), (StopReason::Iterations, 3));
        assert!(few.value < 24.2);
        let stopped = go(&StoppingRule {
            is_stopped: &|| true,
            ..RULE
        });
        assert_eq!((stopped.end, stopped.iterations), (StopReason::Stopped, 0));
        // A tolerance of zero may never be met in f64.
        let exact = go(&StoppingRule {
            tolerance: 0.0,
            ..RULE
        });
        assert!(
            matches!(exact.end, StopReason::Flat | StopReason::Converged),
            "{exact:?}"
        );
        let evaluations = std::sync::atomic::AtomicUsize::new(0);
        let level = minimize(
            &Function(|_: &[f64], g: &mut [f64]| {
                evaluations.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                g.fill(0.0);
                1.0
            }),
            vec![0.0],
            &RULE,
        );
        assert_eq!(
            (level.end, evaluations.into_inner()),
            (StopReason::Converged, 1)
        );
    }

    #[test]
    fn nan_is_not_a_minimum() {
        let nothing = |_: &[f64], g: &mut [f64]| {
            g.fill(f64::NAN);
            f64::NAN
        };
        let found = minimize(&Function(nothing), vec![0.0], &RULE);
        assert_eq!(found.end, StopReason::Flat);
        assert!(found.slope.is_nan());
    }
}
