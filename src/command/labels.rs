//! `longclip labels`: encodes labels once, for any number of runs.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde_json::json;

use crate::embedding::Kind;
use crate::embedding::probe::{self, NoneRows, ProbeFile, Texts, ZERO_SHOT};
use crate::input::image::DecodeOptions;
use crate::input::tokenizer::LongText;
use crate::run::engine::Engine;
use crate::run::flags::{CacheArgs, LabelArgs, ModelArgs, NoneArgs, names};
use crate::run::images::IMAGES;
use crate::run::labels::{self, NoneTexts, Prompts};
use crate::run::made_with::about;
use crate::run::results::check_suffix;
use crate::run::session::Session;
use crate::run::texts::Fitter;
use crate::run::{Console, Outcome, advice};
use crate::task::embeddings::ClassEmbeddings;
use crate::task::zero_shot::Score;

/// What only `--help` and the manual page say.
const DETAILS: &str = r#"Use:
  classify --probe FILE gives the bytes that the same labels, templates and none
  texts would, and evaluate --probe FILE the same figures; both start sooner,
  need no text tower and never read its weights. The file names the model with
  the SHA-256 of its weights, the precision and a digest of all texts; a run with
  another model or precision is refused. It is a safetensors file with the tensor
  "weight" [labels, dim] of unit embeddings.

  --score sigmoid makes a file for that score alone, since it compares with the
  none texts; without it the file is for softmax, cosine and logit, for which
  they are one more class. --long-text best-chunk is refused: its labels have
  another embedding for each image. A calibration is for labels as texts, so
  --calibration and --probe exclude each other."#;

const EXAMPLES: &str = "\
Examples:
  longclip labels --labels-file imagenet --templates openai80 -o imagenet.safetensors
  longclip classify photos/ --probe imagenet.safetensors -k 5
  longclip labels --labels cat dog --none-label \"something else\" -o pets.safetensors

Exit status: 0 the file was written, 2 could not run, 75 temporary failure, try again.";

/// Scores that need files of their own.
const SCORES: &[(&str, Score)] = &[("softmax", Score::Softmax), ("sigmoid", Score::Sigmoid)];

/// The arguments of `longclip labels`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{DETAILS}\n\n{EXAMPLES}"))]
pub struct LabelsArgs {
    #[command(flatten)]
    labels: LabelArgs,
    /// Score that the file is for: softmax stands for cosine and logit too
    #[arg(long, value_name = "SCORE", default_value = "softmax", value_parser = names(SCORES), help_heading = "Scores")]
    score: Score,
    #[command(flatten)]
    none: NoneArgs,
    /// Write to FILE (.safetensors)
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    output: PathBuf,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    cache: CacheArgs,
}

/// Encodes labels and writes the file.
///
/// # Errors
/// When it cannot run.
pub fn run(args: &LabelsArgs, console: &Console) -> Result<Outcome> {
    check_suffix(&args.output, &["safetensors"], "safetensors")?;
    let [names, templates] = args.labels.files();
    let inputs = [names, templates, args.none.background_file.as_deref()];
    let from_stdin = inputs
        .iter()
        .flatten()
        .filter(|path| path.as_os_str() == "-");
    ensure!(
        from_stdin.count() < 2,
        "stdin (-) can be read once only; pass files for the others"
    );
    advice::check_outputs(&[Some(&args.output)], &inputs, IMAGES)?;
    let long = args.labels.long.policy()?;
    ensure!(
        !matches!(long, LongText::BestChunk),
        "--long-text best-chunk gives a label another embedding for each image, which no file can \
         hold; choose chunk-mean or truncate"
    );
    let templates = labels::templates(&args.labels, console)?;
    let set = labels::label_set(&args.labels, &templates, console)?;
    let none = NoneTexts::new(&args.none, args.score, &templates, &set, console)?;
    let names: Vec<String> = set
        .classes
        .iter()
        .map(|class| class.label.clone())
        .collect();
    probe::check_names(&names, "labels")?;
    let keys = set
        .classes
        .iter()
        .map(|class| class.key.as_ref().unwrap_or(&class.label));
    let keys: Vec<String> = keys.cloned().collect();
    probe::check_names(&keys, "keys of labels")?;

    let cache = args.cache.folder()?;
    let session = Session::open(&args.model, console)?;
    let mut fitter = Fitter::new(&session, long, console);
    let prompts = Prompts::fit(&set, none.as_ref(), &mut fitter)?;
    fitter.finish();
    let engine = Engine::new(&session, DecodeOptions::default()).cached(cache)?;
    let model = engine.load(console)?;
    session.checkpoint.unchanged()?;
    let encoded = prompts.encode(model.as_ref())?;
    engine.finish(console);
    let rows = |embeddings: &ClassEmbeddings| -> Result<Vec<f32>> {
        let rows = embeddings.rows().context("a label depends on the image")?;
        Ok(rows.to_vec())
    };
    let none_rows = match (&none, &encoded.none) {
        (Some(none), Some(embeddings)) => Some(NoneRows {
            label: none.name.clone(),
            embeddings: rows(embeddings)?,
        }),
        _ => None,
    };
    let texts = Texts {
        logit_scale: model.logit_scale(),
        logit_bias: model.logit_bias(),
        labels_sha256: labels::sha256(&set, none.as_ref(), long),
        is_for_sigmoid: args.score == Score::Sigmoid,
        none: none_rows,
    };
    let file = ProbeFile {
        about: about(&session, Kind::Texts, "", &session.text_recipe()?)?,
        bias: vec![0.0; names.len()],
        classes: keys,
        labels: names,
        method: ZERO_SHOT.to_owned(),
        hyperparameters: texts.to_json(),
        scores: json!({}),
        weights: rows(&encoded.classes)?,
        keys: None,
        texts: Some(texts),
    };
    probe::write(&args.output, &file)?;
    Ok(Outcome::Answered)
}
