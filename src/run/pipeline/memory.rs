//! What earlier runs, or an earlier part of this one, computed for an image.

use std::path::Path;

use crate::file::stamp::Stamp;

/// What is computed for one image.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Known {
    /// The unit embedding `[dim]`.
    pub(crate) embedding: Vec<f32>,
    /// Width and height in pixels, the image upright.
    pub(crate) size: (usize, usize),
    /// What was wrong with the file although it could be decoded.
    pub(crate) warnings: Vec<String>,
    /// A small JPEG of the image, where one was asked for.
    pub(crate) thumbnail: Option<Vec<u8>>,
}

/// Where an image was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) path: &'a Path,
    /// The file's, before and after it was read.
    pub(crate) stamp: Stamp,
}

/// A digest of a file's bytes.
pub(crate) type Content = [u8; 32];

/// Remembers what was computed. Asked and told by all workers at once, so it locks inside; what it
/// cannot do (its disk is full) it tells at the end of the run, for an image's answer does not
/// depend on it.
pub(crate) trait Memory: Send + Sync {
    /// What is known of a file that has not changed since.
    fn of_file(&self, place: Place<'_>) -> Option<Known>;

    /// What stands for these bytes, if files are also known by their content.
    fn digest(&self, _bytes: &[u8]) -> Option<Content> {
        None
    }

    /// What is known of a file of this content, wherever it lies.
    fn of_content(&self, _content: &Content, _place: Option<Place<'_>>) -> Option<Known> {
        None
    }

    /// Takes in what was computed for a file.
    fn keep(&self, _content: &Content, _place: Option<Place<'_>>, _known: &Known) {}
}
