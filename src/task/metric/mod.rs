//! How good answers are. Every definition is that of the tools people compare with: scikit-learn,
//! torchmetrics, CLIP_benchmark, statsmodels; `tests/golden/metrics.py` holds them against these.

pub mod bootstrap;
pub mod class;
pub mod confusion;
pub mod paired;
pub mod reliability;
mod tally;

pub use bootstrap::{Interval, Resampling};
pub use class::{Averages, ClassFigures};
pub use confusion::{Confusion, Confusions};
pub use paired::{Comparison, compare};
pub use reliability::{Bin, Reliability};
pub use tally::{Answer, Tally};
