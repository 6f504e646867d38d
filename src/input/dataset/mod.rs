//! Pictures that come with their answers: a class each, or captions.
//!
//! - A folder with one folder a class; whatever lies deeper belongs to its class.
//! - CSV, TSV or JSON lines with a path and a label (or captions) each; paths are relative to the
//!   file.
//! - [`pairs`]: pictures with captions as fine-tuning takes them, from tar shards too.
//! - Captions: also COCO's and Karpathy's JSON, and folders of pictures with a text file each.

mod captions;
mod classes;
mod folders;
mod manifest;
pub mod pairs;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

pub use captions::{BadCaptions, CaptionOptions, Captioned, Lines, captioned};
pub use classes::{Matching, clean, match_classes};

use super::paths::{ImageSource, PathError, PictureRule};

/// One picture of a class; the path, or what is wrong with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Where the picture is.
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

/// Pictures with a class each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Labelled {
    /// What the dataset calls its classes: the folders' names in byte order, or the labels in the
    /// order in which they first come.
    pub classes: Vec<String>,
    /// In the order of the folders or of the file.
    pub samples: Vec<Sample>,
    /// What a user should know.
    pub notes: Vec<String>,
}

/// Reads a dataset of pictures with a class each.
///
/// # Errors
/// When it is neither such a folder nor such a file, or holds no pictures.
pub fn labelled(path: &Path, rule: PictureRule) -> Result<Labelled> {
    if path.is_dir() {
        return folders::read(path, rule);
    }
    manifest::labelled(path)
}

/// Fails with what a dataset can be.
fn not_a_dataset<T>(path: &Path) -> Result<T> {
    if !path.exists() {
        bail!("the dataset {} does not exist", path.display());
    }
    if path
        .extension()
        .is_some_and(|extension| extension == "json")
    {
        bail!(
            "{} is JSON, which is read for captions; add --task retrieval, or list labelled pictures in a \
             .csv or .jsonl file",
            path.display()
        );
    }
    bail!(
        "{} is no dataset; name a folder with one folder a class, or a .csv, .tsv or .jsonl file with \
         columns path and label",
        path.display()
    )
}
