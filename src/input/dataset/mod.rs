//! Labelled datasets: images with one class each, or with captions.
//!
//! - A folder with one subfolder per class; images at any depth belong to its class.
//! - Archives of images with a `.cls` or `.json` next to each, or with one folder per class.
//! - Tables, JSON Lines or JSON with a path and a label (or captions) per image; paths are relative
//!   to the file. Image folders on the Hugging Face Hub keep such a file, `metadata.jsonl` or
//!   `.csv`, with the images.
//! - [`pairs`]: images with captions for fine-tuning, also from tar shards.
//! - Captions: also COCO's and Karpathy's JSON, Flickr's lists, and folders with one text file per
//!   image.

mod captions;
mod classes;
mod folders;
mod manifest;
mod names;
pub mod pairs;
mod parts;
mod rows;
mod shards;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};

use super::paths::{ImageRule, ImageSource, PathError, is_shard};
use super::text_file::extension;

pub(crate) use super::text_file::column::class_number;
pub(crate) use captions::{BadCaptions, CaptionLines, CaptionOptions, Captioned, captioned};
pub(crate) use classes::{LabelOrder, Matched, Matching, check_single_labels, match_classes};
pub use names::{Texts, clean};
pub(crate) use names::{composed, folder_texts};
pub(crate) use parts::are_parts;

/// One image of a class: its path, or what is wrong with it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    /// Where the image is.
    pub source: Result<PathBuf, PathError>,
    /// Its class, an index into [`Labelled::classes`].
    pub class: usize,
}

impl Sample {
    /// The image as the pipeline takes it.
    ///
    /// # Errors
    /// What is wrong with the path.
    pub(crate) fn image_source(&self) -> Result<ImageSource, PathError> {
        self.source.clone().map(ImageSource::Path)
    }
}

/// Images with one class each.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Labelled {
    /// The dataset's names of its classes: folder names in byte order, or labels in order of first
    /// appearance.
    pub classes: Vec<String>,
    /// The images, in the order of the folders or of the file.
    pub samples: Vec<Sample>,
    /// Messages for the user.
    pub remarks: Vec<Remark>,
    /// The archives that hold the images, if they are not files.
    shards: Vec<PathBuf>,
}

impl Labelled {
    /// The images as the pipeline takes them, also those in archives.
    ///
    /// # Errors
    /// None for a dataset that was read.
    pub(crate) fn stream(&self, rule: ImageRule) -> Result<shards::Sources> {
        shards::Sources::new(self, rule)
    }

    /// The images as the pipeline takes them, of a dataset without archives.
    #[must_use]
    pub(crate) fn sources(&self) -> Vec<Result<ImageSource, PathError>> {
        self.samples.iter().map(Sample::image_source).collect()
    }
}

/// Messages about a dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Remark {
    /// Details, shown on request.
    Detail(String),
    /// What was skipped or guessed.
    Note(String),
    /// What may be wrong.
    Warning(String),
}

/// Which part of a file with several is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split<'a> {
    /// The one that the user names.
    Named(&'a str),
    /// The one of this name in files with separate splits, if it is there; else all.
    Usual(&'static str),
    /// All parts.
    All,
}

/// Which part of a labelled dataset is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LabelledOptions<'a> {
    /// Folder of the images that a file names; by default the file's own folder.
    pub images: Option<&'a Path>,
    /// Which part.
    pub split: Split<'a>,
    /// Whether the images may be in archives, so that [`Labelled::stream`] reads them.
    pub shards: bool,
}

impl LabelledOptions<'_> {
    /// Images next to the file, and the default split.
    #[must_use]
    pub(crate) fn usual(split: &'static str) -> Self {
        Self {
            images: None,
            split: Split::Usual(split),
            shards: false,
        }
    }

    /// The same, also in archives.
    #[must_use]
    pub(crate) fn or_shards(self) -> Self {
        Self {
            shards: true,
            ..self
        }
    }
}

/// Reads a dataset of images with one class each.
///
/// # Errors
/// When it is neither such a folder nor such a file, or has no images.
pub(crate) fn labelled(
    path: &Path,
    options: &LabelledOptions<'_>,
    rule: ImageRule,
) -> Result<Labelled> {
    let is_folder = path.is_dir();
    // An archive next to class folders is probably what they were unpacked from.
    let found = match is_shard(path, rule) {
        true => Some(vec![path.to_owned()]),
        false if is_folder && folders::has_classes(path)? => None,
        false => pairs::shards(path)?,
    };
    if let Some(found) = found {
        ensure!(
            options.shards,
            "{} {} archives, which classify, embed, evaluate, calibrate and finetune read; unpack \
             them to a folder with one folder per class",
            path.display(),
            if is_folder { "holds" } else { "names" }
        );
        ensure!(
            options.images.is_none() && !matches!(options.split, Split::Named(_)),
            "--images and --split apply to files that list images, but {} {} archives",
            path.display(),
            if is_folder { "holds" } else { "names" }
        );
        return shards::labelled(path, found, rule);
    }
    if !is_folder {
        return manifest::labelled(path, options, rule);
    }
    if let Some(file) = folders::labels(path)? {
        let mut found = manifest::labelled(&file, options, rule)?;
        found.remarks.push(Remark::Note(format!(
            "labels are read from {}",
            file.display()
        )));
        return Ok(found);
    }
    ensure!(
        options.images.is_none() && !matches!(options.split, Split::Named(_)),
        "--images and --split apply to files that list images, but {} is a folder",
        path.display()
    );
    folders::read(path, rule)
}

/// Fails with a message that says which datasets are accepted.
fn not_a_dataset<T>(path: &Path) -> Result<T> {
    if !path.exists() {
        bail!("the dataset {} does not exist", path.display());
    }
    match extension(path).as_str() {
        "json" => bail!(
            "{} is JSON without labels; supported are a list of objects with path and label, \
             {{path: label}} and CoOp's splits (for captions add --task retrieval)",
            path.display()
        ),
        "zip" | "gz" | "tgz" | "7z" | "rar" | "zst" => bail!(
            "{} is an archive; unpack it to a folder first",
            path.display()
        ),
        "parquet" | "arrow" => bail!(
            "{} is a dataset table of the Hugging Face Hub; save its images to a folder and their \
             labels to a .csv file",
            path.display()
        ),
        _ => bail!(
            "{} is not a dataset; pass a folder with one folder per class, or a .csv, .tsv, \
             .jsonl or .json file with columns path and label",
            path.display()
        ),
    }
}
