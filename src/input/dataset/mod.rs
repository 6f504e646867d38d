//! Images that come with their answers: a class each, or captions.
//!
//! - A folder with one folder a class; whatever lies deeper belongs to its class.
//! - Tables, JSON lines or JSON with a path and a label (or captions) each; paths are relative to the
//!   file. The hub's image folders keep such a file, `metadata.jsonl` or `.csv`, with the images.
//! - [`pairs`]: images with captions as fine-tuning takes them, from tar shards too.
//! - Captions: also COCO's and Karpathy's JSON, Flickr's lists, and folders of images with a text
//!   file each.

mod captions;
mod classes;
mod folders;
mod manifest;
mod names;
pub mod pairs;
mod parts;
mod rows;
mod sidecar;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};

pub use captions::{BadCaptions, CaptionOptions, Captioned, Lines, captioned};
pub use classes::{Matched, Matching, Order, check_single_labels, match_classes};
pub use names::{Texts, class_number, clean, composed, folder_texts};
pub use parts::are_parts;

use super::paths::{ImageRule, ImageSource, PathError};

/// One image of a class; the path, or what is wrong with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Where the image is.
    pub source: Result<PathBuf, PathError>,
    /// Its class, counted in the order of [`Labelled::classes`].
    pub class: usize,
}

impl Sample {
    /// As the pipeline takes it.
    ///
    /// # Errors
    /// What is wrong with the path.
    pub fn image_source(&self) -> Result<ImageSource, PathError> {
        self.source.clone().map(ImageSource::Path)
    }
}

/// Images with a class each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Labelled {
    /// What the dataset calls its classes: the folders' names in byte order, or the labels in the
    /// order in which they first come.
    pub classes: Vec<String>,
    /// In the order of the folders or of the file.
    pub samples: Vec<Sample>,
    /// What a user should know.
    pub remarks: Vec<Remark>,
}

/// What a user should know about a dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remark {
    /// For those who ask for more.
    Detail(String),
    /// What was left out or guessed.
    Note(String),
    /// What may be wrong.
    Warning(String),
}

/// Which part of a file with several is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split<'a> {
    /// The one that the user names.
    Named(&'a str),
    /// The one of this name in files that keep splits apart, if it is there; else all.
    Usual(&'static str),
    /// Everything.
    All,
}

/// What of a dataset with labels is taken.
#[derive(Clone, Copy, Debug)]
pub struct LabelledOptions<'a> {
    /// Where the images are that a file names; by default next to the file.
    pub images: Option<&'a Path>,
    /// Which part.
    pub split: Split<'a>,
}

impl LabelledOptions<'_> {
    /// Images next to the file, and what is usually taken.
    #[must_use]
    pub fn usual(split: &'static str) -> Self {
        Self {
            images: None,
            split: Split::Usual(split),
        }
    }
}

/// Reads a dataset of images with a class each.
///
/// # Errors
/// When it is neither such a folder nor such a file, or holds no images.
pub fn labelled(path: &Path, options: &LabelledOptions<'_>, rule: ImageRule) -> Result<Labelled> {
    let is_folder = path.is_dir();
    // An archive next to class folders is where they came from.
    if pairs::is_shards(path)? && !(is_folder && folders::has_classes(path)?) {
        bail!(
            "{} {} tar archives, and only finetune reads those (with captions); unpack them to a folder with \
             one folder per class",
            path.display(),
            if is_folder { "holds" } else { "names" }
        );
    }
    if !is_folder {
        return manifest::labelled(path, options, rule);
    }
    if let Some(file) = sidecar::labels(path)? {
        let mut found = manifest::labelled(&file, options, rule)?;
        found.remarks.push(Remark::Note(format!(
            "labels are those of {}",
            file.display()
        )));
        return Ok(found);
    }
    ensure!(
        options.images.is_none() && !matches!(options.split, Split::Named(_)),
        "--images and --split are about files that name images, and {} is a folder",
        path.display()
    );
    folders::read(path, rule)
}

/// Fails with what a dataset can be.
fn not_a_dataset<T>(path: &Path) -> Result<T> {
    if !path.exists() {
        bail!("the dataset {} does not exist", path.display());
    }
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    match extension.to_lowercase().as_str() {
        "json" => bail!(
            "{} is JSON without labels: a list of objects with path and label, {{path: label}} and CoOp's \
             splits are read; for captions add --task retrieval",
            path.display()
        ),
        "zip" | "gz" | "tgz" | "7z" | "rar" | "zst" => bail!(
            "{} is an archive; unpack it to a folder first",
            path.display()
        ),
        "parquet" | "arrow" => bail!(
            "{} is a table of the hub's; save its images to a folder and their labels to a .csv file",
            path.display()
        ),
        _ => bail!(
            "{} is no dataset; name a folder with one folder a class, or a .csv, .tsv, .jsonl or .json file \
             with columns path and label",
            path.display()
        ),
    }
}
