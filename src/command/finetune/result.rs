//! The end of a run: the model's files, and the summary on stdout.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::flags::{FinetuneArgs, ModelLayout};
use super::training::{Training, duration};
use crate::checkpoint::{Checkpoint, Tensors, export, metadata};
use crate::file::atomic::AtomicFile;
use crate::output::Format;
use crate::output::json::printable;
use crate::output::table::TextTable;
use crate::run::Console;
use crate::run::results::{Destination, to_stdout};
use crate::train::Scope;
use crate::train::log::{Evaluation, Figures, Losses};

/// Where the model is written before it is moved into place.
const MAKING: &str = "checkpoint/making";
/// The folder of the LoRA adapter.
const ADAPTER: &str = "adapter";

/// Fails before training if the model cannot be written in the requested layout.
pub(super) fn check(args: &FinetuneArgs, checkpoint: &Checkpoint) -> Result<()> {
    let layout = args.output.layout;
    export::check(
        checkpoint,
        &target(layout, Path::new("")),
        layout.names().layout(),
    )
}

/// The output: a folder, or one file with canonical names.
fn target(layout: ModelLayout, folder: &Path) -> PathBuf {
    match layout {
        ModelLayout::Canonical => folder.join("model.safetensors"),
        _ => folder.join("model"),
    }
}

/// Writes the trained model and the adapter, if any; returns the files.
pub(super) fn write(training: &Training) -> Result<Vec<PathBuf>> {
    let parts = &training.parts;
    let out = parts.folder.path();
    let mut written = Vec::new();
    if !parts.args.output.adapter_only {
        let model = training.model()?;
        written.extend(write_model(&model, training)?);
    }
    if !parts.args.output.merge
        && let Some(adapter) = training.trainer.adapter()?
    {
        written.extend(write_adapter(&adapter, training, &out.join(ADAPTER))?);
    }
    Ok(written)
}

/// Writes everything to a temporary folder first, then moves each file into place, the weights
/// last.
fn write_model(model: &Checkpoint, training: &Training) -> Result<Vec<PathBuf>> {
    let parts = &training.parts;
    let out = parts.folder.path();
    let layout = parts.args.output.layout;
    let making = out.join(MAKING);
    if making.exists() {
        fs::remove_dir_all(&making)
            .with_context(|| format!("cannot remove {}", making.display()))?;
    }
    fs::create_dir_all(&making).with_context(|| format!("cannot create {}", making.display()))?;
    let sources = [parts.session.weights_sha256()?.to_owned()];
    let header = metadata::describe(model, &sources);
    let options = export::Options {
        layout: layout.names().layout(),
        dtype: None,
        force: false,
    };
    let mut placed = Vec::new();
    for file in export::write(model, &header, &target(layout, &making), &options)? {
        let name = file.file_name().context("a file without a name")?;
        let place = out.join(name);
        fs::rename(&file, &place).with_context(|| format!("cannot write {}", place.display()))?;
        placed.push(place);
    }
    fs::remove_dir_all(&making).with_context(|| format!("cannot remove {}", making.display()))?;
    Ok(placed)
}

/// Writes an adapter that PEFT loads, with its names and configuration.
fn write_adapter(adapter: &Tensors, training: &Training, folder: &Path) -> Result<Vec<PathBuf>> {
    let parts = &training.parts;
    let Scope::Lora(lora) = &parts.recipe.settings.scope else {
        return Ok(Vec::new());
    };
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let weights = folder.join("adapter_model.safetensors");
    let format = [("format".to_owned(), "pt".to_owned())];
    export::write_tensors(&weights, adapter, &format.into())?;
    let targets = lora.targets.iter().map(|target| {
        let path = target.path();
        path.rsplit('.').next().unwrap_or(path)
    });
    let config = json!({
        "peft_type": "LORA",
        "base_model_name_or_path": parts.session.checkpoint.name,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "target_modules": targets.collect::<Vec<_>>(),
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "task_type": null,
    });
    let path = folder.join("adapter_config.json");
    write_text(&path, &(serde_json::to_string_pretty(&config)? + "\n"))?;
    Ok(vec![path, weights])
}

fn write_text(path: &Path, text: &str) -> Result<()> {
    let file = AtomicFile::create(path)?;
    let write = || {
        let mut sink = file.sink()?;
        sink.write_all(text.as_bytes())?;
        sink.flush()
    };
    write().with_context(|| format!("cannot write {}", path.display()))?;
    file.commit()
}

/// Prints the summary.
pub(super) fn print(training: &Training, files: &[PathBuf], console: &Console) -> Result<()> {
    let value = value(training, files);
    let flag = training.parts.args.output.format;
    let text = match Destination::stdout().usual(flag, Format::Json) {
        Format::Table => table(training, files),
        _ => String::from_utf8(printable(&value)?)? + "\n",
    };
    console.around(|| to_stdout(&text))
}

fn value(training: &Training, files: &[PathBuf]) -> Value {
    let last = training.log.steps().last();
    let losses = training.log.losses();
    let eval = training.log.evaluations().last();
    json!({
        "out": training.parts.folder.path().display().to_string(),
        "files": files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>(),
        "steps": training.trainer.steps_done(),
        "epochs": last.map_or(0, |step| step.epoch),
        "pairs": training.parts.recipe.order.pairs,
        "skipped": training.skips.count() - training.skips.failed(),
        "failed": training.skips.failed(),
        "loss": last.map(|step| step.loss),
        "mean_loss": losses.map(|losses| losses.last),
        "mean_loss_at_first": losses.map(|losses| losses.first),
        "mean_over_steps": losses.map(|losses| losses.steps),
        "long_loss": last.map(|step| step.long_loss),
        "short_loss": last.and_then(|step| step.short_loss),
        "logit_scale": last.map(|step| step.logit_scale),
        "seconds": training.seconds(),
        "eval": eval.map_or(&[][..], |evaluation| &evaluation.eval),
    })
}

fn table(training: &Training, files: &[PathBuf]) -> String {
    let mut lines = TextTable::of_facts();
    let mut add = |name: &str, value: String| lines.fact(name, &value);
    let epochs = training.log.steps().last().map_or(0, |step| step.epoch);
    add(
        "steps",
        format!(
            "{} in {epochs} epochs, {}",
            training.trainer.steps_done(),
            duration(training.seconds())
        ),
    );
    if let Some(losses) = training.log.losses() {
        let Losses { first, last, steps } = losses;
        let (mean, each) = match steps {
            1 => ("", "step".to_owned()),
            n => ("mean ", format!("{n} steps")),
        };
        add(
            "loss",
            format!("{mean}{last:.4} of the last {each}, {first:.4} of the first"),
        );
    }
    if let Some(last) = training.log.steps().last() {
        add("logit scale", format!("{:.2}", last.logit_scale));
    }
    let evaluations = |name, evaluation: Option<&Evaluation>| {
        let all = evaluation.into_iter().flat_map(|one| &one.eval);
        all.map(move |one| (name, shares(one))).collect::<Vec<_>>()
    };
    let before = training.log.evaluations().find(|one| one.step == 0);
    for (name, text) in evaluations("before", before) {
        add(name, text);
    }
    for (name, text) in evaluations("after", training.log.evaluations().last()) {
        add(name, text);
    }
    let out = training.parts.folder.path();
    let (adapter, model): (Vec<_>, Vec<_>) = files
        .iter()
        .partition(|file| file.starts_with(out.join(ADAPTER)));
    for (name, all) in [("model", &model), ("adapter", &adapter)] {
        // The weights are the last file.
        if let Some((weights, others)) = all.split_last() {
            let and = match others.len() {
                0 => String::new(),
                n => format!(" and {n} accompanying files"),
            };
            add(name, format!("{}{and}", weights.display()));
        }
    }
    add("report", training.parts.page.path().display().to_string());
    if !model.is_empty() {
        let text = format!(
            "longclip classify IMAGE --model {} --labels …",
            out.display()
        );
        add("use it", text);
    }
    lines.plain()
}

/// One dataset's figures after a step, as text.
pub(super) fn figures_line(step: usize, figures: &Figures) -> String {
    let when = match step {
        0 => "before the first step".to_owned(),
        step => format!("after step {step}"),
    };
    format!("{when}, {}", shares(figures))
}

/// The name of a figure as on the pages of `evaluate`.
pub(super) fn figure_name(key: &str) -> String {
    match key {
        "acc1" => "top-1".to_owned(),
        "acc5" => "top-5".to_owned(),
        "mean_per_class_recall" => "mean per-class recall".to_owned(),
        _ => key.replace('_', " "),
    }
}

fn shares(figures: &Figures) -> String {
    let is_share = |(name, _): &(&String, &f64)| !name.ends_with("rank");
    let mut all: Vec<_> = figures.figures.iter().filter(is_share).collect();
    // recall@5 before recall@10.
    all.sort_by_key(|(name, _)| {
        let (name, depth) = name.split_once('@').unwrap_or((name, "0"));
        (name.to_owned(), depth.parse::<usize>().unwrap_or(0))
    });
    let all = all.into_iter();
    let all = all.map(|(name, share)| format!("{} {:.1}%", figure_name(name), share * 100.0));
    let failed = match figures.failed {
        0 => String::new(),
        n => format!(" ({n} images could not be read)"),
    };
    format!(
        "{}: {}{failed}",
        figures.data,
        all.collect::<Vec<_>>().join(", ")
    )
}
