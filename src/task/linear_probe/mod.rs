//! Classifiers trained on labelled embeddings: logistic regression, from zero or from the zero-shot
//! classifier, and Tip-Adapter's nearest images; and the selection of their hyperparameters.

#[cfg(test)]
mod golden;
pub mod lbfgs;
pub mod logistic;
mod probe;
mod samples;
pub mod strength;
pub mod tip_adapter;
mod training;

pub use logistic::Stopped;
pub use probe::{Answering, Cache, Probe};
pub use samples::{Samples, draw, hold_out, mean_and_deviation};
pub use strength::Quality;
pub use training::{Chosen, Init, Method, Recipe, Setting, Trained, Training};

/// Samples classified together, to bound the memory of their scores.
pub const TOGETHER: usize = 512;
