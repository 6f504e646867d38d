//! The trained probe, its evaluation, and its accuracy by number of training images.

use std::sync::Arc;

use anyhow::{Result, bail};

use super::gather::{Gathered, Images};
use super::{ProbeArgs, TrainingArgs};
use crate::embedding::About;
use crate::output::evaluation::{
    DrawRow, Embedder, FitRow, Hyperparameters, ImageCounts, ProbeEvaluation, ShotRow, Tried,
};
use crate::output::report::PageImage;
use crate::run::Console;
use crate::run::figures::{arguments, class_rows, figures};
use crate::task::linear_probe::logistic::Fit;
use crate::task::linear_probe::{
    Answering, Chosen, Init, Method, Probe, Quality, Samples, TOGETHER, Trained, Training, draw,
    hold_out, mean_and_deviation,
};
use crate::task::metric::{Resampling, Tally};
use crate::task::zero_shot::{ClassScore, Judge as _, Score};

/// The number of best labels that a tally counts.
const TOP: usize = 5;

/// Maximum number of validation images per class, as in CoOp and later papers: with few training
/// images, there are few validation images too.
const MAX_VALIDATION_SHOTS: usize = 4;

/// Training and validation images.
struct Split {
    train: Samples,
    validation: Option<Samples>,
    /// The names of the classes.
    labels: Vec<String>,
    /// What the page shows of the validation images.
    shown: Vec<Arc<PageImage>>,
}

/// The trained probe and its figures.
pub(super) struct Findings {
    pub(super) chosen: Chosen,
    /// The final probe.
    pub(super) trained: Trained,
    pub(super) scored: Option<Scored>,
    pub(super) shots: Vec<ShotRow>,
    /// The number of images for training, for validation, and in the final probe.
    counts: [usize; 3],
}

/// The figures on a set of images.
pub(super) struct Scored {
    /// `test` or `validation`.
    pub(super) on: &'static str,
    pub(super) tally: Tally,
    pub(super) zero_shot: Option<Tally>,
    /// What the page shows of each image, its class and its best labels.
    pub(super) images: Vec<(Arc<PageImage>, usize, Vec<ClassScore>)>,
}

impl Findings {
    pub(super) fn new(
        args: &ProbeArgs,
        gathered: &Gathered,
        training: &Training<'_>,
        console: &Console,
    ) -> Result<Self> {
        let split = Split::new(args, gathered, training, console)?;
        let fits = args.training.shots.len() as u64 * args.training.seeds;
        console.start_fits(fits + 2);
        let validation = split.validation.as_ref();
        let chosen = training.choose(&split.train, validation)?;
        console.advance(0);
        // Tip-Adapter's weights depend on the number of cached images, so none may be added after
        // they are chosen.
        let all = match (validation, training.recipe.method) {
            (Some(validation), Method::Linear) => split.train.with(validation),
            _ => split.train.clone(),
        };
        let trained = training.train(&all, &chosen)?;
        console.advance(0);
        if trained.fit.as_ref().is_some_and(|fit| !fit.converged) {
            console.warn(
                "the regression did not converge, which happens if l2 is very small (pass a larger \
                 --l2) or extremely large; using the last iterate",
            );
        }
        let scored = match (&gathered.test, validation) {
            (Some(test), _) => {
                let shown = test.shown.clone();
                Some(("test", &test.samples, shown, trained.probe.clone()))
            }
            (None, Some(validation)) => {
                let probe = training.train(&split.train, &chosen)?.probe;
                Some(("validation", validation, split.shown.clone(), probe))
            }
            (None, None) => None,
        };
        let shots = match &scored {
            Some((_, samples, ..)) => {
                let seed = args.data.seed;
                study(&args.training, seed, &split, samples, training, console)?
            }
            None => Vec::new(),
        };
        console.end_progress();
        let counts = [
            split.train.len(),
            validation.map_or(0, Samples::len),
            all.len(),
        ];
        let score = |(on, samples, shown, probe): (_, &Samples, Vec<Arc<PageImage>>, Probe)| {
            Scored::new(on, samples, shown, probe, training)
        };
        Ok(Self {
            scored: scored.map(score).transpose()?,
            chosen,
            trained,
            shots,
            counts,
        })
    }

    /// All figures as plain numbers.
    pub(super) fn evaluation(
        &self,
        args: &ProbeArgs,
        gathered: &Gathered,
    ) -> Result<ProbeEvaluation> {
        let how = Resampling {
            seed: args.data.seed,
            ..Resampling::default()
        };
        let recipe = args.recipe();
        let scored = self.scored.as_ref();
        let zero_shot = scored.and_then(|scored| scored.zero_shot.as_ref());
        let [train, validation, fitted] = self.counts;
        Ok(ProbeEvaluation {
            task: "probe",
            method: method(recipe.method),
            init: match recipe.init {
                Init::Zero => "zero",
                Init::ZeroShot => "zero-shot",
            },
            figures: scored
                .map(|scored| figures(&scored.tally, &how))
                .transpose()?,
            scored_on: scored.map(|scored| scored.on),
            classes: gathered.classes.len(),
            dim: gathered.about.dim,
            images: ImageCounts {
                train,
                validation,
                test: gathered.test.as_ref().map_or(0, |test| test.samples.len()),
                fitted,
                failed: gathered.failed,
            },
            numbers: numbers(&self.chosen),
            fit: self.trained.fit.as_ref().map(fit_row),
            zero_shot: zero_shot.map(|tally| figures(tally, &how)).transpose()?,
            shots: self.shots.clone(),
            strengths: tried(&self.chosen.strengths),
            shares: tried(&self.chosen.shares),
            per_class: scored.map_or(Vec::new(), |scored| {
                let classes: Vec<_> = gathered.classes.iter().cloned().map(Some).collect();
                class_rows(&scored.tally, &gathered.labels, &classes)
            }),
            file: args
                .results
                .out
                .as_ref()
                .map(|path| path.display().to_string()),
            labels: gathered.texts.clone(),
            dataset: args.data.data.display().to_string(),
            model: embedder(&gathered.about),
            version: env!("CARGO_PKG_VERSION"),
            arguments: arguments(),
        })
    }
}

fn fit_row(fit: &Fit) -> FitRow {
    FitRow {
        objective: fit.objective,
        iterations: fit.iterations,
        converged: fit.converged,
    }
}

fn embedder(about: &About) -> Embedder {
    Embedder {
        name: about.model.clone(),
        sha256: about.sha256.clone(),
        precision: about.precision.clone(),
        settings: about.settings.clone(),
    }
}

/// The name of a method in the file.
fn method(method: Method) -> &'static str {
    match method {
        Method::Linear => "linear",
        Method::TipAdapter => "tip-adapter",
    }
}

/// The hyperparameters, chosen or given.
fn numbers(chosen: &Chosen) -> Hyperparameters {
    Hyperparameters {
        l2: chosen.l2,
        c: chosen.l2.map(|l2| 1.0 / l2),
        blend: chosen.share,
        alpha: chosen.mix.map(|mix| mix.alpha),
        beta: chosen.mix.map(|mix| mix.beta),
    }
}

fn tried(all: &[(f64, Quality)]) -> Vec<Tried> {
    let row = |(value, quality): &(f64, Quality)| Tried {
        value: *value,
        acc1: quality.accuracy(),
        nll: quality.loss,
    };
    all.iter().map(row).collect()
}

impl Split {
    fn new(
        args: &ProbeArgs,
        gathered: &Gathered,
        training: &Training<'_>,
        console: &Console,
    ) -> Result<Self> {
        let all = &gathered.train.samples;
        let whole = |validation: Option<&Images>| Self {
            train: all.clone(),
            validation: validation.map(|images| images.samples.clone()),
            labels: gathered.labels.clone(),
            shown: validation.map_or(Vec::new(), |images| images.shown.clone()),
        };
        let chooses = training.recipe.chooses();
        if gathered.validation.is_some() || gathered.test.is_some() && !chooses {
            return Ok(whole(gathered.validation.as_ref()));
        }
        let (train, part) = hold_out(all.classes(), args.data.val_split, args.data.seed);
        if part.is_empty() {
            if chooses {
                bail!(
                    "no class of {} has two images, so none can be held out for validation; pass \
                     --val DATA, or with --method linear pass --l2 NUMBER without --blend auto",
                    args.data.data.display()
                );
            }
            console.note(
                "no class has two images, so none is held out and no accuracy is \
                measured",
            );
            return Ok(whole(None));
        }
        let counts = all.counts();
        let mut single = (counts.iter().enumerate()).filter(|(_, count)| **count == 1);
        if let Some((class, _)) = single.next() {
            console.note(&format!(
                "{} of {} classes have only one image, such as {:?}; it is used for training, not \
                 validation",
                1 + single.count(),
                counts.len(),
                gathered.labels[class]
            ));
        }
        let shown = &gathered.train.shown;
        Ok(Self {
            train: all.subset(&train),
            validation: Some(all.subset(&part)),
            labels: gathered.labels.clone(),
            shown: part.iter().map(|&at| shown[at].clone()).collect(),
        })
    }
}

impl Scored {
    fn new(
        on: &'static str,
        samples: &Samples,
        shown: Vec<Arc<PageImage>>,
        probe: Probe,
        training: &Training<'_>,
    ) -> Result<Self> {
        let (tally, answers) = tally(samples, probe, training)?;
        let texts = |rows: &[f32]| {
            let bias = vec![0.0; samples.class_count()];
            let probe = Probe::new(rows.to_vec(), bias, samples.dim())?;
            Ok::<_, anyhow::Error>(self::tally(samples, probe, training)?.0)
        };
        let classes = samples.classes().iter().copied();
        let images = shown.into_iter().zip(classes).zip(answers);
        Ok(Self {
            on,
            tally,
            zero_shot: training.zero_shot.map(texts).transpose()?,
            images: images
                .map(|((shown, class), answers)| (shown, class, answers))
                .collect(),
        })
    }
}

/// Tallies the answers for all samples, and returns the best labels of each.
fn tally(
    samples: &Samples,
    probe: Probe,
    training: &Training<'_>,
) -> Result<(Tally, Vec<Vec<ClassScore>>)> {
    let count = probe.class_count();
    let answering = Answering::new(probe, Score::Softmax)?;
    let mut tally = Tally::new(count);
    let mut kept = Vec::new();
    let mut probabilities = vec![0.0; count];
    for (images, classes) in samples.blocks(TOGETHER) {
        training.go_on()?;
        for (mut scores, &class) in answering.judge(images).into_iter().zip(classes) {
            for score in &scores {
                probabilities[score.class] = score.probability.unwrap_or(0.0);
            }
            let top: Vec<usize> = scores.iter().take(TOP).map(|score| score.class).collect();
            tally.add(class, &top, probabilities[top[0]])?;
            tally.add_probabilities(class, &probabilities)?;
            scores.truncate(TOP);
            kept.push(scores);
        }
    }
    Ok((tally, kept))
}

/// `--shots`: trains on random draws of each number of images per class.
fn study(
    args: &TrainingArgs,
    seed: u64,
    split: &Split,
    scored: &Samples,
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
            draws.push(draw_row(shots, seed, split, scored, training)?);
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

/// Trains on one draw.
fn draw_row(
    shots: usize,
    seed: u64,
    split: &Split,
    scored: &Samples,
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
