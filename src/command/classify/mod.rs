//! `longclip classify`: classifies images by how well each label fits.

mod answer;
mod page;
mod question;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, bail};
use clap::Args;

use super::calibration::Calibration;
use super::images::Images;
use super::pipeline::Plan;
use super::remembered::{self, Ready};
use super::results::{Form, Results};
use super::session::{Session, Stop};
use super::sort::SortArgs;
use super::{Console, Outcome, report};
use crate::cli::{
    CacheArgs, DecodeArgs, ImageArgs, LabelArgs, ModelArgs, ModelChoice, OutputArgs, ScoreArgs,
};
use crate::task::zero_shot::Score;
use page::Page;
use question::Question;

/// Written by hand, because the derived usage puts labels before images.
const USAGE: &str = "longclip classify [OPTIONS] <IMAGE>... --labels <TEXT>...
       longclip classify [OPTIONS] <IMAGE>... --labels-file <FILE>
       longclip classify [OPTIONS] <IMAGE>... --probe <FILE>";

const EXAMPLES: &str = "\
Examples:
  longclip classify img.jpg --labels \"a cat jumping\" \"a cat sleeping\"
  longclip classify photos/ --labels-file labels.txt --format jsonl > out.jsonl
  find . -name '*.jpg' -print0 | longclip classify --files-from - -0 --labels cat dog --format csv
  longclip classify --model ./my-checkpoint img.jpg --labels cat dog --templates openai80
  longclip classify photos/ --labels-file cifar10 --templates cifar10 --none-label \"something else\"
  longclip classify photos/ --labels cat dog --threshold 0.8 --move sorted/ --dry-run
  longclip classify photos/ --probe pets.safetensors

Exit status: 0 every image was classified, 1 some failed (each has an error record), 2 could not
run, 75 temporary failure, try again (the hub is down, the disk is full), 130 or 143 stopped by a
signal.";

/// The arguments of `longclip classify`.
#[derive(Debug, Args)]
#[command(override_usage = USAGE, after_help = EXAMPLES)]
pub struct ClassifyArgs {
    #[command(flatten)]
    images: ImageArgs,
    #[command(flatten)]
    labels: LabelArgs,
    /// Classify with a probe from longclip probe instead of labels; selects its model
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "Labels",
        conflicts_with_all = [
            "labels", "labels_file", "template", "templates", "none_label", "background",
            "background_file", "calibration",
        ]
    )]
    probe: Option<PathBuf>,
    #[command(flatten)]
    score: ScoreArgs,
    /// Use the temperature and threshold from longclip calibrate
    #[arg(long, value_name = "FILE", help_heading = "Scores")]
    calibration: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
    /// Write a self-contained HTML report of all images with their labels
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    report: Option<PathBuf>,
    #[command(flatten)]
    sort: SortArgs,
    #[command(flatten)]
    model_choice: ModelChoice,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    cache: CacheArgs,
    #[command(flatten)]
    decode: DecodeArgs,
}

/// Classifies images and writes one record each.
///
/// # Errors
/// When it cannot run; an image that fails has an error record.
pub fn run(args: ClassifyArgs, console: &Console) -> Result<Outcome> {
    // Everything that can be checked without a model is checked before one is downloaded.
    let images = Images::open(&args.images, &args.labels.labels)?;
    let question = Question::new(&args, console)?;
    args.sort.check(&args.images.images)?;
    let images = images.leave_out(args.sort.unread(&args.images.images));
    check_outputs(&args, &images)?;
    let form = Form::of(&args.output, console)?.with_exact_names(|| images.has_odd_names());
    let calibration = Calibration::read(&args.calibration)?;
    let cache = remembered::folder(&args.cache)?;
    let model = question.model(&args, console)?;
    let session = Arc::new(Session::open(&model, console)?);
    let asked = question.fit(&args, &session, console)?;
    let plan = Plan::new(&session, &args.model, &args.decode)
        .single(images.single())
        .thumbnails(args.report.as_ref().map(|_| report::THUMBNAIL));
    let ready = Ready::new(session, plan, cache.as_deref())?;
    // Images are decoded while the model loads.
    let images = images.start(ready.plan.clone(), Stop::default());

    let engine = ready.engine(console)?;
    let session = &ready.session;
    let temperature = asked.temperature(&args, (session, calibration.as_ref()), console)?;
    let scoring = (args.score.score, temperature);
    let (question, judge) = asked.judge(engine.encoder.as_ref(), scoring)?;
    images.give(engine.encoder.clone());

    // The token table stays memory-mapped until the texts are encoded.
    session.checkpoint.unchanged()?;
    let mut results = Results::open(&args.output, form, args.score.score, console)?;
    let threshold = calibration.and_then(|calibration| calibration.none_threshold);
    let answer = question.answer(&args.score, threshold);
    let mut page = Page::create(&args, session, &answer)?;
    let mut sorting = args.sort.start(&question.labels, console)?;
    let counts = images.for_each(console, |encoded| {
        let scores = answer.scores(judge.as_ref(), &encoded);
        if let Some(page) = &mut page {
            page.image(&encoded, &scores, answer.uncertain(&scores))?;
        }
        let (path, best) = (encoded.path.clone(), scores.first().map(|best| best.class));
        let mut record = answer.record(encoded, scores);
        if let (Some(sorting), Some(path)) = (&mut sorting, path) {
            sorting.sort(&path, best, &mut record);
        }
        results.write(&record)
    });
    let not_sorted = sorting.map_or(0, |sorting| sorting.finish());
    engine.finish(console);
    let counts = counts?;
    if let Some(page) = page {
        page.finish(&counts, console)?;
    }
    match counts.signal {
        Some(_) => results.keep_partial()?,
        None => results.finish()?,
    }
    Ok(with_sorting(counts.outcome(console), not_sorted))
}

/// Images that could not be sorted count as failures.
fn with_sorting(outcome: Outcome, not_sorted: u64) -> Outcome {
    match outcome {
        Outcome::Answered if not_sorted > 0 => Outcome::SomeFailed,
        outcome => outcome,
    }
}

/// Fails if an output cannot be written, or would replace an input.
fn check_outputs(args: &ClassifyArgs, images: &Images) -> Result<()> {
    let outputs = [
        args.output.file.path().map(PathBuf::as_path),
        args.report.as_deref(),
    ];
    let inputs = [
        args.labels.labels_file.as_deref(),
        args.labels.templates.as_deref().map(Path::new),
        args.score.none.background_file.as_deref(),
        args.calibration.as_deref(),
        args.probe.as_deref(),
    ];
    images.check_outputs(&outputs, &inputs)?;
    report::check_page(args.report.as_deref())
}

/// Fails if stdin would be read twice.
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
            "{first} and {second} cannot both be read from stdin (-); pass a file for one of them"
        );
    }
    Ok(())
}

/// Fails on a threshold out of range, such as one in percent, which would silently drop everything.
fn check_threshold(args: &ScoreArgs) -> Result<()> {
    let Some(threshold) = args.threshold else {
        return Ok(());
    };
    let (least, what) = match args.score {
        Score::Softmax | Score::Sigmoid => (0.0, "probabilities lie between 0 and 1"),
        Score::Cosine => (-1.0, "cosines lie between -1 and 1"),
        Score::Logit => return Ok(()),
    };
    if !(least..=1.0).contains(&threshold) {
        bail!("--threshold {threshold} is out of range: {what}");
    }
    Ok(())
}
