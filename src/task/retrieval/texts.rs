//! Texts with one or several embeddings, split into blocks.

use std::borrow::Cow;
use std::ops::Range;

use anyhow::{Result, ensure};

use super::Pairs;
use crate::kernel::streamed_products;

/// Rows per block of scores (except for a text with more), so that a block stays in the L2
/// cache.
pub(super) const ROWS: usize = 128;

/// The texts' rows, grouped by text.
pub(super) struct Texts<'a> {
    rows: Cow<'a, [f32]>,
    /// The first row of each text, and the end of the last.
    starts: Vec<usize>,
    /// The image of each text.
    pub(super) image: &'a [usize],
}

impl<'a> Texts<'a> {
    /// Groups the rows of `pairs`; rejects rows without a text and texts without rows.
    pub(super) fn new(pairs: &Pairs<'a>) -> Result<Self> {
        let (dim, texts) = (pairs.dim, pairs.image_of_text.len());
        let rows = pairs.texts.len() / dim;
        let single: Vec<usize>;
        let text_of_row = match pairs.text_of_row {
            Some(map) => map,
            None => {
                single = (0..rows).collect();
                &single
            }
        };
        ensure!(
            text_of_row.len() == rows && text_of_row.iter().all(|text| *text < texts),
            "the assignment of {rows} embeddings to {texts} texts is invalid"
        );
        let mut starts = vec![0; texts + 1];
        for text in text_of_row {
            starts[text + 1] += 1;
        }
        if let Some(text) = starts[1..].iter().position(|count| *count == 0) {
            anyhow::bail!("text {text} has no embedding");
        }
        for text in 0..texts {
            starts[text + 1] += starts[text];
        }
        let rows = if text_of_row.is_sorted() {
            pairs.texts.into()
        } else {
            let mut order: Vec<usize> = (0..rows).collect();
            order.sort_by_key(|row| text_of_row[*row]);
            let row = |row: usize| &pairs.texts[row * dim..][..dim];
            order.into_iter().flat_map(row).copied().collect()
        };
        Ok(Self {
            rows,
            starts,
            image: pairs.image_of_text,
        })
    }

    /// Ranges of texts of about [`ROWS`] rows.
    pub(super) fn blocks(&self) -> impl Iterator<Item = Range<usize>> {
        let mut start = 0;
        std::iter::from_fn(move || {
            let limit = self.starts[start] + ROWS;
            let fit = self.starts.partition_point(|row| *row <= limit) - 1;
            let end = fit.max(start + 1).min(self.image.len());
            let block = start..end;
            start = end;
            (!block.is_empty()).then_some(block)
        })
    }

    /// Scores of `images` [images, dim] with the texts of `block` [images, texts]: for each text
    /// the best of its rows.
    pub(super) fn scores(&self, images: &[f32], dim: usize, block: &Range<usize>) -> Vec<f32> {
        let rows = self.starts[block.start]..self.starts[block.end];
        let mut scores = vec![0.0; images.len() / dim * rows.len()];
        streamed_products(
            images,
            &self.rows[rows.start * dim..rows.end * dim],
            dim,
            &mut scores,
        );
        if rows.len() == block.len() {
            return scores;
        }
        let ends = &self.starts[block.start..=block.end];
        let best = |line: &[f32], ends: &[usize]| {
            let own = &line[ends[0] - rows.start..ends[1] - rows.start];
            own.iter().copied().fold(f32::NEG_INFINITY, f32::max)
        };
        scores
            .chunks_exact(rows.len())
            .flat_map(|line| ends.windows(2).map(move |ends| best(line, ends)))
            .collect()
    }
}
