//! Tasks on embeddings: classification, calibration, retrieval, search and training. Knows no files
//! and prints nothing.

pub(crate) mod attribution;
pub mod calibration;
pub mod embeddings;
pub(crate) mod linear_probe;
pub mod metric;
pub mod retrieval;
pub mod search;
pub(crate) mod shift;
pub mod zero_shot;
