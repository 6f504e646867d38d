//! Results of an evaluation, as stored in `results.json`, and of training a probe. Scripts read
//! these keys: extend, never rename.

use serde::Serialize;

/// A proportion with its 95% bootstrap interval, `[low, high]`.
pub type Ends = [f64; 2];

/// The model.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ModelFacts {
    /// As typed.
    pub name: String,
    /// SHA-256 of the weights.
    pub sha256: String,
    /// Architecture, with device and precision, for people.
    pub architecture: String,
    /// Context length in tokens.
    pub context_length: usize,
    /// `cpu`, `cuda:0`, ….
    pub device: String,
    /// `f32`, `bf16`, ….
    pub precision: String,
}

/// The set of labels.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LabelFacts {
    /// The file, the built-in set, or another source.
    pub source: String,
    /// Number of labels.
    pub count: usize,
    /// SHA-256 of all labels and prompts in order.
    pub sha256: String,
    /// Name or file of the templates.
    pub templates: String,
}

/// How the results were made; every results file ends with it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Provenance {
    /// The dataset as typed.
    pub dataset: String,
    /// The model.
    pub model: ModelFacts,
    /// Version of longclip.
    pub version: &'static str,
    /// The command line.
    pub arguments: Vec<String>,
}

/// Accuracy and calibration of one set of labels.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    /// Top-1 accuracy.
    pub acc1: f64,
    /// Top-5 accuracy.
    pub acc5: f64,
    /// Mean recall over classes.
    pub mean_per_class_recall: f64,
    /// Number of samples with a prediction.
    pub n: usize,
    /// The bootstrap interval of `acc1`.
    pub acc1_interval: Ends,
    /// Expected calibration error over 15 equal bins of the highest probability.
    pub ece: f64,
    /// Mean negative log likelihood of the true label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nll: Option<f64>,
    /// Brier score.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub brier: Option<f64>,
}

/// Metrics of one class.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ClassRow {
    /// Index of its label.
    #[serde(skip)]
    pub index: usize,
    /// Its label's text.
    pub label: String,
    /// The dataset's name of it; absent for labels without samples.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Number of its samples.
    pub support: usize,
    /// Number of samples predicted as this class.
    pub predicted: usize,
    /// Precision.
    pub precision: f64,
    /// Recall.
    pub recall: f64,
    /// F1, the harmonic mean of the two.
    pub f1: f64,
}

/// Means over classes.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Means {
    /// Mean precision.
    pub precision: f64,
    /// Mean recall.
    pub recall: f64,
    /// Mean F1.
    pub f1: f64,
}

/// One bin of the reliability diagram.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct BinRow {
    /// Lower end.
    pub low: f32,
    /// Upper end.
    pub high: f32,
    /// Number of samples.
    pub count: usize,
    /// Mean confidence (highest probability).
    pub confidence: f64,
    /// Accuracy.
    pub accuracy: f64,
}

/// Samples of one class predicted as another.
#[derive(Clone, Debug, Serialize)]
pub struct ConfusionRow {
    /// The true label.
    pub target: String,
    /// The predicted label.
    pub predicted: String,
    /// Number of samples.
    pub count: usize,
}

/// One of several sets of labels or templates.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RunRow {
    /// Its name in this file.
    pub name: String,
    /// Its labels.
    pub labels: LabelFacts,
    /// Its metrics.
    #[serde(flatten)]
    pub figures: Figures,
}

/// A class with a different recall in the second run.
#[derive(Clone, Debug, Serialize)]
pub struct ChangeRow {
    /// The dataset's name of it.
    pub class: String,
    /// Number of its samples.
    pub support: usize,
    /// Samples that only the second run predicts correctly.
    pub won: usize,
    /// Samples that only the first run predicts correctly.
    pub lost: usize,
}

/// Comparison of two runs over the same images.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PairRow {
    /// Name of the first run.
    pub first: String,
    /// Name of the second run.
    pub second: String,
    /// The second's `acc1` minus the first's.
    pub difference: f64,
    /// Its bootstrap interval.
    pub difference_interval: Ends,
    /// Samples that only the second predicts correctly.
    pub won: usize,
    /// Samples that only the first predicts correctly.
    pub lost: usize,
    /// p-value of McNemar's test.
    pub mcnemar_p: f64,
    /// `exact` or `chi-square`.
    pub mcnemar_method: &'static str,
    /// p-value corrected for the number of pairs (Holm).
    pub mcnemar_p_holm: f64,
    /// The classes that changed.
    pub changed: Vec<ChangeRow>,
}

/// Metrics with texts truncated to a length.
#[derive(Clone, Debug, Serialize)]
pub struct SweepRow {
    /// Maximum tokens of a text, including start and end.
    pub tokens: usize,
    /// Number of truncated texts.
    pub cut: usize,
    /// The metrics.
    #[serde(flatten)]
    pub figures: Figures,
}

/// Metrics on images with one corruption.
#[derive(Clone, Debug, Serialize)]
pub struct CorruptionRow {
    /// Name of the labels or the probe.
    pub run: String,
    /// `noise`, `blur`, `jpeg`, `brightness` or `contrast`.
    pub corruption: &'static str,
    /// From 1 to 5.
    pub strength: usize,
    /// The parameter of the corruption at this strength.
    pub value: f64,
    /// The metrics.
    #[serde(flatten)]
    pub figures: Figures,
}

/// `results.json` of a classification.
#[derive(Clone, Debug, Serialize)]
pub struct Evaluation {
    /// `classify`.
    pub task: &'static str,
    /// The main metrics.
    #[serde(flatten)]
    pub figures: Figures,
    /// Images that could not be read; excluded from all metrics.
    pub failed: u64,
    /// Temperature by which logits were divided.
    pub temperature: f32,
    /// Means over classes.
    #[serde(rename = "macro")]
    pub macro_average: Means,
    /// Means over samples.
    #[serde(rename = "weighted")]
    pub weighted_average: Means,
    /// Every class that has samples or was predicted.
    pub per_class: Vec<ClassRow>,
    /// The reliability diagram.
    pub reliability: Vec<BinRow>,
    /// The most frequent confusions.
    pub worst_confusions: Vec<ConfusionRow>,
    /// All runs, when several were compared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub compare: Vec<RunRow>,
    /// Comparisons of all pairs of runs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pairs: Vec<PairRow>,
    /// Metrics by length of the texts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub truncate_sweep: Vec<SweepRow>,
    /// Metrics on corrupted images.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub corruptions: Vec<CorruptionRow>,
    /// The labels.
    pub labels: LabelFacts,
    /// How the results were made.
    #[serde(flatten)]
    pub provenance: Provenance,
}

/// Recalls of one direction.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Recalls {
    /// Recall@1 of images by text.
    #[serde(rename = "image_retrieval_recall@1")]
    pub image_at_1: f64,
    /// Recall@5.
    #[serde(rename = "image_retrieval_recall@5")]
    pub image_at_5: f64,
    /// Recall@10.
    #[serde(rename = "image_retrieval_recall@10")]
    pub image_at_10: f64,
    /// Median rank of the images.
    pub image_retrieval_median_rank: f64,
    /// Recall@1 of texts by image.
    #[serde(rename = "text_retrieval_recall@1")]
    pub text_at_1: f64,
    /// Recall@5.
    #[serde(rename = "text_retrieval_recall@5")]
    pub text_at_5: f64,
    /// Recall@10.
    #[serde(rename = "text_retrieval_recall@10")]
    pub text_at_10: f64,
    /// Median rank of the texts.
    pub text_retrieval_median_rank: f64,
}

/// The recalls with captions truncated to a length.
#[derive(Clone, Debug, Serialize)]
pub struct RecallSweepRow {
    /// Maximum tokens of a caption, including start and end.
    pub tokens: usize,
    /// Number of truncated captions.
    pub cut: usize,
    /// The recalls.
    #[serde(flatten)]
    pub recalls: Recalls,
}

/// `results.json` of a retrieval.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RetrievalEvaluation {
    /// `retrieval`.
    pub task: &'static str,
    /// The recalls.
    #[serde(flatten)]
    pub recalls: Recalls,
    /// Number of images.
    pub images: usize,
    /// Number of captions.
    pub texts: usize,
    /// Images that could not be read; they and their captions are excluded from all metrics.
    pub failed: u64,
    /// What counts as found, and which part of the dataset was used.
    pub protocol: String,
    /// What was done with captions longer than the context.
    pub long_text: String,
    /// Recalls by length of the captions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub truncate_sweep: Vec<RecallSweepRow>,
    /// How the results were made.
    #[serde(flatten)]
    pub provenance: Provenance,
}

/// Results of a probe.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ProbeEvaluation {
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
    pub images: ImageCounts,
    /// Hyperparameters that were chosen or given.
    #[serde(flatten)]
    pub numbers: Hyperparameters,
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
pub(crate) struct ImageCounts {
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
pub(crate) struct Hyperparameters {
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
pub(crate) struct FitRow {
    /// Final value of loss plus penalty.
    pub objective: f64,
    /// Iterations of L-BFGS.
    pub iterations: usize,
    /// Whether it converged.
    pub converged: bool,
}

/// One value that was tried on validation images.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Tried {
    /// The value.
    pub value: f64,
    /// Top-1 accuracy.
    pub acc1: f64,
    /// Mean negative log likelihood of the true class.
    pub nll: f64,
}

/// Few-shot draws with a number of images per class.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ShotRow {
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
pub(crate) struct DrawRow {
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
    pub numbers: Hyperparameters,
}

/// The model that embedded the images.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Embedder {
    /// As typed.
    pub name: String,
    /// SHA-256 of the weights.
    pub sha256: String,
    /// `f32`, `bf16`, ….
    pub precision: String,
    /// All other settings on which the embeddings depend.
    pub settings: String,
}
