//! Embeddings of texts of any length, whatever number of chunks each was split into.

use anyhow::{Result, ensure};

use crate::input::tokenizer::{Fitted, Reading, TokenIds};
use crate::model::DualEncoder;

/// Below this norm, a sum of unit vectors has no meaningful direction.
const SHORTEST_SUM: f64 = 1e-6;

/// The embeddings of some texts: one row each, or several if the best chunk is chosen
/// later ([`Reading::Best`]).
#[derive(Clone, Debug, PartialEq)]
pub struct TextEmbeddings {
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
    pub fn encode(model: &dyn DualEncoder, texts: &[Fitted]) -> Result<Self> {
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
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Each text's rows [n, dim], unit length, in the order of the texts; n is 1 except for
    /// [`Reading::Best`].
    pub fn texts(&self) -> impl Iterator<Item = &[f32]> {
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
