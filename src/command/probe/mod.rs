//! `longclip probe`: trains a classifier on the embeddings of labelled images.

mod data;
mod embedded;
mod findings;
mod gather;
mod page;
mod saved;
mod shared;
mod summary;
mod texts;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use clap::{Args, ValueEnum};

use crate::output::Format;
use crate::run::flags::{EngineArgs, LabelArgs, formats};
use crate::run::images::IMAGES;
use crate::run::results::check_suffix;
use crate::run::session::Stop;
use crate::run::{Console, Outcome, advice, report};
use crate::task::linear_probe::{Init, Method, Recipe, Setting, Stopped, Training};
use data::Data;
use findings::Findings;
use gather::{Gathering, gather};

/// Written by hand, because DATA must come before flags with many values, and the derived usage
/// reverses them.
const USAGE: &str = "longclip probe <DATA> [OPTIONS]
       longclip probe <DATA> --labels <TEXT>... [OPTIONS]";

/// The help of `--labels` for this command.
const LABELS: &str = "Texts that stand for the classes instead of their names, for zero-shot \
     accuracy, --init zero-shot, --blend and --method tip-adapter; put DATA before them";

/// What only `--help` and the manual page say.
const DETAILS: &str = r#"Methods:
  linear is scikit-learn's LogisticRegression. --init zero-shot starts it from
  the classifier that the texts make; --blend auto mixes the two (WiSE-FT).
  --method tip-adapter trains nothing: the known images vote alongside the
  texts. --shots 1,2,4,8,16 --seeds 5 --report out.html plots accuracy against
  the number of images per class, with the zero-shot line.

The probe file:
  Safetensors with weight and bias, as a linear layer of PyTorch has them. It
  names the weights that embedded the images, and is refused with any others.
  Without --model, classify and evaluate take the model that the file names if
  it is built in or published, and say which one to pass if it is not. Records
  of a probe have no "cosine". An existing file is replaced only with --force.

Shared images:
  An image of --test that is also in the training or validation part, by its
  path, is an error; copies under other names are reported. So are embeddings
  made with another --alpha, --no-orient or precision than the rest."#;

const NOTES: &str = "\
Examples:
  longclip probe pets/train --test pets/test --out pets.safetensors
  longclip classify new/ --probe pets.safetensors
  longclip embed pets/train -o train.npy; longclip embed pets/test -o test.npy
  longclip probe train.npy --test test.npy --shots 1,2,4,8,16 --seeds 5 --report pets.html
  longclip probe train.npy --init zero-shot --templates photo --blend auto --out pets.safetensors
  longclip probe train.npy --labels-from train.csv --method tip-adapter --out pets.safetensors

DATA, --test and --val are files written by longclip embed, or datasets as for evaluate. The class
of an embedded image comes from --labels-from, or is the first folder in which the paths differ.

The regression is scikit-learn's: sum of losses + l2/2 |W|^2 over unit-length embeddings, without
penalty on the bias, so that l2 is 1/C. (openai/CLIP's C = 0.316 is for embeddings that are not
normalised.) --l2 auto searches 1e-6 to 1e6 as in the CLIP paper, by validation accuracy and then
by loss; the final probe is trained on training and validation images together. --init zero-shot
starts from the text classifier and penalises the distance to it, including the bias. Without
--test, figures are those of a probe that has not seen the validation images; if these chose its
hyperparameters (auto, tip-adapter), the figures are slightly optimistic.

An image of --test that is also a training or validation image is an error.

With --shots, k images per class are drawn from the training part and at most 4 per class from the
validation part, which choose the hyperparameters. Classes with fewer images use all of them.

Exit status: 0 success, 1 some images failed, 2 could not run, 75 temporary failure, try again
(the hub is down, the disk is full), 130 or 143 stopped by a signal (nothing is written).";

/// The arguments of `longclip probe`.
#[derive(Debug, Args)]
#[command(
    override_usage = USAGE,
    after_help = NOTES,
    after_long_help = format!("{DETAILS}\n\n{NOTES}"),
    mut_arg("labels", |arg| arg.help(LABELS)),
)]
pub struct ProbeArgs {
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    training: TrainingArgs,
    #[command(flatten)]
    labels: LabelArgs,
    #[command(flatten)]
    results: ResultArgs,
    #[command(flatten)]
    engine: EngineArgs,
}

/// The images of a run.
#[derive(Clone, Debug, Args)]
struct DataArgs {
    /// Training images: file from embed, class folders, or a list with path and label
    ///
    /// Lists are .csv, .tsv or .jsonl files with columns path and label.
    #[arg(value_name = "DATA")]
    data: PathBuf,
    /// Test images, which are not trained on
    #[arg(long, value_name = "DATA")]
    test: Option<PathBuf>,
    /// Validation images, to choose hyperparameters
    #[arg(long, value_name = "DATA", conflicts_with = "val_split")]
    val: Option<PathBuf>,
    /// Without --val: share of each class's images held out for validation
    #[arg(long, value_name = "P", default_value_t = 0.2)]
    val_split: f64,
    /// Files with columns path and label: the classes of embedded images
    #[arg(long, value_name = "FILE", num_args = 1..)]
    labels_from: Vec<PathBuf>,
    /// Random seed of splits and draws
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

impl DataArgs {
    /// Fails if the same data is given for two parts.
    fn check(&self) -> Result<()> {
        let same = |one: &Path, two: &Path| {
            one.exists() && one.canonicalize().ok() == two.canonicalize().ok()
        };
        let others = [&self.test, &self.val].into_iter().flatten();
        if let Some(path) = others.clone().find(|path| same(path, &self.data)) {
            bail!(
                "{} is the training data; pass other images to --test and --val, or drop both to \
                 hold out a part",
                path.display()
            );
        }
        if let (Some(test), Some(val)) = (&self.test, &self.val) {
            ensure!(
                !same(test, val),
                "{} is both --test and --val, but images that chose the hyperparameters cannot \
                 test the probe; drop --val to hold out a part of DATA",
                test.display()
            );
        }
        Ok(())
    }
}

/// The method and its hyperparameters.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Training")]
struct TrainingArgs {
    /// Training method
    #[arg(long, value_enum, default_value = "linear")]
    method: MethodName,
    /// L2 regularisation: auto, or a number (1/C of scikit-learn)
    #[arg(long, value_name = "auto|L2", default_value = "auto", value_parser = l2)]
    l2: Setting,
    /// Initial weights, and the point that the L2 penalty pulls to
    #[arg(long, value_enum, default_value = "zero")]
    init: InitName,
    /// Blend with the zero-shot classifier: weight of the trained one (0 to 1), or auto
    #[arg(long, value_name = "auto|SHARE", value_parser = blend)]
    blend: Option<Setting>,
    /// Also train on this many images per class, such as 1,2,4,8,16
    #[arg(long, value_name = "K,K,…", value_delimiter = ',', value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    shots: Vec<u64>,
    /// Random draws per number of --shots
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: u64,
}

/// The training methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum MethodName {
    /// Logistic regression
    Linear,
    /// Tip-Adapter, without training
    TipAdapter,
}

/// Initial weights of the regression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum InitName {
    /// Zeros
    Zero,
    /// The zero-shot classifier of the classes' texts
    ZeroShot,
}

/// Where results go.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Output")]
struct ResultArgs {
    /// Write the probe to this .safetensors file, for classify and evaluate --probe
    #[arg(short, long, value_name = "FILE", visible_alias = "output")]
    out: Option<PathBuf>,
    /// Overwrite an existing probe
    #[arg(long, requires = "out")]
    force: bool,
    /// Write a self-contained HTML report with figures, accuracy by shots and classes
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Output format [default: table on a terminal, else json]
    #[arg(short, long, value_name = "FORMAT", value_parser = formats(FORMATS))]
    format: Option<Format>,
    /// Start csv with a UTF-8 byte order mark, for Excel
    #[arg(long)]
    bom: bool,
}

/// The output formats.
const FORMATS: &[(Format, &str)] = &[
    (Format::Table, "The main figures as text"),
    (Format::Json, "All figures as one object"),
    (
        Format::Jsonl,
        "One classifier per line: zero-shot, each draw, the probe",
    ),
    (Format::Csv, "The same rows, comma-separated"),
];

fn setting(text: &str, what: &str, is_good: impl Fn(f64) -> bool) -> Result<Setting, String> {
    match text.parse::<f64>() {
        _ if text == "auto" => Ok(Setting::Auto),
        Ok(value) if value.is_finite() && is_good(value) => Ok(Setting::Value(value)),
        _ => Err(format!("expected auto or {what}")),
    }
}

fn l2(text: &str) -> Result<Setting, String> {
    setting(text, "a number above 0, such as 0.1", |value| value > 0.0)
}

fn blend(text: &str) -> Result<Setting, String> {
    setting(text, "a share from 0 to 1", |value| {
        (0.0..=1.0).contains(&value)
    })
}

impl ProbeArgs {
    fn recipe(&self) -> Recipe {
        let training = &self.training;
        Recipe {
            method: match training.method {
                MethodName::Linear => Method::Linear,
                MethodName::TipAdapter => Method::TipAdapter,
            },
            l2: training.l2,
            init: match training.init {
                InitName::Zero => Init::Zero,
                InitName::ZeroShot => Init::ZeroShot,
            },
            blend: training.blend,
        }
    }

    /// Fails if flags conflict, or an output cannot be written or would replace an input.
    fn check(&self) -> Result<()> {
        let training = &self.training;
        if training.method == MethodName::TipAdapter {
            ensure!(
                training.init == InitName::Zero
                    && training.blend.is_none()
                    && training.l2 == Setting::Auto,
                "--init, --blend and --l2 do not apply to --method tip-adapter; drop them"
            );
        }
        let split = self.data.val_split;
        ensure!(
            split > 0.0 && split < 1.0,
            "--val-split {split} is out of range: pass a number between 0 and 1"
        );
        self.data.check()?;
        let mut inputs = vec![
            Some(self.data.data.as_path()),
            self.data.test.as_deref(),
            self.data.val.as_deref(),
        ];
        inputs.extend(self.labels.files());
        inputs.extend(
            self.data
                .labels_from
                .iter()
                .map(|file| Some(file.as_path())),
        );
        let outputs = [self.results.out.as_deref(), self.results.report.as_deref()];
        advice::check_outputs(&outputs, &inputs, IMAGES)?;
        report::check_page(self.results.report.as_deref())?;
        if let Some(path) = &self.results.out {
            check_suffix(path, &["safetensors"], "safetensors")?;
        }
        ensure!(
            !self.results.bom || self.results.format == Some(Format::Csv),
            "--bom applies only to csv; add --format csv, or drop --bom"
        );
        match &self.results.out {
            Some(path) if path.is_file() && !self.results.force => {
                bail!("{} exists; pass --force to overwrite it", path.display())
            }
            _ => Ok(()),
        }
    }
}

/// Trains a probe.
///
/// # Errors
/// When it cannot run, or there is too little training data.
pub fn run(args: &ProbeArgs, console: &Console) -> Result<Outcome> {
    args.check()?;
    let data = Data::open(&args.data, console)?;
    saved::check_names(args, &data.classes, "classes")?;
    let stop = Stop::default();
    let gathered = match gather(args, data, &stop, console)? {
        Gathering::Done(gathered) => gathered,
        Gathering::Ended(outcome) => return Ok(outcome),
    };
    saved::check_names(args, &gathered.labels, "labels")?;
    shared::check(&gathered, console)?;
    let is_stopped = || stop.signal().is_some();
    let training = Training {
        recipe: args.recipe(),
        zero_shot: gathered.zero_shot.as_deref(),
        is_stopped: &is_stopped,
    };
    let found = match Findings::new(args, &gathered, &training, console) {
        Err(error) if error.is::<Stopped>() => return Ok(stopped(&stop, console)),
        found => found?,
    };
    let evaluation = found.evaluation(args, &gathered)?;
    if is_stopped() {
        return Ok(stopped(&stop, console));
    }
    // The probe is written before the page, so that it is kept if the page fails.
    saved::write(args, &gathered, &found, &evaluation)?;
    page::write(args, &gathered, &found, &evaluation)?;
    summary::print(&evaluation, &args.results, console)?;
    if let Some(page) = &args.results.report {
        console.note(&format!("wrote {}", page.display()));
    }
    if args.results.out.is_none() {
        console.note("the probe was not saved; pass --out FILE to save it for classify --probe");
    }
    Ok(match gathered.failed {
        0 => Outcome::Answered,
        _ => Outcome::SomeFailed,
    })
}

fn stopped(stop: &Stop, console: &Console) -> Outcome {
    console.end_progress();
    console.warn("stopped while training; nothing was written");
    Outcome::Stopped(stop.signal().unwrap_or_default())
}
