//! The probability threshold below which the answer is "none of these".

use super::samples::{LabelledLogits, check, fold_chunks};
use super::temperature::Softmax;
use anyhow::{Result, ensure};

/// The best class of a sample at a given temperature.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judged {
    /// The true class; `None` if it is none of the classes.
    pub target: Option<usize>,
    /// The best class, the first on ties.
    pub predicted: usize,
    /// Its probability.
    pub probability: f32,
}

impl Judged {
    /// Whether the best class is the true one.
    #[must_use]
    pub(crate) fn correct(&self) -> bool {
        self.target == Some(self.predicted)
    }
}

/// The best class of each sample, with logits divided by `temperature`.
///
/// # Errors
/// When the temperature is not positive, a sample has an unknown class, or a logit is
/// not finite.
pub fn judge<S: LabelledLogits>(samples: &S, temperature: f64) -> Result<Vec<Judged>> {
    ensure!(
        temperature > 0.0 && temperature.is_finite(),
        "the temperature {temperature} is not a positive number"
    );
    check(samples)?;
    Ok(fold_chunks(samples, |sample, logits| {
        let softmax = Softmax::new(logits, temperature.recip());
        Judged {
            target: samples.target(sample),
            predicted: softmax.class,
            probability: softmax.sum.recip() as f32,
        }
    }))
}

/// A threshold and its effect on the samples that it was chosen on, or on others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NoneThreshold {
    /// Answers of at least this probability are kept.
    pub threshold: f32,
    /// Right answers.
    pub right: usize,
    /// Right answers that are kept.
    pub right_kept: usize,
    /// Wrong answers for samples that belong to a class.
    pub wrong: usize,
    /// Those of them that are dropped.
    pub wrong_dropped: usize,
    /// Answers for samples of none of the classes, all of them wrong.
    pub outside: usize,
    /// Those of them that are dropped.
    pub outside_dropped: usize,
}

impl NoneThreshold {
    /// The effect of `threshold` on some answers.
    #[must_use]
    pub(crate) fn apply(threshold: f32, judged: &[Judged]) -> Self {
        let count = |wanted: &dyn Fn(&Judged) -> bool| {
            let all = || judged.iter().filter(|answer| wanted(answer));
            let kept = all().filter(|answer| answer.probability >= threshold);
            (all().count(), kept.count())
        };
        let (right, right_kept) = count(&Judged::correct);
        let (wrong, wrong_kept) = count(&|answer| answer.target.is_some() && !answer.correct());
        let (outside, outside_kept) = count(&|answer| answer.target.is_none());
        Self {
            threshold,
            right,
            right_kept,
            wrong,
            wrong_dropped: wrong - wrong_kept,
            outside,
            outside_dropped: outside - outside_kept,
        }
    }

    /// Youden's J: the share of right answers kept plus that of all others dropped, minus 1; 0 is
    /// chance level.
    #[must_use]
    pub fn youden(&self) -> f64 {
        let share = |part: usize, whole: usize| part as f64 / whole.max(1) as f64;
        let others = self.wrong + self.outside;
        share(self.right_kept, self.right)
            + share(self.wrong_dropped + self.outside_dropped, others)
            - 1.0
    }
}

/// The threshold that best separates right answers from wrong ones and from samples of no class:
/// among the occurring probabilities, the one with the largest Youden's J; on ties the lowest,
/// which keeps more. `None` if the answers are all right or all wrong, or no threshold beats
/// keeping everything.
#[must_use]
pub fn choose_threshold(judged: &[Judged]) -> Option<NoneThreshold> {
    let mut sorted: Vec<(f32, bool)> = judged
        .iter()
        .map(|answer| (answer.probability, answer.correct()))
        .collect();
    sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
    let right = sorted.iter().filter(|(_, right)| *right).count() as i128;
    let others = sorted.len() as i128 - right;
    // J times right times others: integers, so that ties are exact.
    let (mut best, mut gain) = (None, 0);
    let mut largest = 0;
    for (place, (probability, correct)) in sorted.iter().enumerate() {
        gain += if *correct { others } else { -right };
        let last_of_equal = sorted
            .get(place + 1)
            .is_none_or(|next| next.0 < *probability);
        if last_of_equal && gain >= largest && gain > 0 {
            (best, largest) = (Some(*probability), gain);
        }
    }
    best.map(|threshold| NoneThreshold::apply(threshold, judged))
}

#[cfg(test)]
mod tests {
    use super::super::samples::Stored;
    use super::*;

    fn judged(cases: &[(f32, i32)]) -> Vec<Judged> {
        // 1: right, 0: wrong, -1: of no class.
        let cases = cases.iter();
        cases
            .map(|(probability, kind)| Judged {
                target: (*kind >= 0).then_some(*kind as usize),
                predicted: 1,
                probability: *probability,
            })
            .collect()
    }

    #[test]
    fn the_threshold_separates_right_from_wrong() {
        let answers = judged(&[(0.9, 1), (0.8, 1), (0.7, -1), (0.6, 1), (0.3, 0), (0.2, -1)]);
        let found = choose_threshold(&answers).unwrap();
        // 0.8 keeps 2 of 3 and drops all; 0.6 keeps all and drops 2 of 3: the lower one on ties.
        let expected = NoneThreshold {
            threshold: 0.6,
            right: 3,
            right_kept: 3,
            wrong: 1,
            wrong_dropped: 1,
            outside: 2,
            outside_dropped: 1,
        };
        assert_eq!(found, expected);
        assert!((found.youden() - 2.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn equal_probabilities_stay_together() {
        let answers = judged(&[(0.5, 1), (0.5, 0), (0.5, 1), (0.1, 0)]);
        let found = choose_threshold(&answers).unwrap();
        assert_eq!((found.threshold, found.right_kept), (0.5, 2));
        assert_eq!(found.wrong_dropped, 1);
    }

    #[test]
    fn nothing_to_separate_gives_no_threshold() {
        let cases: [&[(f32, i32)]; 5] = [
            &[],
            &[(0.5, 1), (0.6, 1)],
            &[(0.5, 0), (0.6, -1)],
            // The wrong one is the more confident one.
            &[(0.5, 1), (0.6, 0)],
            &[(0.5, 1), (0.5, 0)],
        ];
        for case in cases {
            assert_eq!(choose_threshold(&judged(case)), None, "{case:?}");
        }
    }

    #[test]
    fn a_temperature_changes_probabilities_but_not_classes() {
        let logits = [0.0, 2.0, 2.0, 1.0, 0.0, -1.0];
        let targets = [Some(2), None];
        let samples = Stored::new(&logits, &targets, 3).unwrap();
        for (temperature, first, second) in [(1.0, 0.468_31, 0.665_24), (2.0, 0.422_32, 0.506_48)] {
            let found = judge(&samples, temperature).unwrap();
            assert_eq!((found[0].predicted, found[1].predicted), (1, 0));
            assert!((found[0].probability - first).abs() < 1e-5, "{found:?}");
            assert!((found[1].probability - second).abs() < 1e-5, "{found:?}");
        }
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(judge(&samples, bad).is_err());
        }
    }
}
