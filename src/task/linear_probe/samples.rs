//! Labelled embeddings.

use anyhow::{Result, bail, ensure};

/// Maximum deviation of an embedding's norm from 1: rounding to 16 bits, with a margin.
const TOLERANCE: f64 = 2e-3;

/// Embeddings of images with known classes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples {
    embeddings: Vec<f32>,
    dim: usize,
    classes: Vec<usize>,
    class_count: usize,
}

impl Samples {
    /// An empty set with `class_count` classes and `dim` features per embedding.
    #[must_use]
    pub fn new(dim: usize, class_count: usize) -> Self {
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
    pub fn push(&mut self, embedding: &[f32], class: usize) -> Result<()> {
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
    pub fn len(&self) -> usize {
        self.classes.len()
    }

    /// Whether there are no samples.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// All embeddings, `[samples, dim]`.
    #[must_use]
    pub fn embeddings(&self) -> &[f32] {
        &self.embeddings
    }

    /// Embeddings and classes in blocks of at most `most` samples.
    pub fn blocks(&self, most: usize) -> impl Iterator<Item = (&[f32], &[usize])> {
        let embeddings = self.embeddings.chunks(most * self.dim.max(1));
        embeddings.zip(self.classes.chunks(most))
    }

    /// Features per embedding.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The class of each sample.
    #[must_use]
    pub fn classes(&self) -> &[usize] {
        &self.classes
    }

    /// The number of classes.
    #[must_use]
    pub fn class_count(&self) -> usize {
        self.class_count
    }

    /// The number of samples per class, `[classes]`.
    #[must_use]
    pub fn counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.class_count];
        for &class in &self.classes {
            counts[class] += 1;
        }
        counts
    }

    /// The samples with these indices, in this order.
    #[must_use]
    pub fn subset(&self, numbers: &[usize]) -> Self {
        let row = |&at: &usize| &self.embeddings[at * self.dim..][..self.dim];
        Self {
            embeddings: numbers.iter().flat_map(row).copied().collect(),
            classes: numbers.iter().map(|&at| self.classes[at]).collect(),
            ..*self
        }
    }

    /// Concatenates these samples and those of `other`, which has the same classes and features.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        Self {
            embeddings: [&self.embeddings[..], &other.embeddings].concat(),
            classes: [&self.classes[..], &other.classes].concat(),
            ..*self
        }
    }
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
        (spread, seed): (f32, u64),
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
}
