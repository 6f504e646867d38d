//! Images with a long caption each, and a short one: what fine-tuning reads.
//!
//! - JSON lines and tables with an image, a caption and perhaps a short caption on each row.
//! - A JSON list: ShareGPT4V's (`image`, `conversations[1].value`), or objects as in JSON lines.
//! - COCO's and Karpathy's JSON, and the other lists of captions of the retrieval sets.
//! - Folders of images with a `.txt` (or `.caption`, `.json`) of the same name and perhaps a `.short.txt`;
//!   Urban-1k's two folders; the hub's folders with a `metadata.jsonl` or `.csv`.
//! - WebDataset's tar shards: one, a folder of them, or `name-{000..012}.tar`.
//!
//! All of the data is looked at before anything is trained: every image is there and begins like
//! one, every caption has words and is turned into tokens, which are all that is kept of it.

mod check;
mod folder;
mod list;
mod order;
mod rows;
mod shards;
mod tar;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, bail, ensure};

use crate::input::image::{self, DecodeOptions};
use crate::input::paths::ImageRule;
use crate::input::tokenizer::TokenIds;

pub use check::{Counts, Pairs, read};
pub use order::Order;

/// How pairs are read.
#[derive(Clone, Debug)]
pub struct PairOptions {
    /// Where the images are that a file names; by default beside the file.
    pub images: Option<PathBuf>,
    /// The split of a file that has several.
    pub split: Option<String>,
    /// What of an image is refused.
    pub decode: DecodeOptions,
    /// Most tokens of a caption, with start and end.
    pub context_length: usize,
    /// What becomes of longer ones.
    pub long: LongCaption,
    /// Whether short captions are wanted as well.
    pub short: ShortCaption,
}

/// What becomes of a caption that is longer than the context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LongCaption {
    /// It is cut, as Long-CLIP does.
    Cut,
    /// It is bad data.
    Bad,
}

/// Whether a pair has a short caption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShortCaption {
    /// Nobody asks for it.
    Unused,
    /// The data's own, else the long one's first sentence.
    Used,
}

/// One image and what is said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Where the image is.
    pub image: Image,
    /// The long caption.
    pub long: Tokens,
    /// The short one, if short ones are used.
    pub short: Option<Tokens>,
}

/// Where an image is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Image {
    /// A file.
    File(PathBuf),
    /// A part of an archive.
    Member {
        /// The archive.
        archive: Arc<Path>,
        /// The image's name there.
        name: Box<str>,
        /// Where its bytes begin.
        offset: u64,
        /// How many there are.
        bytes: u64,
    },
}

impl Image {
    /// What messages call it.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Member { archive, name, .. } => format!("{}: {name}", archive.display()),
        }
    }

    /// Its bytes.
    ///
    /// # Errors
    /// When they cannot be read, or do not begin like an image.
    pub fn read(&self, options: &DecodeOptions) -> Result<Vec<u8>> {
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

    /// Whether it is there and begins like an image; its size in bytes.
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

/// Token ids in half the room.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tokens(Box<[u16]>);

impl Tokens {
    /// The ids of a text; every id of CLIP's vocabulary has 16 bits.
    ///
    /// # Errors
    /// When an id has more.
    pub fn new(ids: &TokenIds) -> Result<Self> {
        let ids = ids.as_slice().iter().map(|&id| u16::try_from(id));
        Ok(Self(ids.collect::<Result<_, _>>()?))
    }

    /// As the text tower takes them.
    ///
    /// # Errors
    /// None for what [`Tokens::new`] made.
    pub fn ids(&self) -> Result<TokenIds> {
        TokenIds::new(self.0.iter().map(|&id| u32::from(id)).collect())
    }
}

/// A pair that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bad {
    /// Where it was found: a file and a line, or a file alone.
    pub place: String,
    /// Why.
    pub cause: String,
}

/// A pair as the data has it, not looked at yet.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Raw {
    place: String,
    image: Image,
    long: String,
    short: Option<String>,
}

/// What a reader hands over, one after the other.
type Taken = std::result::Result<Raw, Bad>;
/// Who gets it.
type Take<'a> = &'a mut dyn FnMut(Taken) -> Result<()>;

/// What kind of data was read.
struct Kind {
    name: String,
    /// What was guessed about it.
    notes: Vec<String>,
}

impl Kind {
    fn of(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            notes: Vec::new(),
        }
    }
}

/// The split that is trained on unless another is named.
const TRAIN: &str = "train";

/// Hands over the pairs of one image, one for each long caption, or why they cannot be had.
fn hand_over(place: &str, read: Result<(Image, rows::Captions)>, take: Take<'_>) -> Result<()> {
    match read {
        Ok((image, rows::Captions { long, short })) => long.into_iter().try_for_each(|long| {
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

/// Refuses a split of data that has none.
fn check_no_split(path: &Path, options: &PairOptions) -> Result<()> {
    ensure!(
        options.split.is_none(),
        "{} has no splits: leave out --split",
        path.display()
    );
    Ok(())
}

/// Whether a path names tar archives: one, a folder of them, or several by numbers in braces.
pub(super) fn is_shards(path: &Path) -> Result<bool> {
    Ok(shards::of(path)?.is_some())
}

/// Hands over all pairs of the data at `path`; returns what kind of data it is.
fn each(path: &Path, options: &PairOptions, rule: ImageRule, take: Take<'_>) -> Result<Kind> {
    if let Some(shards) = shards::of(path)? {
        check_no_split(path, options)?;
        return shards::each(&shards, rule, take);
    }
    if path.is_dir() {
        return folder::each(path, options, rule, take);
    }
    if !path.exists() {
        bail!("the data {} does not exist", path.display());
    }
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    match extension.to_lowercase().as_str() {
        "json" => list::each(path, options, rule, take),
        "jsonl" | "ndjson" | "csv" | "tsv" | "tab" | "txt" | "token" => {
            rows::each(path, options, take)
        }
        _ => bail!(
            "{} is no data to train on; name a .jsonl, .csv, .tsv or .json file of images with \
             captions, a folder of images with a .txt each or a metadata.jsonl, or .tar shards",
            path.display()
        ),
    }
}
