//! Line search for a step that satisfies the strong Wolfe conditions.

use super::{Objective, Place, add, dot};

/// Sufficient decrease, as a fraction of that predicted by the slope.
const DECREASE: f64 = 1e-4;
/// Curvature condition: maximum remaining fraction of the slope.
const SLOPE: f64 = 0.9;
/// Maximum evaluations per line search.
const TRIES: usize = 40;

/// The function along a ray.
pub(super) struct Line<'a> {
    objective: &'a dyn Objective,
    from: &'a Place,
    direction: Vec<f64>,
    /// The slope at the start.
    slope: f64,
    pub(super) evaluations: usize,
}

/// A step along the line: its length, and the point reached.
#[derive(Clone)]
struct Step {
    length: f64,
    slope: f64,
    place: Place,
}

impl<'a> Line<'a> {
    pub(super) fn new(objective: &'a dyn Objective, from: &'a Place, direction: Vec<f64>) -> Self {
        Self {
            slope: dot(&from.gradient, &direction),
            objective,
            from,
            direction,
            evaluations: 0,
        }
    }

    /// A step that satisfies the strong Wolfe conditions, if one exists in f64.
    pub(super) fn search(&mut self, first: f64) -> Option<Place> {
        if !(self.slope < 0.0 && self.slope.is_finite()) {
            return None;
        }
        let mut before = Step {
            length: 0.0,
            slope: self.slope,
            place: self.from.clone(),
        };
        let mut length = first;
        while self.evaluations < TRIES {
            let step = self.at(length);
            if self.is_too_high(&step)
                || step.place.value >= before.place.value && before.length > 0.0
            {
                return self.zoom(before, step);
            }
            if step.slope.abs() <= -SLOPE * self.slope {
                return Some(step.place);
            }
            if step.slope >= 0.0 {
                return self.zoom(step, before);
            }
            length = 2.0 * step.length;
            before = step;
        }
        None
    }

    /// Between `low`, the best step so far, and `high`, where the value rises again.
    fn zoom(&mut self, mut low: Step, mut high: Step) -> Option<Place> {
        while self.evaluations < TRIES {
            let length = between(&low, &high);
            if length == low.length || length == high.length {
                break;
            }
            let step = self.at(length);
            if self.is_too_high(&step) || step.place.value >= low.place.value {
                high = step;
                continue;
            }
            if step.slope.abs() <= -SLOPE * self.slope {
                return Some(step.place);
            }
            if step.slope * (high.length - low.length) >= 0.0 {
                high = low;
            }
            low = step;
        }
        // Any decrease is accepted, however small.
        (low.length > 0.0 && low.place.value < self.from.value).then_some(low.place)
    }

    fn at(&mut self, length: f64) -> Step {
        self.evaluations += 1;
        let mut point = self.from.point.clone();
        add(&mut point, length, &self.direction);
        let mut gradient = vec![0.0; point.len()];
        let value = self.objective.evaluate(&point, &mut gradient);
        Step {
            length,
            slope: dot(&gradient, &self.direction),
            place: Place {
                point,
                value,
                gradient,
            },
        }
    }

    /// Too far: the value is undefined, or not far enough below the start.
    fn is_too_high(&self, step: &Step) -> bool {
        let enough = self.from.value + DECREASE * step.length * self.slope;
        !step.place.value.is_finite() || !step.slope.is_finite() || step.place.value > enough
    }
}

/// The minimum of the cubic through both values and slopes, kept away from the ends; the midpoint
/// if there is no such cubic.
fn between(low: &Step, high: &Step) -> f64 {
    let (a, b) = (low.length, high.length);
    let middle = 0.5 * (a + b);
    let bend = low.slope + high.slope - 3.0 * (low.place.value - high.place.value) / (a - b);
    let square = bend * bend - low.slope * high.slope;
    if !square.is_finite() || square < 0.0 {
        return middle;
    }
    let root = square.sqrt() * (b - a).signum();
    let cubic = b - (b - a) * (high.slope + root - bend) / (high.slope - low.slope + 2.0 * root);
    let margin = 0.1 * (b - a).abs();
    let (least, most) = (a.min(b) + margin, a.max(b) - margin);
    match cubic.is_finite() {
        true => cubic.clamp(least, most),
        false => middle,
    }
}
