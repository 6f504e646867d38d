//! Writes the trained probe to the file of `--out`.

use anyhow::{Context as _, Result};
use serde_json::{Map, json};

use super::ProbeArgs;
use super::findings::Findings;
use super::gather::Gathered;
use crate::embedding::probe::{self, Keys, ProbeFile};
use crate::output::evaluation::ProbeEvaluation;

/// Fails before training if the file could not be read back with these class names.
pub(super) fn check_names(args: &ProbeArgs, names: &[String], what: &str) -> Result<()> {
    match args.results.out {
        Some(_) => probe::check_names(names, what).with_context(|| {
            format!(
                "classify --probe cannot use the class names of {}; rename them",
                args.data.data.display()
            )
        }),
        None => Ok(()),
    }
}

/// Writes the probe, if requested.
pub(super) fn write(
    args: &ProbeArgs,
    gathered: &Gathered,
    found: &Findings,
    evaluation: &ProbeEvaluation,
) -> Result<()> {
    let Some(path) = &args.results.out else {
        return Ok(());
    };
    let trained = &found.trained.probe;
    let keys = trained.cache().map(|cache| -> Result<Keys> {
        let class = |class: &usize| i32::try_from(*class).context("there are too many classes");
        Ok(Keys {
            embeddings: cache.keys.embeddings().to_vec(),
            classes: cache
                .keys
                .classes()
                .iter()
                .map(class)
                .collect::<Result<_>>()?,
            alpha: cache.mix.alpha,
            beta: cache.mix.beta,
        })
    });
    let file = ProbeFile {
        about: gathered.about.clone(),
        classes: gathered.classes.clone(),
        labels: gathered.labels.clone(),
        method: evaluation.method.to_owned(),
        hyperparameters: hyperparameters(args, evaluation)?,
        scores: json!({
            "scored_on": evaluation.scored_on,
            "acc1": evaluation.figures.as_ref().map(|figures| figures.acc1),
            "n": evaluation.figures.as_ref().map(|figures| figures.n),
            "zero_shot_acc1": evaluation.zero_shot.as_ref().map(|figures| figures.acc1),
        }),
        weights: trained.weights().to_vec(),
        bias: trained.bias().to_vec(),
        keys: keys.transpose()?,
        texts: None,
    };
    probe::write(path, &file)
}

fn hyperparameters(args: &ProbeArgs, evaluation: &ProbeEvaluation) -> Result<serde_json::Value> {
    let mut all = Map::new();
    all.insert("init".to_owned(), json!(evaluation.init));
    if let serde_json::Value::Object(numbers) = serde_json::to_value(evaluation.numbers)? {
        all.extend(numbers);
    }
    all.insert("pictures".to_owned(), json!(evaluation.images.fitted));
    all.insert("seed".to_owned(), json!(args.data.seed));
    if let Some(labels) = &evaluation.labels {
        all.insert("texts".to_owned(), serde_json::to_value(labels)?);
    }
    Ok(serde_json::Value::Object(all))
}
