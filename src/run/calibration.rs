//! The file that `calibrate` writes and `--calibration` reads.

#![deny(clippy::indexing_slicing)]

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use super::Console;
use super::session::Session;
use crate::file::open;

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
    /// Of the rest; without it, nothing is checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) crc32: Option<u32>,
}

impl Calibration {
    /// With its checksum, as it is written.
    pub(crate) fn sealed(self) -> Self {
        Self {
            crc32: Some(self.sum()),
            ..self
        }
    }

    /// The checksum of everything that answers depend on.
    fn sum(&self) -> u32 {
        let text = format!(
            "{:?} {:?} {} {}",
            self.temperature, self.none_threshold, self.model_sha256, self.labels_sha256
        );
        crc32fast::hash(text.as_bytes())
    }

    /// Reads the file, if one is given.
    ///
    /// # Errors
    /// When it cannot be read, or its numbers are out of range.
    pub(crate) fn read(path: &Option<PathBuf>) -> Result<Option<Self>> {
        let read = |path: &PathBuf| -> Result<Self> {
            let read: Self = serde_json::from_slice(&open::bytes(path, LIMIT_BYTES)?)?;
            ensure!(
                read.crc32.is_none_or(|crc32| crc32 == read.sum()),
                "it was changed or damaged after it was written; if the change is yours, remove \
                 its \"crc32\""
            );
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

    #[test]
    fn no_flipped_bit_changes_what_is_read() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("c.json");
        let written = Calibration {
            temperature: 1.234_567_9,
            none_threshold: Some(0.1),
            model: "m".to_owned(),
            model_sha256: "ab".repeat(32),
            labels_sha256: "cd".repeat(32),
            crc32: None,
        };
        let written = written.sealed();
        let text = serde_json::to_vec_pretty(&written).unwrap();
        for at in 0..8 * text.len() {
            let mut text = text.clone();
            text[at / 8] ^= 1 << (at % 8);
            std::fs::write(&path, &text).unwrap();
            if let Ok(Some(read)) = Calibration::read(&Some(path.clone())) {
                let numbers = |one: &Calibration| (one.temperature, one.none_threshold);
                // The key of the threshold is not that of another key.
                let is_same = numbers(&read) == numbers(&written);
                assert!(is_same, "{}", String::from_utf8_lossy(&text));
            }
        }
    }
}
