//! The confusion matrix, stored sparsely.

use std::collections::BTreeMap;

use super::tally::Answer;

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
    pub(super) fn of(answers: &[Answer]) -> Self {
        let mut counts = BTreeMap::new();
        for answer in answers {
            *counts.entry((answer.target, answer.predicted)).or_default() += 1;
        }
        Self(counts)
    }

    /// The number of samples of class `target` predicted as `predicted`.
    #[must_use]
    pub fn count(&self, target: usize, predicted: usize) -> usize {
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
    #[must_use]
    pub fn row(&self, target: usize, classes: usize) -> Vec<usize> {
        (0..classes)
            .map(|predicted| self.count(target, predicted))
            .collect()
    }

    /// The `most` largest cells off the diagonal, largest first, ties in row
    /// order.
    #[must_use]
    pub fn worst(&self, most: usize) -> Vec<Confusion> {
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
        let answers = pairs.map(|(target, predicted)| Answer {
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
