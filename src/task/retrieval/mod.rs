//! Finding the image of a text among all images, and a text of an image among all texts.
//!
//! Recall at k is what CLIP's, CLIP_benchmark's and Long-CLIP's figures mean by it: the share of
//! queries with at least one right answer among the k best. CLIP_benchmark calls finding images by
//! texts `image_retrieval_recall@k` and the other way `text_retrieval_recall@k`; on embeddings of
//! no two equal scores the numbers are its numbers. Long-CLIP's scripts divide in the same way;
//! what they do beside it is a choice of data: `coco.py` takes the first five captions of an image,
//! `flickr30k.py` all 31,783 images instead of the usual thousand (its softmax before the ranking
//! changes no order but can make near scores equal), `Urban1k.py` the first line of a caption, and
//! k = 1.
//!
//! Equal scores rank by the earlier index, like a stable sort: with embeddings that all are the
//! same, recall is that of guessing. torch's `topk` and `argsort`, which those scripts use, leave
//! the order of equal scores open.

mod ranking;
#[cfg(test)]
mod tests;
mod texts;

use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, ensure};
use rayon::prelude::*;

pub use ranking::Ranking;
use texts::Texts;

/// Images whose scores are held at once.
const IMAGES: usize = 64;
/// How far the squared length of an embedding may be from 1; bf16 weights move it by a thousandth.
const TOLERANCE: f64 = 0.01;

/// Images, texts, and which belong together. Embeddings have unit length.
#[derive(Clone, Copy, Debug)]
pub struct Pairs<'a> {
    /// [images, dim].
    pub images: &'a [f32],
    /// [rows, dim]; one row a text unless `text_of_row` says otherwise.
    pub texts: &'a [f32],
    /// Columns.
    pub dim: usize,
    /// The image of each text `[texts]`. An image may have any number of texts.
    pub image_of_text: &'a [usize],
    /// The text of each row `[rows]`, for texts of several embeddings, of which the one nearest to
    /// an image counts.
    pub text_of_row: Option<&'a [usize]>,
}

/// At which place the right answer of each query stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Retrieval {
    /// For each text the place of its image among all images.
    pub image_of_text: Ranking,
    /// For each image that has texts the place of its best one among all texts, in the order of the
    /// images. An image without texts is an answer that can be wrong, but no query.
    pub text_of_image: Ranking,
}

/// Ranks every image for every text and every text for every image: one product of all with all, in
/// blocks that are never kept, on the threads of the current rayon pool, with the same result on
/// any number of them.
///
/// # Errors
/// When lengths do not fit, an image or text is named that is not there, a text has no embedding,
/// or an embedding has not unit length.
pub fn retrieve(pairs: &Pairs) -> Result<Retrieval> {
    let dim = pairs.dim;
    ensure!(dim > 0, "embeddings without columns cannot be ranked");
    check_embeddings("image", pairs.images, dim)?;
    check_embeddings("text", pairs.texts, dim)?;
    let images = pairs.images.len() / dim;
    if let Some(image) = pairs.image_of_text.iter().find(|image| **image >= images) {
        anyhow::bail!("a text belongs to image {image}, but there are {images}");
    }
    // Places are kept as u32.
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

/// Refuses what has not unit length, which NaN has not either.
fn check_embeddings(what: &str, values: &[f32], dim: usize) -> Result<()> {
    ensure!(
        values.len().is_multiple_of(dim),
        "{} numbers are no whole number of {what} embeddings of {dim} columns",
        values.len()
    );
    let squared = |row: &[f32]| row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
    let unit = 1.0 - TOLERANCE..=1.0 + TOLERANCE;
    let wrong = values
        .par_chunks(dim)
        .position_first(|row| !unit.contains(&squared(row)));
    if let Some(row) = wrong {
        let length = squared(&values[row * dim..][..dim]).sqrt();
        anyhow::bail!("{what} embedding {row} has the length {length}; normalise it to 1 first");
    }
    Ok(())
}

/// What the right answers score.
struct Truth<'a> {
    dim: usize,
    image_of_text: &'a [usize],
    /// Of each text with its image.
    score: Vec<f32>,
    /// The text of each image that scores best, the first of equal ones.
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

    /// The places of the best texts of the images from `first` on, whose embeddings are `images`.
    /// Adds to `text_places` how many of these images stand before each text's own: whole numbers,
    /// in any order.
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
                    // Texts before the best one win ties with it.
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
