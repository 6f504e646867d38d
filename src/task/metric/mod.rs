//! Metrics of answers. Every definition matches the tools people compare with: scikit-learn,
//! torchmetrics, CLIP_benchmark and statsmodels; `tests/golden/metrics.py` compares them.

pub mod bootstrap;
pub mod class;
pub mod paired;
pub mod reliability;
mod tally;

pub use bootstrap::{Interval, Resampling};
pub use class::{Averages, ClassFigures, Confusion, Confusions};
pub use paired::{Comparison, compare};
pub use reliability::{Bin, Reliability};
pub use tally::{Answer, Tally};
