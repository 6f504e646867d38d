//! L-BFGS: the minimum of a smooth function of many variables, from values and gradients alone.
//!
//! Nocedal and Wright, Numerical Optimization (2nd ed.), algorithms 7.4 and 7.5 for the direction,
//! 3.5 and 3.6 for a step that meets the strong Wolfe conditions. All in f64 and in one order of
//! summation: the same function gives the same steps, to the bit. Knows nothing of what it
//! minimises.

mod line;

use std::collections::VecDeque;

use line::Line;

/// Steps whose curvature is remembered.
const MEMORY: usize = 10;

/// A function to minimise.
pub trait Objective {
    /// The value at `point`; `gradient` is overwritten.
    fn evaluate(&self, point: &[f64], gradient: &mut [f64]) -> f64;
}

/// When to end.
#[derive(Clone, Copy)]
pub struct Ending<'a> {
    /// The largest entry of the gradient is at most this.
    pub tolerance: f64,
    /// After so many steps.
    pub iterations: usize,
    /// Asked before every step: whether nobody waits for the result any more.
    pub is_stopped: &'a (dyn Fn() -> bool + Sync),
}

/// Why it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The gradient is small enough.
    Converged,
    /// No step goes further down in f64.
    Flat,
    /// There were as many steps as allowed.
    Iterations,
    /// Nobody waits for the result any more.
    Stopped,
}

/// Where it ended.
#[derive(Clone, Debug)]
pub struct Minimum {
    /// The lowest point.
    pub point: Vec<f64>,
    /// The value there.
    pub value: f64,
    /// The largest entry of the gradient there, without its sign.
    pub slope: f64,
    /// Steps.
    pub iterations: usize,
    /// Calls of the function.
    pub evaluations: usize,
    /// Why there.
    pub end: End,
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

/// Goes down from `start`.
#[must_use]
pub fn minimize(objective: &dyn Objective, start: Vec<f64>, ending: &Ending<'_>) -> Minimum {
    let mut gradient = vec![0.0; start.len()];
    let value = objective.evaluate(&start, &mut gradient);
    let mut here = Place {
        point: start,
        value,
        gradient,
    };
    let mut memory: VecDeque<Pair> = VecDeque::new();
    let (mut iterations, mut evaluations) = (0, 1);
    let end = loop {
        let slope = largest(&here.gradient);
        if slope <= ending.tolerance {
            break End::Converged;
        }
        if iterations == ending.iterations {
            break End::Iterations;
        }
        if (ending.is_stopped)() {
            break End::Stopped;
        }
        let mut line = Line::new(objective, &here, direction(&here.gradient, &memory));
        // The first step has no curvature to go by; one of length 1 is harmless.
        let first = match memory.is_empty() {
            true => 1.0 / dot(&here.gradient, &here.gradient).sqrt(),
            false => 1.0,
        };
        let found = line.search(first);
        evaluations += line.evaluations;
        match found {
            Some(next) => {
                remember(&mut memory, &here, &next);
                here = next;
                iterations += 1;
            }
            // What was remembered may mislead; without it the gradient itself is tried once.
            None if !memory.is_empty() => memory.clear(),
            None => break End::Flat,
        }
    };
    Minimum {
        slope: largest(&here.gradient),
        value: here.value,
        point: here.point,
        iterations,
        evaluations,
        end,
    }
}

fn remember(memory: &mut VecDeque<Pair>, here: &Place, next: &Place) {
    let step = difference(&next.point, &here.point);
    let change = difference(&next.gradient, &here.gradient);
    let product = dot(&step, &change);
    // Without curvature there is nothing to learn.
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

/// Where to go: the gradient turned and scaled by what earlier steps tell of the curvature.
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

/// NaN is the largest of all.
fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |most, value| {
        let value = value.abs();
        if value <= most { most } else { value }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDING: Ending<'_> = Ending {
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
    fn a_bent_valley_is_followed_to_its_end() {
        let found = minimize(&Function(rosenbrock), vec![-1.2, 1.0], &ENDING);
        assert_eq!(found.end, End::Converged);
        assert!((found.point[0] - 1.0).abs() < 1e-8 && (found.point[1] - 1.0).abs() < 1e-8);
        assert!(found.iterations < 60, "{}", found.iterations);
    }

    #[test]
    fn scales_that_differ_by_ten_thousand_are_met() {
        let quadratic = |x: &[f64], g: &mut [f64]| {
            let scale = |at: usize| 10f64.powf(at as f64 / 7.5 - 2.0);
            (0..x.len()).fold(0.0, |sum, at| {
                g[at] = scale(at) * (x[at] - at as f64);
                sum + 0.5 * g[at] * (x[at] - at as f64)
            })
        };
        let patient = Ending {
            tolerance: 1e-8,
            iterations: 5000,
            ..ENDING
        };
        let found = minimize(&Function(quadratic), vec![0.0; 31], &patient);
        assert!(matches!(found.end, End::Converged | End::Flat), "{found:?}");
        for (at, x) in found.point.iter().enumerate() {
            assert!((x - at as f64).abs() < 1e-5, "{at}: {x}");
        }
    }

    #[test]
    fn what_has_no_value_is_walked_around() {
        // ln has none at or below zero, where the first step would end.
        let barrier = |x: &[f64], g: &mut [f64]| {
            g[0] = 1e-3 - 1.0 / x[0];
            1e-3 * x[0] - x[0].ln()
        };
        let found = minimize(&Function(barrier), vec![1e-6], &ENDING);
        assert!((found.point[0] - 1000.0).abs() < 1e-2, "{found:?}");
    }

    #[test]
    fn it_ends_when_told_to() {
        let go = |ending: &Ending<'_>| minimize(&Function(rosenbrock), vec![-1.2, 1.0], ending);
        let few = go(&Ending {
            iterations: 3,
            ..ENDING
        });
        assert_eq!((few.end, few.iterations), (End::Iterations, 3));
        assert!(few.value < 24.2);
        let stopped = go(&Ending {
            is_stopped: &|| true,
            ..ENDING
        });
        assert_eq!((stopped.end, stopped.iterations), (End::Stopped, 0));
        // Zero is a tolerance that f64 may never meet.
        let exact = go(&Ending {
            tolerance: 0.0,
            ..ENDING
        });
        assert!(matches!(exact.end, End::Flat | End::Converged), "{exact:?}");
        let level = minimize(
            &Function(|_: &[f64], g: &mut [f64]| {
                g.fill(0.0);
                1.0
            }),
            vec![0.0],
            &ENDING,
        );
        assert_eq!((level.end, level.evaluations), (End::Converged, 1));
    }

    #[test]
    fn not_a_number_is_no_minimum() {
        let nothing = |_: &[f64], g: &mut [f64]| {
            g.fill(f64::NAN);
            f64::NAN
        };
        let found = minimize(&Function(nothing), vec![0.0], &ENDING);
        assert_eq!(found.end, End::Flat);
        assert!(found.slope.is_nan());
    }
}
