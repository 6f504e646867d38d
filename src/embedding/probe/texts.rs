//! What `longclip labels` keeps of labels besides their embeddings.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::Parts;

/// What a classifier of labels' texts was made with.
#[derive(Clone, Debug, PartialEq)]
pub struct Texts {
    /// The model's logit scale.
    pub logit_scale: f32,
    /// Its logit bias, if it has one.
    pub logit_bias: Option<f32>,
    /// SHA-256 of the labels, their prompts, the none texts and what happens to long ones.
    pub labels_sha256: String,
    /// Whether it is for sigmoid scores, which compare with the none texts, instead of the others, for
    /// which these are one more class.
    pub is_for_sigmoid: bool,
    /// The none texts.
    pub none: Option<NoneRows>,
}

/// Texts that stand for none of the labels.
#[derive(Clone, Debug, PartialEq)]
pub struct NoneRows {
    /// The label under which they are reported.
    pub label: String,
    /// [texts, dim], of unit length, which is checked when they are used.
    pub embeddings: Vec<f32>,
}

impl Texts {
    /// As hyperparameters.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "logit_scale": self.logit_scale,
            "logit_bias": self.logit_bias,
            "labels_sha256": self.labels_sha256,
            "scores": if self.is_for_sigmoid { "sigmoid" } else { "softmax" },
            "none_label": self.none.as_ref().map(|none| &none.label),
        })
    }
}

impl Parts<'_> {
    /// Reads what [`Texts::to_json`] gave, and the tensor `none`.
    pub(super) fn texts(&self, from: &Value, dim: usize) -> Result<Texts> {
        let number = |key: &str| -> Result<Option<f32>> {
            let Some(value) = from.get(key).filter(|value| !value.is_null()) else {
                return Ok(None);
            };
            let number = value.as_f64().map(|value| value as f32);
            let number = number.filter(|value| value.is_finite());
            number
                .with_context(|| format!("the {key} {value} is not a number"))
                .map(Some)
        };
        let text = |key: &str| from.get(key).and_then(Value::as_str);
        let logit_scale = number("logit_scale")?.context("the logit_scale is missing")?;
        ensure!(
            logit_scale > 0.0,
            "the logit_scale {logit_scale} is not positive"
        );
        let none = match text("none_label") {
            None => None,
            Some(label) => {
                let shape = self
                    .directory
                    .info("none")
                    .map(|info| info.shape.as_slice());
                let Some(&[rows, columns]) = shape else {
                    bail!("the file has no texts \"none\"");
                };
                ensure!(
                    columns == dim,
                    "the tensor \"none\" has rows of {columns} numbers"
                );
                Some(NoneRows {
                    label: label.to_owned(),
                    embeddings: self.numbers("none", &[rows, dim])?,
                })
            }
        };
        Ok(Texts {
            logit_scale,
            logit_bias: number("logit_bias")?,
            labels_sha256: text("labels_sha256")
                .context("the labels_sha256 is missing")?
                .to_owned(),
            is_for_sigmoid: match text("scores") {
                Some("sigmoid") => true,
                Some("softmax") => false,
                other => bail!("the scores {other:?} are unknown; a newer longclip may read them"),
            },
            none,
        })
    }
}
