//! Where the logits of labelled samples come from: 50,000 samples of 1,000 classes are 200 MB,
//! which a caller may rather multiply out of embeddings again than keep.

use anyhow::{Result, ensure};
use rayon::prelude::*;

/// Samples that one thread takes at once, and over which sums are cut: fixed, so that threads do
/// not show.
const CHUNK: usize = 256;

/// Labelled samples with their logits.
pub trait Samples: Sync {
    /// How many samples there are.
    fn count(&self) -> usize;

    /// How many classes each has a logit for.
    fn classes(&self) -> usize;

    /// The true class of a sample; None when it is none of the classes.
    fn target(&self, sample: usize) -> Option<usize>;

    /// Writes the logits `[classes]` of a sample; the same ones each time. Called once a sample for
    /// each step of a fit.
    fn logits(&self, sample: usize, into: &mut [f32]);
}

/// Samples whose logits lie in memory.
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
    /// When the lengths do not fit together.
    pub fn new(logits: &'a [f32], targets: &'a [Option<usize>], classes: usize) -> Result<Self> {
        ensure!(
            targets.len().checked_mul(classes) == Some(logits.len()),
            "{} logits are not {} samples of {classes} classes",
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

/// Some of the samples of another source, by number: a side of [`super::split()`].
pub struct Subset<'a, S> {
    /// All samples.
    pub samples: &'a S,
    /// The places of the chosen ones.
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

/// Refuses targets and logits that nothing can be fitted to.
pub(super) fn check<S: Samples>(samples: &S) -> Result<()> {
    let classes = samples.classes();
    ensure!(classes > 0, "there are no classes to calibrate");
    let wrong = fold_chunks(samples, |sample, logits| {
        let known = samples.target(sample).is_none_or(|target| target < classes);
        (!known || !logits.iter().all(|logit| logit.is_finite())).then_some(sample)
    });
    match wrong.into_iter().flatten().next() {
        Some(sample) => anyhow::bail!(
            "sample {sample} is not of one of {classes} classes, or has a logit that is not a finite number"
        ),
        None => Ok(()),
    }
}

/// What `look` makes of each sample and its logits, in the order of the samples, on the threads of
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
