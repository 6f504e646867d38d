//! Whether a classifier can tell from which of two sets an embedding is (the classifier two-sample
//! test, arXiv 1610.06545).

use anyhow::Result;

use super::statistics::coin_at_least;
use super::{drawn, rows};
use crate::task::linear_probe::Samples;
use crate::task::linear_probe::logistic::{Effort, Penalty, fit};

/// Parts of the cross-validation: the images at the places with one remainder are held out.
pub(crate) const FOLDS: usize = 5;
/// Images of each set, at most: a test that needs more finds differences too small to matter.
pub(crate) const MOST: usize = 2000;
/// The L2 penalty, 1 / C of scikit-learn's default.
const L2: f64 = 1.0;

/// How well the sets are told apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Judged {
    /// Images of each set.
    pub each: usize,
    /// The share of held-out images that are put into their own set; 1/2 by chance.
    pub accuracy: f64,
    /// The share of pairs with the image of B above that of A, ties counting half.
    pub auc: f64,
    /// The probability of at least this accuracy by tosses of a fair coin.
    pub p: f64,
}

/// Judges as many rows of each of `sets` [n, dim], at most [`MOST`], so that chance is 1/2. The
/// logistic regression is that of scikit-learn with C = 1.
///
/// # Errors
/// When a row is not a unit vector, or `is_stopped`.
///
/// Panics when a set has fewer than [`FOLDS`] rows.
pub(crate) fn judge(
    sets: [&[f32]; 2],
    dim: usize,
    seed: u64,
    is_stopped: &(dyn Fn() -> bool + Sync),
) -> Result<Judged> {
    let counts = sets.map(|set| set.len() / dim);
    let each = counts[0].min(counts[1]).min(MOST);
    assert!(each >= FOLDS, "a set has fewer than {FOLDS} rows");
    let used = [0, 1].map(|at| rows(sets[at], dim, &drawn(counts[at], each, seed)));
    let mut scores = [vec![0.0; each], vec![0.0; each]];
    for fold in 0..FOLDS {
        let mut samples = Samples::new(dim, 2);
        for (class, set) in used.iter().enumerate() {
            let known = set.chunks_exact(dim).enumerate();
            for (_, row) in known.filter(|(at, _)| at % FOLDS != fold) {
                samples.push(row, class)?;
            }
        }
        let penalty = Penalty {
            l2: L2,
            towards: None,
        };
        let effort = Effort {
            tolerance: Effort::EXACT,
            is_stopped,
        };
        let fitted = fit(&samples, penalty, None, effort)?.parameters;
        let (weights, bias) = fitted.split_at(2 * dim);
        for (set, scores) in used.iter().zip(&mut scores) {
            for at in (fold..each).step_by(FOLDS) {
                let row = set[at * dim..][..dim].iter().map(|x| f64::from(*x));
                let apart = weights[..dim].iter().zip(&weights[dim..]);
                let terms = row.zip(apart).map(|(x, (a, b))| x * (b - a));
                scores[at] = bias[1] - bias[0] + terms.sum::<f64>();
            }
        }
    }
    let [a, b] = &mut scores;
    let right = a.iter().filter(|&&score| score <= 0.0).count()
        + b.iter().filter(|&&score| score > 0.0).count();
    Ok(Judged {
        each,
        accuracy: right as f64 / (2 * each) as f64,
        auc: area(a, b),
        p: coin_at_least(right, 2 * each),
    })
}

/// The area under the curve of true and false positives.
fn area(a: &mut [f64], b: &[f64]) -> f64 {
    a.sort_by(f64::total_cmp);
    let below = |score: &f64| {
        let less = a.partition_point(|other| other < score);
        let ties = a.partition_point(|other| other <= score) - less;
        less as f64 + 0.5 * ties as f64
    };
    b.iter().map(below).sum::<f64>() / (a.len() * b.len()) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::shift::statistics::testing::unit_rows;

    #[test]
    fn sets_that_differ_are_told_apart_and_equal_ones_are_not() {
        let dim = 8;
        let draw = |n, shift, seed| unit_rows(n, dim, shift, seed);
        let judged = |a: &[f32], b: &[f32]| judge([a, b], dim, 0, &|| false).unwrap();
        let found = judged(&draw(90, -1.0, 1), &draw(60, 1.0, 2));
        assert_eq!(found.each, 60);
        assert!(
            found.accuracy > 0.8 && found.auc > 0.9 && found.p < 1e-9,
            "{found:?}"
        );
        let found = judged(&draw(60, 0.0, 1), &draw(60, 0.0, 2));
        assert!((found.auc - 0.5).abs() < 0.2 && found.p > 0.01, "{found:?}");
    }

    #[test]
    fn areas_count_ties_half() {
        assert_eq!(area(&mut [1.0, 0.0], &[2.0, 3.0]), 1.0);
        assert_eq!(area(&mut [1.0, 0.0], &[1.0, -1.0]), 0.375);
        assert_eq!(area(&mut [5.0], &[5.0]), 0.5);
    }
}
