//! Class embeddings, with which images are compared, and the embeddings of texts of any length that
//! they are made of.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use crate::input::tokenizer::{Fitted, Reading, TokenIds};
use crate::kernel;
use crate::model::DualEncoder;

/// Maximum deviation of a row's length from 1.
const LENGTH_TOLERANCE: f64 = 1e-3;

/// One embedding per class, computed once and compared with any number of images.
///
/// A class with several prompts has the mean of their unit embeddings, at unit length (CLIP's
/// prompt ensembling). If a prompt was split into chunks of which each image uses the best one, its
/// class has a different embedding for each image.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassEmbeddings {
    /// [classes, dim], unit length; zeros if the class is among `choices`.
    rows: Vec<f32>,
    /// Classes with an embedding that depends on the image.
    choices: BTreeMap<usize, Choice>,
    dim: usize,
}

/// The prompts of one class, some in several chunks.
#[derive(Clone, Debug, PartialEq)]
struct Choice {
    /// [chunks, dim] of each prompt.
    prompts: Vec<Vec<f32>>,
}

impl ClassEmbeddings {
    /// Encodes the prompts of all classes.
    ///
    /// # Errors
    /// When there are no classes, a class has no prompts, or the model cannot encode one.
    pub fn encode(model: &dyn DualEncoder, classes: &[Vec<Fitted>]) -> Result<Self> {
        ensure!(!classes.is_empty(), "no labels were given");
        let empty = classes.iter().any(Vec::is_empty);
        ensure!(!empty, "a label has no prompts");
        let prompts: Vec<Fitted> = classes.iter().flatten().cloned().collect();
        let prompts = TextEmbeddings::encode(model, &prompts)?;
        let counts = classes.iter().map(Vec::len);
        Self::joined(prompts.texts(), counts, prompts.dim())
    }

    /// `prompts` are the rows [chunks, dim] of each prompt, `counts` the prompts of each class.
    fn joined<'a>(
        mut prompts: impl Iterator<Item = &'a [f32]>,
        counts: impl Iterator<Item = usize>,
        dim: usize,
    ) -> Result<Self> {
        let (mut rows, mut choices) = (Vec::new(), BTreeMap::new());
        for (class, count) in counts.enumerate() {
            let prompts: Vec<&[f32]> = prompts.by_ref().take(count).collect();
            if prompts.iter().all(|prompt| prompt.len() == dim) {
                let equal = prompts.into_iter().map(|prompt| (prompt, 1.0));
                rows.extend(
                    mean_direction(equal, dim)
                        .context("the embeddings of a label's prompts cancel each other out")?,
                );
            } else {
                let prompts = prompts.into_iter().map(<[f32]>::to_vec).collect();
                choices.insert(class, Choice { prompts });
                rows.extend(std::iter::repeat_n(0.0, dim));
            }
        }
        Ok(Self { rows, choices, dim })
    }

    /// Embeddings that are computed already: `rows` [classes, dim] of unit length.
    ///
    /// # Errors
    /// When these are not rows of `dim`, or one does not have unit length.
    pub(crate) fn from_rows(rows: Vec<f32>, dim: usize) -> Result<Self> {
        ensure!(
            dim > 0 && !rows.is_empty() && rows.len().is_multiple_of(dim),
            "{} values are not rows of {dim}",
            rows.len()
        );
        for (class, row) in rows.chunks_exact(dim).enumerate() {
            let squares: f64 = row.iter().map(|v| f64::from(*v) * f64::from(*v)).sum();
            ensure!(
                (squares.sqrt() - 1.0).abs() <= LENGTH_TOLERANCE,
                "row {class} does not have unit length"
            );
        }
        Ok(Self {
            rows,
            choices: BTreeMap::new(),
            dim,
        })
    }

    /// The number of classes, at least one.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "there is always a class")]
    pub fn len(&self) -> usize {
        self.rows.len() / self.dim
    }

    /// The columns of a row.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// [classes, dim], unit length; `None` if a class has a different embedding for each image.
    #[must_use]
    pub fn rows(&self) -> Option<&[f32]> {
        self.choices.is_empty().then_some(&self.rows)
    }

    /// The cosines of `images` [n, dim] with all classes -> [n, classes]. An image's cosines do not
    /// depend on the other images, to the bit.
    ///
    /// Panics when `images` are not rows of `dim`.
    #[must_use]
    pub fn cosines(&self, images: &[f32]) -> Vec<f32> {
        let mut cosines = kernel::exact_products(images, &self.rows, self.dim);
        for (&class, choice) in &self.choices {
            let all = choice.cosines(images, self.dim);
            let column = cosines.iter_mut().skip(class).step_by(self.len());
            column.zip(all).for_each(|(to, cosine)| *to = cosine);
        }
        cosines
    }
}

impl Choice {
    /// The cosine of each image [n, dim] with the class as that image sees it: the best chunk of
    /// each prompt (the first on ties), and the mean direction of these.
    fn cosines(&self, images: &[f32], dim: usize) -> Vec<f32> {
        let prompts: Vec<_> = self
            .prompts
            .iter()
            .map(|chunks| (chunks, kernel::exact_products(images, chunks, dim)))
            .collect();
        let cosine = |image: usize| {
            let best = prompts.iter().map(|(chunks, cosines)| {
                let count = chunks.len() / dim;
                let cosines = &cosines[image * count..][..count];
                let best = (1..count).fold(0, |best, at| {
                    if cosines[at] > cosines[best] {
                        at
                    } else {
                        best
                    }
                });
                (&chunks[best * dim..][..dim], 1.0)
            });
            // Prompts that cancel out carry no information about the image.
            mean_direction(best, dim).map_or(0.0, |row| {
                kernel::exact_products(&images[image * dim..][..dim], &row, dim)[0]
            })
        };
        (0..images.len() / dim).map(cosine).collect()
    }
}

/// Below this norm, a sum of unit vectors has no meaningful direction.
const SHORTEST_SUM: f64 = 1e-6;

/// The embeddings of some texts: one row each, or several if the best chunk is chosen
/// later ([`Reading::Best`]).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TextEmbeddings {
    /// [rows, dim], unit length.
    rows: Vec<f32>,
    /// The end of each text's rows.
    ends: Vec<usize>,
    dim: usize,
}

impl TextEmbeddings {
    /// Encodes texts, all their chunks in one call of the model.
    ///
    /// # Errors
    /// When there are no texts, the model cannot encode one, or the chunks of one cancel out.
    pub(crate) fn encode(model: &dyn DualEncoder, texts: &[Fitted]) -> Result<Self> {
        ensure!(!texts.is_empty(), "no texts were given");
        let chunks = texts.iter().flat_map(|text| &text.chunks);
        let ids: Vec<TokenIds> = chunks.map(|chunk| chunk.token_ids.clone()).collect();
        let embeddings = model.encode_text(&ids)?;
        let (_, dim) = embeddings.dims2()?;
        Self::joined(texts, &embeddings.flatten_all()?.to_vec1::<f32>()?, dim)
    }

    /// `values` [chunks, dim] are the normalised embeddings of the texts' chunks.
    fn joined(texts: &[Fitted], values: &[f32], dim: usize) -> Result<Self> {
        let mut values = values.chunks_exact(dim);
        let mut rows = Vec::new();
        let mut ends = Vec::with_capacity(texts.len());
        for text in texts {
            let chunks = values.by_ref().take(text.chunks.len());
            match text.reading {
                Reading::Mean => {
                    let weights = text.chunks.iter().map(|chunk| chunk.tokens as f64);
                    let mean = mean_direction(chunks.zip(weights), dim);
                    rows.extend(mean.ok_or_else(|| {
                        anyhow::anyhow!(
                            "the embeddings of a long text's chunks cancel each other out"
                        )
                    })?);
                }
                Reading::Best => chunks.for_each(|chunk| rows.extend_from_slice(chunk)),
            }
            ends.push(rows.len() / dim);
        }
        Ok(Self { rows, ends, dim })
    }

    /// The columns of a row.
    #[must_use]
    pub(crate) fn dim(&self) -> usize {
        self.dim
    }

    /// Each text's rows [n, dim], unit length, in the order of the texts; n is 1 except for
    /// [`Reading::Best`].
    pub(crate) fn texts(&self) -> impl Iterator<Item = &[f32]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let ranges = starts.zip(&self.ends);
        ranges.map(|(start, &end)| &self.rows[start * self.dim..end * self.dim])
    }
}

/// The weighted mean of unit vectors `[dim]`, at unit length; a single one stays unchanged, to the
/// bit. `None` if they cancel out or there are none.
pub(super) fn mean_direction<'a>(
    rows: impl Iterator<Item = (&'a [f32], f64)>,
    dim: usize,
) -> Option<Vec<f32>> {
    let mut sum = vec![0f64; dim];
    let mut count = 0;
    let mut weights = 0.0;
    let mut last: &[f32] = &[];
    for (row, weight) in rows {
        let weighted = row.iter().map(|value| weight * f64::from(*value));
        sum.iter_mut().zip(weighted).for_each(|(s, v)| *s += v);
        count += 1;
        weights += weight;
        last = row;
    }
    if count == 1 {
        return Some(last.to_vec());
    }
    let norm = sum.iter().map(|v| v * v).sum::<f64>().sqrt();
    (norm > SHORTEST_SUM * weights).then(|| sum.into_iter().map(|v| (v / norm) as f32).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::tokenizer::{LongText, fit};

    #[test]
    fn each_image_uses_its_best_chunk() {
        let chunks: [&[f32]; 3] = [&[0.6, 0.8], &[1.0, 0.0, 0.0, 1.0], &[0.8, 0.6]];
        // One class with one row, and one with two prompts, the first of two chunks.
        let classes = ClassEmbeddings::joined(chunks.into_iter(), [1, 2].into_iter(), 2);
        let classes = classes.unwrap();
        assert_eq!((classes.len(), classes.rows()), (2, None));
        let cosines = classes.cosines(&[1.0, 0.0, 0.0, 1.0]);
        // [1, 0] + [0.8, 0.6] and [0, 1] + [0.8, 0.6], at unit length.
        let expected = [0.6, 1.8 / 3.6f32.sqrt(), 0.8, 1.6 / 3.2f32.sqrt()];
        for (cosine, expected) in cosines.iter().zip(expected) {
            assert!((cosine - expected).abs() < 1e-6, "{cosine} {expected}");
        }
        assert_eq!(cosines.len(), 4);
    }

    #[test]
    fn precomputed_rows_are_validated() {
        let rows = vec![0.6, 0.8, 1.0, 0.0];
        let classes = ClassEmbeddings::from_rows(rows.clone(), 2).unwrap();
        assert_eq!(classes.rows(), Some(&rows[..]));
        assert_eq!(classes.cosines(&[0.0, 1.0]), [0.8, 0.0]);
        for (rows, dim) in [
            (vec![], 2),
            (vec![1.0], 0),
            (vec![1.0, 0.0, 0.0], 2),
            (vec![1.0, 1.0], 2),
            (vec![f32::NAN, 0.0], 2),
        ] {
            assert!(
                ClassEmbeddings::from_rows(rows.clone(), dim).is_err(),
                "{rows:?}"
            );
        }
    }

    #[test]
    fn prompts_that_cancel_out_are_an_error() {
        let prompts: [&[f32]; 2] = [&[1.0, 0.0], &[-1.0, 0.0]];
        let error = ClassEmbeddings::joined(prompts.into_iter(), [2].into_iter(), 2);
        assert!(error.unwrap_err().to_string().contains("cancel"));
    }

    #[test]
    fn an_ensemble_is_the_direction_of_the_weighted_mean() {
        let mean = |rows: &[(&[f32], f64)]| mean_direction(rows.iter().copied(), 2);
        let even = mean(&[(&[1.0, 0.0], 1.0), (&[0.0, 1.0], 1.0)]).unwrap();
        assert!((even[0] - 0.5f32.sqrt()).abs() < 1e-7 && even[0] == even[1]);
        assert_eq!(
            mean(&[(&[1.0, 0.0], 3.0), (&[0.0, 1.0], 4.0)]).unwrap(),
            [0.6, 0.8]
        );
        assert_eq!(mean(&[(&[0.3, 0.4], 5.0)]).unwrap(), [0.3, 0.4]);
        assert_eq!(mean(&[(&[1.0, 0.0], 1.0), (&[-1.0, 0.0], 1.0)]), None);
        assert_eq!(mean(&[]), None);
    }

    #[test]
    fn chunks_are_averaged_by_tokens_or_kept_separate() {
        // Chunks of 3 and 4 tokens at a context of 6, between two single-chunk texts.
        let texts = |policy| {
            ["one", "one two, four five six seven", "two"].map(|text| fit(text, 6, policy).unwrap())
        };
        let values = [0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0];
        let mean = texts(LongText::ChunkMean);
        let tokens: Vec<_> = mean[1].chunks.iter().map(|chunk| chunk.tokens).collect();
        assert_eq!(tokens, [4, 3]);
        let joined = TextEmbeddings::joined(&mean, &values, 2).unwrap();
        let rows: Vec<_> = joined.texts().collect();
        assert_eq!(rows, [[0.0, 1.0], [0.8, 0.6], [1.0, 0.0]]);
        let apart = TextEmbeddings::joined(&texts(LongText::BestChunk), &values, 2).unwrap();
        let rows: Vec<_> = apart.texts().collect();
        let expected: [&[f32]; 3] = [&[0.0, 1.0], &[1.0, 0.0, 0.0, 1.0], &[1.0, 0.0]];
        assert_eq!(rows, expected);
    }

    #[test]
    fn chunks_that_cancel_out_are_an_error() {
        let text = fit("one two three four", 4, LongText::ChunkMean).unwrap();
        let error = TextEmbeddings::joined(&[text], &[1.0, 0.0, -1.0, 0.0], 2).unwrap_err();
        assert!(error.to_string().contains("cancel each other out"));
    }
}
