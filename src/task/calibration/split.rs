//! Splits samples into a fitting set and an evaluation set.

use anyhow::{Result, ensure};
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The indices of a split's samples, each side ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// The fitting set.
    pub fit: Vec<usize>,
    /// The evaluation set: all others.
    pub rest: Vec<usize>,
}

/// Splits samples at random: `fraction` of each class (`None` counts as one) to fit on, and the
/// rest. Each class is within one sample of its share, and so is the total: classes with a single
/// sample do not all go to one side. The same `targets`, `fraction` and `seed` give the same split
/// on any machine.
///
/// # Errors
/// When the fraction is not between 0 and 1, or there are too few samples for both sides to have
/// one.
pub fn split(targets: &[Option<usize>], fraction: f64, seed: u64) -> Result<Split> {
    ensure!(
        fraction > 0.0 && fraction < 1.0,
        "the fraction to fit on is {fraction}, which is not between 0 and 1"
    );
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut order: Vec<(Option<usize>, u64, usize)> = targets
        .iter()
        .enumerate()
        .map(|(sample, target)| (*target, rng.next_u64(), sample))
        .collect();
    // Sorted by class, and randomly within a class.
    order.sort_unstable();
    let mut split = Split {
        fit: Vec::new(),
        rest: Vec::new(),
    };
    for (place, (_, _, sample)) in order.into_iter().enumerate() {
        // Halves round up, so that a split of two samples has both sides.
        let due = (fraction * (place + 1) as f64 + 0.5).floor();
        if (split.fit.len() as f64) < due {
            split.fit.push(sample);
        } else {
            split.rest.push(sample);
        }
    }
    ensure!(
        !split.fit.is_empty() && !split.rest.is_empty(),
        "{} samples are too few to fit on {fraction} of them and evaluate on the rest",
        targets.len()
    );
    split.fit.sort_unstable();
    split.rest.sort_unstable();
    Ok(split)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_contributes_its_share() {
        let targets: Vec<Option<usize>> = (0..1000usize)
            .map(|i| (i % 7 > 0).then_some(i * i % 13))
            .collect();
        for fraction in [0.1, 0.25, 0.5, 0.9] {
            let parts = split(&targets, fraction, 3).unwrap();
            let share = fraction * 1000.0;
            assert!((parts.fit.len() as f64 - share).abs() <= 1.0);
            for class in [None].into_iter().chain((0..13).map(Some)) {
                let of = |side: &[usize]| side.iter().filter(|i| targets[**i] == class).count();
                let (fit, rest) = (of(&parts.fit), of(&parts.rest));
                let due = fraction * (fit + rest) as f64;
                assert!((fit as f64 - due).abs() <= 1.0, "{class:?}: {fit}, {rest}");
            }
            let mut all = [parts.fit, parts.rest].concat();
            all.sort_unstable();
            assert!(all.into_iter().eq(0..1000));
        }
    }

    #[test]
    fn the_split_depends_only_on_the_seed() {
        let targets: Vec<Option<usize>> = (0..50).map(|i| Some(i / 10)).collect();
        let parts = split(&targets, 0.5, 7).unwrap();
        assert_eq!(split(&targets, 0.5, 7).unwrap(), parts);
        assert_ne!(split(&targets, 0.5, 8).unwrap(), parts);
        // Fixed here so that a difference on another machine or version is noticed.
        assert_eq!(parts.fit[..5], [1, 2, 6, 7, 8]);
    }

    #[test]
    fn single_samples_go_to_both_sides() {
        let targets: Vec<Option<usize>> = (0..100).map(Some).collect();
        assert_eq!(split(&targets, 0.5, 0).unwrap().fit.len(), 50);
        let two = split(&[Some(0), Some(0)], 0.5, 0).unwrap();
        assert_eq!((two.fit.len(), two.rest.len()), (1, 1));
    }

    #[test]
    fn a_split_without_both_sides_is_refused() {
        for (count, fraction) in [
            (0, 0.5),
            (1, 0.5),
            (5, 0.01),
            (5, 0.0),
            (5, 1.0),
            (5, f64::NAN),
        ] {
            assert!(
                split(&vec![Some(0); count], fraction, 0).is_err(),
                "{count} {fraction}"
            );
        }
    }
}
