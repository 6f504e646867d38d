//! Image-text retrieval: finding the image of a text among all images, and a text of an image among
//! all texts.
//!
//! Recall at k is defined as for the figures of CLIP, CLIP_benchmark and Long-CLIP: the share of
//! queries with at least one right answer among the k best. CLIP_benchmark calls finding images by
//! texts `image_retrieval_recall@k` and the reverse `text_retrieval_recall@k`; on embeddings
//! without tied scores the numbers are the same. Long-CLIP's scripts compute it in the same way;
//! they differ only in the data they choose: `coco.py` takes the first five captions of an image,
//! `flickr30k.py` all 31,783 images instead of the usual thousand (its softmax before the ranking
//! does not change the order but can make close scores equal), `Urban1k.py` the first line of a
//! caption, and k = 1.
//!
//! Ties rank by the lower index, as in a stable sort: if all embeddings are equal, recall is at
//! chance level. torch's `topk` and `argsort`, which those scripts use, leave the order of ties
//! undefined.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, ensure};
use rayon::prelude::*;

use crate::kernel::streamed_products;

/// Images per block of scores.
const IMAGES: usize = 64;
/// Maximum deviation of an embedding's squared norm from 1; bf16 weights change it by a thousandth.
const TOLERANCE: f64 = 0.01;

/// Images and texts, and which belong together. Embeddings are normalised.
#[derive(Clone, Copy, Debug)]
pub struct Pairs<'a> {
    /// [images, dim].
    pub images: &'a [f32],
    /// [rows, dim]; one row per text unless `text_of_row` is given.
    pub texts: &'a [f32],
    /// Columns.
    pub dim: usize,
    /// The image of each text `[texts]`. An image may have any number of texts.
    pub image_of_text: &'a [usize],
    /// The text of each row `[rows]`, for texts with several embeddings; the one nearest to
    /// an image counts.
    pub text_of_row: Option<&'a [usize]>,
}

/// The rank of the right answer of each query.
#[derive(Clone, Debug, PartialEq)]
pub struct Retrieval {
    /// For each text, the rank of its image among all images.
    pub image_of_text: Ranking,
    /// For each image that has texts, the rank of its best one among all texts, in the order of the
    /// images. An image without texts can be a wrong answer, but is not a query.
    pub text_of_image: Ranking,
}

/// Ranks every image for every text and every text for every image: one product of all pairs, in
/// blocks that are not kept, on the current rayon pool, with the same result for
/// any number of threads.
///
/// # Errors
/// When lengths do not match, an image or text index is out of range, a text has no embedding,
/// or an embedding does not have unit length.
pub fn retrieve(pairs: &Pairs) -> Result<Retrieval> {
    let dim = pairs.dim;
    ensure!(dim > 0, "embeddings without columns cannot be ranked");
    check_embeddings("image", pairs.images, dim)?;
    check_embeddings("text", pairs.texts, dim)?;
    let images = pairs.images.len() / dim;
    if let Some(image) = pairs.image_of_text.iter().find(|image| **image >= images) {
        anyhow::bail!("a text belongs to image {image}, but there are only {images} images");
    }
    // Ranks are stored as u32.
    u32::try_from(images.max(pairs.texts.len() / dim))?;
    let texts = Texts::new(pairs)?;
    let truth = Truth::new(pairs, &texts);
    let text_places: Vec<AtomicU32> = std::iter::repeat_with(|| AtomicU32::new(1))
        .take(texts.image.len())
        .collect();
    let blocks: Vec<Vec<u32>> = pairs
        .images
        .par_chunks(IMAGES * dim)
        .enumerate()
        .map(|(block, rows)| truth.count_block(&texts, block * IMAGES, rows, &text_places))
        .collect();
    let image_places = blocks.into_iter().flatten().zip(&truth.best_text);
    Ok(Retrieval {
        image_of_text: Ranking(text_places.into_iter().map(AtomicU32::into_inner).collect()),
        text_of_image: Ranking(
            image_places
                .filter_map(|(place, best)| best.map(|_| place))
                .collect(),
        ),
    })
}

/// Rejects embeddings without unit length, including NaN.
fn check_embeddings(what: &str, values: &[f32], dim: usize) -> Result<()> {
    ensure!(
        values.len().is_multiple_of(dim),
        "{} values are not a whole number of {what} embeddings with {dim} columns",
        values.len()
    );
    let squared = |row: &[f32]| row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
    let unit = 1.0 - TOLERANCE..=1.0 + TOLERANCE;
    let wrong = values
        .par_chunks(dim)
        .position_first(|row| !unit.contains(&squared(row)));
    if let Some(row) = wrong {
        let length = squared(&values[row * dim..][..dim]).sqrt();
        anyhow::bail!("{what} embedding {row} has norm {length}; normalise it to 1 first");
    }
    Ok(())
}

/// The scores of the right answers.
struct Truth<'a> {
    dim: usize,
    image_of_text: &'a [usize],
    /// The score of each text with its image.
    score: Vec<f32>,
    /// The best-scoring text of each image, the first on ties.
    best_text: Vec<Option<usize>>,
}

impl<'a> Truth<'a> {
    fn new(pairs: &Pairs<'a>, texts: &Texts) -> Self {
        let (dim, image_of_text) = (pairs.dim, pairs.image_of_text);
        let image = |text: usize| &pairs.images[image_of_text[text] * dim..][..dim];
        let score: Vec<f32> = (0..image_of_text.len())
            .into_par_iter()
            .map(|text| texts.scores(image(text), dim, &(text..text + 1))[0])
            .collect();
        let mut best_text: Vec<Option<usize>> = vec![None; pairs.images.len() / dim];
        for (text, image) in image_of_text.iter().enumerate() {
            let best = &mut best_text[*image];
            if best.is_none_or(|best| score[text] > score[best]) {
                *best = Some(text);
            }
        }
        Self {
            dim,
            image_of_text,
            score,
            best_text,
        }
    }

    /// The ranks of the best texts of the images from `first` on, with embeddings `images`.
    /// Adds to `text_places` how many of these images rank before each text's own: integers,
    /// so that the order does not matter.
    fn count_block(
        &self,
        texts: &Texts,
        first: usize,
        images: &[f32],
        text_places: &[AtomicU32],
    ) -> Vec<u32> {
        let mut places = vec![1; images.len() / self.dim];
        for block in texts.blocks() {
            let scores = texts.scores(images, self.dim, &block);
            let own = &self.score[block.clone()];
            let own_image = &self.image_of_text[block.clone()];
            let mut before = vec![0; block.len()];
            for (i, line) in scores.chunks_exact(block.len()).enumerate() {
                let image = first + i;
                for (before, (score, (own, own_image))) in before
                    .iter_mut()
                    .zip(line.iter().zip(own.iter().zip(own_image)))
                {
                    *before += u32::from((score > own) | ((score == own) & (image < *own_image)));
                }
                if let Some(best) = self.best_text[image] {
                    let limit = self.score[best];
                    // Texts with a lower index win ties.
                    let earlier = best.saturating_sub(block.start).min(block.len());
                    let count = |better: usize| u32::try_from(better).unwrap_or(u32::MAX);
                    places[i] += count(line[..earlier].iter().filter(|s| **s >= limit).count());
                    places[i] += count(line[earlier..].iter().filter(|s| **s > limit).count());
                }
            }
            for (place, before) in text_places[block].iter().zip(before) {
                place.fetch_add(before, Ordering::Relaxed);
            }
        }
        places
    }
}

/// The ranks, counted from 1, of the best right answers of some queries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranking(pub Vec<u32>);

impl Ranking {
    /// The share of queries with a right answer among the `k` best; 0 without queries.
    #[must_use]
    pub fn recall(&self, k: usize) -> f64 {
        let found = self.0.iter().filter(|rank| **rank as usize <= k).count();
        self.mean(found as f64)
    }

    /// The median rank: half of the queries have their answer at this rank or better; 0 without
    /// queries.
    #[must_use]
    pub fn median(&self) -> f64 {
        let mut ranks = self.0.clone();
        ranks.sort_unstable();
        let Some(last) = ranks.len().checked_sub(1) else {
            return 0.0;
        };
        let middle = [ranks[last / 2], ranks[last.div_ceil(2)]];
        middle.map(f64::from).iter().sum::<f64>() / 2.0
    }

    /// The mean reciprocal rank; 0 without queries.
    #[must_use]
    pub fn mean_reciprocal(&self) -> f64 {
        self.mean(self.0.iter().map(|rank| 1.0 / f64::from(*rank)).sum())
    }

    fn mean(&self, sum: f64) -> f64 {
        sum / self.0.len().max(1) as f64
    }
}

/// Rows per block of scores (except for a text with more), so that a block stays in the L2
/// cache.
const ROWS: usize = 128;

/// The texts' rows, grouped by text.
struct Texts<'a> {
    rows: Cow<'a, [f32]>,
    /// The first row of each text, and the end of the last.
    starts: Vec<usize>,
    /// The image of each text.
    image: &'a [usize],
}

impl<'a> Texts<'a> {
    /// Groups the rows of `pairs`; rejects rows without a text and texts without rows.
    fn new(pairs: &Pairs<'a>) -> Result<Self> {
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
    fn blocks(&self) -> impl Iterator<Item = Range<usize>> {
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
    fn scores(&self, images: &[f32], dim: usize, block: &Range<usize>) -> Vec<f32> {
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
