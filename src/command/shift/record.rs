//! What `shift --format json` writes.

use serde::Serialize;

use crate::output::evaluation::LabelFacts;

/// The comparison of two sets.
#[derive(Serialize)]
pub(super) struct Shift {
    /// The findings in one sentence.
    pub(super) summary: String,
    /// What makes the numbers less certain than they look.
    pub(super) warnings: Vec<String>,
    pub(super) a: SetFacts,
    pub(super) b: SetFacts,
    pub(super) mmd: Mmd,
    pub(super) cmmd: Distance,
    pub(super) frechet: Distance,
    /// `None` if a set is too small for it.
    pub(super) c2st: Option<C2st>,
    pub(super) duplicates: Duplicates,
    /// `None` without labels.
    pub(super) answers: Option<AnswerChange>,
    /// `None` unless the labels of A are known.
    pub(super) label_shares: Option<LabelShares>,
    /// `None` unless the labels of A are known.
    pub(super) accuracy: Option<Accuracy>,
    /// `None` unless this run read files of both sets.
    pub(super) pictures: Option<Pictures>,
    /// `None` if it is not known.
    pub(super) model: Option<Model>,
    pub(super) labels: Option<LabelFacts>,
    pub(super) seed: u64,
    pub(super) version: &'static str,
    pub(super) arguments: Vec<String>,
}

/// A set.
#[derive(Serialize)]
pub(super) struct SetFacts {
    pub(super) path: String,
    pub(super) images: usize,
    pub(super) failed: u64,
    /// Whether the true labels of its images are known.
    pub(super) labelled: bool,
    /// Images that the distances are computed from.
    pub(super) used: usize,
}

/// The model that made the embeddings.
#[derive(Serialize)]
pub(super) struct Model {
    pub(super) name: String,
    pub(super) sha256: String,
}

/// The test of whether the sets differ.
#[derive(Serialize)]
pub(super) struct Mmd {
    pub(super) squared: f64,
    pub(super) p: f64,
    pub(super) permutations: u64,
    pub(super) sigma: f64,
    pub(super) assumes: &'static str,
}

/// A distance of the sets.
#[derive(Serialize)]
pub(super) struct Distance {
    pub(super) value: f64,
    pub(super) assumes: &'static str,
}

/// How well a classifier separates the sets.
#[derive(Serialize)]
pub(super) struct C2st {
    pub(super) accuracy: f64,
    pub(super) auc: f64,
    pub(super) p: f64,
    /// Images of each set.
    pub(super) each: usize,
    pub(super) folds: usize,
    pub(super) assumes: &'static str,
}

/// Images of B that are also in A.
#[derive(Serialize)]
pub(super) struct Duplicates {
    pub(super) of_b: usize,
    pub(super) assumes: &'static str,
}

/// How the answers changed.
#[derive(Serialize)]
pub(super) struct AnswerChange {
    pub(super) total_variation: f64,
    pub(super) total_variation_interval: [f64; 2],
    pub(super) chi_square: f64,
    pub(super) degrees: usize,
    pub(super) p: f64,
    pub(super) per_label: Vec<Change>,
    pub(super) assumes: &'static str,
}

/// A share of A and of B.
#[derive(Serialize)]
pub(super) struct Change {
    pub(super) label: String,
    /// Images that count.
    pub(super) counts: [usize; 2],
    pub(super) shares: [f64; 2],
    /// Of the share in B minus that in A.
    pub(super) interval: [f64; 2],
    pub(super) p: f64,
    pub(super) p_holm: f64,
}

/// Estimated shares of the true labels of B.
#[derive(Serialize)]
pub(super) struct LabelShares {
    pub(super) per_label: Vec<LabelShare>,
    pub(super) assumes: &'static str,
}

/// The share of a label.
#[derive(Serialize)]
pub(super) struct LabelShare {
    pub(super) label: String,
    /// In A.
    pub(super) a: f64,
    /// In B by its answers; `None` if the confusions of A do not determine it.
    pub(super) bbse: Option<f64>,
    /// In B by its probabilities.
    pub(super) em: f64,
    /// In B, if its labels are known.
    pub(super) b: Option<f64>,
}

/// The accuracy on B.
#[derive(Serialize)]
pub(super) struct Accuracy {
    /// Measured on A.
    pub(super) a: f64,
    /// Measured on B, if its labels are known.
    pub(super) b: Option<f64>,
    /// Expected on B: average thresholded confidence, by the largest probability.
    pub(super) atc: f64,
    /// The same by the negative entropy.
    pub(super) atc_entropy: f64,
    /// Expected on B: difference of confidences.
    pub(super) doc: f64,
    pub(super) assumes: &'static str,
    /// With the labels of both.
    pub(super) measured: Option<Measured>,
    /// With `--baseline`.
    pub(super) effective_robustness: Option<Robustness>,
}

impl Accuracy {
    /// How the accuracy on B is known, and how much lower it is than that on A.
    pub(super) fn drop(&self) -> (&'static str, f64) {
        match self.b {
            Some(b) => ("measured", self.a - b),
            None => ("expected", self.a - self.atc),
        }
    }
}

/// The measured drop.
#[derive(Serialize)]
pub(super) struct Measured {
    pub(super) drop: f64,
    pub(super) interval: [f64; 2],
    /// The share of right answers for each label that both sets have.
    pub(super) per_label: Vec<Change>,
}

/// The accuracy on B against that of other models.
#[derive(Serialize)]
pub(super) struct Robustness {
    /// The accuracy on B minus that on the line.
    pub(super) value: f64,
    /// What the line expects on B.
    pub(super) expected: f64,
    pub(super) slope: f64,
    pub(super) intercept: f64,
    pub(super) models: usize,
    pub(super) assumes: &'static str,
}

/// Which plain statistics of the pictures moved.
#[derive(Serialize)]
pub(super) struct Pictures {
    /// Files of A and of B that were measured.
    pub(super) images: [usize; 2],
    pub(super) per_statistic: Vec<Statistic>,
    pub(super) assumes: &'static str,
}

/// A statistic of the pictures.
#[derive(Serialize)]
pub(super) struct Statistic {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    /// The medians of A and of B.
    pub(super) medians: [f64; 2],
    pub(super) p: f64,
    pub(super) p_holm: f64,
}
