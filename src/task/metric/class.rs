//! Precision, recall and F1 per class, as scikit-learn defines them with `zero_division=0`.

use super::tally::{Answer, ratio};

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
    pub fn of_classes(classes: &[ClassFigures]) -> Self {
        Self::weighted(classes, |class| usize::from(class.occurs()))
    }

    /// The mean over classes weighted by their samples.
    #[must_use]
    pub fn by_support(classes: &[ClassFigures]) -> Self {
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
pub fn mean_recall(classes: &[ClassFigures]) -> f64 {
    let present = || classes.iter().filter(|class| class.support > 0);
    ratio(present().map(ClassFigures::recall).sum(), present().count())
}

/// The figures of `classes` classes, in their order; every answer is one of them.
pub(super) fn per_class(answers: &[Answer], classes: usize) -> Vec<ClassFigures> {
    let mut figures = vec![ClassFigures::default(); classes];
    for answer in answers {
        let (target, predicted) = (answer.target as usize, answer.predicted as usize);
        figures[target].support += 1;
        figures[target].correct += usize::from(answer.correct());
        figures[predicted].predicted += 1;
    }
    figures
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
}
