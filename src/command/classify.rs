//! `longclip classify`: which of some texts fits each image best.

use std::sync::Arc;

use anyhow::{Result, bail};
use clap::Args;

use super::images::Images;
use super::pipeline::{Encoded, Plan};
use super::remembered::{self, Engine, Remembered};
use super::results::Results;
use super::session::{Session, Stop};
use super::{Console, Outcome};
use crate::cli::{CacheArgs, ImageArgs, LabelArgs, ModelArgs, OutputArgs, PictureArgs, ScoreArgs};
use crate::input::prompt::{self, LabelSet, Templates};
use crate::input::tokenizer::{self, LongText, TokenIds};
use crate::output::{Prediction, Record};
use crate::task::zero_shot::{ClassScore, Classifier, Score};

/// The text that an image is compared with when labels are scored one by one.
const NONE_LABEL: &str = "a photo";

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
    let labels = label_set(&args)?;
    if let Some(path) = &args.output.output {
        images.check_output(path, &[&args.labels.labels_file])?;
    }
    let cache = remembered::folder(&args.cache)?;
    let session = Arc::new(Session::open(&args.model, console)?);
    let tokens = tokens(
        &labels,
        &args,
        session.checkpoint.architecture.context_length,
        console,
    )?;
    let plan = Plan::new(&session, &args.model, &args.pictures).single(images.single());
    let memory = cache.map(|folder| Remembered::open(&folder, session.clone(), &plan));
    let memory = memory.transpose()?;
    // Pictures are decoded while the model loads.
    let images = images.start(plan.memory(memory.clone()), Stop::default());

    let engine = Engine::new(&session, memory, console)?;
    let classifier = Classifier::new(
        engine.encoder.as_ref(),
        &tokens.classes,
        tokens.none,
        args.score.score,
    )?;
    images.give(engine.encoder.clone());

    // Its token table stays in the map until the texts are encoded.
    session.checkpoint.unchanged()?;
    let mut results = Results::open(&args.output, args.score.score, console)?;
    let answer = Answer::new(&labels, &args.score);
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

/// The labels with their prompts, after a check of what can only be a mistake.
fn label_set(args: &ClassifyArgs) -> Result<LabelSet> {
    let labels = &args.labels;
    if args.score.none_label.is_some() && args.score.score != Score::Sigmoid {
        bail!("--none-label is what --score sigmoid compares with; add --score sigmoid");
    }
    check_threshold(&args.score)?;
    let templates = match &labels.templates {
        Some(name) => Templates::named_or_file(name)?,
        None if labels.template.is_empty() => Templates::none(),
        None => Templates::from_arguments(&labels.template)?,
    };
    let set = match &labels.labels_file {
        Some(file) => prompt::labels_from_file(file, &templates)?,
        None if labels.labels.is_empty() => {
            bail!("no labels given; add --labels TEXT TEXT… or --labels-file FILE")
        }
        None => prompt::labels_from_arguments(&labels.labels, &templates)?,
    };
    if set.classes.len() == 1 && args.score.score == Score::Softmax {
        bail!(
            "softmax over one label is always 1; add a label, or use --score cosine or --score \
             sigmoid"
        );
    }
    Ok(set)
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

/// The prompts of all classes as token ids.
struct Tokens {
    classes: Vec<Vec<TokenIds>>,
    none: Option<TokenIds>,
}

fn tokens(
    labels: &LabelSet,
    args: &ClassifyArgs,
    context_length: usize,
    console: &Console,
) -> Result<Tokens> {
    let fit = |text: &str| fit(text, context_length, args.labels.long_text, console);
    let none = args.score.none_label.as_deref().unwrap_or(NONE_LABEL);
    let classes = labels
        .classes
        .iter()
        .map(|class| class.prompts.iter().map(|prompt| fit(prompt)).collect())
        .collect::<Result<_>>()?;
    Ok(Tokens {
        classes,
        none: (args.score.score == Score::Sigmoid)
            .then(|| fit(none))
            .transpose()?,
    })
}

fn fit(text: &str, context_length: usize, policy: LongText, console: &Console) -> Result<TokenIds> {
    let fitted = tokenizer::fit(text, context_length, policy)?;
    if let Some(cut) = &fitted.cut {
        console.warn(&format!(
            "{}: {} tokens over the model's {context_length} were cut: {}",
            quoted(text, 40),
            cut.tokens,
            quoted(&cut.text, 60),
        ));
    }
    Ok(fitted.token_ids)
}

/// Turns embeddings into records.
struct Answer {
    labels: Vec<Arc<str>>,
    score: Score,
    keep: usize,
    threshold: Option<f32>,
}

impl Answer {
    fn new(labels: &LabelSet, args: &ScoreArgs) -> Self {
        Self {
            labels: labels
                .classes
                .iter()
                .map(|class| Arc::from(class.label.as_str()))
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

/// The start of a text, in quotes.
fn quoted(text: &str, longest: usize) -> String {
    let start: String = text.chars().take(longest).collect();
    let more = if start.len() < text.len() { "…" } else { "" };
    format!("{start:?}{more}")
}
