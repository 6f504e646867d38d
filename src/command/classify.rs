//! `longclip classify`: which of some texts fits each image best.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, bail};
use clap::Args;

use super::labels::{self, NoneTexts};
use super::pipeline::{Encoded, ModelSlot, Pipeline, Plan};
use super::results::Results;
use super::session::{Session, Stop};
use super::texts::Fitter;
use super::{Console, Outcome, advice};
use crate::cli::{ImageArgs, LabelArgs, ModelArgs, OutputArgs, PictureArgs, ScoreArgs};
use crate::input::image::{EXTENSIONS, looks_like_picture};
use crate::input::paths::{self, FilesFrom, ListSource, PictureRule, Separator};
use crate::input::prompt::LabelSet;
use crate::model::{Compute, DualEncoder};
use crate::output::{Prediction, Record};
use crate::task::zero_shot::{ClassScore, Classifier, Score};

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
    let (labels, none) = classes(&args, console)?;
    let arguments = args.images.images.clone();
    let files_from = files_from(&args.images);
    let sources = paths::expand(arguments.clone(), files_from.clone(), PICTURES)?;
    if let Some(path) = &args.output.output {
        advice::check_output(path)?;
        let files = [
            &args.images.files_from,
            &args.labels.labels_file,
            &args.score.none.background_file,
        ];
        let inputs = arguments.iter().chain(files.into_iter().flatten());
        advice::check_not_an_input(path, inputs, PICTURES)?;
    }
    let session = Session::open(&args.model, console)?;
    let context_length = session.checkpoint.architecture.context_length;
    let policy = args.labels.long.policy()?;
    let mut fitter = Fitter::new(context_length, policy, console);
    let texts = labels::Texts::fit(&labels, none.as_ref(), &mut fitter)?;
    fitter.finish();
    let stop = Stop::default();

    let passed_over = sources.passed_over();
    let model = ModelSlot::default();
    let plan = plan(&args, &session, single(&args.images));
    // Pictures are decoded while the model loads.
    let mut pipeline = Pipeline::start(sources, plan, model.clone(), stop.clone());

    let clip: Arc<dyn DualEncoder> = Arc::new(session.load(console)?);
    let classifier = texts.classifier(clip.as_ref(), args.score.score)?;
    let _ = model.set(clip);

    // Its token table stays in the map until the texts are encoded.
    session.checkpoint.unchanged()?;
    stop.listen()?;
    let mut results = Results::open(&args.output, args.score.score, console)?;
    if !single(&args.images) {
        console.start_progress(move || paths::count(&arguments, files_from.as_ref(), PICTURES));
    }
    let answer = Answer::new(&labels, none.as_ref(), &args.score);
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

/// The labels with their prompts and what stands for none of them, after a check of what can only be
/// a mistake.
fn classes(args: &ClassifyArgs, console: &Console) -> Result<(LabelSet, Option<NoneTexts>)> {
    let (images, labels) = (&args.images, &args.labels);
    if images.images.is_empty() && images.files_from.is_none() {
        bail!("{}", advice::no_images(&labels.labels, PICTURES));
    }
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
