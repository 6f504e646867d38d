//! Metrics of answers. Every definition matches the tools people compare with: scikit-learn,
//! torchmetrics, CLIP_benchmark and statsmodels; `tests/golden/metrics.py` compares them.

pub(crate) mod bootstrap;
pub mod class;
pub mod paired;
pub mod reliability;
mod tally;

pub(crate) use bootstrap::Resampling;
pub(crate) use class::Confusion;
pub use class::{Averages, ClassFigures};
pub(crate) use paired::Comparison;
pub use paired::compare;
pub(crate) use tally::Classified;
pub use tally::Tally;
