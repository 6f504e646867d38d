//! Validation quality of logits, for choosing between classifiers.

/// Counts from validation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quality {
    /// Correctly classified samples.
    pub correct: usize,
    /// All samples.
    pub count: usize,
    /// The mean of -ln p of the true class.
    pub loss: f64,
}

impl Quality {
    /// The quality of `logits` [samples, class_count] for these true classes. On ties, the first is
    /// the best class.
    #[must_use]
    pub fn of(logits: &[f32], classes: &[usize], class_count: usize) -> Self {
        let mut counted = Counted::default();
        counted.add(logits, classes, class_count);
        counted.quality()
    }

    /// The share of correct samples.
    #[must_use]
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.count.max(1) as f64
    }

    /// Whether more are correct, or as many with a lower loss: with few samples, many classifiers
    /// differ in nothing else.
    #[must_use]
    pub fn is_better_than(&self, other: &Self) -> bool {
        self.correct > other.correct || self.correct == other.correct && self.loss < other.loss
    }
}

/// Accumulates quality block by block.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counted {
    correct: usize,
    count: usize,
    /// The sum.
    loss: f64,
}

impl Counted {
    /// Adds a block, as [`Quality::of`] takes it.
    pub(super) fn add(&mut self, logits: &[f32], classes: &[usize], class_count: usize) {
        self.count += classes.len();
        for (logits, &class) in logits.chunks_exact(class_count).zip(classes) {
            let best = (1..class_count).fold(
                0,
                |best, at| if logits[at] > logits[best] { at } else { best },
            );
            self.correct += usize::from(best == class);
            let largest = f64::from(logits[best]);
            let sum: f64 = logits
                .iter()
                .map(|logit| (f64::from(*logit) - largest).exp())
                .sum();
            self.loss += sum.ln() - (f64::from(logits[class]) - largest);
        }
    }

    /// The quality over all blocks.
    pub(super) fn quality(&self) -> Quality {
        Quality {
            correct: self.correct,
            count: self.count,
            loss: self.loss / self.count.max(1) as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn correct_answers_count_first_then_the_loss() {
        let found = Quality::of(&[2.0, 0.0, 0.0, 0.0, 1.0, 1.0], &[0, 2], 3);
        assert_eq!((found.correct, found.count), (1, 2));
        let expected = ((2.0 * (-2f64).exp() + 1.0).ln() + (2.0 + (-1f64).exp()).ln()) / 2.0;
        assert!((found.loss - expected).abs() < 1e-12);
        assert_eq!(found.accuracy(), 0.5);
        let surer = Quality { loss: 0.1, ..found };
        let more = Quality {
            correct: 2,
            loss: 9.0,
            ..found
        };
        assert!(more.is_better_than(&surer) && surer.is_better_than(&found));
        assert!(!found.is_better_than(&found));
    }
}
