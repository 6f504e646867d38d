//! What the model reads: paths, images, texts.

pub(crate) mod corrupt;
pub mod dataset;
pub mod image;
pub mod paths;
pub mod preprocess;
pub mod prompt;
mod repair;
pub mod resize;
pub mod shard;
pub mod text;
pub(crate) mod text_file;
pub mod tokenizer;
