//! `longclip bench`: how fast this machine runs a model, in how much memory, and what a lower
//! precision changes.

mod machine;
mod measure;
mod pictures;
mod report;
mod texts;

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};
use clap::{Args, ValueEnum};

use super::classify::{GPU_BATCH, PICTURES};
use super::pipeline::{ModelSlot, Pipeline, Plan};
use super::session::{Session, Stop};
use super::{Console, Outcome};
use crate::cli::ModelArgs;
use crate::input::image::DecodeOptions;
use crate::input::paths;
use crate::input::preprocess::Preprocess;
use crate::input::tokenizer::TokenIds;
use crate::kernel;
use crate::model::compute::CpuPrecision;
use crate::model::{self, Compute, DualEncoder};

use machine::MemoryWatch;
use measure::Repeats;
use pictures::Folder;
use report::{Folder as FolderReport, Report, Texts};

/// Images that go through the image tower together in the second figure.
const BATCH: usize = 16;

const NOTES: &str = "\
Times are medians of repeated calls in a warm process; loading is timed once. The towers are timed
alone; the folder goes through what classify does: decode, resize, encode. Nothing else should run
meanwhile.";

/// The arguments of `longclip bench`.
#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub struct BenchArgs {
    /// Time the pictures of this folder [default: 32 JPEGs of 640 x 480, made for the occasion]
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Time the first 2, 10, 100 and 1000 labels of a file [default: "a photo of a red cat", …]
    #[arg(long, value_name = "FILE")]
    labels_file: Option<PathBuf>,
    /// Time every figure this often [default: for 1.5 seconds, at least 3 times]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    repeats: Option<u64>,
    /// How to print the result [default: table on a terminal, else json]
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<BenchFormat>,
    #[command(flatten)]
    model: ModelArgs,
}

/// The forms of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BenchFormat {
    /// For people: aligned, with units.
    Table,
    /// One object.
    Json,
}

/// Measures and prints.
///
/// # Errors
/// When the model does not load, the labels file cannot be used, or no picture can be read.
pub fn run(args: BenchArgs, console: &Console) -> Result<Outcome> {
    let stop = Stop::on_signals()?;
    let report = measure(&args, &stop, console);
    if let Some(signal) = stop.signal() {
        return Ok(Outcome::Stopped(signal));
    }
    print(&report?, args.format)?;
    Ok(Outcome::Answered)
}

fn print(report: &Report, format: Option<BenchFormat>) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    let by_destination = if stdout.is_terminal() {
        BenchFormat::Table
    } else {
        BenchFormat::Json
    };
    let text = match format.unwrap_or(by_destination) {
        BenchFormat::Table => report.table(),
        BenchFormat::Json => serde_json::to_string_pretty(report)? + "\n",
    };
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    Ok(())
}

fn measure(args: &BenchArgs, stop: &Stop, console: &Console) -> Result<Report> {
    let labels = texts::labels(args.labels_file.as_deref())?;
    let folder = Folder::open(args.images.as_deref())?;
    let memory = MemoryWatch::start();
    let session = Session::open(&args.model, console)?;
    let start = Instant::now();
    let clip: Arc<dyn DualEncoder> = Arc::new(session.load(console)?);
    let load = session.read_time + start.elapsed();

    let repeats = Repeats::new(args.repeats, stop);
    let architecture = &session.checkpoint.architecture;
    console.note("timing the image tower");
    let preprocess = preprocess(&session);
    let batch = folder.pixels(BATCH, &preprocess)?; // [16, 3, image_size, image_size]
    let single = batch.narrow(0, 0, 1)?;
    let image_b1_ms = repeats.median_ms(|| clip.encode_image(&single).map(drop))?;
    let image_b16_ms = repeats.median_ms(|| clip.encode_image(&batch).map(drop))?;

    console.note("timing the text tower");
    let labels = texts::tokens(&labels, architecture.context_length)?;
    let texts = time_texts(clip.as_ref(), &labels, &repeats)?;

    console.note(&format!("timing a folder of {}", folder.description));
    let plan = plan(args, &session, preprocess);
    let folder_report = time_folder(&clip, &folder, &plan, &repeats)?;
    let peak = memory.peak();

    let cosines = match session.placement.precision {
        "f32" => None,
        _ => {
            console.note("comparing with f32");
            let first = &labels[..labels.len().min(10)];
            Some(cosines_to_f32(&session, clip.as_ref(), &batch, first)?)
        }
    };
    Ok(Report {
        model: session.checkpoint.name.clone(),
        architecture: architecture.describe(),
        context_length: architecture.context_length,
        precision: session.placement.precision,
        threads: session.threads,
        device: session.placement.device.clone(),
        cpu: machine::cpu_name(),
        cpu_features: kernel::features(),
        version: env!("CARGO_PKG_VERSION"),
        load_ms: measure::milliseconds(load),
        image_b1_ms,
        image_b16_ms,
        texts,
        folder: folder_report,
        peak_rss_mib: peak.resident_mib,
        peak_anonymous_mib: peak.anonymous_mib,
        image_cosine_to_f32: cosines.map(|(image, _)| image),
        text_cosine_to_f32: cosines.map(|(_, text)| text),
    })
}

fn preprocess(session: &Session) -> Preprocess {
    let pixels = &session.checkpoint.pixels;
    Preprocess {
        image_size: pixels.image_size,
        mean: pixels.mean,
        std: pixels.std,
    }
}

fn plan(args: &BenchArgs, session: &Session, preprocess: Preprocess) -> Plan {
    let batches = matches!(session.placement.compute, Compute::Candle(..));
    let batch_size = args.model.batch_size.map(|size| size as usize);
    Plan {
        decode: DecodeOptions::default(),
        preprocess,
        threads: session.threads,
        batch_size: batch_size.or(batches.then_some(GPU_BATCH)),
        single: false,
    }
}

/// Times the labels at their own length, as many of each size as there are, and texts that fill
/// the context.
fn time_texts(clip: &dyn DualEncoder, labels: &[TokenIds], repeats: &Repeats) -> Result<Texts> {
    let time = |texts: &[TokenIds]| repeats.median_ms(|| clip.encode_text(texts).map(drop));
    let first = |count: usize| labels.get(..count).map(&time).transpose();
    let full = texts::full_context(10, clip.architecture().context_length)?;
    Ok(Texts {
        labels2_ms: first(2)?,
        labels10_ms: first(10)?,
        labels100_ms: first(100)?,
        labels1000_ms: first(1000)?,
        labels10_full_context_ms: time(&full)?,
    })
}

fn time_folder(
    clip: &Arc<dyn DualEncoder>,
    folder: &Folder,
    plan: &Plan,
    repeats: &Repeats,
) -> Result<FolderReport> {
    let mut images = 0;
    let ms = repeats.passes_ms(|| {
        images = encode_folder(clip.clone(), &folder.path, plan, &repeats.stop)?;
        Ok(())
    })?;
    Ok(FolderReport {
        folder: folder.description.clone(),
        folder_images: images,
        folder_images_per_s: measure::rounded(images as f64 / ms * 1e3),
    })
}

/// Embeds all pictures of a folder and counts those that could be.
fn encode_folder(
    clip: Arc<dyn DualEncoder>,
    folder: &Path,
    plan: &Plan,
    stop: &Stop,
) -> Result<u64> {
    let sources = paths::expand(vec![folder.to_owned()], None, PICTURES)?;
    let model = ModelSlot::default();
    let _ = model.set(Some(clip));
    let mut pipeline = Pipeline::start(sources, plan.clone(), model, stop.clone());
    let (mut images, mut failure) = (0, None);
    while let Some(encoded) = pipeline.next() {
        match encoded.embedding {
            Ok(_) => images += 1,
            Err(error) => failure = Some(error.context(encoded.image.text)),
        }
    }
    match failure {
        Some(error) if images == 0 => Err(error.context("not one picture could be read")),
        _ => Ok(images),
    }
}

/// The least cosine between the embeddings of `clip` and those in f32, of images and of texts.
fn cosines_to_f32(
    session: &Session,
    clip: &dyn DualEncoder,
    pixels: &Tensor,
    texts: &[TokenIds],
) -> Result<(f64, f64)> {
    let exact = model::load(&session.checkpoint, &Compute::Kernel(CpuPrecision::F32))
        .context("cannot load the model in f32 to compare with")?;
    let images = least_cosine(&clip.encode_image(pixels)?, &exact.encode_image(pixels)?)?;
    let texts = least_cosine(&clip.encode_text(texts)?, &exact.encode_text(texts)?)?;
    Ok((images, texts))
}

/// [n, dim] twice, of unit length -> the least of the n cosines.
fn least_cosine(a: &Tensor, b: &Tensor) -> Result<f64> {
    ensure!(a.dims() == b.dims(), "embeddings of different shapes");
    let (a, b) = (a.to_vec2::<f32>()?, b.to_vec2::<f32>()?);
    let cosine = |(a, b): (&Vec<f32>, &Vec<f32>)| -> f64 {
        let products = a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b));
        products.sum()
    };
    let least = a.iter().zip(&b).map(cosine).fold(1.0, f64::min);
    // What f32 embeddings resolve.
    Ok((least * 1e7).round() / 1e7)
}

/// Pixels of several pictures, [3, s, s] each -> [n, 3, s, s].
fn stacked(pictures: &[Vec<f32>], image_size: usize) -> Result<Tensor> {
    let shape = (pictures.len(), 3, image_size, image_size);
    Ok(Tensor::from_vec(pictures.concat(), shape, &Device::Cpu)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_cosine_is_that_of_the_worst_row() {
        let tensor = |rows: [[f32; 2]; 2]| Tensor::new(&rows, &Device::Cpu).unwrap();
        let a = tensor([[1.0, 0.0], [0.6, 0.8]]);
        let b = tensor([[1.0, 0.0], [0.0, 1.0]]);
        let least = least_cosine(&a, &b).unwrap();
        assert!((least - 0.8).abs() < 1e-6, "{least}");
        assert!(least_cosine(&a, &b.narrow(0, 0, 1).unwrap()).is_err());
    }
}
