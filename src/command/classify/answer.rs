//! Turns an embedding into the record of an image.

use std::sync::Arc;

use crate::input::prompt::LabelSet;
use crate::output::{Prediction, Record};
use crate::run::flags::ScoreArgs;
use crate::run::labels::NoneTexts;
use crate::run::pipeline::Encoded;
use crate::task::zero_shot::{ClassScore, Judge, Score};

/// Turns embeddings into records.
pub(super) struct Answer {
    /// The labels, followed by the none label.
    pub(super) labels: Vec<Arc<str>>,
    pub(super) score: Score,
    keep: usize,
    threshold: Option<f32>,
    /// Below this probability the best label is uncertain.
    none_threshold: Option<f32>,
}

impl Answer {
    pub(super) fn new(
        labels: &LabelSet,
        none: Option<&NoneTexts>,
        args: &ScoreArgs,
        none_threshold: Option<f32>,
    ) -> Self {
        let labels = labels.classes.iter().map(|class| class.label.as_str());
        let none = none.filter(|none| none.is_class);
        Self {
            labels: labels
                .chain(none.map(|none| none.name.as_str()))
                .map(Arc::from)
                .collect(),
            score: args.score,
            keep: args.top_k.map_or(usize::MAX, |k| k as usize),
            threshold: args.threshold,
            none_threshold: none_threshold.filter(|_| args.score == Score::Softmax),
        }
    }

    /// All labels of an image, best first; empty if it failed.
    pub(super) fn scores(&self, judge: &dyn Judge, encoded: &Encoded) -> Vec<ClassScore> {
        let known = encoded.outcome.as_ref().ok();
        known.map_or(Vec::new(), |known| judge.judge_one(&known.embedding))
    }

    /// Whether the best label is uncertain.
    pub(super) fn uncertain(&self, scores: &[ClassScore]) -> bool {
        let best = scores.first().map(|best| best.value(self.score));
        let both = best.zip(self.none_threshold);
        both.is_some_and(|(best, least)| best < least)
    }

    /// The record of an image and its [`Answer::scores`].
    pub(super) fn record(&self, encoded: Encoded, scores: Vec<ClassScore>) -> Record {
        let uncertain = self.uncertain(&scores);
        let (outcome, warnings) = match encoded.outcome {
            Ok(known) => (Ok(self.predictions(scores)), known.warnings),
            Err(error) => (Err(format!("{error:#}")), Vec::new()),
        };
        Record {
            warnings,
            uncertain,
            ..Record::new(encoded.image, outcome)
        }
    }

    fn predictions(&self, scores: Vec<ClassScore>) -> Vec<Prediction> {
        let kept = scores.into_iter().take(self.keep);
        kept.filter(|score| {
            self.threshold
                .is_none_or(|least| score.value(self.score) >= least)
        })
        .map(|score| self.prediction(score))
        .collect()
    }

    fn prediction(&self, score: ClassScore) -> Prediction {
        Prediction {
            label: self.labels[score.class].clone(),
            probability: score.probability,
            logit: score.logit,
            cosine: score.cosine,
        }
    }
}
