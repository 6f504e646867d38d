//! The file that `calibrate` writes and `--calibration` reads.

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use super::Console;
use super::session::Session;

/// Larger files are something else.
const LIMIT_BYTES: u64 = 1 << 20;

/// What makes a model's probabilities over some labels mean what they say.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Calibration {
    /// What logits are divided by.
    pub(crate) temperature: f32,
    /// Below this probability the best label is not believed.
    #[serde(default)]
    pub(crate) none_threshold: Option<f32>,
    /// The model that it was fitted for.
    pub(crate) model: String,
    /// Of its weights.
    pub(crate) model_sha256: String,
    /// Of the labels and prompts.
    pub(crate) labels_sha256: String,
}

impl Calibration {
    /// Reads the file, if one is named.
    ///
    /// # Errors
    /// When it cannot be read, or holds no such numbers.
    pub(crate) fn read(path: &Option<PathBuf>) -> Result<Option<Self>> {
        let read = |path: &PathBuf| -> Result<Self> {
            let mut text = String::new();
            File::open(path)?
                .take(LIMIT_BYTES)
                .read_to_string(&mut text)?;
            let read: Self = serde_json::from_str(&text)?;
            let temperature = read.temperature;
            ensure!(
                temperature.is_finite() && temperature > 0.0,
                "its temperature is {temperature} and not a number above zero"
            );
            let threshold = read.none_threshold.unwrap_or(0.0);
            ensure!(
                (0.0..=1.0).contains(&threshold),
                "its none_threshold is {threshold} and not a probability"
            );
            Ok(read)
        };
        let named = |path: &PathBuf| {
            read(path).with_context(|| {
                format!(
                    "cannot use the calibration {}; longclip calibrate writes such a file",
                    path.display()
                )
            })
        };
        path.as_ref().map(named).transpose()
    }

    /// The temperature, with a warning if it was fitted for something else.
    pub(crate) fn temperature_for(
        &self,
        session: &Session,
        labels_sha256: &str,
        console: &Console,
    ) -> Result<f32> {
        if session.weights_sha256()? != self.model_sha256 {
            console.warn(&format!(
                "the calibration was fitted for other weights ({}); its probabilities may be far off",
                self.model
            ));
        } else if labels_sha256 != self.labels_sha256 {
            console.warn(
                "the calibration was fitted for other labels or templates; its probabilities may be off",
            );
        }
        Ok(self.temperature)
    }
}
