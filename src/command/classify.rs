//! `longclip classify`: which of some texts fits each image best.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, bail};
use clap::Args;

use super::images::Images;
use super::labels::{self, NoneTexts};
use super::pipeline::{Encoded, Plan};
use super::remembered::{self, Engine, Remembered};
use super::results::Results;
use super::session::{Session, Stop};
use super::texts::Fitter;
use super::{Console, Outcome};
use crate::cli::{CacheArgs, ImageArgs, LabelArgs, ModelArgs, OutputArgs, PictureArgs, ScoreArgs};
use crate::input::prompt::LabelSet;
use crate::output::{Prediction, Record};
use crate::task::zero_shot::{ClassScore, Classifier, Score};

/// Written out, because the images must come before the labels and the derived one turns them round.
const USAGE: &str = "longclip classify [OPTIONS] <IMAGE>... --labels <TEXT>...
       longclip classify [OPTIONS] <IMAGE>... --labels-file <FILE>";

const EXAMPLES: &str = "\
Examples:
  longclip classify img.jpg --labels \"a cat jumping\" \"a cat sleeping\"
  longclip classify photos/ --labels-file labels.txt --format jsonl > out.jsonl
  find . -name '*.jpg' -print0 | longclip classify --files-from - -0 --labels cat dog --format csv
  longclip classify --model ./my-checkpoint img.jpg --labels cat dog --templates openai80

Exit status: 0 every image was answered, 1 some failed (each has an error record), 2 it could not
run, 75 worth retrying (the hub is down, the disk is full), 130 or 143 stopped by a signal.";

/// The arguments of `longclip classify`.
#[derive(Debug, Args)]
#[command(override_usage = USAGE, after_help = EXAMPLES)]
pub struct ClassifyArgs {
    #[command(flatten)]
    images: ImageArgs,
    #[command(flatten)]
    labels: LabelArgs,
    #[command(flatten)]
    score: ScoreArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    cache: CacheArgs,
    #[command(flatten)]
    pictures: PictureArgs,
}

/// Classifies images, writing one record each.
///
/// # Errors
/// When it cannot run; an image that fails is a record.
pub fn run(args: ClassifyArgs, console: &Console) -> Result<Outcome> {
    // Whatever can be wrong without a model is found before a model is fetched.
    let images = Images::open(&args.images, &args.labels.labels)?;
    let (labels, none) = classes(&args, console)?;
    if let Some(path) = &args.output.output {
        let files = [&args.labels.labels_file, &args.score.none.background_file];
        images.check_output(path, &files)?;
    }
    let cache = remembered::folder(&args.cache)?;
    let session = Arc::new(Session::open(&args.model, console)?);
    let context_length = session.checkpoint.architecture.context_length;
    let mut fitter = Fitter::new(context_length, args.labels.long.policy()?, console);
    let texts = labels::Texts::fit(&labels, none.as_ref(), &mut fitter)?;
    fitter.finish();
    let plan = Plan::new(&session, &args.model, &args.pictures).single(images.single());
    let memory = cache.map(|folder| Remembered::open(&folder, session.clone(), &plan));
    let memory = memory.transpose()?;
    // Pictures are decoded while the model loads.
    let images = images.start(plan.memory(memory.clone()), Stop::default());

    let engine = Engine::new(&session, memory, console)?;
    let classifier = texts.classifier(engine.encoder.as_ref(), args.score.score)?;
    images.give(engine.encoder.clone());

    // Its token table stays in the map until the texts are encoded.
    session.checkpoint.unchanged()?;
    let mut results = Results::open(&args.output, args.score.score, console)?;
    let answer = Answer::new(&labels, none.as_ref(), &args.score);
    let counts = images.for_each(console, |encoded| {
        results.write(&answer.record(&classifier, encoded))
    })?;
    engine.finish(console);
    match counts.signal {
        Some(_) => results.keep_partial(console)?,
        None => results.finish()?,
    }
    Ok(counts.outcome(console))
}

/// The labels with their prompts and what stands for none of them, after a check of what can only be
/// a mistake.
fn classes(args: &ClassifyArgs, console: &Console) -> Result<(LabelSet, Option<NoneTexts>)> {
    let labels = &args.labels;
    check_threshold(&args.score)?;
    labels.long.policy()?;
    check_stdin(args)?;
    let templates = labels::templates(labels)?;
    let set = labels::label_set(labels, &templates, console)?;
    let none = NoneTexts::new(&args.score, &templates, &set)?;
    let is_alone = set.classes.len() == 1 && none.as_ref().is_none_or(|none| !none.is_class);
    if is_alone && args.score.score == Score::Softmax {
        bail!("{}", labels::one_label(&set.classes[0].label));
    }
    Ok((set, none))
}

/// Stdin can be read once.
fn check_stdin(args: &ClassifyArgs) -> Result<()> {
    let is_dash =
        |path: &Option<PathBuf>| path.as_ref().is_some_and(|path| path.as_os_str() == "-");
    let readers = [
        (
            args.images
                .images
                .iter()
                .any(|path| path.as_os_str() == "-"),
            "an image",
        ),
        (is_dash(&args.images.files_from), "--files-from"),
        (is_dash(&args.labels.labels_file), "--labels-file"),
        (args.labels.templates.as_deref() == Some("-"), "--templates"),
        (
            is_dash(&args.score.none.background_file),
            "--background-file",
        ),
    ];
    let readers: Vec<_> = readers.into_iter().filter(|(reads, _)| *reads).collect();
    if let [(_, first), (_, second), ..] = readers[..] {
        bail!(
            "{first} and {second} are both to be read from stdin (-); give a file for one of them"
        );
    }
    Ok(())
}

/// A threshold in percent would drop everything without a word.
fn check_threshold(args: &ScoreArgs) -> Result<()> {
    let Some(threshold) = args.threshold else {
        return Ok(());
    };
    let (least, what) = match args.score {
        Score::Softmax | Score::Sigmoid => (0.0, "a probability is between 0 and 1"),
        Score::Cosine => (-1.0, "a cosine is between -1 and 1"),
        Score::Logit => return Ok(()),
    };
    if !(least..=1.0).contains(&threshold) {
        bail!("--threshold {threshold} cannot be: {what}");
    }
    Ok(())
}

/// Turns embeddings into records.
struct Answer {
    labels: Vec<Arc<str>>,
    score: Score,
    keep: usize,
    threshold: Option<f32>,
}

impl Answer {
    fn new(labels: &LabelSet, none: Option<&NoneTexts>, args: &ScoreArgs) -> Self {
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
        }
    }

    fn record(&self, classifier: &Classifier, encoded: Encoded) -> Record {
        let (outcome, warnings) = match encoded.outcome {
            Ok(known) => (
                Ok(self.predictions(classifier, &known.embedding)),
                known.warnings,
            ),
            Err(error) => (Err(format!("{error:#}")), Vec::new()),
        };
        Record {
            image: encoded.image,
            outcome,
            warnings,
        }
    }

    fn predictions(&self, classifier: &Classifier, embedding: &[f32]) -> Vec<Prediction> {
        classifier
            .classify(embedding)
            .into_iter()
            .take(self.keep)
            .filter(|score| {
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
