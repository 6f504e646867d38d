//! One row of a file of embeddings, without the embedding.

use crate::file::stamp::Stamp;
use crate::output::ImageName;

/// What an embedding was made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The image or the text.
    pub item: Item,
    /// What was wrong with it although it could be embedded.
    pub warnings: Vec<String>,
}

/// What was embedded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// An image.
    Image {
        /// Its path as given or found.
        name: ImageName,
        /// Columns in pixels, the image upright.
        width: u32,
        /// Rows in pixels.
        height: u32,
        /// The file as it was when it was read; `None` for what came from stdin.
        stamp: Option<Stamp>,
    },
    /// A text.
    Text(String),
}

impl Item {
    /// The path or the text, for people.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Image { name, .. } => &name.text,
            Self::Text(text) => text,
        }
    }
}

/// An input without an embedding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which one.
    pub name: Name,
    /// Why.
    pub error: String,
}

/// What an input is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// An image's path.
    Image(ImageName),
    /// The text itself.
    Text(String),
}
