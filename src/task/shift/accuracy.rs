//! The accuracy on B: expected without its labels, measured with them.

use super::below;
use super::label_shares::{LabelChange, changes};
use crate::task::metric::Resampling;
use crate::task::metric::bootstrap::Interval;

/// What a classifier said of an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Answer {
    /// The best label.
    pub label: usize,
    /// Its probability.
    pub confidence: f64,
    /// The sum of p ln p over all labels: 0 if one label is certain, and below otherwise.
    pub negative_entropy: f64,
    /// The true label, if it is known.
    pub truth: Option<usize>,
}

impl Answer {
    fn is_right(&self) -> bool {
        self.truth == Some(self.label)
    }
}

/// The share of right answers. All labels must be known.
#[must_use]
pub(crate) fn measured(answers: &[Answer]) -> f64 {
    right(answers) as f64 / answers.len() as f64
}

fn right(answers: &[Answer]) -> usize {
    answers.iter().filter(|answer| answer.is_right()).count()
}

/// Average thresholded confidence (arXiv 2201.04234): the threshold such that the share of `known`
/// images with a lower score is their error, and the share of `other` images that reach it, which is
/// their expected accuracy. Of equal scores of A all or none are below the threshold: those that
/// come closer from below.
#[must_use]
pub(crate) fn thresholded(
    known: &[Answer],
    other: &[Answer],
    score: impl Fn(&Answer) -> f64,
) -> f64 {
    let mut scores: Vec<f64> = known.iter().map(&score).collect();
    scores.sort_by(f64::total_cmp);
    let errors = known.len() - right(known);
    let threshold = scores.get(errors).copied().unwrap_or(f64::INFINITY);
    let reached = other.iter().filter(|answer| score(answer) >= threshold);
    reached.count() as f64 / other.len() as f64
}

/// Difference of confidences (arXiv 2107.03315): the accuracy of the `known` images less the drop of
/// the mean confidence.
#[must_use]
pub(crate) fn by_confidence(known: &[Answer], other: &[Answer]) -> f64 {
    let mean = |answers: &[Answer]| {
        let sum: f64 = answers.iter().map(|answer| answer.confidence).sum();
        sum / answers.len() as f64
    };
    measured(known) - (mean(known) - mean(other))
}

/// What became of the accuracy, with all labels known.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Drop {
    /// The accuracy of A minus that of B.
    pub drop: f64,
    /// Its bootstrap interval, both sets drawn again.
    pub interval: Interval,
    /// The recall of each label that both sets have, as its index and change.
    pub recalls: Vec<(usize, LabelChange)>,
}

/// Compares the right answers of A and B.
#[must_use]
pub(crate) fn dropped(sets: [&[Answer]; 2], labels: usize, how: &Resampling) -> Drop {
    let right = sets.map(right);
    let drawn = |n: usize, right: usize, rng: &mut _| {
        let hits = (0..n).filter(|_| below(n, rng) < right).count();
        hits as f64 / n as f64
    };
    let counts = sets.map(|set| {
        let mut counts = vec![(0, 0); labels];
        for answer in set {
            if let Some(truth) = answer.truth {
                counts[truth].0 += usize::from(answer.is_right());
                counts[truth].1 += 1;
            }
        }
        counts
    });
    let both: Vec<usize> = (0..labels)
        .filter(|&at| counts.iter().all(|counts| counts[at].1 > 0))
        .collect();
    let rows = both.iter().map(|&at| {
        let [a, b] = [counts[0][at], counts[1][at]];
        ([a.0, b.0], [a.1, b.1])
    });
    Drop {
        drop: measured(sets[0]) - measured(sets[1]),
        interval: how.of(|rng| {
            let [a, b] = [0, 1].map(|at| drawn(sets[at].len(), right[at], rng));
            a - b
        }),
        recalls: both.iter().copied().zip(changes(rows)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(confidence: f64, is_right: bool) -> Answer {
        Answer {
            label: 1,
            confidence,
            negative_entropy: confidence - 1.0,
            truth: Some(usize::from(is_right)),
        }
    }

    #[test]
    fn expected_accuracies_follow_their_definitions() {
        // Two of five are wrong, so that the two least confident are below the threshold of 0.6.
        let known = [
            (0.9, true),
            (0.5, false),
            (0.8, false),
            (0.4, true),
            (0.6, true),
        ];
        let known = known.map(|(confidence, is_right)| answer(confidence, is_right));
        let other = [0.59, 0.6, 0.61, 0.99].map(|confidence| Answer {
            truth: None,
            ..answer(confidence, false)
        });
        let confidence = |answer: &Answer| answer.confidence;
        assert_eq!(thresholded(&known, &other, confidence), 0.75);
        assert_eq!(
            thresholded(&known, &other, |answer| answer.negative_entropy),
            0.75
        );
        assert_eq!(thresholded(&known, &known, confidence), 0.6);
        let doc = by_confidence(&known, &other);
        assert!((doc - (0.6 - (0.64 - 0.6975))).abs() < 1e-12, "{doc}");
        // All right, all wrong: everything is expected, or nothing.
        let all = [answer(0.7, true), answer(0.8, true)];
        assert_eq!(thresholded(&all, &other, confidence), 0.25);
        let none = [answer(0.7, false), answer(0.8, false)];
        assert_eq!(thresholded(&none, &other, confidence), 0.0);
    }

    #[test]
    fn drops_have_intervals_and_recalls() {
        let set = |right: usize, n: usize| -> Vec<Answer> {
            (0..n)
                .map(|at| Answer {
                    truth: Some(if at < right { 1 } else { 0 }),
                    ..answer(0.5, true)
                })
                .collect()
        };
        let found = dropped([&set(180, 200), &set(100, 200)], 3, &Resampling::default());
        assert!((found.drop - 0.4).abs() < 1e-12);
        assert!(
            found.interval.low > 0.3 && found.interval.high < 0.5,
            "{found:?}"
        );
        assert_eq!(found.recalls.len(), 2);
        assert_eq!(found.recalls[0].1.shares, [0.0, 0.0]);
        assert_eq!(found.recalls[1].1.shares, [1.0, 1.0]);
    }
}
