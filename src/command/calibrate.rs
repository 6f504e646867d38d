//! `longclip calibrate`: temperature scaling, and a threshold for images that no label fits.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde::Serialize;

use crate::input::dataset::{self, Labelled, LabelledOptions};
use crate::output::table::{TextTable, percent};
use crate::run::calibration::Calibration;
use crate::run::engine::Engine;
use crate::run::flags::{EngineArgs, LabellingArgs};
use crate::run::images::{IMAGES, Running};
use crate::run::labelling::{LabelSource, Labelling};
use crate::run::results::{check_suffix, print_summary, write_json};
use crate::run::session::{Session, Stop};
use crate::run::texts::Fitter;
use crate::run::{Console, Outcome, advice};
use crate::task::calibration::{
    NoneThreshold, Stored, Subset, choose_threshold, fit_temperature, judge,
    negative_log_likelihood, reliability_of, split,
};
use crate::task::metric::reliability::BINS;

const EXAMPLES: &str = "\
Examples:
  longclip calibrate pets/ --templates openai7 -o pets.json
  longclip classify new/ --labels-file pets.txt --templates openai7 --calibration pets.json
  longclip calibrate photos/ --labels cat dog --outside other -o cats.json

The temperature and the threshold are fitted to half of the images of each class (--fit-on) and
evaluated on the rest.

Exit status: 0 success, 1 some images failed, 2 could not run, 75 temporary failure, try again
(the hub is down, the disk is full), 130 or 143 stopped by a signal.";

/// Images scored per matrix product.
const TOGETHER: usize = 128;

/// The arguments of `longclip calibrate`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct CalibrateArgs {
    /// Folder with a subfolder per class, or .csv, .tsv or .jsonl with path and label
    #[arg(value_name = "DATASET")]
    dataset: PathBuf,
    /// Write the calibration to this file, for --calibration
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Share of each class's images to fit on; the rest evaluate the fit
    #[arg(long, value_name = "P", default_value_t = 0.5)]
    fit_on: f64,
    /// Random seed of the split
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Classes of the dataset without a label, used to choose the threshold
    #[arg(long, value_name = "CLASS", num_args = 1..)]
    outside: Vec<String>,
    #[command(flatten)]
    labelling: LabellingArgs,
    #[command(flatten)]
    engine: EngineArgs,
}

/// The contents of the file: the calibration and its effect.
#[derive(Serialize)]
struct Written {
    #[serde(flatten)]
    calibration: Calibration,
    /// Whether the images determine the temperature; if not, it is 1.
    temperature_determined: bool,
    /// Images fitted on.
    fitted_on: usize,
    /// The effect on the other images.
    rest: Effect,
    dataset: String,
    version: &'static str,
}

/// Figures on images that were not fitted on.
#[derive(Serialize)]
struct Effect {
    n: usize,
    acc1: f64,
    ece_before: f64,
    ece_after: f64,
    nll_before: Option<f64>,
    nll_after: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    threshold: Option<ThresholdEffect>,
}

/// The effect of the threshold.
#[derive(Serialize)]
struct ThresholdEffect {
    right: usize,
    right_kept: usize,
    wrong: usize,
    wrong_dropped: usize,
    outside: usize,
    outside_dropped: usize,
}

/// Fits a calibration.
///
/// # Errors
/// When it cannot run, or there are too few images to fit on.
pub fn run(args: &CalibrateArgs, console: &Console) -> Result<Outcome> {
    let mut inputs = vec![Some(args.dataset.as_path())];
    inputs.extend(args.labelling.files());
    advice::check_outputs(&[Some(&args.output)], &inputs, IMAGES)?;
    check_suffix(&args.output, &["json"], "JSON")?;
    let dataset = dataset::labelled(
        &args.dataset,
        &LabelledOptions::usual("val").or_shards(),
        IMAGES,
    )?;
    console.remarks(&dataset.remarks);
    let classes = Classes::new(&dataset, &args.outside)?;
    let source = LabelSource::new(&args.dataset, &args.labelling);
    let mut labelling = source.labelling(&classes.names, console)?;
    let cache = args.engine.cache.folder()?;
    let session = Session::open(&args.engine.model, console)?;
    let mut fitter = Fitter::new(&session, args.labelling.labels.long.policy()?, console);
    labelling.fit(&mut fitter)?;
    fitter.finish();
    let engine = Engine::new(&session, args.engine.decoding(&session)).cached(cache)?;
    let images = Running::of(dataset.stream(IMAGES)?, &engine, Stop::default());
    labelling.encode(engine.load(console)?.as_ref(), 1.0)?;
    session.checkpoint.unchanged()?;

    let mut logits = Logits::new(&labelling);
    let mut next = 0;
    let counts = images.for_each(&engine, console, |encoded| {
        let class = dataset.samples[next].class;
        next += 1;
        match encoded.outcome {
            Ok(known) => logits.take(&known.embedding, classes.place[class]),
            Err(_) => Ok(()),
        }
    });
    engine.finish(console);
    let counts = counts?;
    logits.score()?;
    let outcome = counts.outcome(console);
    if counts.signal.is_some() || counts.answered == 0 {
        return Ok(outcome);
    }
    let written = logits.calibrate(args, &session)?;
    if !written.temperature_determined {
        console.warn(
            "the images do not determine a temperature: accuracy is perfect, or no better than \
             chance; it stays 1",
        );
    }
    write_json(&args.output, &written)?;
    print_summary(&written, None, table, console)?;
    Ok(outcome)
}

/// The dataset's classes that have labels, and those that are outside.
struct Classes {
    names: Vec<String>,
    /// The index in `names` of each class of the dataset.
    place: Vec<Option<usize>>,
}

impl Classes {
    fn new(dataset: &Labelled, outside: &[String]) -> Result<Self> {
        let outside: Vec<String> = outside.iter().map(|name| dataset::composed(name)).collect();
        for name in &outside {
            ensure!(
                dataset.classes.contains(name),
                "--outside {name:?} is not a class of the dataset, unlike {:?}",
                dataset.classes[0]
            );
        }
        let mut names = Vec::new();
        let place = dataset.classes.iter().map(|name| {
            (!outside.contains(name)).then(|| {
                names.push(name.clone());
                names.len() - 1
            })
        });
        let place = place.collect();
        ensure!(
            !names.is_empty(),
            "every class of the dataset is --outside; omit the classes that have labels"
        );
        Ok(Self { names, place })
    }
}

/// The logits of all images.
struct Logits<'a> {
    labelling: &'a Labelling,
    waiting: Vec<f32>,
    /// [images, labels].
    logits: Vec<f32>,
    targets: Vec<Option<usize>>,
}

impl<'a> Logits<'a> {
    fn new(labelling: &'a Labelling) -> Self {
        Self {
            labelling,
            waiting: Vec::new(),
            logits: Vec::new(),
            targets: Vec::new(),
        }
    }

    fn take(&mut self, embedding: &[f32], class: Option<usize>) -> Result<()> {
        self.waiting.extend_from_slice(embedding);
        let target = class.map(|class| self.labelling.label_of_class[class]);
        self.targets.push(target);
        if self.waiting.len() >= TOGETHER * embedding.len() {
            self.score()?;
        }
        Ok(())
    }

    fn score(&mut self) -> Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        if waiting.is_empty() {
            return Ok(());
        }
        for scores in self.labelling.classify(&waiting)? {
            let start = self.logits.len();
            self.logits.resize(start + scores.len(), 0.0);
            for score in scores {
                self.logits[start + score.class] = score.logit;
            }
        }
        Ok(())
    }

    fn calibrate(&self, args: &CalibrateArgs, session: &Session) -> Result<Written> {
        let all = Stored::new(&self.logits, &self.targets, self.labelling.labels.len())?;
        let parts = split(&self.targets, args.fit_on, args.seed)?;
        let side = |places| Subset {
            samples: &all,
            places,
        };
        let (fit, rest) = (side(&parts.fit[..]), side(&parts.rest[..]));
        let fitted = fit_temperature(&fit)
            .context("cannot fit a temperature to these images; add more of them")?;
        let threshold = choose_threshold(&judge(&fit, fitted.temperature)?);
        let (before, after) = (judge(&rest, 1.0)?, judge(&rest, fitted.temperature)?);
        let right = after.iter().filter(|answer| answer.correct()).count();
        let on_rest = |found: NoneThreshold| {
            let found = NoneThreshold::apply(found.threshold, &after);
            ThresholdEffect {
                right: found.right,
                right_kept: found.right_kept,
                wrong: found.wrong,
                wrong_dropped: found.wrong_dropped,
                outside: found.outside,
                outside_dropped: found.outside_dropped,
            }
        };
        Ok(Written {
            calibration: Calibration {
                temperature: fitted.temperature as f32,
                none_threshold: threshold.map(|found| found.threshold),
                model: session.checkpoint.name.clone(),
                model_sha256: session.weights_sha256()?.to_owned(),
                labels_sha256: self.labelling.facts.sha256.clone(),
                crc32: None,
            }
            .sealed(),
            temperature_determined: fitted.determined,
            fitted_on: parts.fit.len(),
            rest: Effect {
                n: after.len(),
                acc1: right as f64 / after.len().max(1) as f64,
                ece_before: reliability_of(&before, BINS)?.ece,
                ece_after: reliability_of(&after, BINS)?.ece,
                nll_before: negative_log_likelihood(&rest, 1.0),
                nll_after: negative_log_likelihood(&rest, fitted.temperature),
                threshold: threshold.map(on_rest),
            },
            dataset: args.dataset.display().to_string(),
            version: env!("CARGO_PKG_VERSION"),
        })
    }
}

fn table(written: &Written) -> String {
    let rest = &written.rest;
    let mut facts = TextTable::of_facts();
    let determined = match written.temperature_determined {
        true => "",
        false => "  (not determined by the images)",
    };
    let temperature = written.calibration.temperature;
    facts.fact("temperature", &format!("{temperature:.4}{determined}"));
    facts.fact("fitted on", &format!("{} images", written.fitted_on));
    let accuracy = percent(rest.acc1);
    let evaluated = format!("{} others, top-1 accuracy {accuracy}", rest.n);
    facts.fact("evaluated on", &evaluated);
    let [before, after] = [rest.ece_before, rest.ece_after].map(percent);
    facts.fact(
        "calibration error",
        &format!("{before} before, {after} after"),
    );
    if let (Some(before), Some(after)) = (rest.nll_before, rest.nll_after) {
        let likelihood = format!("{:.4} before, {:.4} after", -before, -after);
        facts.fact("log likelihood", &likelihood);
    }
    if let (Some(threshold), Some(effect)) = (written.calibration.none_threshold, &rest.threshold) {
        let mut text = format!(
            "{threshold:.4}: keeps {} of {} correct answers, drops {} of {} wrong ones",
            effect.right_kept, effect.right, effect.wrong_dropped, effect.wrong,
        );
        if effect.outside > 0 {
            text += &format!(
                " and {} of {} images without a label",
                effect.outside_dropped, effect.outside
            );
        }
        facts.fact("none threshold", &text);
    }
    facts.plain()
}
