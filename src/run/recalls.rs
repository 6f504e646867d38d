//! Retrieval over the images that could be read: what `evaluate` reports and `finetune` follows.

use anyhow::{Context as _, Result, ensure};

use crate::input::dataset::Captioned;
use crate::input::tokenizer::Fitted;
use crate::model::DualEncoder;
use crate::output::ImageName;
use crate::output::evaluation::Recalls;
use crate::run::pipeline::Known;
use crate::run::session::Stop;
use crate::task::embeddings::TextEmbeddings;
use crate::task::retrieval::{Pairs, Retrieval, retrieve};

/// Captions per batch.
const TOGETHER: usize = 256;

/// The depths of recall.
pub(crate) const DEPTHS: [usize; 3] = [1, 5, 10];

/// The images that could be read, and their captions.
pub(crate) struct Kept {
    pub(crate) images: usize,
    dim: usize,
    /// [images, dim].
    embeddings: Vec<f32>,
    /// Indices of the captions in the dataset.
    pub(crate) texts: Vec<usize>,
    /// The image of each caption, as an index into those kept.
    image_of_text: Vec<usize>,
}

impl Kept {
    pub(crate) fn new(dataset: &Captioned, images: &[(ImageName, Result<Known>)]) -> Result<Self> {
        let mut kept = Self {
            images: 0,
            dim: 0,
            embeddings: Vec::new(),
            texts: Vec::new(),
            image_of_text: Vec::new(),
        };
        let mut place_of = Vec::with_capacity(images.len());
        for (_, outcome) in images {
            let known = outcome.as_ref().ok();
            place_of.push(known.map(|_| kept.images));
            if let Some(known) = known {
                kept.dim = known.embedding.len();
                kept.embeddings.extend_from_slice(&known.embedding);
                kept.images += 1;
            }
        }
        for (text, &image) in dataset.image_of_text.iter().enumerate() {
            if let Some(Some(place)) = place_of.get(image) {
                kept.texts.push(text);
                kept.image_of_text.push(*place);
            }
        }
        ensure!(
            !kept.texts.is_empty(),
            "none of the images that could be read has a caption"
        );
        Ok(kept)
    }

    /// Encodes the captions and ranks images and captions against each other.
    ///
    /// # Errors
    /// Also when stopped by a signal.
    pub(crate) fn retrieve(
        &self,
        model: &dyn DualEncoder,
        texts: &[Fitted],
        stop: &Stop,
    ) -> Result<Retrieval> {
        let wanted: Vec<Fitted> = self.texts.iter().map(|&text| texts[text].clone()).collect();
        let mut rows = Vec::new();
        let mut text_of_row = Vec::new();
        for part in wanted.chunks(TOGETHER) {
            ensure!(stop.signal().is_none(), "stopped by a signal");
            let encoded =
                TextEmbeddings::encode(model, part).context("cannot encode the captions")?;
            for (text, embeddings) in
                (text_of_row.last().map_or(0, |last| last + 1)..).zip(encoded.texts())
            {
                rows.extend_from_slice(embeddings);
                text_of_row.extend(std::iter::repeat_n(text, embeddings.len() / self.dim));
            }
        }
        let one_each = text_of_row.len() == self.texts.len();
        retrieve(&Pairs {
            images: &self.embeddings,
            texts: &rows,
            dim: self.dim,
            image_of_text: &self.image_of_text,
            text_of_row: (!one_each).then_some(&text_of_row),
        })
    }

    /// The number of captions that were cut.
    pub(crate) fn cut(&self, texts: &[Fitted]) -> usize {
        let cut = self.texts.iter().filter(|&&text| texts[text].cut.is_some());
        cut.count()
    }
}

pub(crate) fn recalls(found: &Retrieval) -> Recalls {
    let (image, text) = (&found.image_of_text, &found.text_of_image);
    let [image_at_1, image_at_5, image_at_10] = DEPTHS.map(|k| image.recall(k));
    let [text_at_1, text_at_5, text_at_10] = DEPTHS.map(|k| text.recall(k));
    Recalls {
        image_at_1,
        image_at_5,
        image_at_10,
        image_retrieval_median_rank: image.median(),
        text_at_1,
        text_at_5,
        text_at_10,
        text_retrieval_median_rank: text.median(),
    }
}
