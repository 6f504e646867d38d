//! Making probabilities mean what they say: a temperature for the logits, and a probability below
//! which the answer is "none of these". Both are fitted to one part of labelled samples and judged
//! on another ([`split()`]).

mod samples;
mod split;
mod temperature;
mod threshold;

use anyhow::Result;

pub use samples::{Samples, Stored, Subset};
pub use split::{Split, split};
pub use temperature::{Temperature, fit_temperature, negative_log_likelihood};
pub use threshold::{Judged, NoneThreshold, choose_threshold, judge};

use super::metric::reliability::{Reliability, reliability};

/// The reliability of answers; samples of no class are wrong answers.
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
