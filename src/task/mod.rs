//! What embeddings are for. Knows no files and prints nothing.

pub mod class_embedding;
pub mod text_embedding;
pub mod zero_shot;
