//! A trained classifier.

use anyhow::{Result, ensure};

use super::strength::Counted;
use super::tip_adapter::Mix;
use super::{Quality, Samples, TOGETHER, tip_adapter};
use crate::kernel;
use crate::task::zero_shot::{ClassScore, Judge, Score, softmax};

/// A linear classifier of embeddings, optionally with known images (Tip-Adapter).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Probe {
    weights: Vec<f32>,
    bias: Vec<f32>,
    dim: usize,
    cache: Option<Cache>,
}

/// Known images that new ones are compared with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cache {
    /// The images.
    pub keys: Samples,
    /// Their weight and sharpness.
    pub mix: Mix,
}

impl Probe {
    /// A probe with `weights` [classes, dim] and `bias` `[classes]`.
    ///
    /// # Errors
    /// When these do not match, or are not finite.
    pub(crate) fn new(weights: Vec<f32>, bias: Vec<f32>, dim: usize) -> Result<Self> {
        ensure!(
            dim > 0 && bias.len() > 1 && weights.len() == bias.len() * dim,
            "{} weights do not form {} rows of {dim}, or there are fewer than two classes",
            weights.len(),
            bias.len()
        );
        let odd = weights.iter().chain(&bias).find(|value| !value.is_finite());
        ensure!(odd.is_none(), "a weight is {}", odd.unwrap_or(&0.0));
        Ok(Self {
            weights,
            bias,
            dim,
            cache: None,
        })
    }

    /// Adds known images.
    ///
    /// # Errors
    /// When their classes or features do not match, or the weights are not finite.
    pub(crate) fn with_cache(self, cache: Cache) -> Result<Self> {
        let Mix { alpha, beta } = cache.mix;
        ensure!(
            alpha.is_finite() && beta.is_finite() && alpha >= 0.0 && beta >= 0.0,
            "alpha {alpha} and beta {beta} are not valid weights"
        );
        ensure!(
            cache.keys.dim() == self.dim && cache.keys.class_count() == self.class_count(),
            "the known images have other classes or features"
        );
        Ok(Self {
            cache: Some(cache),
            ..self
        })
    }

    /// The number of classes.
    #[must_use]
    pub(crate) fn class_count(&self) -> usize {
        self.bias.len()
    }

    /// The weights, `[classes, dim]`.
    #[must_use]
    pub(crate) fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// The bias, `[classes]`.
    #[must_use]
    pub(crate) fn bias(&self) -> &[f32] {
        &self.bias
    }

    /// The known images, if any.
    #[must_use]
    pub(crate) fn cache(&self) -> Option<&Cache> {
        self.cache.as_ref()
    }

    /// The logits of `images` [n, dim] -> [n, classes]. An image's logits do not depend on the
    /// others.
    ///
    /// Panics when the images are not rows of `dim`.
    #[must_use]
    pub(crate) fn logits(&self, images: &[f32]) -> Vec<f32> {
        let mut logits = kernel::exact_products(images, &self.weights, self.dim);
        for row in logits.chunks_exact_mut(self.bias.len()) {
            row.iter_mut()
                .zip(&self.bias)
                .for_each(|(logit, bias)| *logit += bias);
        }
        match &self.cache {
            Some(Cache { keys, mix }) => {
                let near = tip_adapter::affinities(images, keys, mix.beta);
                tip_adapter::mixed(&logits, &near, mix.alpha)
            }
            None => logits,
        }
    }

    /// Evaluates it on `samples`.
    #[must_use]
    pub(crate) fn quality(&self, samples: &Samples) -> Quality {
        let mut counted = Counted::default();
        for (images, classes) in samples.blocks(TOGETHER) {
            counted.add(&self.logits(images), classes, self.class_count());
        }
        counted.quality()
    }
}

/// A probe as a classifier.
pub(crate) struct Answering {
    probe: Probe,
    score: Score,
}

impl Answering {
    /// Reports probabilities or logits.
    ///
    /// # Errors
    /// When the score compares with texts.
    pub(crate) fn new(probe: Probe, score: Score) -> Result<Self> {
        Self::check(score)?;
        Ok(Self { probe, score })
    }

    /// Checks that a probe supports the score.
    ///
    /// # Errors
    /// As [`Answering::new`].
    pub(crate) fn check(score: Score) -> Result<()> {
        ensure!(
            matches!(score, Score::Softmax | Score::Logit),
            "--score cosine and sigmoid compare with texts, but a probe has none; use softmax or \
             logit"
        );
        Ok(())
    }
}

impl Judge for Answering {
    fn judge(&self, images: &[f32]) -> Vec<Vec<ClassScore>> {
        let logits = self.probe.logits(images);
        let ranked = |logits: &[f32]| {
            let one = |(class, &logit): (usize, &f32)| ClassScore {
                class,
                cosine: None,
                logit,
                probability: None,
            };
            let mut scores: Vec<ClassScore> = logits.iter().enumerate().map(one).collect();
            if self.score == Score::Softmax {
                softmax(&mut scores, 1.0);
            }
            // Stable: ties stay in class order.
            scores.sort_by(|a, b| b.logit.total_cmp(&a.logit));
            scores
        };
        logits
            .chunks_exact(self.probe.class_count())
            .map(ranked)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe() -> Probe {
        Probe::new(vec![1.0, 0.0, 0.0, 2.0, 1.0, 0.0], vec![0.0, 0.5, 0.0], 2).unwrap()
    }

    #[test]
    fn logits_are_products_plus_bias_plus_nearest_images() {
        assert_eq!(
            probe().logits(&[1.0, 0.0, 0.0, 1.0]),
            [1.0, 0.5, 1.0, 0.0, 2.5, 0.0]
        );
        let mut keys = Samples::new(2, 3);
        keys.push(&[0.0, 1.0], 2).unwrap();
        let mix = Mix {
            alpha: 3.0,
            beta: 1.0,
        };
        let near = probe().with_cache(Cache { keys, mix }).unwrap();
        assert_eq!(near.logits(&[0.0, 1.0]), [0.0, 2.5, 3.0]);
    }

    #[test]
    fn classes_are_sorted_and_have_no_cosines() {
        let answering = Answering::new(probe(), Score::Softmax).unwrap();
        let scores = answering.judge_one(&[1.0, 0.0]);
        assert_eq!(
            scores.iter().map(|score| score.class).collect::<Vec<_>>(),
            [0, 2, 1]
        );
        assert!(scores.iter().all(|score| score.cosine.is_none()));
        let sum: f32 = scores.iter().filter_map(|score| score.probability).sum();
        assert!((sum - 1.0).abs() < 1e-6);
        let logits = Answering::new(probe(), Score::Logit)
            .unwrap()
            .judge(&[1.0, 0.0, 0.0, 1.0]);
        assert_eq!(
            (logits.len(), logits[1][0].logit, logits[1][0].probability),
            (2, 2.5, None)
        );
        assert!(Answering::new(probe(), Score::Cosine).is_err());
        assert!(Answering::new(probe(), Score::Sigmoid).is_err());
    }

    #[test]
    fn invalid_probes_are_refused() {
        for (weights, bias, dim) in [
            (vec![1.0; 4], vec![0.0; 2], 3),
            (vec![1.0; 2], vec![0.0; 1], 2),
            (vec![], vec![], 0),
            (vec![1.0, f32::NAN], vec![0.0; 2], 1),
            (vec![1.0, 1.0], vec![f32::INFINITY, 0.0], 1),
        ] {
            assert!(Probe::new(weights, bias, dim).is_err());
        }
        let cache = |alpha, classes| Cache {
            keys: Samples::new(2, classes),
            mix: Mix { alpha, beta: 1.0 },
        };
        assert!(probe().with_cache(cache(f64::NAN, 3)).is_err());
        assert!(probe().with_cache(cache(1.0, 4)).is_err());
    }
}
