//! `longclip shift`: whether two sets of images differ, and what became of the answers.

mod baseline;
mod findings;
mod gather;
mod page;
mod pictures;
mod record;
mod set;
mod summary;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;

use crate::output::Format;
use crate::run::flags::{EngineArgs, LabellingArgs, SUMMARY, formats};
use crate::run::images::IMAGES;
use crate::run::results::print_summary;
use crate::run::session::Stop;
use crate::run::{Console, Outcome, advice, report};
use crate::task::linear_probe::Stopped;
use gather::Gathering;
use record::Shift;

/// Written by hand, because A and B must come before flags with many values, and the derived usage
/// reverses them.
const USAGE: &str = "longclip shift <A> <B> [OPTIONS]
       longclip shift <A> <B> --labels <TEXT>... [OPTIONS]";

/// What only `--help` and the manual page say.
const DETAILS: &str = r#"What is compared:
  Without labels: a test of whether the embeddings of both sets come from one
  distribution (MMD with a permutation p), two distances (CMMD, Fréchet), and
  how well a classifier separates the sets. Of image files, also which plain
  statistics moved: size, brightness, contrast, sharpness, JPEG quality. With
  labels, the share of each answer. If A's images are in one folder per label,
  also the expected accuracy on B (ATC, DoC) and the label shares of B (BBSE,
  EM); if B's are too, the measured drop. --format json has every number, with
  the assumption that it rests on.

Sets:
  A is the reference. A set is a folder, an archive, a .csv or .tsv list with
  columns path and label, or a file from longclip embed (.npy, .safetensors,
  .parquet, .jsonl). Class folders count as true labels if each finds its
  label, as in evaluate; otherwise the set has none, which is reported. In a
  file of embeddings, the last folder of each path is the class.

Size:
  Sets of up to --most images are used whole; of larger ones, that many are
  drawn at random for the distances. Fewer than 50 images in a set find only
  large differences, which is reported."#;

const NOTES: &str = "\
Examples:
  longclip shift march/ april/
  longclip shift march/ april/ --labels fog rain sun --templates photo
  longclip shift train.npy camera.npy --max-p 0.01 -f json
  longclip shift test/ camera/ --labels-file labels.txt --max-drop 0.05

A small p says that the sets differ, not why or whether it matters: size, compression and time of
day alone do it. Expected accuracies assume that right and wrong answers are as confident in B as in
A.

Exit status: 0 success, 1 some images failed or a limit (--max-p, --max-drop) was missed, 2 could
not run, 75 temporary failure, try again (the hub is down, the disk is full), 130 or 143 stopped by
a signal.";

/// The arguments of `longclip shift`.
#[derive(Debug, Args)]
#[command(
    override_usage = USAGE,
    after_help = NOTES,
    after_long_help = format!("{DETAILS}\n\n{NOTES}"),
    mut_arg("labels", |arg| arg.help("Candidate labels; put A and B before them")),
)]
pub struct ShiftArgs {
    /// Reference set: folder, archive, list or file from embed
    #[arg(value_name = "A")]
    a: PathBuf,
    /// Set that is compared with it
    #[arg(value_name = "B")]
    b: PathBuf,
    #[command(flatten)]
    labelling: LabellingArgs,
    /// Use the temperature from longclip calibrate
    #[arg(long, value_name = "FILE", help_heading = "Labels")]
    calibration: Option<PathBuf>,
    #[command(flatten)]
    test: TestArgs,
    #[command(flatten)]
    results: ResultArgs,
    #[command(flatten)]
    engine: EngineArgs,
}

/// How the sets are compared.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Comparison")]
struct TestArgs {
    /// Permutations of the test; the smallest p is 1 / (N + 1)
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(19..=9999))]
    permutations: u64,
    /// Images of each set that the distances are computed from, at most
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(50..=50_000))]
    most: u64,
    /// Accuracies of other models as columns a and b: also print the effective robustness
    #[arg(long, value_name = "CSV")]
    baseline: Option<PathBuf>,
    /// Random seed of permutations, draws and intervals
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

/// Where results go, and the gates.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Output")]
struct ResultArgs {
    /// Exit with status 1 if the sets differ with a p of P or less
    #[arg(long, value_name = "P", value_parser = share)]
    max_p: Option<f64>,
    /// Exit with status 1 if the accuracy drops by more than D (0 to 1): measured, or expected
    #[arg(long, value_name = "D", value_parser = share)]
    max_drop: Option<f64>,
    /// Write a self-contained HTML report with all tables
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Output format [default: table on a terminal, else json]
    #[arg(short, long, value_name = "FORMAT", value_parser = formats(SUMMARY))]
    format: Option<Format>,
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("expected a number from 0 to 1".to_owned()),
    }
}

impl ShiftArgs {
    fn has_labels(&self) -> bool {
        let labels = &self.labelling.labels;
        !labels.labels.is_empty() || labels.labels_file.is_some()
    }

    /// Fails if flags conflict, or cannot have an effect.
    fn check(&self) -> Result<()> {
        let smallest = 1.0 / (self.test.permutations + 1) as f64;
        if let Some(limit) = self.results.max_p {
            ensure!(
                limit >= smallest,
                "--max-p {limit} is never reached: with --permutations {} the smallest p is \
                 {smallest:.2e}; raise either",
                self.test.permutations
            );
        }
        let others = self.labelling.files().flatten().next().is_some()
            || self.labelling.labels.are_given()
            || self.labelling.none.none_label.is_some()
            || !self.labelling.none.background.is_empty()
            || self.calibration.is_some()
            || self.test.baseline.is_some()
            || self.results.max_drop.is_some();
        ensure!(
            self.has_labels() || !others,
            "templates, a none label, --class-map, --calibration, --baseline and --max-drop need \
             labels; add --labels or --labels-file, or drop them"
        );
        let page = self.results.report.as_deref();
        let mut inputs = vec![
            Some(self.a.as_path()),
            Some(self.b.as_path()),
            self.calibration.as_deref(),
            self.test.baseline.as_deref(),
        ];
        inputs.extend(self.labelling.files());
        advice::check_outputs(&[page], &inputs, IMAGES)?;
        report::check_page(page)
    }
}

/// Compares two sets of images.
///
/// # Errors
/// When it cannot run; images that fail are counted.
pub fn run(args: &ShiftArgs, console: &Console) -> Result<Outcome> {
    args.check()?;
    let baseline = args.test.baseline.as_deref().map(baseline::read);
    let baseline = baseline.transpose()?;
    let stop = Stop::default();
    let gathered = match gather::gather(args, &stop, console)? {
        Gathering::Done(gathered) => gathered,
        Gathering::Ended(outcome) => return Ok(outcome),
    };
    let is_stopped = || stop.signal().is_some();
    let found = match findings::find(args, &gathered, baseline, &is_stopped) {
        Err(error) if error.is::<Stopped>() => {
            console.warn("stopped while comparing; nothing was printed");
            return Ok(Outcome::Stopped(stop.signal().unwrap_or_default()));
        }
        found => found?,
    };
    found
        .warnings
        .iter()
        .for_each(|warning| console.warn(warning));
    if let Some(path) = &args.results.report {
        page::write(path, &found)?;
    }
    print_summary(&found, args.results.format, summary::text, console)?;
    let failed = found.a.failed + found.b.failed;
    let is_missed = gated(&found, &args.results, console);
    Ok(match failed > 0 || is_missed {
        true => Outcome::SomeFailed,
        false => Outcome::Answered,
    })
}

/// Whether a limit was missed; says which.
fn gated(found: &Shift, args: &ResultArgs, console: &Console) -> bool {
    let p = args.max_p.filter(|&limit| found.mmd.p <= limit);
    if let Some(limit) = p {
        let said = format!(
            "the sets differ with p = {:.4}, at most {limit}",
            found.mmd.p
        );
        console.failed("--max-p", &said);
    }
    let drop = found.accuracy.as_ref().map(record::Accuracy::drop);
    let drop = drop.zip(args.max_drop);
    let drop = drop.filter(|((_, drop), limit)| drop > limit);
    if let Some(((how, drop), limit)) = drop {
        let said = format!("the {how} accuracy drops by {drop:.4}, more than {limit}");
        console.failed("--max-drop", &said);
    }
    p.is_some() || drop.is_some()
}
