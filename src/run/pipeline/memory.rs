//! The interface to what was already computed for an image, by earlier runs or in this one.

use std::path::Path;

use crate::file::stamp::Stamp;

/// The results of one image.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Known {
    /// The unit embedding `[dim]`.
    pub(crate) embedding: Vec<f32>,
    /// Width and height in pixels, after orientation.
    pub(crate) size: (usize, usize),
    /// Problems of the file that did not prevent decoding.
    pub(crate) warnings: Vec<String>,
    /// A JPEG thumbnail, if requested.
    pub(crate) thumbnail: Option<Vec<u8>>,
}

/// Where an image was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) path: &'a Path,
    /// The stamp of the file, the same before and after reading.
    pub(crate) stamp: Stamp,
}

/// A digest of a file's bytes.
pub(crate) type Content = [u8; 32];

/// Remembers results. All workers use it at once, so it locks internally. Its own failures, such as
/// a full disk, are reported at the end of the run, since no result depends on them.
pub(crate) trait Memory: Send + Sync {
    /// The results of a file that has not changed.
    fn of_file(&self, place: Place<'_>) -> Option<Known>;

    /// The digest of these bytes, if files are also recognised by content.
    fn digest(&self, _bytes: &[u8]) -> Option<Content> {
        None
    }

    /// The results of a file with this content, at any path.
    fn of_content(&self, _content: &Content, _place: Option<Place<'_>>) -> Option<Known> {
        None
    }

    /// Stores the results of a file.
    fn keep(&self, _content: &Content, _place: Option<Place<'_>>, _known: &Known) {}
}
