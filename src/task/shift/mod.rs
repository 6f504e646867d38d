//! Whether two sets of images differ, and what became of a classifier's answers between them.
//!
//! Every part is one function on plain slices. Rows of embeddings have unit length. A is the
//! reference, B the set that is looked at; pairs are in this order. `tests/shift/compare.py` holds
//! the numbers against scipy, scikit-learn and the definitions.

pub(crate) mod accuracy;
pub(crate) mod frechet;
pub(crate) mod judge;
pub(crate) mod kernels;
pub(crate) mod label_shares;
pub(crate) mod pictures;
pub(crate) mod prior;
pub(crate) mod robustness;
mod statistics;

use rand::{RngCore as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// `most` of `count` indices at random, ascending; all of them if there are no more.
#[must_use]
pub(crate) fn drawn(count: usize, most: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    if count > most {
        shuffle(&mut order, most, &mut ChaCha8Rng::seed_from_u64(seed));
        order.truncate(most);
        order.sort_unstable();
    }
    order
}

/// Moves a random choice of `first` items to the front.
///
/// A draw is 32 random bits scaled to the number of items, with a bias of n / 2^32.
fn shuffle<T>(items: &mut [T], first: usize, rng: &mut ChaCha8Rng) {
    for at in 0..first.min(items.len()) {
        items.swap(at, at + below(items.len() - at, rng));
    }
}

/// A random index below `count`.
fn below(count: usize, rng: &mut ChaCha8Rng) -> usize {
    ((u64::from(rng.next_u32()) * count as u64) >> 32) as usize
}

/// The rows of `all` [n, dim] with these indices.
#[must_use]
pub(crate) fn rows(all: &[f32], dim: usize, places: &[usize]) -> Vec<f32> {
    let row = |&at: &usize| &all[at * dim..][..dim];
    places.iter().flat_map(row).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_different_indices_and_fair() {
        assert_eq!(drawn(4, 4, 1), [0, 1, 2, 3]);
        assert_eq!(drawn(4, 9, 1), [0, 1, 2, 3]);
        let mut counts = [0; 6];
        for seed in 0..3000 {
            let found = drawn(6, 2, seed);
            assert!(found.len() == 2 && found[0] < found[1]);
            found.iter().for_each(|&at| counts[at] += 1);
        }
        // 1000 expected of each, with a standard deviation of 26.
        assert!(
            counts.iter().all(|&n| (880..1120).contains(&n)),
            "{counts:?}"
        );
        assert_eq!(
            rows(&[0.0, 1.0, 2.0, 3.0], 2, &[1, 0]),
            [2.0, 3.0, 0.0, 1.0]
        );
    }
}
