//! What images are classified by: labels, or a probe.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail};

use super::ClassifyArgs;
use super::checks::{check_stdin, check_threshold};
use crate::input::prompt::LabelSet;
use crate::model::{DualEncoder, Towers};
use crate::output::{FailureKind, Prediction, Record};
use crate::run::calibration::Calibration;
use crate::run::flags::{ModelArgs, ScoreArgs};
use crate::run::labels::{NoneTexts, Prompts};
use crate::run::pipeline::Encoded;
use crate::run::session::Session;
use crate::run::texts::Fitter;
use crate::run::trained::TrainedProbe;
use crate::run::{Console, labels};
use crate::task::zero_shot::{ClassScore, Judge, Score};

/// The labels, and the classifier of a probe if there is one.
pub(super) struct Question {
    pub(super) labels: LabelSet,
    pub(super) none: Option<NoneTexts>,
    /// Classifies instead of the labels' texts.
    probe: Option<TrainedProbe>,
    /// The tokenised labels; `None` with a probe.
    texts: Option<Prompts>,
}

impl Question {
    /// Reads the labels or the probe, and checks for mistakes.
    pub(super) fn new(args: &ClassifyArgs, console: &Console) -> Result<Self> {
        check_threshold(&args.score)?;
        args.labels.long.policy()?;
        check_stdin(args)?;
        if let Some(path) = &args.probe {
            let probe = TrainedProbe::read(path, args.score.score)?;
            let none = probe.texts().and_then(|texts| texts.none.as_ref());
            return Ok(Self {
                labels: probe.labels(),
                none: none.map(|none| NoneTexts::encoded(&none.label, args.score.score)),
                probe: Some(probe),
                texts: None,
            });
        }
        let templates = labels::templates(&args.labels, console)?;
        let labels = labels::label_set(&args.labels, &templates, console)?;
        let none = NoneTexts::new(
            &args.score.none,
            args.score.score,
            &templates,
            &labels,
            console,
        )?;
        let is_alone = labels.classes.len() == 1 && none.as_ref().is_none_or(|none| !none.is_class);
        if is_alone && args.score.score == Score::Softmax {
            bail!("{}", labels::one_label(&labels.classes[0].label));
        }
        Ok(Self {
            labels,
            none,
            probe: None,
            texts: None,
        })
    }

    /// The model to use: a probe selects its own.
    pub(super) fn model(&self, args: &ClassifyArgs, console: &Console) -> Result<ModelArgs> {
        match &self.probe {
            Some(probe) => probe.made_with().model(&args.engine, console),
            None => Ok(args.engine.model.clone()),
        }
    }

    /// Makes records of scores.
    pub(super) fn recorder(&self, args: &ScoreArgs, none_threshold: Option<f32>) -> Recorder {
        Recorder::new(&self.labels, self.none.as_ref(), args, none_threshold)
    }

    /// Fits the texts into the model's context, or checks that the probe was trained with this
    /// model.
    pub(super) fn fit(
        &mut self,
        args: &ClassifyArgs,
        session: &Arc<Session>,
        console: &Console,
    ) -> Result<()> {
        if let Some(probe) = &mut self.probe {
            return probe.check(session);
        }
        let mut fitter = Fitter::new(session, args.labels.long.policy()?, console);
        self.texts = Some(Prompts::fit(&self.labels, self.none.as_ref(), &mut fitter)?);
        fitter.finish();
        Ok(())
    }

    /// The temperature that logits are divided by.
    pub(super) fn temperature(
        &self,
        args: &ClassifyArgs,
        calibration: Option<&Calibration>,
        session: &Session,
        console: &Console,
    ) -> Result<f32> {
        let Some(calibration) = calibration else {
            return Ok(1.0);
        };
        let texts = self.labels_sha256(args)?;
        let texts = texts.context("a trained probe has no texts")?;
        calibration.temperature_for(session, &texts, console)
    }

    /// Whether texts decide, encoded here or earlier.
    pub(super) fn is_zero_shot(&self) -> bool {
        let probe = self.probe.as_ref();
        probe.is_none_or(|probe| probe.texts().is_some())
    }

    /// Which towers it needs.
    pub(super) fn towers(&self) -> Towers {
        match self.probe {
            Some(_) => Towers::Image,
            None => Towers::Both,
        }
    }

    /// The SHA-256 of the file of the probe, if there is one.
    pub(super) fn probe_sha256(&self) -> Option<String> {
        self.probe.as_ref().map(|probe| probe.sha256.clone())
    }

    /// The digest of the labels, their prompts and what happens to long ones; a trained probe has
    /// none.
    pub(super) fn labels_sha256(&self, args: &ClassifyArgs) -> Result<Option<String>> {
        if let Some(probe) = &self.probe {
            return Ok(probe.texts().map(|texts| texts.labels_sha256.clone()));
        }
        let long = args.labels.long.policy()?;
        Ok(Some(labels::sha256(&self.labels, self.none.as_ref(), long)))
    }

    /// Makes the classifier, once the texts fit or the probe is checked.
    pub(super) fn judge(
        &mut self,
        model: &dyn DualEncoder,
        session: &Session,
        score: Score,
        temperature: f32,
    ) -> Result<Box<dyn Judge>> {
        match (self.probe.take(), &self.texts) {
            (Some(probe), _) => probe.judge(session),
            (None, Some(texts)) => {
                let classifier = texts.classifier(model, score)?;
                Ok(Box::new(classifier.with_temperature(temperature)?))
            }
            (None, None) => bail!("there are no labels"),
        }
    }
}

/// Turns embeddings into records.
#[derive(Clone)]
pub(super) struct Recorder {
    /// The labels, followed by the none label.
    pub(super) labels: Vec<Arc<str>>,
    /// How many of them are not the none label.
    classes: usize,
    pub(super) score: Score,
    keep: usize,
    threshold: Option<f32>,
    /// Below this probability the best label is uncertain.
    none_threshold: Option<f32>,
}

impl Recorder {
    pub(super) fn new(
        labels: &LabelSet,
        none: Option<&NoneTexts>,
        args: &ScoreArgs,
        none_threshold: Option<f32>,
    ) -> Self {
        let classes = labels.classes.len();
        let labels = labels.classes.iter().map(|class| class.label.as_str());
        let none = none.filter(|none| none.is_class);
        Self {
            classes,
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

    /// The record of an image and its [`Recorder::scores`].
    pub(super) fn record(&self, encoded: Encoded, scores: Vec<ClassScore>) -> Record {
        let uncertain = self.uncertain(&scores);
        let chosen = match uncertain {
            true => Vec::new(),
            false => self.chosen(&scores),
        };
        let (outcome, warnings) = match encoded.outcome {
            Ok(known) => (Ok(self.predictions(scores)), known.warnings),
            Err(error) => (Err(FailureKind::Decode.else_this(&error)), Vec::new()),
        };
        Record {
            frame: encoded.frame,
            given: encoded.given,
            warnings,
            uncertain,
            chosen,
            ..Record::new(encoded.image, outcome)
        }
    }

    fn predictions(&self, scores: Vec<ClassScore>) -> Vec<Prediction> {
        let kept = scores.into_iter().take(self.keep);
        kept.filter(|score| self.reaches(score))
            .map(|score| self.prediction(score))
            .collect()
    }

    /// The labels that describe the image: the best one, or all that reach a threshold; none if the
    /// best one is the none label.
    fn chosen(&self, scores: &[ClassScore]) -> Vec<Arc<str>> {
        let is_label = |score: &&ClassScore| score.class < self.classes;
        if !scores.first().as_ref().is_some_and(is_label) {
            return Vec::new();
        }
        let most = self.threshold.map_or(1, |_| self.keep);
        let kept = scores.iter().take(most);
        kept.filter(|score| self.reaches(score))
            .filter(is_label)
            .map(|score| self.labels[score.class].clone())
            .collect()
    }

    fn reaches(&self, score: &ClassScore) -> bool {
        self.threshold
            .is_none_or(|least| score.value(self.score) >= least)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_keep_the_best_labels_above_the_threshold() {
        let score = |class, probability| ClassScore {
            class,
            cosine: None,
            logit: 0.0,
            probability: Some(probability),
        };
        let scores = || vec![score(1, 0.6), score(0, 0.3), score(2, 0.1)];
        // Labels kept, the threshold, that of none; labels answered, and whether it is uncertain.
        let cases = [
            (9, None, None, &["b", "a", "c"][..], false),
            (2, None, None, &["b", "a"], false),
            (9, Some(0.3), None, &["b", "a"], false),
            (1, Some(0.7), None, &[], false),
            (9, None, Some(0.6), &["b", "a", "c"], false),
            (9, None, Some(0.7), &["b", "a", "c"], true),
        ];
        for (keep, threshold, none_threshold, expected, uncertain) in cases {
            let recorder = Recorder {
                labels: ["a", "b", "c"].map(Arc::from).to_vec(),
                classes: 3,
                score: Score::Softmax,
                keep,
                threshold,
                none_threshold,
            };
            let labels: Vec<_> = recorder.predictions(scores()).into_iter().collect();
            let labels: Vec<&str> = labels.iter().map(|one| &*one.label).collect();
            assert_eq!(labels, expected);
            assert_eq!(recorder.uncertain(&scores()), uncertain);
            let chosen = recorder.chosen(&scores());
            let most = threshold.map_or(1, |_| 9);
            let expected: Vec<&str> = expected.iter().take(most).copied().collect();
            assert_eq!(
                chosen.iter().map(|one| &**one).collect::<Vec<_>>(),
                expected
            );
            // The second one is best.
            for (classes, expected) in [(1, &[][..]), (2, &expected[..])] {
                let recorder = Recorder {
                    classes,
                    ..recorder.clone()
                };
                let chosen = recorder.chosen(&scores());
                assert_eq!(
                    chosen.len(),
                    expected.iter().filter(|one| **one != "c").count()
                );
            }
        }
    }
}
