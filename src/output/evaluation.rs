//! What an evaluation found, as `results.json` holds it. Scripts read these keys: extend, never rename.

use serde::Serialize;

/// A share with its 95% bootstrap interval, `[low, high]`.
pub type Ends = [f64; 2];

/// Which model computed.
#[derive(Clone, Debug, Serialize)]
pub struct ModelFacts {
    /// As typed.
    pub name: String,
    /// Of the weights.
    pub sha256: String,
    /// The field's name for its sizes, and where and in what it computed.
    pub architecture: String,
    /// Most tokens of a text.
    pub context_length: usize,
    /// `cpu`, `cuda:0`, ….
    pub device: String,
    /// `f32`, `bf16`, ….
    pub precision: String,
}

/// Which labels were compared.
#[derive(Clone, Debug, Serialize)]
pub struct LabelFacts {
    /// The file, the built-in set, or where else they came from.
    pub source: String,
    /// How many.
    pub count: usize,
    /// Of all labels and prompts in their order.
    pub sha256: String,
    /// The name or file of the templates.
    pub templates: String,
}

/// What was run; every results file ends with it.
#[derive(Clone, Debug, Serialize)]
pub struct Provenance {
    /// The dataset as typed.
    pub dataset: String,
    /// The model.
    pub model: ModelFacts,
    /// This program's.
    pub version: &'static str,
    /// The command line.
    pub arguments: Vec<String>,
}

/// How well one set of labels does.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// The share of samples whose best label is the true one.
    pub acc1: f64,
    /// The share of samples whose true label is among the five best.
    pub acc5: f64,
    /// The mean over classes of the share that is found.
    pub mean_per_class_recall: f64,
    /// Samples that were answered.
    pub n: usize,
    /// The bootstrap interval of `acc1`.
    pub acc1_interval: Ends,
    /// Expected calibration error over 15 equal bins of the best probability.
    pub ece: f64,
    /// Mean negative log likelihood of the true label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nll: Option<f64>,
    /// Brier score.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub brier: Option<f64>,
}

/// One class.
#[derive(Clone, Debug, Serialize)]
pub struct ClassRow {
    /// Its label's text.
    pub label: String,
    /// What the dataset calls it; absent for labels that no sample has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Its samples.
    pub support: usize,
    /// Samples taken for it.
    pub predicted: usize,
    /// The share of those that are right.
    pub precision: f64,
    /// The share of its samples that are found.
    pub recall: f64,
    /// The harmonic mean of the two.
    pub f1: f64,
}

/// Means over classes.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Means {
    /// Of the precisions.
    pub precision: f64,
    /// Of the recalls.
    pub recall: f64,
    /// Of the F1s.
    pub f1: f64,
}

/// One bin of the reliability diagram.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct BinRow {
    /// Where it starts.
    pub low: f32,
    /// Where it ends.
    pub high: f32,
    /// Its samples.
    pub count: usize,
    /// Their mean best probability.
    pub confidence: f64,
    /// The share of right ones.
    pub accuracy: f64,
}

/// Samples of one class taken for another.
#[derive(Clone, Debug, Serialize)]
pub struct ConfusionRow {
    /// The true label.
    pub target: String,
    /// The best label.
    pub predicted: String,
    /// The samples.
    pub count: usize,
}

/// One of several sets of labels or templates.
#[derive(Clone, Debug, Serialize)]
pub struct RunRow {
    /// What it is called here.
    pub name: String,
    /// Its labels.
    pub labels: LabelFacts,
    /// How it does.
    #[serde(flatten)]
    pub figures: Figures,
}

/// A class that is found more or less often.
#[derive(Clone, Debug, Serialize)]
pub struct ChangeRow {
    /// What the dataset calls it.
    pub class: String,
    /// Its samples.
    pub support: usize,
    /// Samples that only the second run gets right.
    pub won: usize,
    /// Samples that only the first run gets right.
    pub lost: usize,
}

/// Two runs over the same images.
#[derive(Clone, Debug, Serialize)]
pub struct PairRow {
    /// The name of one.
    pub first: String,
    /// The name of the other.
    pub second: String,
    /// The second's `acc1` less the first's.
    pub difference: f64,
    /// Its bootstrap interval.
    pub difference_interval: Ends,
    /// Samples that only the second gets right.
    pub won: usize,
    /// Samples that only the first gets right.
    pub lost: usize,
    /// McNemar's test.
    pub mcnemar_p: f64,
    /// `exact` or `chi-square`.
    pub mcnemar_method: &'static str,
    /// The same, corrected for the number of pairs (Holm).
    pub mcnemar_p_holm: f64,
    /// The classes that changed, by how much.
    pub changed: Vec<ChangeRow>,
}

/// The figures with texts cut to a length.
#[derive(Clone, Debug, Serialize)]
pub struct SweepRow {
    /// Most tokens of a text, start and end included.
    pub tokens: usize,
    /// Texts that were cut.
    pub cut: usize,
    /// How it does.
    #[serde(flatten)]
    pub figures: Figures,
}

/// `results.json` of a classification.
#[derive(Clone, Debug, Serialize)]
pub struct Evaluation {
    /// `classify`.
    pub task: &'static str,
    /// The main figures.
    #[serde(flatten)]
    pub figures: Figures,
    /// Images that could not be read; they are in no figure.
    pub failed: u64,
    /// What logits were divided by.
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
    /// The largest numbers of mistakes.
    pub worst_confusions: Vec<ConfusionRow>,
    /// All runs, when several were compared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub compare: Vec<RunRow>,
    /// Every two of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pairs: Vec<PairRow>,
    /// By length of the texts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub truncate_sweep: Vec<SweepRow>,
    /// The labels.
    pub labels: LabelFacts,
    /// What was run.
    #[serde(flatten)]
    pub provenance: Provenance,
}

/// Recalls of one direction.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Recalls {
    /// Of finding images by texts.
    #[serde(rename = "image_retrieval_recall@1")]
    pub image_at_1: f64,
    /// Among the first five.
    #[serde(rename = "image_retrieval_recall@5")]
    pub image_at_5: f64,
    /// Among the first ten.
    #[serde(rename = "image_retrieval_recall@10")]
    pub image_at_10: f64,
    /// Half of the images are found at this place or before.
    pub image_retrieval_median_rank: f64,
    /// Of finding texts by images.
    #[serde(rename = "text_retrieval_recall@1")]
    pub text_at_1: f64,
    /// Among the first five.
    #[serde(rename = "text_retrieval_recall@5")]
    pub text_at_5: f64,
    /// Among the first ten.
    #[serde(rename = "text_retrieval_recall@10")]
    pub text_at_10: f64,
    /// Half of the texts are found at this place or before.
    pub text_retrieval_median_rank: f64,
}

/// The recalls with captions cut to a length.
#[derive(Clone, Debug, Serialize)]
pub struct RecallSweepRow {
    /// Most tokens of a caption, start and end included.
    pub tokens: usize,
    /// Captions that were cut.
    pub cut: usize,
    /// How it does.
    #[serde(flatten)]
    pub recalls: Recalls,
}

/// `results.json` of a retrieval.
#[derive(Clone, Debug, Serialize)]
pub struct RetrievalEvaluation {
    /// `retrieval`.
    pub task: &'static str,
    /// The recalls.
    #[serde(flatten)]
    pub recalls: Recalls,
    /// Images that were compared.
    pub images: usize,
    /// Captions that were compared.
    pub texts: usize,
    /// Images that could not be read; they and their captions are in no figure.
    pub failed: u64,
    /// What counts as found, and what of the dataset was taken.
    pub protocol: String,
    /// What became of captions longer than the context.
    pub long_text: String,
    /// By length of the captions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub truncate_sweep: Vec<RecallSweepRow>,
    /// What was run.
    #[serde(flatten)]
    pub provenance: Provenance,
}
