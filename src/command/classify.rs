//! `longclip classify`: which of some texts fits each image best.

use std::sync::Arc;

use anyhow::{Result, bail};
use clap::Args;

use super::pipeline::{Encoded, ModelSlot, Pipeline, Plan};
use super::results::Results;
use super::session::{Session, Stop};
use super::texts::Fitter;
use super::{Console, Outcome, advice};
use crate::cli::{ImageArgs, LabelArgs, ModelArgs, OutputArgs, PictureArgs, ScoreArgs};
use crate::input::image::{EXTENSIONS, looks_like_picture};
use crate::input::paths::{self, FilesFrom, ListSource, PictureRule, Separator};
use crate::input::prompt::{self, LabelSet, Templates};
use crate::input::tokenizer::Fitted;
use crate::model::{Compute, DualEncoder};
use crate::output::{Prediction, Record};
use crate::task::class_embedding::ClassEmbeddings;
use crate::task::zero_shot::{ClassScore, Classifier, Score};

/// The text that an image is compared with when labels are scored one by one.
const NONE_LABEL: &str = "a photo";

/// Images that go through a GPU together.
pub(super) const GPU_BATCH: usize = 64;

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
    pictures: PictureArgs,
}

/// Classifies images, writing one record each.
///
/// # Errors
/// When it cannot run; an image that fails is a record.
pub fn run(args: ClassifyArgs, console: &Console) -> Result<Outcome> {
    // Whatever can be wrong without a model is found before a model is fetched.
    let labels = label_set(&args)?;
    let arguments = args.images.images.clone();
    let files_from = files_from(&args.images);
    let sources = paths::expand(arguments.clone(), files_from.clone(), PICTURES)?;
    if let Some(path) = &args.output.output {
        advice::check_output(path)?;
        let files = [&args.images.files_from, &args.labels.labels_file];
        let inputs = arguments.iter().chain(files.into_iter().flatten());
        advice::check_not_an_input(path, inputs, PICTURES)?;
    }
    let session = Session::open(&args.model, console)?;
    let context_length = session.checkpoint.architecture.context_length;
    let texts = texts(&labels, &args, context_length, console)?;
    let stop = Stop::default();

    let passed_over = sources.passed_over();
    let model = ModelSlot::default();
    let plan = plan(&args, &session, single(&args.images));
    // Pictures are decoded while the model loads.
    let mut pipeline = Pipeline::start(sources, plan, model.clone(), stop.clone());

    let clip: Arc<dyn DualEncoder> = Arc::new(session.load(console)?);
    let classifier = classifier(clip.as_ref(), &texts, args.score.score)?;
    let _ = model.set(clip);

    // Its token table stays in the map until the texts are encoded.
    session.checkpoint.unchanged()?;
    stop.listen()?;
    let mut results = Results::open(&args.output, args.score.score, console)?;
    if !single(&args.images) {
        console.start_progress(move || paths::count(&arguments, files_from.as_ref(), PICTURES));
    }
    let answer = Answer::new(&labels, &args.score);
    let mut counts = Counts::default();
    while let Some(encoded) = pipeline.next() {
        let record = answer.record(&classifier, encoded);
        counts.add(&record, console);
        console.around(|| results.write(&record))?;
        console.advance(counts.failed);
    }
    console.end_progress();
    let passed_over = passed_over.count();
    match passed_over {
        0 => {}
        1 => console.detail("1 file in folders is no picture and was passed over"),
        n => console.detail(&format!(
            "{n} files in folders are no pictures and were passed over"
        )),
    }
    if let Some(signal) = stop.signal() {
        results.keep_partial(console)?;
        return Ok(Outcome::Stopped(signal));
    }
    results.finish()?;
    Ok(counts.outcome(console))
}

pub(super) const PICTURES: PictureRule = PictureRule {
    extensions: EXTENSIONS,
    looks_like_picture,
};

/// One image and no more, as far as the arguments tell.
fn single(images: &ImageArgs) -> bool {
    images.files_from.is_none() && images.images.len() == 1 && !images.images[0].is_dir()
}

fn plan(args: &ClassifyArgs, session: &Session, single: bool) -> Plan {
    let batches = matches!(session.placement.compute, Compute::Candle(..));
    let batch_size = args.model.batch_size.map(|size| size as usize);
    Plan {
        decode: args.pictures.options(),
        preprocess: session.checkpoint.preprocess.clone(),
        threads: session.threads,
        batch_size: batch_size.or(batches.then_some(GPU_BATCH)),
        single,
    }
}

/// The labels with their prompts, after a check of what can only be a mistake.
fn label_set(args: &ClassifyArgs) -> Result<LabelSet> {
    let (images, labels) = (&args.images, &args.labels);
    if images.images.is_empty() && images.files_from.is_none() {
        bail!("{}", advice::no_images(&labels.labels, PICTURES));
    }
    if args.score.none_label.is_some() && args.score.score != Score::Sigmoid {
        bail!("--none-label is what --score sigmoid compares with; add --score sigmoid");
    }
    check_threshold(&args.score)?;
    labels.long.policy()?;
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

fn files_from(images: &ImageArgs) -> Option<FilesFrom> {
    let path = images.files_from.clone()?;
    Some(FilesFrom {
        source: match path {
            path if path.as_os_str() == "-" => ListSource::Stdin,
            path => ListSource::File(path),
        },
        separator: if images.null {
            Separator::Nul
        } else {
            Separator::Line
        },
    })
}

/// The prompts of all classes as the model reads them, and what stands for none of the labels.
struct Texts {
    classes: Vec<Vec<Fitted>>,
    none: Option<Vec<Vec<Fitted>>>,
}

fn texts(
    labels: &LabelSet,
    args: &ClassifyArgs,
    context_length: usize,
    console: &Console,
) -> Result<Texts> {
    let mut fitter = Fitter::new(context_length, args.labels.long.policy()?, console);
    let classes = labels
        .classes
        .iter()
        .zip(1..)
        .map(|(class, place)| {
            let place = format!("label {place}");
            let fit = |prompt: &String| fitter.fit(&place, prompt);
            class.prompts.iter().map(fit).collect()
        })
        .collect::<Result<_>>()?;
    let none = args.score.none_label.as_deref().unwrap_or(NONE_LABEL);
    let none = (args.score.score == Score::Sigmoid)
        .then(|| fitter.fit("--none-label", none))
        .transpose()?;
    fitter.finish();
    Ok(Texts {
        classes,
        none: none.map(|none| vec![vec![none]]),
    })
}

fn classifier(model: &dyn DualEncoder, texts: &Texts, score: Score) -> Result<Classifier> {
    let encode = |classes: &Vec<_>| ClassEmbeddings::encode(model, classes);
    let none = texts.none.as_ref().map(encode).transpose()?;
    Classifier::new(encode(&texts.classes)?, none, model.logit_scale(), score)
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
        let outcome = match encoded.embedding {
            Ok(embedding) => Ok(classifier
                .classify(&embedding)
                .into_iter()
                .take(self.keep)
                .filter(|score| {
                    self.threshold
                        .is_none_or(|least| score.value(self.score) >= least)
                })
                .map(|score| self.prediction(score))
                .collect()),
            Err(error) => Err(format!("{error:#}")),
        };
        Record {
            image: encoded.image,
            outcome,
            warnings: encoded.warnings,
        }
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

/// What came out so far.
#[derive(Default)]
struct Counts {
    answered: u64,
    failed: u64,
}

impl Counts {
    fn add(&mut self, record: &Record, console: &Console) {
        for warning in &record.warnings {
            console.warn(&format!("{}: {warning}", record.image.text));
        }
        match &record.outcome {
            Ok(_) => self.answered += 1,
            Err(cause) => {
                self.failed += 1;
                console.failed(&record.image.text, cause);
            }
        }
    }

    fn outcome(&self, console: &Console) -> Outcome {
        match (self.answered, self.failed) {
            (0, 0) => {
                console.note("no images: the list or the folders hold none");
                Outcome::Answered
            }
            (_, 0) => Outcome::Answered,
            (0, _) => Outcome::NoneRead,
            _ => Outcome::SomeFailed,
        }
    }
}
