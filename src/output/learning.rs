//! What training a probe found, as JSON. Scripts read these keys: extend, never rename.

use serde::Serialize;

use super::evaluation::{ClassRow, Figures, LabelFacts};

/// All about a probe.
#[derive(Clone, Debug, Serialize)]
pub struct ProbeEvaluation {
    /// `probe`.
    pub task: &'static str,
    /// `linear` or `tip-adapter`.
    pub method: &'static str,
    /// `zero` or `zero-shot`.
    pub init: &'static str,
    /// How the probe does on the images that `scored_on` names; absent if there are none.
    #[serde(flatten)]
    pub figures: Option<Figures>,
    /// `test`, or `validation`: those of a probe that was not trained on them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scored_on: Option<&'static str>,
    /// How many classes.
    pub classes: usize,
    /// Features of an embedding.
    pub dim: usize,
    /// How many images there were.
    #[serde(rename = "pictures")]
    pub images: Counts,
    /// What was chosen or given.
    #[serde(flatten)]
    pub numbers: Numbers,
    /// How the fit of the probe in the file went; absent where nothing is fitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fit: Option<FitRow>,
    /// The texts' classifier on the same images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zero_shot: Option<Figures>,
    /// By number of images a class.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shots: Vec<ShotRow>,
    /// Strengths that were tried.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub strengths: Vec<Tried>,
    /// Trained shares of a blend that were tried.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shares: Vec<Tried>,
    /// Every class that was scored.
    pub per_class: Vec<ClassRow>,
    /// Where the probe is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The texts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<LabelFacts>,
    /// The training data as typed.
    pub dataset: String,
    /// The model that embedded the images.
    pub model: Embedder,
    /// This program's.
    pub version: &'static str,
    /// The command line.
    pub arguments: Vec<String>,
}

/// How many images there were.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Counts {
    /// To train on while choosing.
    pub train: usize,
    /// To choose by.
    pub validation: usize,
    /// To score on.
    pub test: usize,
    /// What the probe in the file learnt from.
    pub fitted: usize,
    /// Images that could not be read; they are in no figure.
    pub failed: u64,
}

/// The numbers of a recipe.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Numbers {
    /// The strength of the penalty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l2: Option<f64>,
    /// Its inverse, scikit-learn's `C`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub c: Option<f64>,
    /// The trained share of a blend with the texts' classifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blend: Option<f64>,
    /// How much the known images count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// How sharply their nearness counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beta: Option<f64>,
}

/// How a fit went.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct FitRow {
    /// The sum of losses and penalty.
    pub objective: f64,
    /// Steps of L-BFGS.
    pub iterations: usize,
    /// Whether it came to its end.
    pub converged: bool,
}

/// One number that was tried on validation images.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Tried {
    /// The number.
    pub value: f64,
    /// Top-1 accuracy.
    pub acc1: f64,
    /// The mean of -ln p of the true class.
    pub nll: f64,
}

/// Draws of so many images a class.
#[derive(Clone, Debug, Serialize)]
pub struct ShotRow {
    /// How many a class; classes that have fewer give all.
    pub shots: usize,
    /// Classes that have fewer.
    pub smaller_classes: usize,
    /// The mean of the draws' accuracies.
    pub mean: f64,
    /// Their deviation, that of a sample; 0 of one draw.
    pub deviation: f64,
    /// Each draw.
    pub draws: Vec<DrawRow>,
}

/// One draw.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct DrawRow {
    /// Where its random numbers start.
    pub seed: u64,
    /// Its images.
    pub train: usize,
    /// Images to choose by.
    pub validation: usize,
    /// Top-1 accuracy.
    pub acc1: f64,
    /// What was chosen.
    #[serde(flatten)]
    pub numbers: Numbers,
}

/// What embedded the images.
#[derive(Clone, Debug, Serialize)]
pub struct Embedder {
    /// As typed.
    pub name: String,
    /// Of the weights.
    pub sha256: String,
    /// `f32`, `bf16`, ….
    pub precision: String,
    /// Whatever else the embeddings depend on.
    pub settings: String,
}
