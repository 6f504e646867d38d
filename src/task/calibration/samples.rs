//! Sources of the logits of labelled samples: 50,000 samples of 1,000 classes take 200 MB, so a
//! caller may prefer to recompute logits from embeddings. And their split into a set to fit on and
//! a set to evaluate on.

use anyhow::{Result, ensure};
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// Samples per thread and per partial sum; fixed, so that the result does not depend on
/// the number of threads.
const CHUNK: usize = 256;

/// Labelled samples with their logits.
pub trait LabelledLogits: Sync {
    /// The number of samples.
    fn count(&self) -> usize;

    /// The number of classes, and so of logits per sample.
    fn classes(&self) -> usize;

    /// The true class of a sample; `None` if it is none of the classes.
    fn target(&self, sample: usize) -> Option<usize>;

    /// Writes the logits `[classes]` of a sample; always the same ones. Called once per sample for
    /// each step of a fit.
    fn logits(&self, sample: usize, into: &mut [f32]);
}

/// Samples with logits in memory.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    logits: &'a [f32],
    targets: &'a [Option<usize>],
    classes: usize,
}

impl<'a> Stored<'a> {
    /// `logits` [targets, classes].
    ///
    /// # Errors
    /// When the lengths do not match.
    pub fn new(logits: &'a [f32], targets: &'a [Option<usize>], classes: usize) -> Result<Self> {
        ensure!(
            targets.len().checked_mul(classes) == Some(logits.len()),
            "{} logits do not match {} samples with {classes} classes",
            logits.len(),
            targets.len()
        );
        Ok(Self {
            logits,
            targets,
            classes,
        })
    }
}

impl LabelledLogits for Stored<'_> {
    fn count(&self) -> usize {
        self.targets.len()
    }

    fn classes(&self) -> usize {
        self.classes
    }

    fn target(&self, sample: usize) -> Option<usize> {
        self.targets[sample]
    }

    fn logits(&self, sample: usize, into: &mut [f32]) {
        into.copy_from_slice(&self.logits[sample * self.classes..][..self.classes]);
    }
}

/// A subset of another source's samples: one side of `super::samples()`.
pub(crate) struct Subset<'a, S> {
    /// All samples.
    pub samples: &'a S,
    /// The indices of the chosen ones.
    pub places: &'a [usize],
}

impl<S: LabelledLogits> LabelledLogits for Subset<'_, S> {
    fn count(&self) -> usize {
        self.places.len()
    }

    fn classes(&self) -> usize {
        self.samples.classes()
    }

    fn target(&self, sample: usize) -> Option<usize> {
        self.samples.target(self.places[sample])
    }

    fn logits(&self, sample: usize, into: &mut [f32]) {
        self.samples.logits(self.places[sample], into);
    }
}

/// Rejects targets and logits that cannot be fitted.
pub(super) fn check<S: LabelledLogits>(samples: &S) -> Result<()> {
    let classes = samples.classes();
    ensure!(classes > 0, "there are no classes to calibrate");
    let wrong = fold_chunks(samples, |sample, logits| {
        let known = samples.target(sample).is_none_or(|target| target < classes);
        (!known || !logits.iter().all(|logit| logit.is_finite())).then_some(sample)
    });
    match wrong.into_iter().flatten().next() {
        Some(sample) => anyhow::bail!(
            "sample {sample} has a class that is not among the {classes} classes, or a logit that \
             is not finite"
        ),
        None => Ok(()),
    }
}

/// Applies `look` to each sample and its logits, in sample order, on the threads of
/// the pool.
pub(super) fn fold_chunks<S: LabelledLogits, T: Send>(
    samples: &S,
    look: impl Fn(usize, &[f32]) -> T + Sync,
) -> Vec<T> {
    let count = samples.count();
    let chunks: Vec<Vec<T>> = (0..count.div_ceil(CHUNK))
        .into_par_iter()
        .map(|chunk| {
            let mut logits = vec![0.0; samples.classes()];
            let places = chunk * CHUNK..(chunk * CHUNK + CHUNK).min(count);
            let look = |sample| {
                samples.logits(sample, &mut logits);
                look(sample, &logits)
            };
            places.map(look).collect()
        })
        .collect();
    chunks.into_iter().flatten().collect()
}

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
