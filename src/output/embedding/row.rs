//! Metadata of one row of a file of embeddings.

use crate::input::stamp::Stamp;
use crate::output::ImageName;

/// The input that an embedding was made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The image or the text.
    pub item: Item,
    /// Warnings about an input that could still be embedded.
    pub warnings: Vec<String>,
}

/// What was embedded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// An image.
    Image {
        /// Its path as given or found.
        name: ImageName,
        /// Width in pixels, the image upright.
        width: u32,
        /// Height in pixels, the image upright.
        height: u32,
        /// The file when it was read; `None` for stdin.
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
    /// Which input.
    pub name: Name,
    /// Why it failed.
    pub error: String,
}

/// The name of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// An image's path.
    Image(ImageName),
    /// The text itself.
    Text(String),
}
