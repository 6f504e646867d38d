//! What embeddings are for. Knows no files and prints nothing.

pub mod zero_shot;
