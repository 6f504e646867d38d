//! Tip-Adapter (Zhang et al., 2022): a nearest-image classifier that needs no training.
//!
//! ```text
//! logits = scale * x T'  +  alpha * exp(-beta * (1 - x F')) L
//! ```
//!
//! with the class texts `T` [classes, dim], the known images `F` [images, dim] and their classes
//! one-hot `L` [images, classes].

use anyhow::Result;
use rayon::prelude::*;

use super::strength::Counted;
use super::{Quality, Samples, Stopped, TOGETHER};
use crate::kernel;

/// Candidate values of beta, the sharpness of the similarity, including the paper's 5.5. Models
/// with embeddings in a narrow cone need far larger values.
const BETAS: [f64; 17] = [
    0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.5, 8.0, 11.0, 16.0, 24.0, 32.0, 64.0, 128.0, 256.0, 512.0,
    1024.0,
];
/// Candidate values of alpha, the weight of the images relative to the texts, including 0 (none)
/// and the paper's 1.
const ALPHAS: [f64; 14] = [
    0.0, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0,
];

/// The two parameters of the formula.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Mix {
    /// alpha: the weight of the images.
    pub alpha: f64,
    /// beta: the sharpness of the similarity.
    pub beta: f64,
}

/// For each of `images` [n, dim] and each class, the sum over its `keys` of exp(-beta (1 - cosine))
/// -> [n, classes].
#[must_use]
pub(crate) fn affinities(images: &[f32], keys: &Samples, beta: f64) -> Vec<f64> {
    let cosines = kernel::exact_products(images, keys.embeddings(), keys.dim());
    sums(&cosines, keys, beta)
}

/// The same, computed from cosines [n, keys].
fn sums(cosines: &[f32], keys: &Samples, beta: f64) -> Vec<f64> {
    let classes = keys.class_count();
    let count = cosines.len().checked_div(keys.len()).unwrap_or(0);
    let mut sums = vec![0.0; count * classes];
    let rows = cosines.par_chunks_exact(keys.len().max(1));
    rows.zip(sums.par_chunks_exact_mut(classes))
        .for_each(|(cosines, sums)| {
            for (cosine, class) in cosines.iter().zip(keys.classes()) {
                sums[*class] += (beta * (f64::from(*cosine) - 1.0)).exp();
            }
        });
    sums
}

/// The parameters that classify `samples` best together with the zero-shot classifier `texts`
/// [classes, dim], and all that were tried. On ties the first: the lowest weight of the images, the
/// least sharp.
///
/// # Errors
/// [`Stopped`], once `is_stopped` returns true.
pub(crate) fn choose(
    samples: &Samples,
    texts: &[f32],
    keys: &Samples,
    is_stopped: &dyn Fn() -> bool,
) -> Result<(Mix, Vec<(Mix, Quality)>)> {
    let alphas = |beta| ALPHAS.map(|alpha| (Mix { alpha, beta }, Counted::default()));
    let mut counts: Vec<(Mix, Counted)> = BETAS.into_iter().flat_map(alphas).collect();
    for (images, classes) in samples.blocks(TOGETHER) {
        let zero_shot = kernel::exact_products(images, texts, keys.dim()); // [block, classes]
        let cosines = kernel::exact_products(images, keys.embeddings(), keys.dim()); // [block, keys]
        for of_beta in counts.chunks_mut(ALPHAS.len()) {
            if is_stopped() {
                return Err(Stopped.into());
            }
            let sums = sums(&cosines, keys, of_beta[0].0.beta);
            for (mix, counted) in of_beta {
                let logits = mixed(&zero_shot, &sums, mix.alpha);
                counted.add(&logits, classes, samples.class_count());
            }
        }
    }
    let qualities = counts
        .iter()
        .map(|(mix, counted)| (*mix, counted.quality()));
    let mut tried: Vec<(Mix, Quality)> = qualities.collect();
    tried.sort_by(|(a, _), (b, _)| {
        (a.alpha, a.beta)
            .partial_cmp(&(b.alpha, b.beta))
            .unwrap_or(std::cmp::Ordering::Equal)
    });
    let mut best = tried[0];
    for one in &tried[1..] {
        if one.1.is_better_than(&best.1) {
            best = *one;
        }
    }
    Ok((best.0, tried))
}

/// The combined logits of texts and images, `[n, classes]`.
#[must_use]
pub(crate) fn mixed(zero_shot: &[f32], affinities: &[f64], alpha: f64) -> Vec<f32> {
    let both = zero_shot.iter().zip(affinities);
    both.map(|(text, images)| (f64::from(*text) + alpha * images) as f32)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::samples::testing::clusters;
    use super::*;

    #[test]
    fn similar_images_count_per_class() {
        let mut keys = Samples::new(2, 3);
        for (embedding, class) in [([1.0, 0.0], 0), ([0.0, 1.0], 2), ([0.6, 0.8], 2)] {
            keys.push(&embedding, class).unwrap();
        }
        let found = affinities(&[1.0, 0.0], &keys, 2.0);
        let expected = [1.0, 0.0, (-2f64).exp() + (-0.8f64).exp()];
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
        assert_eq!(
            mixed(&[1.0, 2.0, 3.0], &[1.0, 0.0, 2.0], 0.5),
            [1.5, 2.0, 4.0]
        );
    }

    #[test]
    fn uninformative_texts_leave_the_decision_to_the_images() {
        let (keys, samples) = (clusters(6, 8, 16, 0.6, 1), clusters(6, 20, 16, 0.6, 2));
        let none = vec![0.0; 6 * 16];
        let (mix, tried) = choose(&samples, &none, &keys, &|| false).unwrap();
        assert!(mix.alpha > 0.0);
        assert_eq!(tried.len(), BETAS.len() * ALPHAS.len());
        let right = mixed(
            &vec![0.0; 720],
            &affinities(samples.embeddings(), &keys, mix.beta),
            mix.alpha,
        );
        let quality = Quality::of(&right, samples.classes(), 6);
        assert!(quality.correct > 110, "{quality:?}");
    }

    #[test]
    fn blocks_are_merged_and_stop_when_requested() {
        // More than two blocks.
        let (keys, samples) = (clusters(3, 2, 8, 0.9, 1), clusters(3, 400, 8, 0.9, 2));
        let texts: Vec<f32> = (0..24).map(|at| (at % 5) as f32).collect();
        let (_, tried) = choose(&samples, &texts, &keys, &|| false).unwrap();
        let zero_shot = kernel::exact_products(samples.embeddings(), &texts, 8);
        for (mix, quality) in &tried {
            let near = affinities(samples.embeddings(), &keys, mix.beta);
            let logits = mixed(&zero_shot, &near, mix.alpha);
            assert_eq!(*quality, Quality::of(&logits, samples.classes(), 3));
        }
        let calls = std::cell::Cell::new(0);
        let third = || {
            calls.set(calls.get() + 1);
            calls.get() > 2
        };
        let error = choose(&samples, &texts, &keys, &third).unwrap_err();
        assert!(error.is::<Stopped>() && calls.get() == 3);
    }
}
