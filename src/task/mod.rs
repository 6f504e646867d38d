//! What embeddings are for. Knows no files and prints nothing.

pub mod metric;
pub mod retrieval;
pub mod zero_shot;
