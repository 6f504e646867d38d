//! Precision, recall and F1 per class, as scikit-learn defines them with `zero_division=0`,
//! and the confusion matrix.

use std::collections::BTreeMap;

use super::tally::{Classified, ratio};

/// Counts for one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassFigures {
    /// Samples of the class.
    pub support: usize,
    /// Samples predicted as the class.
    pub predicted: usize,
    /// Samples that are both: true positives.
    pub correct: usize,
}

impl ClassFigures {
    /// The share of correct samples among those predicted as the class; 0 if there are none.
    #[must_use]
    pub fn precision(&self) -> f64 {
        ratio(self.correct as f64, self.predicted)
    }

    /// The share of the class's samples that were found; 0 if it has none.
    #[must_use]
    pub fn recall(&self) -> f64 {
        ratio(self.correct as f64, self.support)
    }

    /// The harmonic mean of precision and recall; 0 if the class neither has samples nor was
    /// predicted.
    #[must_use]
    pub fn f1(&self) -> f64 {
        ratio(2.0 * self.correct as f64, self.support + self.predicted)
    }

    /// Whether the class has samples or was predicted.
    fn occurs(&self) -> bool {
        self.support + self.predicted > 0
    }
}

/// Means over classes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Averages {
    /// The mean precision.
    pub precision: f64,
    /// The mean recall.
    pub recall: f64,
    /// The mean F1.
    pub f1: f64,
}

impl Averages {
    /// The unweighted mean over classes, without those that neither have samples nor were
    /// predicted, as in scikit-learn when no labels are given.
    #[must_use]
    pub(crate) fn of_classes(classes: &[ClassFigures]) -> Self {
        Self::weighted(classes, |class| usize::from(class.occurs()))
    }

    /// The mean over classes weighted by their samples.
    #[must_use]
    pub(crate) fn by_support(classes: &[ClassFigures]) -> Self {
        Self::weighted(classes, |class| class.support)
    }

    fn weighted(classes: &[ClassFigures], weight: impl Fn(&ClassFigures) -> usize) -> Self {
        let total = classes.iter().map(&weight).sum();
        let mean = |value: fn(&ClassFigures) -> f64| {
            let values = classes.iter();
            ratio(values.map(|c| weight(c) as f64 * value(c)).sum(), total)
        };
        Self {
            precision: mean(ClassFigures::precision),
            recall: mean(ClassFigures::recall),
            f1: mean(ClassFigures::f1),
        }
    }
}

/// The mean recall of the classes that have samples.
#[must_use]
pub(crate) fn mean_recall(classes: &[ClassFigures]) -> f64 {
    let present = || classes.iter().filter(|class| class.support > 0);
    ratio(present().map(ClassFigures::recall).sum(), present().count())
}

/// The figures of `classes` classes, in their order; every answer is one of them.
pub(super) fn per_class(answers: &[Classified], classes: usize) -> Vec<ClassFigures> {
    let mut figures = vec![ClassFigures::default(); classes];
    for answer in answers {
        let (target, predicted) = (answer.target as usize, answer.predicted as usize);
        figures[target].support += 1;
        figures[target].correct += usize::from(answer.correct());
        figures[predicted].predicted += 1;
    }
    figures
}

/// One cell of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confusion {
    /// The true class: the row.
    pub target: usize,
    /// The predicted class: the column.
    pub predicted: usize,
    /// The number of samples.
    pub count: usize,
}

/// The confusion matrix, with true classes as rows and predicted ones as columns, without its
/// zeros: thousands of classes would fill gigabytes with them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confusions(BTreeMap<(u32, u32), usize>);

impl Confusions {
    /// Counts answers.
    pub(super) fn of(answers: &[Classified]) -> Self {
        let mut counts = BTreeMap::new();
        for answer in answers {
            *counts.entry((answer.target, answer.predicted)).or_default() += 1;
        }
        Self(counts)
    }

    /// The number of samples of class `target` predicted as `predicted`.
    #[must_use]
    pub(crate) fn count(&self, target: usize, predicted: usize) -> usize {
        let place = u32::try_from(target)
            .ok()
            .zip(u32::try_from(predicted).ok());
        let count = place.and_then(|place| self.0.get(&place));
        count.copied().unwrap_or(0)
    }

    /// The cells that are not zero, row by row.
    pub fn cells(&self) -> impl Iterator<Item = Confusion> {
        self.0.iter().map(|((target, predicted), count)| Confusion {
            target: *target as usize,
            predicted: *predicted as usize,
            count: *count,
        })
    }

    /// One row `[classes]`, including zeros.
    #[cfg(test)]
    pub(crate) fn row(&self, target: usize, classes: usize) -> Vec<usize> {
        (0..classes)
            .map(|predicted| self.count(target, predicted))
            .collect()
    }

    /// The `most` largest cells off the diagonal, largest first, ties in row
    /// order.
    #[must_use]
    pub(crate) fn worst(&self, most: usize) -> Vec<Confusion> {
        let mut wrong: Vec<Confusion> = self
            .cells()
            .filter(|cell| cell.target != cell.predicted)
            .collect();
        // Stable: cells come row by row.
        wrong.sort_by_key(|cell| std::cmp::Reverse(cell.count));
        wrong.truncate(most);
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(support: usize, predicted: usize, correct: usize) -> ClassFigures {
        ClassFigures {
            support,
            predicted,
            correct,
        }
    }

    #[test]
    fn divisions_by_zero_are_zero() {
        let cases = [
            (figures(4, 3, 2), [2.0 / 3.0, 0.5, 4.0 / 7.0]),
            (figures(0, 3, 0), [0.0; 3]),
            (figures(3, 0, 0), [0.0; 3]),
            (figures(0, 0, 0), [0.0; 3]),
        ];
        for (class, expected) in cases {
            assert_eq!([class.precision(), class.recall(), class.f1()], expected);
        }
    }

    #[test]
    fn absent_classes_do_not_lower_the_means() {
        let classes = [figures(4, 4, 4), figures(0, 0, 0), figures(2, 2, 1)];
        assert_eq!(mean_recall(&classes), 0.75);
        assert_eq!(Averages::of_classes(&classes).recall, 0.75);
        assert_eq!(Averages::by_support(&classes).recall, 5.0 / 6.0);
        // Predicted without having samples: no recall to average, but a precision of 0.
        let wrongly = [figures(4, 3, 3), figures(0, 1, 0)];
        assert_eq!(mean_recall(&wrongly), 0.75);
        assert_eq!(Averages::of_classes(&wrongly).precision, 0.5);
    }

    #[test]
    fn the_worst_cells_come_first_and_ties_in_order() {
        let pairs = [
            (0, 0),
            (0, 0),
            (0, 0),
            (2, 1),
            (2, 1),
            (1, 0),
            (0, 2),
            (1, 2),
        ];
        let answers = pairs.map(|(target, predicted)| Classified {
            target,
            predicted,
            probability: 1.0,
        });
        let confusions = Confusions::of(&answers);
        let triple = |cell: &Confusion| (cell.target, cell.predicted, cell.count);
        let worst: Vec<_> = confusions.worst(3).iter().map(triple).collect();
        assert_eq!(worst, [(2, 1, 2), (0, 2, 1), (1, 0, 1)]);
        assert_eq!(confusions.worst(100).len(), 4);
        assert_eq!(confusions.row(0, 3), [3, 0, 1]);
        assert_eq!(confusions.cells().map(|cell| cell.count).sum::<usize>(), 8);
        assert_eq!(confusions.count(usize::MAX, 0), 0);
    }
}
