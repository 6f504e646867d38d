//! Classifiers trained on labelled embeddings: logistic regression, from zero or from the zero-shot
//! classifier, and Tip-Adapter's nearest images; and the selection of their hyperparameters.

#[cfg(test)]
mod golden;
pub(crate) mod lbfgs;
pub(crate) mod logistic;
mod probe;
mod samples;
pub(crate) mod strength;
pub(crate) mod tip_adapter;
mod training;

pub(crate) use logistic::Stopped;
pub(crate) use probe::Probe;
pub(crate) use probe::{Answering, Cache};
pub(crate) use samples::draw;
pub(crate) use samples::{Samples, hold_out, mean_and_deviation};
pub(crate) use strength::Quality;
pub(crate) use training::{Chosen, Init, Method, Recipe, Setting};
pub(crate) use training::{Trained, Training};

/// Samples classified together, to bound the memory of their scores.
pub(crate) const TOGETHER: usize = 512;
