//! `longclip finetune`: fine-tunes a model on images with captions.
//!
//! The whole dataset is validated first, then the run's folder is locked; only then is anything
//! computed. The steps themselves are in [`crate::train`].

mod data;
mod evaluation;
mod flags;
mod loader;
mod memory;
mod page;
mod recipe;
mod result;
mod run_folder;
mod training;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use candle_core::DType;

use self::data as data_of;
use self::evaluation::Evaluations;
use self::flags::TrainPrecision;
use self::loader::Source;
use self::page::Page;
use self::recipe::Recipe;
use self::run_folder::{Record, RunFolder};
use self::training::{Broken, End, Parts, Training};
use crate::checkpoint::positions::{CLIP_ROWS, Interpolation, Stretch};
use crate::input::dataset::pairs::Pairs;
use crate::model::Compute;
use crate::model::device::PrecisionChoice;
use crate::run::flags::ModelArgs;
use crate::run::session::{Session, Stop};
use crate::run::{Console, Outcome, advice, report};
use crate::train::Trainer;
use crate::train::log::Skipped;

pub(crate) use self::flags::FinetuneArgs;

/// What only `--help` and the manual page say.
const DETAILS: &str = r#"Losses:
  pcm, the default, is Long-CLIP's: long captions are matched with the images,
  and short ones (a column short, else the first sentence) with the 32
  principal components of the batch's image embeddings. clip is CLIP's own
  loss; clip-short matches short captions without the components.

Defaults:
  Label smoothing 0.1, AdamW with rate 1e-6 and weight decay 1e-2, a warm-up of
  up to 200 steps, a cosine schedule, 6 epochs, and the first 20 text positions
  frozen if the context was stretched. To try it without a download, with a few
  dozen pairs: --model tiny --batch-size 32 --pcm-rank 16 --rate 1e-4.

Data:
  A .jsonl, .csv or .tsv file with columns image and caption; ShareGPT4V's,
  COCO's or Karpathy's JSON; a folder of images with a .txt or .caption (and
  .short.txt) each, or with the hub's metadata.jsonl; or tar shards in
  WebDataset's form, read in place (a member's key ends at the first dot of its
  name). The whole dataset is validated before the first step: missing, empty
  or unreadable entries are reported with file and line, and --skip-bad
  continues without them. Datasets that nothing can be learnt from are refused.
  An image that fails only when it is decoded is replaced by another; the run
  then ends with status 1 and skipped.jsonl names it. --augment crop,flip
  varies the images; without it they are exactly what classify sees.

Memory:
  The loss always covers the full batch, however little memory there is:
  --micro-batch pairs go through the towers at a time (GradCache).

Resuming:
  checkpoint/ is replaced as a whole after an epoch (at most twice a minute)
  and every 15 minutes. Whatever ends a run, even kill -9, the same command
  with --resume continues it and ends with the weights of an uninterrupted run,
  bit for bit; other data or settings are refused by name. Ctrl-C stops between
  two parts of a step and saves. A loss or a step that is not finite ends the
  run with status 1 and overwrites no state. To train longer, start a new run
  from the model: --model run --out run2.

Models:
  --layout hf|canonical|openai|open_clip|longclip, or with LoRA also adapter/.
  --adapter-only writes an adapter for peft; longclip itself reads whole
  models. A CPU trains in f32; a GPU computes matrix products in bf16 and keeps
  the weights in f32. Not supported: the image tower of a ResNet (its text
  tower trains with --train text), and several GPUs."#;

const NOTES: &str = "\
The defaults are those of Long-CLIP: long captions are matched with images, and their first
sentences with the principal components of the batch's images (Primary Component Matching, arXiv
2403.15378); AdamW at 1e-6.

Examples:
  longclip finetune pairs.jsonl --model clip-vit-b-16 --stretch --out run
  longclip finetune 'shards/{000..012}.tar' --out run --batch-size 1024 --eval pets/
  longclip finetune photos/ --out run --train lora --lora-rank 16 --steps 500 --resume
  longclip classify img.jpg --model run --labels-file labels.txt

DIR holds the model, report.html, log.jsonl (one object per step), settings.json, skipped.jsonl if
anything was skipped, and checkpoint/. To continue an interrupted run from checkpoint/, rerun the
command with --resume.

Exit status: 0 trained; 1 trained, but images that could not be decoded were replaced, or a step
failed (the saved state is kept); 2 could not run; 75 temporary failure, try again (the disk is
full, another run is using DIR); 130 or 143 stopped by a signal, after saving.";

/// Fine-tunes a model.
///
/// # Errors
/// When it cannot run, or an output cannot be written.
pub fn run(args: &FinetuneArgs, console: &Console) -> Result<Outcome> {
    let folder = RunFolder::check(&args.output.out, args.output.resume)?;
    if let Some(report) = &args.output.report {
        check_report(report, &args.output.out)?;
    }
    let session = open(args, console)?;
    result::check(args, &session.checkpoint)?;
    let evaluations = Evaluations::open(args, &session, console)?;
    let mut pairs = data_of::read(args, &session.checkpoint.architecture, console)?;
    let architecture = &session.checkpoint.architecture;
    let device = match session.placement.compute {
        Compute::Kernel(_) => memory::Device::Cpu,
        Compute::Candle(..) => memory::Device::Gpu,
    };
    let earlier = folder.micro_batch();
    let recipe = Recipe::new(args, architecture, pairs.pairs.len(), device, earlier)?;
    let recipe = Arc::new(recipe);
    report_settings(&recipe, console);
    let record = record(args, &session, &pairs, &recipe)?;
    folder.check_same(&record)?;
    let trainer = Trainer::new(
        &session.checkpoint,
        &session.placement.compute,
        recipe.settings.clone(),
    )?;
    let (tensors, numbers) = trainer.trainable()?;
    console.note(&format!(
        "training {numbers} parameters in {tensors} tensors"
    ));

    let mut folder = folder.take(&record)?;
    let log = folder.take_log()?;
    let report = args.output.report.clone();
    let report = report.unwrap_or_else(|| folder.path().join("report.html"));
    let parts = Parts {
        args,
        console,
        session: &session,
        recipe: recipe.clone(),
        folder: &folder,
        evaluations,
        page: Page::new(report, &session, &record, &pairs.kind, recipe.total)?,
        stop: Stop::default(),
    };
    let mut training = Training::open(parts, trainer, log)?;
    record_skipped(&mut training, &pairs)?;
    let source = Source {
        pairs: std::mem::take(&mut pairs.pairs),
        recipe,
        preprocess: session.checkpoint.preprocess.clone(),
        decode: args.decode.options(),
        threads: session.threads,
    };
    let end = training.run(Arc::new(source))?;
    finish(&mut training, end, console)
}

/// Fails if the page cannot be written, or would replace one of the run's own files in `out`, which
/// need not exist yet.
fn check_report(report: &Path, out: &Path) -> Result<()> {
    if report.parent() != Some(out) {
        advice::check_output(report)?;
        return report::check_page(Some(report));
    }
    let is_page = report
        .extension()
        .is_some_and(|end| end == "html" || end == "htm");
    ensure!(
        is_page,
        "the report {} could replace one of the run's own files; pass a name that ends in .html",
        report.display()
    );
    Ok(())
}

/// Opens the model. It trains in f32 on a CPU, and in bf16 with f32 weights on a GPU.
fn open(args: &FinetuneArgs, console: &Console) -> Result<Arc<Session>> {
    let flags = &args.model;
    let model = ModelArgs {
        model: flags.model.clone(),
        hub: flags.hub,
        device: flags.device,
        precision: PrecisionChoice::F32,
        stated: flags.stated,
        threads: flags.threads,
        batch_size: None,
    };
    let mut session = Session::open_own(&model, console)?;
    match (&session.placement.compute, flags.precision) {
        (Compute::Kernel(_), TrainPrecision::Bf16) => bail!(
            "training on a CPU is f32 only; drop --precision bf16 (the trained model can still run \
             in bf16)"
        ),
        (Compute::Candle(device, _), TrainPrecision::Auto | TrainPrecision::Bf16) => {
            session.placement.compute = Compute::Candle(device.clone(), DType::BF16);
            session.placement.precision = "bf16";
        }
        _ => {}
    }
    if flags.stretch {
        stretch(&mut session, console)?;
    }
    Ok(Arc::new(session))
}

/// Stretches the positions like `longclip stretch`, with Long-CLIP's parameters.
fn stretch(session: &mut Session, console: &Console) -> Result<()> {
    let old = session.checkpoint.text_positions()?;
    let rows = old.rows();
    ensure!(
        rows <= CLIP_ROWS,
        "the model already reads {rows} tokens, more than CLIP's {CLIP_ROWS}; drop --stretch"
    );
    let how = Stretch::new(rows, Interpolation::KnowledgePreserving, None, None, None)?;
    let new = old.stretched(&how);
    console.note(&format!(
        "stretched {rows} text positions to {}",
        new.rows()
    ));
    session.checkpoint.set_text_positions(new)
}

/// Reports settings that may be unexpected.
fn report_settings(recipe: &Recipe, console: &Console) {
    let order = &recipe.order;
    let (batches, batch) = (order.batches(), order.batch);
    let parts = match recipe.settings.micro_batch {
        size if size < batch => format!(", in micro-batches of {size}"),
        _ => String::new(),
    };
    console.note(&format!(
        "{} steps of {batch} pairs{parts}, {batches} per epoch",
        recipe.total
    ));
    if order.left_out() > 0 {
        console.note(&format!(
            "{} pairs per epoch do not fill a batch and are skipped (different ones each epoch)",
            order.left_out()
        ));
    }
    let warm_up = recipe.settings.schedule.warm_up;
    if warm_up >= recipe.total {
        console.warn(&format!(
            "the warm-up of {warm_up} steps lasts for the whole run, so the full rate is never \
             used; pass a smaller --warm-up"
        ));
    }
}

fn record(
    args: &FinetuneArgs,
    session: &Session,
    pairs: &Pairs,
    recipe: &Recipe,
) -> Result<Record> {
    let mut settings = recipe.record(args);
    settings.insert("precision".to_owned(), session.placement.precision.into());
    let device = session.placement.device.split(':').next();
    settings.insert("device".to_owned(), device.into());
    let activation = session.checkpoint.activation.to_string();
    settings.insert("activation".to_owned(), activation.into());
    if session.heads_are_stated {
        let heads = session.checkpoint.heads();
        let heads = format!("{},{}", heads.image, heads.text);
        settings.insert("heads".to_owned(), heads.into());
    }
    Ok(Record {
        model: session.checkpoint.name.clone(),
        model_sha256: session.weights_sha256()?.to_owned(),
        data: args.data.display().to_string(),
        data_sha256: pairs.sha256.clone(),
        pairs: pairs.pairs.len(),
        settings,
    })
}

/// Lists the pairs that were skipped by validation.
fn record_skipped(training: &mut Training, pairs: &Pairs) -> Result<()> {
    for bad in &pairs.bad {
        training.skips.add(&Skipped {
            place: bad.place.clone(),
            cause: bad.cause.clone(),
            step: None,
        })?;
    }
    Ok(())
}

fn finish(training: &mut Training, end: End, console: &Console) -> Result<Outcome> {
    let total = training.parts.recipe.total;
    let step = training.trainer.steps_done();
    match end {
        End::Stopped(signal) => {
            training.draw()?;
            console.warn(&format!(
                "stopped after step {step} of {total}, which was saved; rerun the command with \
                 --resume to continue"
            ));
            return Ok(Outcome::Stopped(signal));
        }
        End::Failed(broken) => {
            console.fatal(broken.error());
            if format!("{:#}", broken.error()).contains("out of memory") {
                console.note("pass --micro-batch N to process N pairs at a time in less memory");
            }
            let kept = match training.keep(&broken)? {
                Some(kept) => format!("the state after step {kept} of {total} was saved"),
                None => "no state was saved".to_owned(),
            };
            let next = match broken {
                Broken::Data(_) => "; rerun the command with --resume to continue",
                _ => "; to change settings, start a new run with another --out",
            };
            console.warn(&(kept + next));
            training.draw()?;
            return Ok(Outcome::SomeFailed);
        }
        End::Done => {}
    }
    let files = result::write(training).context(
        "training finished and its state was saved, but the model \
            could not be written",
    )?;
    training.draw()?;
    result::print(training, &files, console)?;
    let failed = training.skips.failed();
    if failed == 0 {
        return Ok(Outcome::Answered);
    }
    console.warn(&format!(
        "{failed} images could not be decoded and were replaced by others; skipped.jsonl lists them"
    ));
    Ok(Outcome::SomeFailed)
}
