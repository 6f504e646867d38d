//! Labelled embeddings, and random few-shot and holdout splits of them.

use anyhow::{Result, bail, ensure};
use rand::{RngCore as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// Maximum deviation of an embedding's norm from 1: rounding to 16 bits, with a margin.
const TOLERANCE: f64 = 2e-3;

/// Embeddings of images with known classes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Samples {
    embeddings: Vec<f32>,
    dim: usize,
    classes: Vec<usize>,
    class_count: usize,
}

impl Samples {
    /// An empty set with `class_count` classes and `dim` features per embedding.
    #[must_use]
    pub(crate) fn new(dim: usize, class_count: usize) -> Self {
        Self {
            dim,
            class_count,
            ..Self::default()
        }
    }

    /// Adds an embedding `[dim]`.
    ///
    /// # Errors
    /// When it is not a unit vector of `dim` features, or the class does not exist.
    pub(crate) fn push(&mut self, embedding: &[f32], class: usize) -> Result<()> {
        ensure!(
            embedding.len() == self.dim,
            "the embedding has {} features where {} are expected",
            embedding.len(),
            self.dim
        );
        ensure!(
            class < self.class_count,
            "class {class} is not one of {}",
            self.class_count
        );
        if let Some(odd) = embedding.iter().position(|value| !value.is_finite()) {
            bail!("feature {odd} of the embedding is {}", embedding[odd]);
        }
        let squares: f64 = embedding.iter().map(|v| f64::from(*v).powi(2)).sum();
        let length = squares.sqrt();
        ensure!(
            (length - 1.0).abs() <= TOLERANCE,
            "the embedding has norm {length:.4}, but those of longclip embed have norm 1"
        );
        self.embeddings.extend_from_slice(embedding);
        self.classes.push(class);
        Ok(())
    }

    /// The number of samples.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.classes.len()
    }

    /// Whether there are no samples.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// All embeddings, `[samples, dim]`.
    #[must_use]
    pub(crate) fn embeddings(&self) -> &[f32] {
        &self.embeddings
    }

    /// Embeddings and classes in blocks of at most `most` samples.
    pub(crate) fn blocks(&self, most: usize) -> impl Iterator<Item = (&[f32], &[usize])> {
        let embeddings = self.embeddings.chunks(most * self.dim.max(1));
        embeddings.zip(self.classes.chunks(most))
    }

    /// Features per embedding.
    #[must_use]
    pub(crate) fn dim(&self) -> usize {
        self.dim
    }

    /// The class of each sample.
    #[must_use]
    pub(crate) fn classes(&self) -> &[usize] {
        &self.classes
    }

    /// The number of classes.
    #[must_use]
    pub(crate) fn class_count(&self) -> usize {
        self.class_count
    }

    /// The number of samples per class, `[classes]`.
    #[must_use]
    pub(crate) fn counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.class_count];
        for &class in &self.classes {
            counts[class] += 1;
        }
        counts
    }

    /// The samples with these indices, in this order.
    #[must_use]
    pub(crate) fn subset(&self, numbers: &[usize]) -> Self {
        let row = |&at: &usize| &self.embeddings[at * self.dim..][..self.dim];
        Self {
            embeddings: numbers.iter().flat_map(row).copied().collect(),
            classes: numbers.iter().map(|&at| self.classes[at]).collect(),
            ..*self
        }
    }

    /// Concatenates these samples and those of `other`, which has the same classes and features.
    #[must_use]
    pub(crate) fn with(&self, other: &Self) -> Self {
        Self {
            embeddings: [&self.embeddings[..], &other.embeddings].concat(),
            classes: [&self.classes[..], &other.classes].concat(),
            ..*self
        }
    }
}

/// The indices of up to `shots` samples per class, ascending: all of a class that has fewer. Draws
/// with the same seed are nested: those for four shots are among those for eight. The same
/// arguments give the same draw on any machine.
#[must_use]
pub(crate) fn draw(classes: &[usize], shots: usize, seed: u64) -> Vec<usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut order: Vec<(usize, u64, usize)> = (classes.iter().enumerate())
        .map(|(sample, class)| (*class, rng.next_u64(), sample))
        .collect();
    // Sorted by class, and randomly within a class.
    order.sort_unstable();
    let mut drawn: Vec<usize> = (order.chunk_by(|a, b| a.0 == b.0))
        .flat_map(|class| class.iter().take(shots).map(|(.., sample)| *sample))
        .collect();
    drawn.sort_unstable();
    drawn
}

/// Splits samples at random: `fraction` of each class, rounded, but at most all but one and at
/// least one if there are two. Returns the rest and the part, both ascending.
#[must_use]
pub(crate) fn hold_out(classes: &[usize], fraction: f64, seed: u64) -> (Vec<usize>, Vec<usize>) {
    let count = classes.iter().max().map_or(0, |last| last + 1);
    let mut sizes = vec![0usize; count];
    classes.iter().for_each(|class| sizes[*class] += 1);
    let mut due: Vec<usize> = (sizes.iter())
        .map(|&size| match size {
            0 | 1 => 0,
            size => ((size as f64 * fraction).round() as usize).clamp(1, size - 1),
        })
        .collect();
    let (mut rest, mut part) = (Vec::new(), Vec::new());
    let mut is_part = vec![false; classes.len()];
    for sample in draw_order(classes.len(), seed) {
        let due = &mut due[classes[sample]];
        if *due > 0 {
            *due -= 1;
            is_part[sample] = true;
        }
    }
    for (sample, is_part) in is_part.into_iter().enumerate() {
        if is_part { &mut part } else { &mut rest }.push(sample);
    }
    (rest, part)
}

/// Indices in random order.
fn draw_order(count: usize, seed: u64) -> impl Iterator<Item = usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut order: Vec<(u64, usize)> = (0..count).map(|at| (rng.next_u64(), at)).collect();
    order.sort_unstable();
    order.into_iter().map(|(_, at)| at)
}

/// The mean and the sample standard deviation of some numbers (divided by one less than their
/// count; 0 for a single one).
#[must_use]
pub(crate) fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count.max(1.0);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (squares / (count - 1.0).max(1.0)).sqrt())
}

#[cfg(test)]
pub(super) mod testing {
    use rand::{RngCore as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    use super::Samples;

    /// Numbers between -1 and 1.
    fn randoms(seed: u64, count: usize) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let one = |_| (rng.next_u32() >> 8) as f32 / (1 << 23) as f32 - 1.0;
        (0..count).map(one).collect()
    }

    /// `count` samples of each class around its own direction; with `spread` 0 all are equal.
    pub(crate) fn clusters(
        class_count: usize,
        count: usize,
        dim: usize,
        spread: f32,
        seed: u64,
    ) -> Samples {
        let mut samples = Samples::new(dim, class_count);
        let centres = randoms(999, class_count * dim);
        let noise = randoms(seed, class_count * count * dim);
        for (at, noise) in noise.chunks_exact(dim).enumerate() {
            let class = at % class_count;
            let centre = &centres[class * dim..][..dim];
            let row: Vec<f32> = (centre.iter().zip(noise))
                .map(|(centre, noise)| centre + spread * noise)
                .collect();
            let length = row.iter().map(|v| v * v).sum::<f32>().sqrt();
            let row: Vec<f32> = row.iter().map(|v| v / length).collect();
            samples.push(&row, class).unwrap();
        }
        samples
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_embeddings_are_refused() {
        let mut samples = Samples::new(2, 3);
        let cases: [(&[f32], usize, &str); 5] = [
            (&[1.0], 0, "1 features where 2"),
            (&[1.0, 0.0], 3, "class 3 is not one of 3"),
            (&[1.0, f32::NAN], 0, "feature 1 of the embedding is NaN"),
            (&[f32::INFINITY, 0.0], 0, "is inf"),
            (&[3.0, 4.0], 0, "norm 5.0000"),
        ];
        for (embedding, class, part) in cases {
            let error = samples.push(embedding, class).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        samples.push(&[0.6, 0.8], 2).unwrap();
        samples.push(&[1.0, 0.0], 0).unwrap();
        assert_eq!((samples.len(), samples.counts()), (2, vec![1, 0, 1]));
        let turned = samples.subset(&[1, 0]);
        assert_eq!(
            (turned.embeddings(), turned.classes()),
            (&[1.0, 0.0, 0.6, 0.8][..], &[0, 2][..])
        );
        assert_eq!(turned.with(&samples).classes(), [0, 2, 2, 0]);
    }

    fn classes() -> Vec<usize> {
        (0..100).map(|at| (at * at) % 7).collect()
    }

    #[test]
    fn each_class_has_its_shots_and_draws_are_nested() {
        let classes = classes();
        let count =
            |drawn: &[usize], class| drawn.iter().filter(|&&at| classes[at] == class).count();
        for seed in 0..5 {
            let mut before = Vec::new();
            for shots in [1, 2, 4, 8, 16, 100] {
                let drawn = draw(&classes, shots, seed);
                assert!(drawn.is_sorted());
                for class in 0..7 {
                    let all = classes.iter().filter(|&&known| known == class).count();
                    assert_eq!(count(&drawn, class), all.min(shots));
                }
                assert!(before.iter().all(|at| drawn.contains(at)));
                before = drawn;
            }
        }
        assert_ne!(draw(&classes, 2, 0), draw(&classes, 2, 1));
        assert_eq!(draw(&classes, 2, 1), draw(&classes, 2, 1));
    }

    #[test]
    fn part_of_each_class_is_held_out_but_never_all() {
        let classes = [0, 0, 0, 0, 0, 1, 1, 2, 4, 4, 4, 4];
        for fraction in [0.01, 0.2, 0.5, 0.99] {
            let (rest, part) = hold_out(&classes, fraction, 3);
            assert_eq!(rest.len() + part.len(), classes.len());
            for class in [0, 1, 4] {
                assert!(part.iter().any(|&at| classes[at] == class));
                assert!(rest.iter().any(|&at| classes[at] == class));
            }
            assert!(rest.contains(&7), "a class of one is for training");
        }
        let (rest, part) = hold_out(&classes, 0.5, 3);
        assert_eq!((rest.len(), part.len()), (6, 6));
        assert_eq!(hold_out(&[0, 1], 0.5, 0), (vec![0, 1], vec![]));
    }

    #[test]
    fn deviations_are_sample_deviations() {
        assert_eq!(mean_and_deviation(&[1.0, 2.0, 3.0]), (2.0, 1.0));
        assert_eq!(mean_and_deviation(&[0.5]), (0.5, 0.0));
    }
}
