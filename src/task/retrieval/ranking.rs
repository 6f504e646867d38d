//! Figures computed from the ranks of right answers.

/// The ranks, counted from 1, of the best right answers of some queries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranking(pub Vec<u32>);

impl Ranking {
    /// The share of queries with a right answer among the `k` best; 0 without queries.
    #[must_use]
    pub fn recall(&self, k: usize) -> f64 {
        let found = self.0.iter().filter(|rank| **rank as usize <= k).count();
        self.mean(found as f64)
    }

    /// The median rank: half of the queries have their answer at this rank or better; 0 without
    /// queries.
    #[must_use]
    pub fn median(&self) -> f64 {
        let mut ranks = self.0.clone();
        ranks.sort_unstable();
        let Some(last) = ranks.len().checked_sub(1) else {
            return 0.0;
        };
        let middle = [ranks[last / 2], ranks[last.div_ceil(2)]];
        middle.map(f64::from).iter().sum::<f64>() / 2.0
    }

    /// The mean reciprocal rank; 0 without queries.
    #[must_use]
    pub fn mean_reciprocal(&self) -> f64 {
        self.mean(self.0.iter().map(|rank| 1.0 / f64::from(*rank)).sum())
    }

    fn mean(&self, sum: f64) -> f64 {
        sum / self.0.len().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_match_hand_computed_ranks() {
        let ranking = Ranking(vec![1, 10, 2, 4]);
        assert_eq!((ranking.recall(1), ranking.recall(4)), (0.25, 0.75));
        assert_eq!((ranking.recall(0), ranking.recall(10)), (0.0, 1.0));
        assert_eq!(ranking.median(), 3.0);
        assert_eq!(Ranking(vec![5, 1, 3]).median(), 3.0);
        assert!((ranking.mean_reciprocal() - 1.85 / 4.0).abs() < 1e-12);
        let none = Ranking::default();
        assert_eq!(
            (none.recall(1), none.median(), none.mean_reciprocal()),
            (0.0, 0.0, 0.0)
        );
    }
}
