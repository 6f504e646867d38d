//! Records of a training run: its log and what it skipped.

mod log;
mod skipped;

pub use log::{Entry, Evaluation, Figures, Log, Losses, Step};
pub use skipped::{Skipped, Skips};
