//! Calibration: a temperature for the logits, and a probability threshold below which the answer is
//! "none of these". Both are fitted on one part of the labelled samples and evaluated on the other
//! ([`split()`]).

mod samples;
mod temperature;
mod threshold;

use anyhow::Result;

use super::metric::reliability::{Reliability, reliability};

pub use samples::{Split, Stored, split};

pub(crate) use samples::Subset;
pub use temperature::{Temperature, fit_temperature, negative_log_likelihood};
pub(crate) use threshold::{Judged, NoneThreshold};
pub use threshold::{choose_threshold, judge};

/// The reliability of answers; samples of no class count as wrong.
///
/// # Errors
/// When there are no bins.
pub fn reliability_of(judged: &[Judged], bins: usize) -> Result<Reliability> {
    let answers = judged.iter();
    reliability(
        answers.map(|answer| (answer.probability, answer.correct())),
        bins,
    )
}
