//! How much each part of a text, or of an image, contributes to a score. Nothing here knows a
//! model: the score is a function of which parts are there.

pub(crate) mod parts;
pub(crate) mod regions;

use std::collections::HashMap;

use anyhow::{Result, ensure};
use rand::{RngCore as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// With so many parts, all subsets are computed: 4096.
pub(crate) const MOST_EXACT: usize = 12;

/// For each part, whether it is there.
pub(crate) type Subset = Vec<bool>;

/// The scores of some subsets, in their order.
pub(crate) type Game<'a> = dyn FnMut(&[Subset]) -> Result<Vec<f64>> + 'a;

/// The contributions of all parts.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Contributions {
    /// The score with all parts.
    pub(crate) score: f64,
    /// The score without any.
    pub(crate) empty: f64,
    /// One number per part. Shapley values sum to `score - empty`; leave-one-out does not.
    pub(crate) values: Vec<f64>,
    /// The standard error of each, if it was sampled.
    pub(crate) errors: Option<Vec<f64>>,
    /// What the score loses without each part alone.
    pub(crate) losses: Vec<f64>,
}

/// Exact Shapley values of 1 to [`MOST_EXACT`] parts: what a part adds to a subset of the others,
/// averaged over the orders in which parts can be added.
///
/// # Errors
/// With another number of parts, and those of `game`, which is called once.
pub(crate) fn shapley(parts: usize, game: &mut Game) -> Result<Contributions> {
    ensure!(
        (1..=MOST_EXACT).contains(&parts),
        "{parts} parts have too many subsets"
    );
    let all = (1usize << parts) - 1;
    let subset = |mask: usize| (0..parts).map(|part| mask >> part & 1 == 1).collect();
    let scores = game(&(0..=all).map(subset).collect::<Vec<Subset>>())?;
    let weights = weights(parts);
    let value = |part: usize| -> f64 {
        let others = (0..=all).filter(|mask| mask >> part & 1 == 0);
        let terms = others.map(|mask| {
            let gain = scores[mask | 1 << part] - scores[mask];
            weights[mask.count_ones() as usize] * gain
        });
        terms.sum()
    };
    Ok(Contributions {
        score: scores[all],
        empty: scores[0],
        values: (0..parts).map(value).collect(),
        errors: None,
        losses: (0..parts)
            .map(|part| scores[all] - scores[all & !(1 << part)])
            .collect(),
    })
}

/// The share of all orders in which exactly the parts of one subset of `size` come before a part:
/// `size! (parts - size - 1)! / parts!`, for each size.
fn weights(parts: usize) -> Vec<f64> {
    let mut choices = 1.0; // parts - 1 over size
    let mut weights = Vec::with_capacity(parts);
    for size in 0..parts {
        weights.push(1.0 / (parts as f64 * choices));
        choices *= (parts - 1 - size) as f64 / (size + 1) as f64;
    }
    weights
}

/// Shapley values estimated from `samples` random orders, at least two, with their standard errors.
/// The same seed draws the same orders on any machine. In each order the gains of all parts sum to
/// `score - empty`, so the means do too.
///
/// # Errors
/// Without parts or with fewer orders, and those of `game`, which is called once.
pub(crate) fn sampled(
    parts: usize,
    samples: usize,
    seed: u64,
    game: &mut Game,
) -> Result<Contributions> {
    ensure!(parts > 0 && samples > 1, "there is nothing to sample");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let orders: Vec<Vec<usize>> = (0..samples)
        .map(|_| {
            let mut order: Vec<(u64, usize)> =
                (0..parts).map(|part| (random.next_u64(), part)).collect();
            order.sort_unstable();
            order.into_iter().map(|(_, part)| part).collect()
        })
        .collect();
    let mut subsets = Subsets::default();
    let empty = subsets.place(vec![false; parts]);
    let score = subsets.place(vec![true; parts]);
    // For each order, the subset after each of its parts.
    let steps: Vec<Vec<usize>> = orders
        .iter()
        .map(|order| {
            let mut subset = vec![false; parts];
            let step = |part: &usize| {
                subset[*part] = true;
                subsets.place(subset.clone())
            };
            order.iter().map(step).collect()
        })
        .collect();
    let without = subsets.without_each(parts);
    let scores = game(&subsets.all)?;
    let (mut sums, mut squares) = (vec![0.0; parts], vec![0.0; parts]);
    for (order, steps) in orders.iter().zip(&steps) {
        let mut before = scores[empty];
        for (part, step) in order.iter().zip(steps) {
            let gain = scores[*step] - before;
            before = scores[*step];
            sums[*part] += gain;
            squares[*part] += gain * gain;
        }
    }
    let count = samples as f64;
    let error = |(sum, square): (&f64, &f64)| {
        let variance = (square - sum * sum / count).max(0.0) / (count - 1.0);
        (variance / count).sqrt()
    };
    Ok(Contributions {
        score: scores[score],
        empty: scores[empty],
        values: sums.iter().map(|sum| sum / count).collect(),
        errors: Some(sums.iter().zip(&squares).map(error).collect()),
        losses: without
            .iter()
            .map(|place| scores[score] - scores[*place])
            .collect(),
    })
}

/// What the score loses without each part alone. These do not sum to anything.
///
/// # Errors
/// Those of `game`, which is called once.
pub(crate) fn left_out(parts: usize, game: &mut Game) -> Result<Contributions> {
    let mut subsets = Subsets::default();
    let empty = subsets.place(vec![false; parts]);
    let score = subsets.place(vec![true; parts]);
    let without = subsets.without_each(parts);
    let scores = game(&subsets.all)?;
    let losses: Vec<f64> = without
        .iter()
        .map(|place| scores[score] - scores[*place])
        .collect();
    Ok(Contributions {
        score: scores[score],
        empty: scores[empty],
        values: losses.clone(),
        errors: None,
        losses,
    })
}

/// Subsets without repeats.
#[derive(Default)]
struct Subsets {
    all: Vec<Subset>,
    places: HashMap<Subset, usize>,
}

impl Subsets {
    /// The index of `subset` in `all`.
    fn place(&mut self, subset: Subset) -> usize {
        let next = self.all.len();
        *self.places.entry(subset).or_insert_with_key(|subset| {
            self.all.push(subset.clone());
            next
        })
    }

    /// The indices of all parts but one.
    fn without_each(&mut self, parts: usize) -> Vec<usize> {
        let without = |part| (0..parts).map(|other| other != part).collect();
        (0..parts).map(|part| self.place(without(part))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A score in which parts help and hinder each other.
    fn score(subset: &Subset) -> f64 {
        let mut score = 0.25;
        for (part, _) in subset.iter().enumerate().filter(|(_, is_there)| **is_there) {
            score += (part as f64 * 1.7).sin() / 3.0;
            if part > 0 && subset[part - 1] {
                score *= 0.8;
            }
        }
        score
    }

    fn scores(subsets: &[Subset]) -> Result<Vec<f64>> {
        Ok(subsets.iter().map(score).collect())
    }

    /// All orders of `rest` after `before`.
    fn each_order(before: &mut Vec<usize>, parts: usize, visit: &mut dyn FnMut(&[usize])) {
        if before.len() == parts {
            return visit(before);
        }
        for part in 0..parts {
            if !before.contains(&part) {
                before.push(part);
                each_order(before, parts, visit);
                before.pop();
            }
        }
    }

    /// By the definition: the mean gain over all orders.
    fn by_orders(parts: usize) -> Vec<f64> {
        let (mut sums, mut count) = (vec![0.0; parts], 0.0);
        each_order(&mut Vec::new(), parts, &mut |order| {
            let mut subset = vec![false; parts];
            let mut before = score(&subset);
            for part in order {
                subset[*part] = true;
                let after = score(&subset);
                sums[*part] += after - before;
                before = after;
            }
            count += 1.0;
        });
        sums.iter().map(|sum| sum / count).collect()
    }

    #[test]
    fn exact_values_are_the_mean_gains_over_all_orders() {
        for parts in 1..=7 {
            let found = shapley(parts, &mut scores).unwrap();
            for (value, expected) in found.values.iter().zip(by_orders(parts)) {
                assert!((value - expected).abs() < 1e-12, "{parts}: {found:?}");
            }
            let sum: f64 = found.values.iter().sum();
            assert!((sum - (found.score - found.empty)).abs() < 1e-12);
            assert_eq!(found.errors, None);
            assert_eq!(found.losses, left_out(parts, &mut scores).unwrap().values);
        }
        assert!(shapley(0, &mut scores).is_err());
        assert!(shapley(MOST_EXACT + 1, &mut scores).is_err());
    }

    #[test]
    fn twelve_parts_have_4096_subsets_each_once() {
        let mut calls = Vec::new();
        let mut game = |subsets: &[Subset]| {
            calls.push(subsets.to_vec());
            scores(subsets)
        };
        let found = shapley(MOST_EXACT, &mut game).unwrap();
        let sum: f64 = found.values.iter().sum();
        assert!((sum - (found.score - found.empty)).abs() < 1e-12);
        let [subsets] = &mut calls[..] else {
            panic!("{} calls", calls.len())
        };
        subsets.sort();
        subsets.dedup();
        assert_eq!(subsets.len(), 4096);
    }

    #[test]
    fn samples_approach_the_exact_values_and_sum_to_the_same() {
        let exact = shapley(6, &mut scores).unwrap();
        let found = sampled(6, 4000, 1, &mut scores).unwrap();
        let errors = found.errors.clone().unwrap();
        for ((value, expected), error) in found.values.iter().zip(&exact.values).zip(&errors) {
            assert!(*error > 0.0 && *error < 0.01, "{found:?}");
            assert!((value - expected).abs() < 4.0 * error, "{found:?}");
        }
        let sum: f64 = found.values.iter().sum();
        assert!((sum - (exact.score - exact.empty)).abs() < 1e-12);
        assert_eq!(found.losses, exact.losses);
    }

    #[test]
    fn standard_errors_are_those_of_the_draws() {
        // Many estimates of few orders scatter as far as the mean of their errors says.
        let estimates: Vec<Contributions> = (0..400)
            .map(|seed| sampled(4, 25, seed, &mut scores).unwrap())
            .collect();
        for part in 0..4 {
            let values: Vec<f64> = estimates.iter().map(|one| one.values[part]).collect();
            let mean = values.iter().sum::<f64>() / 400.0;
            let scatter = values
                .iter()
                .map(|value| (value - mean).powi(2))
                .sum::<f64>()
                / 399.0;
            let errors = estimates.iter().map(|one| {
                let errors = one.errors.as_ref().unwrap();
                errors[part].powi(2)
            });
            let ratio = scatter / (errors.sum::<f64>() / 400.0);
            assert!((0.75..1.33).contains(&ratio), "{part}: {ratio}");
        }
    }

    #[test]
    fn a_seed_always_draws_the_same_orders() {
        let draw = |seed| sampled(20, 5, seed, &mut scores).unwrap();
        assert_eq!(draw(3), draw(3));
        assert_ne!(draw(3), draw(4));
        let mut first = Vec::new();
        let mut game = |subsets: &[Subset]| {
            first = subsets[2].clone();
            scores(subsets)
        };
        sampled(20, 5, 0, &mut game).unwrap();
        // The first part of the first order, on any machine.
        assert_eq!(first.iter().position(|is_there| *is_there), Some(FIRST));
        assert!(sampled(20, 1, 0, &mut scores).is_err());
    }

    /// Part of the draws of seed 0, written down when they were first made.
    const FIRST: usize = 3;
}
