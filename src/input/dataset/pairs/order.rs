//! Assignment of pairs to batches: shuffled every epoch, and the same for the same seed on any
//! machine.

use std::ops::Range;

use rand::{RngCore as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// How pairs are batched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// Number of pairs.
    pub pairs: usize,
    /// Pairs per batch.
    pub batch: usize,
    /// Smallest last batch of an epoch that is kept; a smaller one is skipped.
    pub least: usize,
    /// Random seed.
    pub seed: u64,
}

impl Order {
    /// Batches per epoch.
    #[must_use]
    pub fn batches(&self) -> usize {
        let rest = self.pairs % self.batch;
        self.pairs / self.batch + usize::from(rest > 0 && rest >= self.least)
    }

    /// Pairs that an epoch skips.
    #[must_use]
    pub fn left_out(&self) -> usize {
        self.pairs.saturating_sub(self.batches() * self.batch)
    }

    /// Range of batch `number` of an epoch in [`Order::epoch`].
    #[must_use]
    pub fn range(&self, number: usize) -> Range<usize> {
        let start = (number * self.batch).min(self.pairs);
        start..(start + self.batch).min(self.pairs)
    }

    /// All pairs in the order of `epoch`.
    #[must_use]
    pub fn epoch(&self, epoch: usize) -> Vec<u32> {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        random.set_stream(epoch as u64);
        let mut order: Vec<u32> = (0..self.pairs as u32).collect();
        // Fisher-Yates shuffle.
        for last in (1..order.len()).rev() {
            let wide = u128::from(random.next_u64()) * (last as u128 + 1);
            order.swap(last, (wide >> 64) as usize);
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_epoch_has_all_pairs_in_its_own_order() {
        let order = Order {
            pairs: 103,
            batch: 10,
            least: 10,
            seed: 7,
        };
        let [mut first, second] = [0, 1].map(|epoch| order.epoch(epoch));
        assert_ne!(first, second);
        assert_eq!(second, order.epoch(1));
        assert_ne!(first, Order { seed: 8, ..order }.epoch(0));
        first.sort_unstable();
        assert!(first.into_iter().eq(0..103));
    }

    #[test]
    fn the_last_batch_is_kept_if_it_is_large_enough() {
        // Pairs, smallest batch, batches, skipped, the last batch.
        let cases = [
            (103, 10, 10, 3, 90..100),
            (103, 3, 11, 0, 100..103),
            (103, 4, 10, 3, 90..100),
            (100, 1, 10, 0, 90..100),
        ];
        for (pairs, least, batches, left_out, last) in cases {
            let order = Order {
                pairs,
                batch: 10,
                least,
                seed: 0,
            };
            assert_eq!(order.batches(), batches);
            assert_eq!(order.left_out(), left_out);
            assert_eq!(order.range(batches - 1), last);
        }
    }
}
