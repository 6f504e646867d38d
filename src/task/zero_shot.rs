//! Zero-shot classification: compares images with class embeddings.

use anyhow::{Result, ensure};
use rayon::prelude::*;

use super::embeddings::ClassEmbeddings;

/// The score by which an image's classes are ranked and reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Score {
    /// Probabilities that sum to 1 over the classes.
    Softmax,
    /// The cosine of the angle between the embeddings.
    Cosine,
    /// The cosine times the logit scale.
    Logit,
    /// An independent probability per class, against a neutral prompt or with the logit bias
    /// that the model was trained with.
    Sigmoid,
}

/// The scores of one class for one image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ClassScore {
    /// The class index, in label order.
    pub class: usize,
    /// The cosine of image and class embedding; `None` for a trained classifier.
    pub cosine: Option<f32>,
    /// The cosine times the logit scale, or the logit of a trained classifier.
    pub logit: f32,
    /// The probability, for [`Score::Softmax`] and [`Score::Sigmoid`].
    pub probability: Option<f32>,
}

/// A classifier of image embeddings.
pub(crate) trait Judge: Sync {
    /// The classes of each of `images` [n, dim], best first, ties in class
    /// order. Pass a few hundred images at a time, because each answer holds all classes.
    fn judge(&self, images: &[f32]) -> Vec<Vec<ClassScore>>;

    /// The same for one image `[dim]`.
    fn judge_one(&self, image: &[f32]) -> Vec<ClassScore> {
        self.judge(image).pop().unwrap_or_default()
    }
}

impl Judge for Classifier {
    fn judge(&self, images: &[f32]) -> Vec<Vec<ClassScore>> {
        self.classify_many(images)
    }

    fn judge_one(&self, image: &[f32]) -> Vec<ClassScore> {
        self.classify(image)
    }
}

/// A zero-shot classifier.
pub(crate) struct Classifier {
    classes: ClassEmbeddings,
    /// Texts for "none of these", one row per text.
    none: Option<ClassEmbeddings>,
    logit_scale: f32,
    /// The logit bias that the model adds before a sigmoid.
    bias: Option<f32>,
    temperature: f32,
    score: Score,
}

impl Classifier {
    /// A classifier for `classes`. `none` are texts that belong to none of them: [`Score::Sigmoid`]
    /// compares with them; for the other scores they form one more class, the last, with texts that
    /// compete individually and are reported together. Without them, a sigmoid is applied to the
    /// logit plus the model's `bias`.
    ///
    /// # Errors
    /// When a softmax would be over one class, a sigmoid has nothing to compare with, or embeddings
    /// come from different models.
    pub(crate) fn new(
        classes: ClassEmbeddings,
        none: Option<ClassEmbeddings>,
        logit_scale: f32,
        bias: Option<f32>,
        score: Score,
    ) -> Result<Self> {
        ensure!(
            score != Score::Softmax || classes.len() > 1 || none.is_some(),
            "softmax over one label is always 1; add a label or use --score cosine or sigmoid"
        );
        ensure!(
            score != Score::Sigmoid || none.is_some() || bias.is_some(),
            "sigmoid scores need a neutral prompt to compare with"
        );
        if let Some(none) = &none {
            ensure!(
                none.dim() == classes.dim(),
                "embeddings with {} and {} values cannot be compared",
                classes.dim(),
                none.dim()
            );
        }
        Ok(Self {
            classes,
            none,
            logit_scale,
            bias,
            temperature: 1.0,
            score,
        })
    }

    /// Divides logits by `temperature` when computing probabilities; reported logits are
    /// unchanged.
    ///
    /// # Errors
    /// When it is not a positive number.
    pub(crate) fn with_temperature(mut self, temperature: f32) -> Result<Self> {
        ensure!(
            temperature.is_finite() && temperature > 0.0,
            "a temperature of {temperature} is not a positive number"
        );
        self.temperature = temperature;
        Ok(self)
    }

    /// The class embeddings.
    #[must_use]
    pub(crate) fn classes(&self) -> &ClassEmbeddings {
        &self.classes
    }

    /// The classes of one image `[dim]`, best first, ties in label order. The "none of these" class
    /// has the index after the last label.
    #[must_use]
    pub(crate) fn classify(&self, image: &[f32]) -> Vec<ClassScore> {
        let none = self.none.as_ref().map(|none| none.cosines(image));
        self.ranked(&self.classes.cosines(image), none.as_deref())
    }

    /// The same for each of `images` [n, dim], on all threads of the pool. Pass a few hundred at a
    /// time, because each answer holds all classes.
    #[must_use]
    pub(crate) fn classify_many(&self, images: &[f32]) -> Vec<Vec<ClassScore>> {
        let cosines = self.classes.cosines(images);
        let none = self.none.as_ref().map(|none| none.cosines(images));
        let count = images.len() / self.classes.dim();
        let row = |all: &[f32], image: usize| {
            let width = all.len() / count;
            image * width..(image + 1) * width
        };
        (0..count)
            .into_par_iter()
            .map(|image| {
                let none = none.as_ref().map(|none| &none[row(none, image)]);
                self.ranked(&cosines[row(&cosines, image)], none)
            })
            .collect()
    }

    /// Ranks the classes from the cosines of one image with the classes and with the "none" texts.
    fn ranked(&self, cosines: &[f32], none: Option<&[f32]>) -> Vec<ClassScore> {
        let score = |(class, &cosine): (usize, &f32)| ClassScore {
            class,
            cosine: Some(cosine),
            logit: self.logit_scale * cosine,
            probability: None,
        };
        let mut scores: Vec<ClassScore> = cosines.iter().enumerate().map(score).collect();
        let none = none.map(|none| self.together(cosines.len(), none));
        match (self.score, none, self.bias) {
            (Score::Sigmoid, Some(none), _) => self.sigmoid(&mut scores, none.logit),
            (Score::Sigmoid, None, Some(bias)) => self.sigmoid(&mut scores, -bias),
            (_, none, _) => scores.extend(none),
        }
        if self.score == Score::Softmax {
            softmax(&mut scores, f64::from(self.temperature));
        }
        // Stable, and by the logit: every score increases with it, and it does not saturate. Only
        // the texts that are reported together have a cosine that does not correspond to their
        // logit.
        if self.score == Score::Cosine {
            let cosine = |score: &ClassScore| score.value(Score::Cosine);
            scores.sort_by(|a, b| cosine(b).total_cmp(&cosine(a)));
        } else {
            scores.sort_by(|a, b| b.logit.total_cmp(&a.logit));
        }
        scores
    }

    /// Several texts as one class: the log-sum-exp of their logits, and the best cosine. The
    /// temperature divides that sum like any other logit rather than each text's, so that a large
    /// temperature does not favour the class for its number of texts.
    fn together(&self, class: usize, cosines: &[f32]) -> ClassScore {
        let logits = cosines
            .iter()
            .map(|&cosine| f64::from(self.logit_scale * cosine));
        let largest = logits.clone().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = logits.map(|logit| (logit - largest).exp()).sum();
        ClassScore {
            class,
            cosine: cosines.iter().copied().reduce(f32::max),
            logit: (largest + sum.ln()) as f32,
            probability: None,
        }
    }

    fn sigmoid(&self, scores: &mut [ClassScore], none: f32) {
        for score in scores {
            let difference = f64::from(score.logit) - f64::from(none);
            let exponent = -difference / f64::from(self.temperature);
            score.probability = Some((1.0 / (1.0 + exponent.exp())) as f32);
        }
    }
}

/// Sets the probabilities: the softmax of the logits divided by `temperature`.
pub(super) fn softmax(scores: &mut [ClassScore], temperature: f64) {
    let largest = scores
        .iter()
        .map(|score| f64::from(score.logit))
        .fold(f64::NEG_INFINITY, f64::max);
    let weight = |score: &ClassScore| ((f64::from(score.logit) - largest) / temperature).exp();
    let sum: f64 = scores.iter().map(weight).sum();
    for score in scores {
        score.probability = Some((weight(score) / sum) as f32);
    }
}

impl ClassScore {
    /// The number that `score` reports.
    #[must_use]
    pub(crate) fn value(&self, score: Score) -> f32 {
        match score {
            Score::Softmax | Score::Sigmoid => self.probability.unwrap_or(0.0),
            Score::Cosine => self.cosine.unwrap_or(0.0),
            Score::Logit => self.logit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLASSES: [f32; 8] = [0.6, 0.8, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0];

    fn rows(rows: &[f32]) -> ClassEmbeddings {
        ClassEmbeddings::from_rows(rows.to_vec(), 2).unwrap()
    }

    fn with_none(score: Score, none: &[f32]) -> Classifier {
        let none = (!none.is_empty()).then(|| rows(none));
        Classifier::new(rows(&CLASSES), none, 10.0, None, score).unwrap()
    }

    fn classifier(score: Score) -> Classifier {
        let none: &[f32] = match score {
            Score::Sigmoid => &[0.8, 0.6],
            _ => &[],
        };
        with_none(score, none)
    }

    #[track_caller]
    fn assert_near(found: f32, expected: f64) {
        assert!(
            (f64::from(found) - expected).abs() < 1e-6,
            "{found} {expected}"
        );
    }

    #[test]
    fn softmax_sums_to_one_and_ties_keep_label_order() {
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
    fn sigmoid_compares_with_the_neutral_prompt() {
        let scores = classifier(Score::Sigmoid).classify(&[1.0, 0.0]);
        // The best logit is 10, that of the other text 8.
        assert!((scores[0].probability.unwrap() - 0.880_797).abs() < 1e-6);
        assert!(scores[3].probability.unwrap() < 0.001);
    }

    #[test]
    fn cosines_and_logits_have_no_probability() {
        for score in [Score::Cosine, Score::Logit] {
            let scores = classifier(score).classify(&[0.0, 1.0]);
            assert_eq!(scores[0].class, 2);
            assert_eq!((scores[0].cosine, scores[0].logit), (Some(1.0), 10.0));
            assert!(scores.iter().all(|score| score.probability.is_none()));
        }
    }

    #[test]
    fn texts_for_none_compete_individually_and_are_reported_together() {
        let (image, none) = ([1.0, 0.0], [0.6, 0.8, 0.8, 0.6]);
        // The logits are 6, 10, 0, 10 and, for none, 6 and 8.
        let weights = [6f64, 10.0, 0.0, 10.0, 6.0, 8.0].map(f64::exp);
        let sum: f64 = weights.iter().sum();
        let scores = with_none(Score::Softmax, &none).classify(&image);
        let order: Vec<_> = scores.iter().map(|score| score.class).collect();
        assert_eq!(order, [1, 3, 4, 0, 2]);
        assert_near(
            scores[2].probability.unwrap(),
            (weights[4] + weights[5]) / sum,
        );
        assert_near(scores[0].probability.unwrap(), weights[1] / sum);
        assert_near(scores[2].logit, (weights[4] + weights[5]).ln());
        assert_eq!(scores[2].cosine, Some(0.8));
        let scores = with_none(Score::Sigmoid, &none).classify(&image);
        assert_eq!(scores.len(), 4);
        assert_near(
            scores[0].probability.unwrap(),
            1.0 / (1.0 + (weights[4] + weights[5]) / weights[1]),
        );
    }

    #[test]
    fn the_none_class_ranks_by_the_reported_score() {
        // The cosines are 0.6, 1, 0, 1 and, for none, twice 0.96; its logit is 10.29.
        let none = [0.96, 0.28, 0.96, -0.28];
        for (score, first) in [(Score::Cosine, 1), (Score::Logit, 4), (Score::Softmax, 4)] {
            let scores = with_none(score, &none).classify(&[1.0, 0.0]);
            assert_eq!((scores.len(), scores[0].class), (5, first), "{score:?}");
            let values: Vec<_> = scores.iter().map(|one| one.value(score)).collect();
            assert!(values.is_sorted_by(|a, b| a >= b), "{values:?}");
        }
    }

    #[test]
    fn a_temperature_changes_probabilities_only() {
        let image = [1.0, 0.0];
        for score in [Score::Softmax, Score::Sigmoid] {
            let none = [0.6, 0.8, 0.8, 0.6];
            let plain = with_none(score, &none).classify(&image);
            let warm = with_none(score, &none).with_temperature(2.0).unwrap();
            let warm = warm.classify(&image);
            let of = |scores: &[ClassScore], class| {
                *scores.iter().find(|score| score.class == class).unwrap()
            };
            for class in 0..4 {
                let (plain, warm) = (of(&plain, class), of(&warm, class));
                assert_eq!((plain.logit, plain.cosine), (warm.logit, warm.cosine));
            }
            // The logits over 2 are 3, 5, 0, 5, and half of the combined logit of 6 and 8.
            let weights = [3f64, 5.0, 0.0, 5.0].map(f64::exp);
            let none = (6f64.exp() + 8f64.exp()).sqrt();
            let expected = match score {
                Score::Softmax => weights[1] / (weights.iter().sum::<f64>() + none),
                _ => 1.0 / (1.0 + none / weights[1]),
            };
            assert_near(of(&warm, 1).probability.unwrap(), expected);
        }
        for temperature in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            let classifier = classifier(Score::Softmax);
            assert!(classifier.with_temperature(temperature).is_err());
        }
    }

    #[test]
    fn a_batch_is_answered_like_its_single_images() {
        let images: Vec<f32> = (0..301)
            .flat_map(|step| [(step as f32 * 0.02).cos(), (step as f32 * 0.02).sin()])
            .collect();
        for score in [Score::Softmax, Score::Cosine, Score::Sigmoid] {
            let classifier = with_none(score, &[0.8, 0.6, 0.0, -1.0]);
            let together = classifier.classify_many(&images);
            let alone: Vec<_> = images
                .chunks_exact(2)
                .map(|image| classifier.classify(image))
                .collect();
            assert_eq!(together, alone);
        }
        assert!(classifier(Score::Softmax).classify_many(&[]).is_empty());
    }

    #[test]
    fn incomparable_inputs_are_refused() {
        let one = || rows(&[1.0, 0.0]);
        let new = |none, score| Classifier::new(one(), none, 10.0, None, score).is_ok();
        assert!(!new(None, Score::Softmax));
        assert!(new(Some(one()), Score::Softmax));
        assert!(new(None, Score::Cosine));
        assert!(!new(None, Score::Sigmoid));
        let longer = ClassEmbeddings::from_rows(vec![1.0, 0.0, 0.0], 3).unwrap();
        assert!(!new(Some(longer), Score::Softmax));
    }

    #[test]
    fn a_models_bias_replaces_the_neutral_prompt() {
        let image = [1.0, 0.0];
        let scores = |none, score| {
            let classifier = Classifier::new(rows(&CLASSES), none, 10.0, Some(-9.0), score);
            classifier.unwrap().classify(&image)
        };
        // The logits are 10, 10, 6, 0; they do not include the bias.
        let found = scores(None, Score::Sigmoid);
        for (score, logit) in found.iter().zip([10.0, 10.0, 6.0, 0.0]) {
            assert_eq!(score.logit, logit);
            let expected = 1.0 / (1.0 + (9.0 - f64::from(logit)).exp());
            assert_near(score.probability.unwrap(), expected);
        }
        // With a neutral prompt it cancels, as it does in a softmax.
        let none = || Some(rows(&[0.8, 0.6]));
        let plain = classifier(Score::Sigmoid).classify(&image);
        assert_eq!(scores(none(), Score::Sigmoid), plain);
        let plain = classifier(Score::Softmax).classify(&image);
        assert_eq!(scores(None, Score::Softmax), plain);
    }
}
