//! Zero-shot classification: an image against the texts of some classes.

use anyhow::{Result, ensure};

use crate::input::tokenizer::TokenIds;
use crate::model::DualEncoder;

/// What the classes of an image are ranked and reported by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Score {
    /// Probabilities that sum to 1 over the classes.
    Softmax,
    /// The cosine of the angle between the embeddings.
    Cosine,
    /// The cosine times the model's scale.
    Logit,
    /// An independent probability for each class, against a text that says nothing.
    Sigmoid,
}

/// One class of one image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassScore {
    /// The class, counted in the order of the labels.
    pub class: usize,
    /// The cosine of image and class embedding.
    pub cosine: f32,
    /// The cosine times the model's scale.
    pub logit: f32,
    /// For [`Score::Softmax`] and [`Score::Sigmoid`].
    pub probability: Option<f32>,
}

/// Class embeddings, computed once and compared with any number of images.
pub struct Classifier {
    /// [classes, dim], unit length.
    class_embeddings: Vec<f32>,
    /// `[dim]`, what [`Score::Sigmoid`] compares with.
    none_embedding: Option<Vec<f32>>,
    dim: usize,
    logit_scale: f32,
    score: Score,
}

impl Classifier {
    /// Encodes the prompts of each class; a class of several prompts gets the mean of their unit
    /// embeddings, at unit length (CLIP's prompt ensembles). `none` is needed for
    /// [`Score::Sigmoid`].
    ///
    /// # Errors
    /// When there are no classes, a class has no prompts, or the model cannot encode one.
    pub fn new(
        model: &dyn DualEncoder,
        classes: &[Vec<TokenIds>],
        none: Option<TokenIds>,
        score: Score,
    ) -> Result<Self> {
        ensure!(!classes.is_empty(), "there are no labels");
        ensure!(
            score != Score::Softmax || classes.len() > 1,
            "softmax over one label is always 1; add a label or use --score cosine or sigmoid"
        );
        ensure!(
            score != Score::Sigmoid || none.is_some(),
            "sigmoid scores need a text to compare with"
        );
        let prompts: Vec<TokenIds> = classes.iter().flatten().chain(&none).cloned().collect();
        let embeddings = model.encode_text(&prompts)?;
        let (_, dim) = embeddings.dims2()?;
        let values = embeddings.flatten_all()?.to_vec1::<f32>()?;
        let mut rows = values.chunks_exact(dim);
        let mut class_embeddings = Vec::with_capacity(classes.len() * dim);
        for prompts in classes {
            class_embeddings.extend(mean_direction(rows.by_ref().take(prompts.len()), dim)?);
        }
        let none_embedding = none.and_then(|_| rows.next()).map(<[f32]>::to_vec);
        Ok(Self {
            class_embeddings,
            none_embedding,
            dim,
            logit_scale: model.logit_scale(),
            score,
        })
    }

    /// The classes of one image `[dim]`, best first, equal ones in the order of the labels.
    #[must_use]
    pub fn classify(&self, image: &[f32]) -> Vec<ClassScore> {
        let mut scores: Vec<ClassScore> = self
            .class_embeddings
            .chunks_exact(self.dim)
            .enumerate()
            .map(|(class, embedding)| {
                let cosine = dot(image, embedding);
                ClassScore {
                    class,
                    cosine,
                    logit: self.logit_scale * cosine,
                    probability: None,
                }
            })
            .collect();
        match (self.score, &self.none_embedding) {
            (Score::Softmax, _) => softmax(&mut scores),
            (Score::Sigmoid, Some(none)) => {
                let none = self.logit_scale * dot(image, none);
                for score in &mut scores {
                    let difference = f64::from(score.logit) - f64::from(none);
                    score.probability = Some((1.0 / (1.0 + (-difference).exp())) as f32);
                }
            }
            _ => {}
        }
        // Stable, and by the logit: every score grows with it, and it does not saturate.
        scores.sort_by(|a, b| b.logit.total_cmp(&a.logit));
        scores
    }
}

impl ClassScore {
    /// The number that `score` reports.
    #[must_use]
    pub fn value(&self, score: Score) -> f32 {
        match score {
            Score::Softmax | Score::Sigmoid => self.probability.unwrap_or(0.0),
            Score::Cosine => self.cosine,
            Score::Logit => self.logit,
        }
    }
}

/// The mean of unit vectors [n, dim], at unit length.
fn mean_direction<'a>(rows: impl Iterator<Item = &'a [f32]>, dim: usize) -> Result<Vec<f32>> {
    let mut sum = vec![0f64; dim];
    let mut count = 0;
    let mut last: &[f32] = &[];
    for row in rows {
        sum.iter_mut()
            .zip(row)
            .for_each(|(s, v)| *s += f64::from(*v));
        count += 1;
        last = row;
    }
    ensure!(count > 0, "a label has no prompts");
    if count == 1 {
        return Ok(last.to_vec());
    }
    let norm = sum.iter().map(|v| v * v).sum::<f64>().sqrt();
    ensure!(norm > 1e-6, "the prompts of a label cancel each other out");
    Ok(sum.into_iter().map(|v| (v / norm) as f32).collect())
}

/// Summed in f64 and in one order, so that batches and threads do not show.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter()
        .zip(b)
        .map(|(a, b)| f64::from(*a) * f64::from(*b))
        .sum::<f64>() as f32
}

fn softmax(scores: &mut [ClassScore]) {
    let largest = scores
        .iter()
        .map(|score| f64::from(score.logit))
        .fold(f64::NEG_INFINITY, f64::max);
    let weight = |score: &ClassScore| (f64::from(score.logit) - largest).exp();
    let sum: f64 = scores.iter().map(weight).sum();
    for score in scores {
        score.probability = Some((weight(score) / sum) as f32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classifier(score: Score) -> Classifier {
        Classifier {
            class_embeddings: vec![0.6, 0.8, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0],
            none_embedding: Some(vec![0.8, 0.6]),
            dim: 2,
            logit_scale: 10.0,
            score,
        }
    }

    #[test]
    fn softmax_sums_to_one_and_ties_keep_the_order_of_labels() {
        let scores = classifier(Score::Softmax).classify(&[1.0, 0.0]);
        let order: Vec<_> = scores.iter().map(|score| score.class).collect();
        assert_eq!(order, [1, 3, 0, 2]);
        // 10, 10, 6, 0: e^0, e^0, e^-4, e^-10 over their sum.
        let expected = [0.495_451_5, 0.495_451_5, 0.009_074_511, 0.000_022_493_46];
        for (score, expected) in scores.iter().zip(expected) {
            let probability = score.probability.unwrap();
            assert!(
                (probability - expected).abs() < 1e-6,
                "{probability} {expected}"
            );
        }
    }

    #[test]
    fn sigmoid_compares_with_the_text_that_says_nothing() {
        let scores = classifier(Score::Sigmoid).classify(&[1.0, 0.0]);
        // The best logit is 10, that of the other text 8.
        assert!((scores[0].probability.unwrap() - 0.880_797).abs() < 1e-6);
        assert!(scores[3].probability.unwrap() < 0.001);
    }

    #[test]
    fn cosines_and_logits_carry_no_probability() {
        for score in [Score::Cosine, Score::Logit] {
            let scores = classifier(score).classify(&[0.0, 1.0]);
            assert_eq!(scores[0].class, 2);
            assert_eq!((scores[0].cosine, scores[0].logit), (1.0, 10.0));
            assert!(scores.iter().all(|score| score.probability.is_none()));
        }
    }

    #[test]
    fn an_ensemble_is_the_direction_of_the_mean() {
        let rows: [&[f32]; 2] = [&[1.0, 0.0], &[0.0, 1.0]];
        let mean = mean_direction(rows.into_iter(), 2).unwrap();
        assert!((mean[0] - 0.5f32.sqrt()).abs() < 1e-7 && mean[0] == mean[1]);
        let opposite: [&[f32]; 2] = [&[1.0, 0.0], &[-1.0, 0.0]];
        assert!(mean_direction(opposite.into_iter(), 2).is_err());
        assert!(mean_direction(std::iter::empty(), 2).is_err());
    }
}
