//! The cosines of one image with any number of texts.

use std::collections::HashMap;

use anyhow::{Context as _, Result};

use super::ExplainArgs;
use crate::input::tokenizer::{Fitted, LongText, TokenIds};
use crate::kernel;
use crate::model::DualEncoder;
use crate::output::explanation::Explanation;
use crate::run::texts::Fitter;
use crate::task::embeddings::TextEmbeddings;

/// Texts encoded together; their embeddings are not kept.
const TEXTS_AT_ONCE: usize = 8192;

/// An image, and the model that compares texts with it.
pub(super) struct Scorer<'a> {
    pub(super) model: &'a dyn DualEncoder,
    /// `[dim]`, unit length.
    image: Vec<f32>,
    fitter: Fitter<'static>,
    /// What the labels' embeddings are; the first is that of the label, the second of the other.
    labels: Vec<Vec<f32>>,
}

impl<'a> Scorer<'a> {
    pub(super) fn new(model: &'a dyn DualEncoder, image: Vec<f32>, policy: LongText) -> Self {
        let context = model.architecture().context_length;
        Self {
            model,
            image,
            fitter: Fitter::silent(context, policy),
            labels: Vec::new(),
        }
    }

    /// The cosine of the image with each text; of the chunks of a text that each image sees
    /// differently, with the best one. Texts of the same tokens are encoded once.
    pub(super) fn cosines(&mut self, texts: &[String]) -> Result<Vec<f64>> {
        let mut places: HashMap<Vec<TokenIds>, usize> = HashMap::new();
        let mut distinct: Vec<Fitted> = Vec::new();
        let mut order = Vec::with_capacity(texts.len());
        for text in texts {
            let fitted = self.fitter.fit("a part of the label", text)?;
            let chunks = fitted.chunks.iter().map(|chunk| chunk.token_ids.clone());
            let place = *places.entry(chunks.collect()).or_insert(distinct.len());
            if place == distinct.len() {
                distinct.push(fitted);
            }
            order.push(place);
        }
        let mut cosines = Vec::with_capacity(distinct.len());
        for batch in distinct.chunks(TEXTS_AT_ONCE) {
            let embeddings = TextEmbeddings::encode(self.model, batch)?;
            cosines.extend(embeddings.texts().map(|rows| cosine(&self.image, rows)));
        }
        Ok(order.into_iter().map(|place| cosines[place]).collect())
    }

    /// Fills in the score, and keeps the labels' embeddings.
    pub(super) fn score(&mut self, args: &ExplainArgs, found: &mut Explanation) -> Result<()> {
        let texts: Vec<&String> = std::iter::once(&args.label).chain(&args.against).collect();
        let fitted: Vec<Fitted> = texts
            .iter()
            .map(|text| self.fitter.fit("a label", text))
            .collect::<Result<_>>()?;
        let embeddings = TextEmbeddings::encode(self.model, &fitted)?;
        self.labels = embeddings.texts().map(<[f32]>::to_vec).collect();
        let empty = self.cosines(&[String::new()])?[0];
        let cosines: Vec<f64> = self.of_labels(&self.image);
        found.label.clone_from(&args.label);
        found.against.clone_from(&args.against);
        found.cosine = cosines[0] as f32;
        found.against_cosine = cosines.get(1).map(|cosine| *cosine as f32);
        found.empty_cosine = empty as f32;
        (found.quantity, found.empty) = match args.against {
            None => ("cosine", found.empty_cosine),
            // Both labels without words are the same text.
            Some(_) => ("cosine difference", 0.0),
        };
        let score = difference(&cosines);
        found.score = score as f32;
        found.logit = (score * f64::from(self.model.logit_scale())) as f32;
        found.notes.extend(doubt(found));
        Ok(())
    }

    /// The explained quantity for other images: unit embeddings [n, dim].
    pub(super) fn scores(&self, images: &[f32]) -> Result<Vec<f64>> {
        let dim = self.image.len();
        let label = self.labels.first().context("the label was not encoded")?;
        debug_assert!(label.len() >= dim);
        Ok(images
            .chunks_exact(dim)
            .map(|image| difference(&self.of_labels(image)))
            .collect())
    }

    /// The vector `[dim]` with which the image's product is the score.
    pub(super) fn direction(&self) -> Vec<f32> {
        let mut best = self.labels.iter().map(|rows| {
            let rows = rows.chunks_exact(self.image.len());
            rows.max_by(|a, b| cosine(&self.image, a).total_cmp(&cosine(&self.image, b)))
        });
        let label = best.next().flatten().unwrap_or_default();
        match best.next().flatten() {
            Some(other) => label.iter().zip(other).map(|(a, b)| a - b).collect(),
            None => label.to_vec(),
        }
    }

    fn of_labels(&self, image: &[f32]) -> Vec<f64> {
        self.labels.iter().map(|rows| cosine(image, rows)).collect()
    }
}

/// The first cosine, less the second if there is one.
fn difference(cosines: &[f64]) -> f64 {
    cosines[0] - cosines.get(1).copied().unwrap_or(0.0)
}

/// The cosine of `image` `[dim]` with the best of `rows` [n, dim].
fn cosine(image: &[f32], rows: &[f32]) -> f64 {
    let cosines = kernel::exact_products(image, rows, image.len());
    f64::from(cosines.into_iter().fold(f32::MIN, f32::max))
}

/// What a low score says about all values.
fn doubt(found: &Explanation) -> Option<String> {
    if found.against.is_some() {
        return (found.score < 0.0).then(|| {
            "the image fits --against better than --label: the values explain why the difference is \
             below 0"
                .to_owned()
        });
    }
    (found.cosine <= found.empty_cosine).then(|| {
        format!(
            "the label fits this image no better than the empty text does ({:.4} and {:.4}): the \
             image may not show it, and the values then say what speaks against it, not where it is",
            found.cosine, found.empty_cosine
        )
    })
}
