//! Accumulates the results of classifying labelled samples.

use anyhow::{Result, ensure};

use super::class::{self, Averages, ClassFigures, Confusions};
use super::reliability::{Reliability, reliability};

/// The number of classes counted by [`Tally::acc5`].
const TOP: usize = 5;

/// Lower limit of the true class's probability in the log likelihood: the spacing of f32 at 1, as
/// in scikit-learn's `log_loss` for f32, so that one confident mistake does not make the mean
/// infinite.
const LEAST_PROBABILITY: f64 = f32::EPSILON as f64;

/// The answer for one sample, as kept for intervals, calibration and comparisons of runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Classified {
    /// The true class.
    pub target: u32,
    /// The best class.
    pub predicted: u32,
    /// The best class's probability.
    pub probability: f32,
}

impl Classified {
    /// Whether the best class is the true one.
    #[must_use]
    pub(crate) fn correct(&self) -> bool {
        self.target == self.predicted
    }
}

/// The answers of a run, added one by one: 12 bytes per sample, whatever the number of classes.
///
/// Means over no samples are 0, never NaN.
#[derive(Clone, Debug)]
pub struct Tally {
    classes: usize,
    answers: Vec<Classified>,
    in_top: usize,
    with_probabilities: usize,
    negative_log: f64,
    squares: f64,
}

impl Tally {
    /// An empty tally over `classes` classes.
    #[must_use]
    pub fn new(classes: usize) -> Self {
        Self {
            classes,
            answers: Vec::new(),
            in_top: 0,
            with_probabilities: 0,
            negative_log: 0.0,
            squares: 0.0,
        }
    }

    /// Adds a sample of class `target` with the classes `ranked`, best first (all, or at least
    /// the first five), the first one with `probability`.
    ///
    /// # Errors
    /// When a class is not one of the tally's, there is no best class, or the probability is not
    /// valid.
    pub fn add(&mut self, target: usize, ranked: &[usize], probability: f32) -> Result<()> {
        let classes = self.classes;
        let top = &ranked[..ranked.len().min(TOP)];
        ensure!(
            top.len() >= TOP.min(classes) && !top.is_empty(),
            "{} ranked classes are too few: the first {} are needed",
            ranked.len(),
            TOP.min(classes).max(1)
        );
        if let Some(class) = top.iter().chain([&target]).find(|class| **class >= classes) {
            anyhow::bail!("class {class} is not one of {classes}");
        }
        ensure!(
            (0.0..=1.0).contains(&probability),
            "the probability of the best class is {probability}, not between 0 and 1"
        );
        self.in_top += usize::from(top.contains(&target));
        self.answers.push(Classified {
            target: u32::try_from(target)?,
            predicted: u32::try_from(top[0])?,
            probability,
        });
        Ok(())
    }

    /// Adds the probabilities `[classes]` of a sample of class `target` to
    /// [`Tally::negative_log_likelihood`] and [`Tally::brier`]; used together with [`Tally::add`].
    ///
    /// # Errors
    /// When the lengths do not match or a number is not a probability.
    pub fn add_probabilities(&mut self, target: usize, probabilities: &[f32]) -> Result<()> {
        ensure!(
            probabilities.len() == self.classes && target < self.classes,
            "{} probabilities and class {target} do not match {} classes",
            probabilities.len(),
            self.classes
        );
        let mut squares = 0.0;
        for (class, p) in probabilities.iter().enumerate() {
            ensure!(
                (0.0..=1.0).contains(p),
                "the probability of class {class} is {p}, not between 0 and 1"
            );
            let truth = f64::from(u8::from(class == target));
            squares += (f64::from(*p) - truth).powi(2);
        }
        let p = f64::from(probabilities[target]).max(LEAST_PROBABILITY);
        self.with_probabilities += 1;
        self.squares += squares;
        self.negative_log -= p.ln();
        Ok(())
    }

    /// The samples so far, in the order added.
    #[must_use]
    pub fn answers(&self) -> &[Classified] {
        &self.answers
    }

    /// The number of samples.
    #[must_use]
    pub fn n(&self) -> usize {
        self.answers.len()
    }

    /// The number of correct samples.
    #[must_use]
    pub fn correct(&self) -> usize {
        let correct = self.answers.iter().filter(|answer| answer.correct());
        correct.count()
    }

    /// Top-1 accuracy: the share of samples with the true class as best class.
    #[must_use]
    pub fn acc1(&self) -> f64 {
        ratio(self.correct() as f64, self.n())
    }

    /// Top-5 accuracy: the share of samples with the true class among the best five; with fewer
    /// than five classes, 1.
    #[must_use]
    pub fn acc5(&self) -> f64 {
        ratio(self.in_top as f64, self.n())
    }

    /// The mean of the recalls of the classes that have samples: CLIP_benchmark's
    /// `mean_per_class_recall`, scikit-learn's `balanced_accuracy_score`.
    #[must_use]
    pub fn mean_per_class_recall(&self) -> f64 {
        class::mean_recall(&self.per_class())
    }

    /// The figures of each class, in class order.
    #[must_use]
    pub fn per_class(&self) -> Vec<ClassFigures> {
        class::per_class(&self.answers, self.classes)
    }

    /// Precision, recall and F1 over the classes, each with the same weight.
    #[must_use]
    pub fn macro_average(&self) -> Averages {
        Averages::of_classes(&self.per_class())
    }

    /// Precision, recall and F1 over the classes, each weighted by its samples.
    #[must_use]
    pub fn weighted_average(&self) -> Averages {
        Averages::by_support(&self.per_class())
    }

    /// The confusion matrix.
    #[must_use]
    pub fn confusions(&self) -> Confusions {
        Confusions::of(&self.answers)
    }

    /// The reliability diagram of the best probabilities, in `bins` bins of equal
    /// width.
    ///
    /// # Errors
    /// When there are no bins.
    pub fn reliability(&self, bins: usize) -> Result<Reliability> {
        let answers = self.answers.iter();
        reliability(
            answers.map(|answer| (answer.probability, answer.correct())),
            bins,
        )
    }

    /// The mean of -ln p of the true class, p at least 2^-23; `None` without
    /// [`Tally::add_probabilities`].
    #[must_use]
    pub fn negative_log_likelihood(&self) -> Option<f64> {
        self.mean_of_probabilities(self.negative_log)
    }

    /// The mean over the samples of the sum over the classes of (p - truth)^2: Brier's original
    /// definition, from 0 to 2; `None` without [`Tally::add_probabilities`].
    #[must_use]
    pub fn brier(&self) -> Option<f64> {
        self.mean_of_probabilities(self.squares)
    }

    fn mean_of_probabilities(&self, sum: f64) -> Option<f64> {
        (self.with_probabilities > 0).then(|| ratio(sum, self.with_probabilities))
    }
}

/// `part` / `whole`, or 0 if `whole` is 0.
pub(super) fn ratio(part: f64, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_classes_are_counted() {
        let mut tally = Tally::new(7);
        let samples: [(usize, &[usize]); 4] = [
            (3, &[3, 0, 1, 2, 4, 5, 6]),
            (4, &[3, 0, 1, 2, 4]),
            (5, &[3, 0, 1, 2, 4, 5, 6]),
            (0, &[0, 1, 2, 3, 4]),
        ];
        for (target, ranked) in samples {
            tally.add(target, ranked, 0.5).unwrap();
        }
        assert_eq!((tally.n(), tally.correct()), (4, 2));
        assert_eq!((tally.acc1(), tally.acc5()), (0.5, 0.75));
        // Recalls 1, 1, 0, 0 of classes 0, 3, 4, 5.
        assert_eq!(tally.mean_per_class_recall(), 0.5);
    }

    #[test]
    fn with_few_classes_the_true_one_is_always_among_them() {
        for classes in 1..=5 {
            let mut tally = Tally::new(classes);
            let ranked: Vec<usize> = (0..classes).collect();
            tally.add(classes - 1, &ranked, 1.0).unwrap();
            assert_eq!(tally.acc5(), 1.0, "{classes}");
            assert_eq!(tally.acc1(), f64::from(u8::from(classes == 1)));
        }
    }

    #[test]
    fn an_empty_tally_gives_zeros_not_nan() {
        let tally = Tally::new(3);
        let means = [tally.acc1(), tally.acc5(), tally.mean_per_class_recall()];
        assert_eq!(means, [0.0; 3]);
        assert_eq!(tally.macro_average(), tally.weighted_average());
        assert_eq!(tally.macro_average().f1, 0.0);
        assert_eq!(tally.reliability(15).unwrap().ece, 0.0);
        assert_eq!(
            (tally.brier(), tally.negative_log_likelihood()),
            (None, None)
        );
    }

    #[test]
    fn invalid_answers_are_refused_and_not_counted() {
        let mut tally = Tally::new(3);
        let cases: [(usize, &[usize], f32, &str); 6] = [
            (3, &[0, 1, 2], 0.5, "class 3 is not one of 3"),
            (0, &[0, 1, 9], 0.5, "class 9 is not one of 3"),
            (0, &[0, 1], 0.5, "too few"),
            (0, &[], 0.5, "too few"),
            (0, &[0, 1, 2], f32::NAN, "NaN"),
            (0, &[0, 1, 2], 1.5, "between 0 and 1"),
        ];
        for (target, ranked, probability, message) in cases {
            let error = tally.add(target, ranked, probability).unwrap_err();
            assert!(error.to_string().contains(message), "{error}");
        }
        assert!(Tally::new(0).add(0, &[], 0.5).is_err());
        assert!(tally.add_probabilities(0, &[0.5, 0.5]).is_err());
        assert!(tally.add_probabilities(3, &[0.5, 0.5, 0.0]).is_err());
        assert!(tally.add_probabilities(0, &[0.5, f32::NAN, 0.0]).is_err());
        assert_eq!((tally.n(), tally.brier()), (0, None));
    }

    #[test]
    fn brier_and_likelihood_use_the_true_class() {
        let mut tally = Tally::new(3);
        tally.add_probabilities(0, &[0.5, 0.25, 0.25]).unwrap();
        tally.add_probabilities(2, &[1.0, 0.0, 0.0]).unwrap();
        // 0.25 + 2 * 0.0625 and 1 + 1.
        assert_eq!(tally.brier(), Some((0.375 + 2.0) / 2.0));
        let expected = (2f64.ln() + 23.0 * 2f64.ln()) / 2.0;
        let found = tally.negative_log_likelihood().unwrap();
        assert!((found - expected).abs() < 1e-12, "{found} {expected}");
    }
}
