//! The label shares of a set without labels, where those of another are known and images of a label
//! look the same in both (label shift).

use crate::kernel::matrix::Matrix;

/// Shares that change by less in a step have converged.
const CONVERGED: f64 = 1e-8;
/// Steps at most.
const STEPS: usize = 10_000;
/// A pivot below this share of the largest makes the confusions of A singular.
const SINGULAR: f64 = 1e-9;

/// Label shares of B by black box shift estimation (arXiv 1802.03916): the w >= 0 with C w = mu,
/// times A's shares, at a sum of 1. C are the joint shares of answers (rows) and true labels of A,
/// `[truth, answer]` for each image, mu the shares of `answers` in B.
///
/// Only labels that A has are estimated; others have a share of 0. `None` if the confusions do not
/// determine the shares, because some labels of A get the same answers.
#[must_use]
pub(crate) fn by_confusions(
    known: &[[usize; 2]],
    answers: &[usize],
    labels: usize,
) -> Option<Vec<f64>> {
    let mut of_truth = vec![0usize; labels];
    known.iter().for_each(|&[truth, _]| of_truth[truth] += 1);
    let there: Vec<usize> = (0..labels).filter(|&at| of_truth[at] > 0).collect();
    let place = |label: usize| there.binary_search(&label).ok();
    let size = there.len();
    // Answers that A does not have as a label say nothing about its labels.
    let mut joint = Matrix::from_fn(size, size + 1, |_, _| 0.0);
    let width = size + 1;
    for &[truth, answer] in known {
        if let (Some(row), Some(column)) = (place(answer), place(truth)) {
            joint.numbers[row * width + column] += 1.0 / known.len() as f64;
        }
    }
    for &answer in answers {
        if let Some(row) = place(answer) {
            joint.numbers[row * width + size] += 1.0 / answers.len() as f64;
        }
    }
    let weights = solved(joint)?;
    let mut shares = vec![0.0; labels];
    for (&label, weight) in there.iter().zip(weights) {
        shares[label] = weight.max(0.0) * of_truth[label] as f64;
    }
    let sum: f64 = shares.iter().sum();
    if sum <= 0.0 {
        return None;
    }
    shares.iter_mut().for_each(|share| *share /= sum);
    Some(shares)
}

/// The solution of a system with its right-hand side as the last column, by elimination.
fn solved(mut system: Matrix) -> Option<Vec<f64>> {
    let (size, width) = (system.height, system.width);
    let largest = system
        .numbers
        .iter()
        .fold(0.0f64, |most, x| most.max(x.abs()));
    for column in 0..size {
        let pivot = (column..size).max_by(|&a, &b| {
            system
                .at(a, column)
                .abs()
                .total_cmp(&system.at(b, column).abs())
        })?;
        if system.at(pivot, column).abs() <= SINGULAR * largest {
            return None;
        }
        for at in 0..width {
            system.numbers.swap(pivot * width + at, column * width + at);
        }
        let (above, below) = system.numbers.split_at_mut((column + 1) * width);
        let row = &above[column * width..];
        for other in below.chunks_exact_mut(width) {
            let factor = other[column] / row[column];
            for at in column..width {
                other[at] -= factor * row[at];
            }
        }
    }
    let mut found = vec![0.0; size];
    for row in (0..size).rev() {
        let known: f64 = (row + 1..size)
            .map(|at| system.at(row, at) * found[at])
            .sum();
        found[row] = (system.at(row, size) - known) / system.at(row, row);
    }
    Some(found)
}

/// Label shares of B by the expectation maximisation of Saerens and others: from the shares `prior`
/// that the probabilities [n, labels] take for granted, to those by which they explain themselves.
/// A label without a share in A has none in B.
#[must_use]
pub(crate) fn by_probabilities(probabilities: &[f32], prior: &[f64]) -> Vec<f64> {
    let labels = prior.len();
    let count = (probabilities.len() / labels) as f64;
    let mut shares = prior.to_vec();
    for _ in 0..STEPS {
        let ratios: Vec<f64> = (shares.iter().zip(prior))
            .map(|(share, prior)| if *prior > 0.0 { share / prior } else { 0.0 })
            .collect();
        let mut next = vec![0.0; labels];
        for row in probabilities.chunks_exact(labels) {
            let weigh = || {
                row.iter()
                    .zip(&ratios)
                    .map(|(p, ratio)| f64::from(*p) * ratio)
            };
            let sum: f64 = weigh().sum();
            if sum > 0.0 {
                let terms = next.iter_mut().zip(weigh());
                terms.for_each(|(next, weight)| *next += weight / sum / count);
            }
        }
        let sum: f64 = next.iter().sum();
        if sum <= 0.0 {
            break;
        }
        next.iter_mut().for_each(|share| *share /= sum);
        let changes = next.iter().zip(&shares).map(|(a, b)| (a - b).abs());
        let change = changes.fold(0.0, f64::max);
        shares = next;
        if change < CONVERGED {
            break;
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Images of two labels, answered with 90% and 70% right.
    fn known(first: usize, second: usize) -> Vec<[usize; 2]> {
        let of = |truth: usize, n: usize, right: usize| {
            (0..n).map(move |at| [truth, if at % 10 < right { truth } else { 1 - truth }])
        };
        of(0, first, 9).chain(of(1, second, 7)).collect()
    }

    #[test]
    fn a_planted_share_is_recovered_from_confusions() {
        let answers: Vec<usize> = known(100, 900).iter().map(|[_, answer]| *answer).collect();
        let found = by_confusions(&known(500, 500), &answers, 3).unwrap();
        assert!(
            (found[0] - 0.1).abs() < 1e-12 && (found[1] - 0.9).abs() < 1e-12,
            "{found:?}"
        );
        assert_eq!(found[2], 0.0);
        // More of the first answer than even a set of the first label alone would have.
        let found = by_confusions(&known(500, 500), &[0; 20], 3).unwrap();
        assert_eq!(found, [1.0, 0.0, 0.0]);
        // Answers that do not depend on the label.
        let blind = [[0, 0], [0, 1], [1, 0], [1, 1]];
        assert_eq!(by_confusions(&blind, &answers, 2), None);
        assert_eq!(by_confusions(&known(10, 10), &[2, 2], 3), None);
    }

    #[test]
    fn a_planted_share_is_recovered_from_probabilities() {
        // A feature with three values; p(value | label), and a prior of 1/2.
        let given = [[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]];
        let shares = [0.2, 0.8];
        let mut probabilities = Vec::new();
        for (a, b) in given[0].into_iter().zip(given[1]) {
            let n: f64 = 1000.0 * (shares[0] * a + shares[1] * b);
            for _ in 0..n.round() as usize {
                probabilities.extend([(a / (a + b)) as f32, (b / (a + b)) as f32]);
            }
        }
        let found = by_probabilities(&probabilities, &[0.5, 0.5]);
        assert!((found[0] - 0.2).abs() < 1e-5, "{found:?}");
        // A label that A lacks stays without a share.
        assert_eq!(by_probabilities(&[0.5, 0.5], &[1.0, 0.0]), [1.0, 0.0]);
    }
}
