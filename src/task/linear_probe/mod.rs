//! Classifiers that learn from labelled embeddings: logistic regression, from zero or from the
//! texts' classifier, and the nearest images of Tip-Adapter; and how their numbers are chosen.

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

/// Samples that are answered together: what they are compared with is held once for so many.
pub const TOGETHER: usize = 512;
