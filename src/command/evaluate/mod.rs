//! `longclip evaluate`: accuracy or retrieval of a model on a labelled dataset.

mod corrupt;
pub(super) mod facts;
pub(super) mod files;
mod labelled;
mod page;
pub(super) mod retrieval;
pub(super) mod summary;
mod sweep;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use clap::{Args, ValueEnum};

use crate::output::evaluation::LabelFacts;
use crate::output::{Format, MARK};
use crate::run::failures::{FailureArgs, MadeBy};
use crate::run::flags::{EngineArgs, LabellingArgs, SUMMARY, formats};
use crate::run::images::IMAGES;
use crate::run::session::Session;
use crate::run::{Console, Outcome, advice, report};

/// What only `--help` and the manual page say.
const DETAILS: &str = r#"Datasets with labels:
  A folder with one folder per class; a table, JSON lines or JSON with a path
  and a label per image; CoOp's split_*.json (--images DIR, --split NAME); or a
  folder with the hub's metadata.jsonl or metadata.csv. Classes find their
  labels
    by name    whatever the case, separators and Unicode form; also
               ApplyEyeMakeup and 001.Penguin
    by key     n02099601, n02085620-Chihuahua; the built-in sets know the
               folders of EuroSAT, UCF101, GTSRB, Flowers102, FER2013,
               Country211, Caltech101 and PCam
    by word    that only one label has: "dandelion" in "picture of a
               dandelion flower"
    by number  a key, or the labels counted from 0
  Without labels, the names of the class folders, as words, are the labels.
  Folders named like splits that all hold the same folders are refused (a
  warning where only the structure suggests it), and so are several labels for
  one image. Label files and templates: longclip help classify.

Datasets with captions (--task retrieval):
  COCO's and Karpathy's JSON; {path: [captions]}; Urban-1k's folders image/ and
  caption/; .txt or .caption files, or a metadata.jsonl, next to the images;
  tables and JSON lines; Flickr8k's and Flickr30k's lists. The report is R@1,
  R@5 and R@10 in both directions, with the protocol.

Results:
  Top-1 accuracy with a 95% bootstrap interval, top-5 accuracy, mean recall,
  precision, recall and F1 per class, calibration error, and the worst
  confusions. Equal scores rank by the earlier index, so a model that gives
  every text the same embedding scores as badly as guessing. --out DIR holds
  results.json, predictions.jsonl (classify's records, with "target") and
  confusion.csv. --report FILE.html writes a self-contained page with the
  confusion matrix (a click on a cell shows its images), the reliability
  diagram and the figures per class. --format github prints an annotation for
  every wrong image, of which GitHub shows some 10 per step; all are in the log.

Comparisons:
  --compare runs several sets of labels or templates, or probes (.safetensors),
  over the same embeddings and prints McNemar's test, the interval of the
  difference, and the classes that changed. --truncate-sweep 20,77,248 evaluates again with all texts cut
  to each length; texts beyond the context need --long-text truncate as well.

Robustness (--corrupt):
  Each image is also answered with five corruptions at five strengths, which
  change the square that the model reads (224 pixels wide, as a rule):
    noise       normal, with deviation 0.08, 0.12, 0.18, 0.26, 0.38 of white
    blur        Gaussian, with deviation 1, 2, 3, 4, 6 of 224 pixels
    jpeg        quality 25, 18, 15, 10, 7, without subsampling
    brightness  plus 0.1, 0.2, 0.3, 0.4, 0.5 of white
    contrast    times 0.4, 0.3, 0.2, 0.1, 0.05 around each channel's mean
  The values are ImageNet-C's. All sets and probes of --compare get a line each.
  The 26 embeddings of an image take 26 times as long; --cache is not used."#;

const EXAMPLES: &str = "\
Examples:
  longclip evaluate pets/ --templates openai7
  longclip evaluate imagenet/val --labels-file imagenet --templates openai80 --out results
  longclip evaluate flowers/ --compare short.txt long.txt --report flowers.html
  longclip evaluate photos.csv --labels-file labels.txt --min-acc 0.85 --format github
  longclip evaluate pets/test --probe pets.safetensors
  longclip evaluate pets/test --compare pets.txt pets.safetensors --corrupt --report pets.html
  longclip evaluate urban1k/ --task retrieval --long-text truncate --truncate-sweep 20,77,248

A dataset is a folder with one subfolder per class, a table (.csv, .tsv), JSON lines or JSON with
a path and a label per image, a folder with a metadata.jsonl or .csv, an archive (.tar, .tar.gz,
.tar.zst, .zip; several as name-{000..012}.tar) with a .cls or .json per image or one folder per
class, or a .parquet with images and a column label, cls or class; for retrieval, images with
captions. Without labels, the names of the class folders are the labels. Class numbers are indices
into the labels, from 0, or into the names of the classes that a .parquet of the hub has.

Exit status: 0 success, 1 images failed (more than --max-errors allows) or --min-acc was missed, 2
could not run, 75 temporary failure, try again (the hub is down, the disk is full), 130 or 143
stopped by a signal.";

/// The arguments of `longclip evaluate`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{DETAILS}\n\n{EXAMPLES}"))]
pub struct EvaluateArgs {
    /// Folder with a subfolder per class, or a file of images with labels or captions
    #[arg(value_name = "DATASET")]
    dataset: PathBuf,
    /// Task to evaluate
    #[arg(long, value_enum, default_value = "classify")]
    task: Task,
    #[command(flatten)]
    labelling: LabellingArgs,
    /// Evaluate a probe from longclip probe instead of labels; selects its model
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "Labels",
        conflicts_with_all = [
            "labels", "labels_file", "template", "templates", "none_label", "background",
            "background_file", "calibration", "compare", "truncate_sweep",
        ]
    )]
    probe: Option<PathBuf>,
    /// Use the temperature from longclip calibrate
    #[arg(long, value_name = "FILE", help_heading = "Labels")]
    calibration: Option<PathBuf>,
    #[command(flatten)]
    against: AgainstArgs,
    #[command(flatten)]
    captions: CaptionArgs,
    #[command(flatten)]
    results: ResultArgs,
    #[command(flatten)]
    failures: FailureArgs,
    #[command(flatten)]
    engine: EngineArgs,
}

/// The task that is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Task {
    /// Zero-shot classification
    Classify,
    /// Retrieval of images by caption, and of captions by image
    Retrieval,
}

/// Further runs over the same images.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Comparison")]
struct AgainstArgs {
    /// Compare these labels, templates (built-in or files) or probes on the same images
    #[arg(long, value_name = "NAME|FILE", num_args = 1..)]
    compare: Vec<String>,
    /// Also evaluate with texts cut to these token counts, such as 10,20,40,77,120,248
    #[arg(long, value_name = "N,N,…", value_delimiter = ',', value_parser = clap::value_parser!(u64).range(3..=65536))]
    truncate_sweep: Vec<u64>,
    /// Also evaluate with noise, blur, JPEG, brightness and contrast at 5 strengths
    #[arg(long)]
    corrupt: bool,
    /// Random seed of the confidence intervals and of noise
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

/// Options of captions.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Captions (--task retrieval)")]
struct CaptionArgs {
    /// Lines of each caption to use
    #[arg(long, value_enum, default_value = "whole")]
    caption_lines: CaptionLines,
    /// Use at most the first N captions per image
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    captions_per_image: Option<u64>,
    /// Folder of the images listed in the file [default: the file's folder]
    #[arg(long, value_name = "DIR", help_heading = "Dataset")]
    images: Option<PathBuf>,
    /// Split to use, if the file has several [default: test, or all rows of a table]
    #[arg(long, value_name = "NAME", help_heading = "Dataset")]
    split: Option<String>,
}

/// Lines of a caption.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum CaptionLines {
    /// All lines
    Whole,
    /// The first line
    First,
}

/// The output formats.
const FORMATS: &[(Format, &str)] = &[
    SUMMARY[0],
    SUMMARY[1],
    (
        Format::Github,
        "An annotation of GitHub Actions per wrong image, and the accuracy",
    ),
];

/// Where results go, and the gate.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Output")]
struct ResultArgs {
    /// Write results.json, predictions.jsonl and confusion.csv to this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Write a self-contained HTML report with figures, confusions and images
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Exit with status 1 if top-1 accuracy (0 to 1) is below P
    #[arg(long, value_name = "P", value_parser = share)]
    min_acc: Option<f64>,
    /// With --out: keep the K best labels per image in predictions.jsonl [default: all]
    #[arg(short = 'k', long, value_name = "K", value_parser = clap::value_parser!(u64).range(1..=65536))]
    top_k: Option<u64>,
    /// Output format [default: table on a terminal, else json]
    #[arg(short, long, value_name = "FORMAT", value_parser = formats(FORMATS))]
    format: Option<Format>,
    /// With --out: start .csv files with a UTF-8 byte order mark, for Excel
    #[arg(long, requires = "out")]
    bom: bool,
}

impl ResultArgs {
    /// The byte order mark of .csv files, or nothing.
    fn mark(&self) -> &'static [u8] {
        if self.bom { MARK } else { &[] }
    }
}

/// What an evaluation that began at `started` was made with.
fn made_by<'a>(
    started: Instant,
    session: &'a Session,
    labels: Option<&'a LabelFacts>,
    probe: bool,
) -> MadeBy<'a> {
    let sha256 = labels.map(|facts| &facts.sha256[..]);
    MadeBy {
        command: "evaluate",
        started,
        session,
        labels_sha256: sha256.filter(|_| !probe),
        probe_sha256: sha256.filter(|_| probe),
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        Ok(share) if share > 1.0 && share <= 100.0 => Err(format!(
            "expected a share from 0 to 1; {share}% is {}",
            share / 100.0
        )),
        _ => Err("expected a share from 0 to 1".to_owned()),
    }
}

/// Fails if an output cannot be written, or would replace an input.
fn check_outputs(args: &EvaluateArgs) -> Result<()> {
    let mut inputs = vec![
        Some(args.dataset.as_path()),
        args.calibration.as_deref(),
        args.probe.as_deref(),
    ];
    inputs.extend(args.labelling.files());
    inputs.extend(
        args.against
            .compare
            .iter()
            .map(|name| Some(Path::new(name))),
    );
    let out = args.results.out.as_deref();
    let files = [
        "results.json",
        "predictions.jsonl",
        "confusion.csv",
        "ranks.csv",
    ];
    let files = files.map(|name| out.map(|folder| folder.join(name)));
    // If the folder does not exist yet, nothing in it can be lost.
    let mut outputs: Vec<_> = files.iter().map(|file| file.as_deref()).collect();
    outputs.retain(|_| out.is_some_and(Path::is_dir));
    outputs.push(args.results.report.as_deref());
    outputs.push(args.failures.file());
    args.failures.check(None)?;
    advice::check_outputs(&outputs, &inputs, IMAGES)?;
    report::check_page(args.results.report.as_deref())
}

/// Evaluates a dataset.
///
/// # Errors
/// When it cannot run; images that fail are counted.
pub fn run(args: &EvaluateArgs, console: &Console) -> Result<Outcome> {
    if let Some(folder) = &args.results.out {
        ensure!(
            !folder.exists() || folder.is_dir(),
            "the output {} is a file; --out names a folder",
            folder.display()
        );
    }
    check_outputs(args)?;
    match args.task {
        Task::Classify => {
            let captions = &args.captions;
            ensure!(
                captions.captions_per_image.is_none()
                    && captions.caption_lines == CaptionLines::Whole,
                "--captions-per-image and --caption-lines require --task retrieval"
            );
            labelled::run(args, console)
        }
        Task::Retrieval => {
            if args.labelling.labels.are_given()
                || !args.against.compare.is_empty()
                || args.labelling.class_map.is_some()
                || args.probe.is_some()
                || args.against.corrupt
            {
                bail!("--task retrieval uses captions, so drop labels, --probe and --corrupt");
            }
            ensure!(
                args.results.format != Some(Format::Github),
                "--format github does not apply to --task retrieval; drop it"
            );
            if args.results.min_acc.is_some() {
                bail!("--min-acc does not apply to --task retrieval; drop it");
            }
            retrieval::run(args, console)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_not_percentages() {
        let cases = [
            ("0", Ok(0.0)),
            ("0.85", Ok(0.85)),
            ("1", Ok(1.0)),
            ("85", Err("85% is 0.85")),
            ("101", Err("expected a share from 0 to 1")),
            ("-1", Err("expected a share from 0 to 1")),
            ("nan", Err("expected a share from 0 to 1")),
        ];
        for (typed, expected) in cases {
            match (share(typed), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(error), Err(part)) => assert!(error.ends_with(part), "{error}"),
                (found, _) => panic!("{typed}: {found:?}"),
            }
        }
    }
}
