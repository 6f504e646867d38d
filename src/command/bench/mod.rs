//! `longclip bench`: measures the speed and memory use of a model, and the error of lower
//! precision.

mod inputs;
mod measure;
mod report;
mod subject;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::kernel;
use crate::output::Format;
use crate::run::flags::{ModelArgs, SUMMARY, formats};
use crate::run::results::print_report;
use crate::run::session::{Session, Stop};
use crate::run::{Console, Outcome};
use inputs::Folder;
use measure::{MemoryWatch, Repeats};
use report::Report;
use subject::Subject;

/// What only `--help` and the manual page say.
const DETAILS: &str = r#"Kernels:
  The CPU kernels (AVX-512, AVX2, NEON, portable) are chosen at run time;
  LONGCLIP_KERNEL forces one, in every command: scalar, neon, neon-dot,
  neon-mm, avx2, avx-vnni, avx512 or amx. amx is never taken by itself: no
  machine has run it yet."#;

const NOTES: &str = "\
Times are medians of repeated calls in a warm process; loading is timed once. The towers are timed
separately; the folder is timed end to end, as in classify: decode, resize, encode. Run nothing
else at the same time.

Examples:
  longclip bench --model longclip-b
  longclip bench --model longclip-b --images photos/ --labels-file labels.txt

Exit status: 0 success, 2 could not run, 75 temporary failure, try again (the hub is down).";

/// The arguments of `longclip bench`.
#[derive(Debug, Args)]
#[command(after_help = NOTES, after_long_help = format!("{DETAILS}\n\n{NOTES}"))]
pub struct BenchArgs {
    /// Time the images of this folder [default: 32 generated JPEGs of 640 x 480]
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Time the first 2, 10, 100 and 1000 labels of a file [default: generated labels]
    #[arg(long, value_name = "FILE")]
    labels_file: Option<PathBuf>,
    /// Repetitions per figure [default: for 1.5 seconds, at least 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    repeats: Option<u64>,
    /// Output format [default: table on a terminal, else json]
    #[arg(short, long, value_name = "FORMAT", value_parser = formats(SUMMARY))]
    format: Option<Format>,
    /// Measure only these parts; other figures are null
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    only: Vec<Part>,
    #[command(flatten)]
    model: ModelArgs,
}

impl BenchArgs {
    /// The result of `part`, or the default if it was not requested.
    fn part<T: Default>(&self, part: Part, measure: impl FnOnce() -> Result<T>) -> Result<T> {
        if self.only.is_empty() || self.only.contains(&part) {
            measure()
        } else {
            Ok(T::default())
        }
    }
}

/// The parts that can be measured separately.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// The image tower
    Images,
    /// The text tower
    Texts,
    /// A folder of images, including decoding
    Folder,
    /// The deviation of the precision from f32
    Loss,
}

/// Measures a model and prints the figures.
///
/// # Errors
/// When the model does not load, the labels file cannot be used, or no image can be read.
pub fn run(args: BenchArgs, console: &Console) -> Result<Outcome> {
    let stop = Stop::default();
    let report = measure(&args, &stop, console);
    if let Some(signal) = stop.signal() {
        return Ok(Outcome::Stopped(signal));
    }
    print_report(&report?, args.format, Report::table)?;
    Ok(Outcome::Answered)
}

fn measure(args: &BenchArgs, stop: &Stop, console: &Console) -> Result<Report> {
    let labels = inputs::labels(args.labels_file.as_deref(), |note| console.note(note))?;
    let folder = Folder::open(args.images.as_deref())?;
    let memory = MemoryWatch::start();
    let session = Session::open(&args.model, console)?;
    stop.listen()?;
    let repeats = Repeats::new(args.repeats, stop);
    let subject = Subject::load(&session, &folder, &labels, repeats, console)?;
    let images = args.part(Part::Images, || subject.images())?;
    let texts = args.part(Part::Texts, || subject.texts())?;
    let folder = args.part(Part::Folder, || subject.folder())?;
    // Ends before the model is loaded a second time.
    let memory = memory.peak();
    let loss = args.part(Part::Loss, || subject.loss())?;
    Ok(Report {
        model: session.checkpoint.name.clone(),
        architecture: session.checkpoint.architecture.image.describe(),
        context_length: session.checkpoint.architecture.context_length,
        precision: session.placement.precision,
        threads: session.threads,
        device: session.placement.device.clone(),
        cpu: measure::cpu_name(),
        cpu_features: kernel::features(),
        version: env!("CARGO_PKG_VERSION"),
        load_ms: subject.load_ms,
        images,
        texts,
        folder,
        memory,
        loss,
    })
}
