//! Training pairs: images with a long caption each, and optionally a short one.
//!
//! - JSON Lines and tables with an image, a caption and optionally a short caption per row.
//! - A JSON list: ShareGPT4V's (`image`, `conversations[1].value`), or objects as in JSON Lines.
//! - COCO's and Karpathy's JSON, and the other caption lists of the retrieval datasets.
//! - Folders of images with a `.txt` (or `.caption`, `.json`) of the same name and optionally a
//!   `.short.txt`; Urban-1k's two folders; Hugging Face folders with a `metadata.jsonl` or `.csv`.
//! - WebDataset tar shards: one, a folder of them, or `name-{000..012}.tar`.
//!
//! All data are validated before training starts: every image must exist and have an image's magic
//! bytes, and every caption must have words. Captions are tokenised then, and only their tokens are
//! kept.

#![deny(clippy::indexing_slicing)]

mod check;
mod files;
mod shards;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use rand::{RngCore as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::input::image::{self, DecodeOptions, ImageBytes};
use crate::input::paths::ImageRule;
use crate::input::text_file::extension;
use crate::input::tokenizer::TokenIds;

pub use check::{Pairs, read};

/// Settings for reading pairs.
#[derive(Clone, Debug)]
pub struct PairOptions {
    /// Folder of the images that a file names; by default the file's own folder.
    pub images: Option<PathBuf>,
    /// Split of a file that has several.
    pub split: Option<String>,
    /// Limits for images.
    pub decode: DecodeOptions,
    /// Maximum tokens of a caption, with start and end tokens.
    pub context_length: usize,
    /// What to do with longer captions.
    pub long: LongCaption,
    /// Whether short captions are needed as well.
    pub short: ShortCaption,
}

/// What to do with a caption that is longer than the context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LongCaption {
    /// Truncate it, as Long-CLIP does.
    Cut,
    /// Treat it as bad data.
    Bad,
}

/// Whether pairs have a short caption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShortCaption {
    /// Not needed.
    Unused,
    /// The data's own, else the long one's first sentence.
    Used,
}

/// One image and its captions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Where the image is.
    pub image: Image,
    /// The long caption.
    pub long: Tokens,
    /// The short one, if short captions are used.
    pub short: Option<Tokens>,
}

/// Where an image is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Image {
    /// A file.
    File(PathBuf),
    /// A member of an archive.
    Member {
        /// The archive.
        archive: Arc<Path>,
        /// The member's name.
        name: Box<str>,
        /// Offset of its first byte.
        offset: u64,
        /// Number of bytes.
        bytes: u64,
    },
}

impl Image {
    /// Its name in messages.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Member { archive, name, .. } => format!("{}: {name}", archive.display()),
        }
    }

    /// Reads its bytes.
    ///
    /// # Errors
    /// When they cannot be read, or do not have an image's magic bytes.
    pub fn read(&self, options: &DecodeOptions) -> Result<ImageBytes> {
        match self {
            Self::File(path) => image::read_bytes(path, options),
            Self::Member {
                archive,
                offset,
                bytes,
                ..
            } => image::read_part(archive, *offset, *bytes, options),
        }
    }

    /// Checks that it exists and has an image's magic bytes; returns its size in bytes.
    fn check(&self, options: &DecodeOptions) -> Result<u64> {
        match self {
            Self::File(path) => image::check(path, options),
            Self::Member {
                archive,
                offset,
                bytes,
                ..
            } => image::check_part(archive, *offset, *bytes, options).map(|()| *bytes),
        }
    }
}

/// Token ids in 16 bits each.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tokens(Box<[u16]>);

impl Tokens {
    /// The ids of a text; every id of CLIP's vocabulary fits in 16 bits.
    ///
    /// # Errors
    /// When an id does not fit.
    pub(crate) fn new(ids: &TokenIds) -> Result<Self> {
        let ids = ids.as_slice().iter().map(|&id| u16::try_from(id));
        Ok(Self(ids.collect::<Result<_, _>>()?))
    }

    /// The ids as the text tower takes them.
    ///
    /// # Errors
    /// None for values made by [`Tokens::new`].
    pub(crate) fn ids(&self) -> Result<TokenIds> {
        TokenIds::new(self.0.iter().map(|&id| u32::from(id)).collect())
    }
}

/// An unusable pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bad {
    /// Where it was found: a file and a line, or a file alone.
    pub place: String,
    /// Why.
    pub cause: String,
}

/// A pair as the data has it, not validated yet.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Raw {
    place: String,
    image: Image,
    long: String,
    short: Option<String>,
}

/// Receiver of what a reader finds, in order.
type Taken = std::result::Result<Raw, Bad>;
/// Receives each pair or error.
type Take<'a> = &'a mut dyn FnMut(Taken) -> Result<()>;

/// The kind of data that was read.
struct DataKind {
    name: String,
    /// Notes on what was guessed about it.
    notes: Vec<String>,
}

impl DataKind {
    fn of(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            notes: Vec::new(),
        }
    }
}

/// The split that is used unless another is named.
const TRAIN: &str = "train";

/// Passes on the pairs of one image, one per long caption, or why they cannot be used.
fn pass_on(place: &str, read: Result<(Image, files::Captions)>, take: Take<'_>) -> Result<()> {
    match read {
        Ok((image, files::Captions { long, short })) => long.into_iter().try_for_each(|long| {
            take(Ok(Raw {
                place: place.to_owned(),
                image: image.clone(),
                long,
                short: short.clone(),
            }))
        }),
        Err(error) => take(Err(Bad {
            place: place.to_owned(),
            cause: format!("{error:#}"),
        })),
    }
}

/// Refuses a split for data that has none.
fn check_no_split(path: &Path, options: &PairOptions) -> Result<()> {
    ensure!(
        options.split.is_none(),
        "{} has no splits; drop --split",
        path.display()
    );
    Ok(())
}

/// The tar archives that a path names: one, a folder of them, or a numbered pattern in braces.
pub(super) fn shards(path: &Path) -> Result<Option<Vec<PathBuf>>> {
    shards::of(path)
}

/// Passes on all pairs of the data at `path`; returns the kind of data.
fn each(path: &Path, options: &PairOptions, rule: ImageRule, take: Take<'_>) -> Result<DataKind> {
    if let Some(shards) = shards::of(path)? {
        check_no_split(path, options)?;
        return shards::each(&shards, rule, take);
    }
    if path.is_dir() {
        return files::each_image(path, options, rule, take);
    }
    if !path.exists() {
        bail!("the data {} does not exist", path.display());
    }
    match extension(path).as_str() {
        "json" => files::each_entry(path, options, rule, take),
        "jsonl" | "ndjson" | "csv" | "tsv" | "tab" | "txt" | "token" => {
            files::each_row(path, options, take)
        }
        _ => bail!(
            "{} is not training data; pass a .jsonl, .csv, .tsv or .json file of images with \
             captions, a folder of images with one .txt per image or a metadata.jsonl, or .tar \
             shards",
            path.display()
        ),
    }
}

/// How pairs are batched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Batching {
    /// Number of pairs.
    pub pairs: usize,
    /// Pairs per batch.
    pub batch: usize,
    /// Smallest last batch of an epoch that is kept; a smaller one is skipped.
    pub least: usize,
    /// Random seed.
    pub seed: u64,
}

impl Batching {
    /// Batches per epoch.
    #[must_use]
    pub(crate) fn batches(&self) -> usize {
        let rest = self.pairs % self.batch;
        self.pairs / self.batch + usize::from(rest > 0 && rest >= self.least)
    }

    /// Pairs that an epoch skips.
    #[must_use]
    pub(crate) fn left_out(&self) -> usize {
        self.pairs.saturating_sub(self.batches() * self.batch)
    }

    /// Range of batch `number` of an epoch in [`Batching::epoch`].
    #[must_use]
    pub(crate) fn range(&self, number: usize) -> Range<usize> {
        let start = (number * self.batch).min(self.pairs);
        start..(start + self.batch).min(self.pairs)
    }

    /// All pairs in the order of `epoch`.
    #[must_use]
    pub(crate) fn epoch(&self, epoch: usize) -> Vec<u32> {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        random.set_stream(epoch as u64);
        let mut order: Vec<u32> = (0..self.pairs as u32).collect();
        // Fisher-Yates shuffle.
        for last in (1..order.len()).rev() {
            let wide = u128::from(random.next_u64()) * (last as u128 + 1);
            order.swap(last, (wide >> 64) as usize);
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_epoch_has_all_pairs_in_its_own_order() {
        let order = Batching {
            pairs: 103,
            batch: 10,
            least: 10,
            seed: 7,
        };
        let [mut first, second] = [0, 1].map(|epoch| order.epoch(epoch));
        assert_ne!(first, second);
        assert_eq!(second, order.epoch(1));
        assert_ne!(first, Batching { seed: 8, ..order }.epoch(0));
        first.sort_unstable();
        assert!(first.into_iter().eq(0..103));
    }

    #[test]
    fn the_last_batch_is_kept_if_it_is_large_enough() {
        // Pairs, smallest batch, batches, skipped, the last batch.
        let cases = [
            (103, 10, 10, 3, 90..100),
            (103, 3, 11, 0, 100..103),
            (103, 4, 10, 3, 90..100),
            (100, 1, 10, 0, 90..100),
        ];
        for (pairs, least, batches, left_out, last) in cases {
            let order = Batching {
                pairs,
                batch: 10,
                least,
                seed: 0,
            };
            assert_eq!(order.batches(), batches);
            assert_eq!(order.left_out(), left_out);
            assert_eq!(order.range(batches - 1), last);
        }
    }
}
