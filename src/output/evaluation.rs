//! Results of an evaluation, as stored in `results.json`. Scripts read these keys: extend, never
//! rename.

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
