//! What embeddings are for. Knows no files and prints nothing.

pub mod calibration;
pub mod metric;
pub mod retrieval;
pub mod search;
pub mod zero_shot;
