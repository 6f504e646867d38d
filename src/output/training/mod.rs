//! What a training run keeps as it goes: its log and what it left out.

mod log;
mod skipped;

pub use log::{Entry, Evaluation, Figures, Log, Losses, Step};
pub use skipped::{Skipped, Skips};
