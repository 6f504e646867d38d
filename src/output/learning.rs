//! Results of training a probe, as JSON. Scripts read these keys: extend, never rename.

use serde::Serialize;

use super::evaluation::{ClassRow, Figures, LabelFacts};

/// Results of a probe.
#[derive(Clone, Debug, Serialize)]
pub struct ProbeEvaluation {
    /// `probe`.
    pub task: &'static str,
    /// `linear` or `tip-adapter`.
    pub method: &'static str,
    /// `zero` or `zero-shot`.
    pub init: &'static str,
    /// Metrics of the probe on the images of `scored_on`; absent if there are none.
    #[serde(flatten)]
    pub figures: Option<Figures>,
    /// `test`, or `validation`: images on which the probe was not trained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scored_on: Option<&'static str>,
    /// Number of classes.
    pub classes: usize,
    /// Numbers per embedding.
    pub dim: usize,
    /// Numbers of images.
    #[serde(rename = "pictures")]
    pub images: Counts,
    /// Hyperparameters that were chosen or given.
    #[serde(flatten)]
    pub numbers: Numbers,
    /// How the fit of the probe in the file went; absent if nothing is fitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fit: Option<FitRow>,
    /// Metrics of the texts' classifier on the same images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zero_shot: Option<Figures>,
    /// Results by number of images per class.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shots: Vec<ShotRow>,
    /// Regularisation strengths that were tried.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub strengths: Vec<Tried>,
    /// Blend weights that were tried.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shares: Vec<Tried>,
    /// Every class that was scored.
    pub per_class: Vec<ClassRow>,
    /// Path of the probe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<LabelFacts>,
    /// The training data as typed.
    pub dataset: String,
    /// The model that embedded the images.
    pub model: Embedder,
    /// Version of longclip.
    pub version: &'static str,
    /// The command line.
    pub arguments: Vec<String>,
}

/// Numbers of images.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Counts {
    /// Training set while choosing hyperparameters.
    pub train: usize,
    /// Validation set.
    pub validation: usize,
    /// Test set.
    pub test: usize,
    /// Images on which the probe in the file was trained.
    pub fitted: usize,
    /// Images that could not be read; excluded from all metrics.
    pub failed: u64,
}

/// Hyperparameters.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Numbers {
    /// Strength of the L2 penalty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l2: Option<f64>,
    /// Its inverse, scikit-learn's `C`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub c: Option<f64>,
    /// Weight of the trained classifier in a blend with the texts' classifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blend: Option<f64>,
    /// Tip-Adapter's alpha: weight of the known images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// Tip-Adapter's beta: sharpness of their similarity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beta: Option<f64>,
}

/// Convergence of a fit.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct FitRow {
    /// Final value of loss plus penalty.
    pub objective: f64,
    /// Iterations of L-BFGS.
    pub iterations: usize,
    /// Whether it converged.
    pub converged: bool,
}

/// One value that was tried on validation images.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Tried {
    /// The value.
    pub value: f64,
    /// Top-1 accuracy.
    pub acc1: f64,
    /// Mean negative log likelihood of the true class.
    pub nll: f64,
}

/// Few-shot draws with a number of images per class.
#[derive(Clone, Debug, Serialize)]
pub struct ShotRow {
    /// Images per class; classes that have fewer contribute all.
    pub shots: usize,
    /// Number of classes that have fewer.
    pub smaller_classes: usize,
    /// Mean accuracy of the draws.
    pub mean: f64,
    /// Sample standard deviation of the accuracies; 0 for a single draw.
    pub deviation: f64,
    /// All draws.
    pub draws: Vec<DrawRow>,
}

/// One draw.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct DrawRow {
    /// Random seed.
    pub seed: u64,
    /// Number of training images.
    pub train: usize,
    /// Number of validation images.
    pub validation: usize,
    /// Top-1 accuracy.
    pub acc1: f64,
    /// Hyperparameters that were chosen.
    #[serde(flatten)]
    pub numbers: Numbers,
}

/// The model that embedded the images.
#[derive(Clone, Debug, Serialize)]
pub struct Embedder {
    /// As typed.
    pub name: String,
    /// SHA-256 of the weights.
    pub sha256: String,
    /// `f32`, `bf16`, ….
    pub precision: String,
    /// All other settings on which the embeddings depend.
    pub settings: String,
}
