//! Effective robustness: the accuracy on B beyond what other models with the same accuracy on A
//! have (arXiv 2007.00644, and the CLIP article's own term).

use anyhow::{Result, ensure};

/// A line through the logits of accuracies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Line {
    /// Its slope.
    pub slope: f64,
    /// Its value at a logit of 0, an accuracy of 1/2.
    pub intercept: f64,
}

impl Line {
    /// The least-squares line of the accuracies on B over those on A.
    ///
    /// # Errors
    /// When an accuracy is not between 0 and 1, or there are no two different ones on A.
    pub(crate) fn new(accuracies: &[[f64; 2]]) -> Result<Self> {
        for &accuracy in accuracies.as_flattened() {
            ensure!(
                accuracy > 0.0 && accuracy < 1.0,
                "an accuracy of {accuracy} has no logit: accuracies are shares above 0 and below 1"
            );
        }
        let points: Vec<[f64; 2]> = accuracies.iter().map(|pair| pair.map(logit)).collect();
        let n = points.len() as f64;
        let [x, y] = [0, 1].map(|at| points.iter().map(|point| point[at]).sum::<f64>() / n);
        let spread: f64 = points.iter().map(|point| (point[0] - x).powi(2)).sum();
        ensure!(
            points.len() > 1 && spread > 0.0,
            "a line needs models with at least two different accuracies on A"
        );
        let both = points.iter().map(|point| (point[0] - x) * (point[1] - y));
        let slope = both.sum::<f64>() / spread;
        Ok(Self {
            slope,
            intercept: y - slope * x,
        })
    }

    /// The accuracy on B of a model with this accuracy on A; 0 and 1 stay as they are for a rising
    /// line.
    #[must_use]
    pub(crate) fn at(self, accuracy: f64) -> f64 {
        let logit = self.slope * logit(accuracy) + self.intercept;
        1.0 / (1.0 + (-logit).exp())
    }
}

fn logit(accuracy: f64) -> f64 {
    (accuracy / (1.0 - accuracy)).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_on_a_line_have_no_effective_robustness() {
        let on = |x: f64| {
            [
                1.0 / (1.0 + (-x).exp()),
                1.0 / (1.0 + (0.5 - 0.8 * x).exp()),
            ]
        };
        let line = Line::new(&[on(-1.0), on(0.0), on(2.5)]).unwrap();
        assert!((line.slope - 0.8).abs() < 1e-12 && (line.intercept + 0.5).abs() < 1e-12);
        let [a, b] = on(1.2);
        assert!((line.at(a) - b).abs() < 1e-12);
        assert_eq!((line.at(0.0), line.at(1.0)), (0.0, 1.0));
        for bad in [
            &[[0.5, 0.4]][..],
            &[[0.5, 0.4], [0.5, 0.6]],
            &[[1.0, 0.4], [0.5, 0.3]],
            &[],
        ] {
            assert!(Line::new(bad).is_err(), "{bad:?}");
        }
    }
}
