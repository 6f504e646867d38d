//! Classifiers trained on labelled embeddings: logistic regression, from zero or from the zero-shot
//! classifier, and Tip-Adapter's nearest images; and the selection of their hyperparameters.

pub mod blend;
#[cfg(test)]
mod golden;
pub mod lbfgs;
pub mod logistic;
mod probe;
mod quality;
mod samples;
pub mod shots;
pub mod strength;
pub mod tip_adapter;
mod training;

pub use logistic::Stopped;
pub use probe::{Answering, Cache, Probe};
pub use quality::Quality;
pub use samples::Samples;
pub use training::{Chosen, Init, Method, Recipe, Setting, Trained, Training};

/// Samples classified together, to bound the memory of their scores.
pub const TOGETHER: usize = 512;
