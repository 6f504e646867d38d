//! Sources of the logits of labelled samples: 50,000 samples of 1,000 classes take 200 MB, so a
//! caller may prefer to recompute logits from embeddings.

use anyhow::{Result, ensure};
use rayon::prelude::*;

/// Samples per thread and per partial sum; fixed, so that the result does not depend on
/// the number of threads.
const CHUNK: usize = 256;

/// Labelled samples with their logits.
pub trait Samples: Sync {
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

impl Samples for Stored<'_> {
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

/// A subset of another source's samples: one side of [`super::split()`].
pub struct Subset<'a, S> {
    /// All samples.
    pub samples: &'a S,
    /// The indices of the chosen ones.
    pub places: &'a [usize],
}

impl<S: Samples> Samples for Subset<'_, S> {
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
pub(super) fn check<S: Samples>(samples: &S) -> Result<()> {
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
pub(super) fn fold_chunks<S: Samples, T: Send>(
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
