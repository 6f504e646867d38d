//! `--shots`: accuracy by number of training images per class.

use anyhow::Result;

use super::TrainingArgs;
use super::findings::{Split, numbers};
use crate::output::evaluation::{DrawRow, ShotRow};
use crate::run::Console;
use crate::task::linear_probe::shots::{draw, mean_and_deviation};
use crate::task::linear_probe::{Samples, Training};

/// Maximum number of validation images per class, as in CoOp and later papers: with few training
/// images, there are few validation images too.
const MAX_VALIDATION_SHOTS: usize = 4;

/// Trains on random draws of each number of shots.
pub(super) fn study(
    args: &TrainingArgs,
    seed: u64,
    (split, scored): (&Split, &Samples),
    training: &Training<'_>,
    console: &Console,
) -> Result<Vec<ShotRow>> {
    let mut shots: Vec<usize> = args.shots.iter().map(|&shots| shots as usize).collect();
    shots.sort_unstable();
    shots.dedup();
    let mut rows = Vec::new();
    for shots in shots {
        let smaller_classes = warn_smaller(shots, split, console);
        let mut draws = Vec::new();
        for seed in (0..args.seeds).map(|step| seed.wrapping_add(step)) {
            training.go_on()?;
            draws.push(one(shots, seed, (split, scored), training)?);
            console.advance(0);
        }
        let accuracies: Vec<f64> = draws.iter().map(|draw| draw.acc1).collect();
        let (mean, deviation) = mean_and_deviation(&accuracies);
        rows.push(ShotRow {
            shots,
            smaller_classes,
            mean,
            deviation,
            draws,
        });
    }
    Ok(rows)
}

fn one(
    shots: usize,
    seed: u64,
    (split, scored): (&Split, &Samples),
    training: &Training<'_>,
) -> Result<DrawRow> {
    let train = split
        .train
        .subset(&draw(split.train.classes(), shots, seed));
    let validation = split.validation.as_ref().map(|samples| {
        let by = draw(samples.classes(), shots.min(MAX_VALIDATION_SHOTS), seed);
        samples.subset(&by)
    });
    let chosen = training.choose(&train, validation.as_ref())?;
    let trained = training.train(&train, &chosen)?;
    Ok(DrawRow {
        seed,
        train: train.len(),
        validation: match training.recipe.chooses() {
            true => validation.map_or(0, |samples| samples.len()),
            false => 0,
        },
        acc1: trained.probe.quality(scored).accuracy(),
        numbers: numbers(&chosen),
    })
}

/// Warns if classes have fewer images; returns how many do.
fn warn_smaller(shots: usize, split: &Split, console: &Console) -> usize {
    let counts = split.train.counts();
    let mut smaller = counts
        .iter()
        .enumerate()
        .filter(|(_, count)| **count < shots);
    let Some((class, count)) = smaller.next() else {
        return 0;
    };
    let number = 1 + smaller.count();
    console.note(&format!(
        "--shots {shots}: {number} of {} classes have fewer training images, such as {:?} with \
         {count}; all of them are used",
        counts.len(),
        split.labels[class]
    ));
    number
}
