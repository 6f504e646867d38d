//! The file that `calibrate` writes and `--calibration` reads.

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use super::Console;
use super::session::Session;

/// Larger files are not calibrations.
const LIMIT_BYTES: u64 = 1 << 20;

/// Temperature and threshold of one model over one set of labels.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Calibration {
    /// Logits are divided by this.
    pub(crate) temperature: f32,
    /// Below this probability the best label is reported as uncertain.
    #[serde(default)]
    pub(crate) none_threshold: Option<f32>,
    /// The model that it was fitted to.
    pub(crate) model: String,
    /// SHA-256 of the model's weights.
    pub(crate) model_sha256: String,
    /// SHA-256 of the labels and prompts.
    pub(crate) labels_sha256: String,
}

impl Calibration {
    /// Reads the file, if one is given.
    ///
    /// # Errors
    /// When it cannot be read, or its numbers are out of range.
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
                "its temperature is {temperature}, which is not a positive number"
            );
            let threshold = read.none_threshold.unwrap_or(0.0);
            ensure!(
                (0.0..=1.0).contains(&threshold),
                "its none_threshold is {threshold}, which is not a probability"
            );
            Ok(read)
        };
        let named = |path: &PathBuf| {
            read(path).with_context(|| {
                format!(
                    "cannot use the calibration {}; longclip calibrate writes such files",
                    path.display()
                )
            })
        };
        path.as_ref().map(named).transpose()
    }

    /// The temperature; warns if it was fitted to another model or other labels.
    pub(crate) fn temperature_for(
        &self,
        session: &Session,
        labels_sha256: &str,
        console: &Console,
    ) -> Result<f32> {
        if session.weights_sha256()? != self.model_sha256 {
            console.warn(&format!(
                "the calibration was fitted to other weights ({}); probabilities may be far off",
                self.model
            ));
        } else if labels_sha256 != self.labels_sha256 {
            console.warn(
                "the calibration was fitted to other labels or templates; probabilities may be off",
            );
        }
        Ok(self.temperature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sound_calibrations_are_read() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("c.json");
        let file = |temperature: &str, threshold: &str| {
            format!(
                "{{\"temperature\": {temperature}, \"none_threshold\": {threshold}, \"model\": \
                 \"m\", \"model_sha256\": \"a\", \"labels_sha256\": \"b\", \"rest\": 1}}"
            )
        };
        let cases = [
            (file("1.5", "0.25"), ""),
            (file("1.5", "null"), ""),
            (file("0", "0.25"), "not a positive number"),
            (file("-2", "0.25"), "not a positive number"),
            (file("1e60", "0.25"), "number out of range"),
            (file("1.5", "25"), "not a probability"),
            ("{\"temperature\": 1}".to_owned(), "missing field"),
            ("no".to_owned(), "expected ident"),
        ];
        for (text, part) in cases {
            std::fs::write(&path, &text).unwrap();
            match Calibration::read(&Some(path.clone())) {
                Ok(read) => {
                    assert_eq!(part, "", "{text}");
                    assert_eq!(read.unwrap().temperature, 1.5);
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    assert!(!part.is_empty() && error.contains(part), "{error}");
                }
            }
        }
        assert!(Calibration::read(&None).unwrap().is_none());
    }
}
