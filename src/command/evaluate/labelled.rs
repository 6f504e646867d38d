//! Pictures with a class each: which labels they get.

use std::sync::Arc;

use anyhow::Result;

use super::facts::{self, Findings};
use super::files::Folder;
use super::page::Page;
use super::variant::{Base, Choice, Variant};
use super::{EvaluateArgs, ResultArgs, summary, sweep};
use crate::command::calibration::Calibration;
use crate::command::images::{PICTURES, Running};
use crate::command::labels::Texts;
use crate::command::pipeline::{Encoded, Known, Plan};
use crate::command::remembered::{self, Engine, Remembered};
use crate::command::session::{Session, Stop};
use crate::command::texts::Fitter;
use crate::command::{Console, Outcome, report};
use crate::input::dataset::{self, Labelled};
use crate::model::DualEncoder;
use crate::output::{ImageName, Prediction, Record};
use crate::task::metric::Resampling;
use crate::task::zero_shot::ClassScore;

/// Pictures that are compared with the labels together.
const TOGETHER: usize = 128;

/// Evaluates labels.
pub(super) fn run(args: &EvaluateArgs, console: &Console) -> Result<Outcome> {
    let dataset = dataset::labelled(&args.dataset, PICTURES)?;
    for note in &dataset.notes {
        console.note(note);
    }
    let choice = Choice {
        dataset: &args.dataset,
        labels: &args.labels,
        none: &args.none,
        class_map: args.class_map.as_deref(),
    };
    let base = Base::new(choice, &dataset.classes, console)?;
    let mut variants = base.variants(&args.against.compare)?;
    let calibration = Calibration::read(&args.calibration)?;
    let cache = remembered::folder(&args.cache)?;
    let session = Arc::new(Session::open(&args.model, console)?);
    let context_length = session.checkpoint.architecture.context_length;
    let mut fitter = Fitter::new(context_length, args.labels.long.policy()?, console);
    let texts = (variants.iter())
        .map(|variant| variant.fit(&mut fitter))
        .collect::<Result<Vec<_>>>()?;
    fitter.finish();
    let lengths = sweep::lengths(&args.against.truncate_sweep, context_length, console);
    let mut steps = sweep::steps(&variants[0], &lengths)?;

    let thumbnails = args.results.report.as_ref().map(|_| report::THUMBNAIL);
    let plan = Plan::new(&session, &args.model, &args.pictures).thumbnails(thumbnails);
    let memory = cache.map(|folder| Remembered::open(&folder, session.clone(), &plan));
    let memory = memory.transpose()?;
    let sources: Vec<_> = (dataset.samples.iter())
        .map(dataset::Sample::image_source)
        .collect();
    let images = Running::of(sources, plan.memory(memory.clone()), Stop::default());
    let engine = Engine::new(&session, memory, console)?;
    let temperature = match &calibration {
        Some(calibration) => {
            calibration.temperature_for(&session, &variants[0].facts.sha256, console)?
        }
        None => 1.0,
    };
    encode(
        &mut variants,
        &texts,
        &mut steps,
        engine.encoder.as_ref(),
        temperature,
    )?;
    session.checkpoint.unchanged()?;
    images.give(engine.encoder.clone());

    let mut evaluating = Evaluating {
        dataset: &dataset,
        out: (args.results.out.as_deref())
            .map(Folder::create)
            .transpose()?,
        page: Page::create(args, &session, &dataset, &variants)?,
        keep: args.results.top_k.map_or(usize::MAX, |k| k as usize),
        labels: labels_of(&variants),
        variants,
        steps,
        waiting: Vec::new(),
        next: 0,
    };
    let counts = images.for_each(console, |encoded| evaluating.take(encoded))?;
    evaluating.count()?;
    engine.finish(console);
    if counts.signal.is_some() {
        evaluating.keep_partial(console)?;
        return Ok(counts.outcome(console));
    }
    let outcome = counts.outcome(console);
    if counts.answered == 0 {
        return Ok(outcome);
    }
    let (page, folder) = (evaluating.page.take(), evaluating.out.take());
    let how = Resampling {
        seed: args.against.seed,
        ..Resampling::default()
    };
    let findings = Findings {
        dataset: &dataset,
        variants: &evaluating.variants,
        sweep: &evaluating.steps,
        failed: counts.failed,
        temperature,
        how,
    };
    let evaluation = findings.evaluation(facts::provenance(args, &session)?)?;
    if let Some(page) = page {
        page.finish(&findings, &evaluation)?;
    }
    if let Some(folder) = folder {
        folder.finish(&evaluating.variants[0], &evaluation)?;
    }
    summary::classification(&evaluation, args.results.format, console)?;
    Ok(gated(
        outcome,
        &args.results,
        evaluation.figures.acc1,
        console,
    ))
}

/// Misses the gate if the share of right labels is too small.
fn gated(outcome: Outcome, args: &ResultArgs, acc1: f64, console: &Console) -> Outcome {
    match args.min_acc {
        Some(least) if acc1 < least => {
            console.failed(
                "--min-acc",
                &format!("the top-1 accuracy is {acc1:.4}, less than {least}"),
            );
            Outcome::SomeFailed
        }
        _ => outcome,
    }
}

/// The text tower, once for each set of labels.
fn encode(
    variants: &mut [Variant],
    texts: &[Texts],
    steps: &mut [sweep::Step],
    model: &dyn DualEncoder,
    temperature: f32,
) -> Result<()> {
    for (variant, texts) in variants.iter_mut().zip(texts) {
        variant.encode(texts, model, temperature)?;
    }
    steps
        .iter_mut()
        .try_for_each(|step| step.encode(model, temperature))
}

fn labels_of(variants: &[Variant]) -> Vec<Arc<str>> {
    let labels = variants[0].labels.iter();
    labels.map(|label| Arc::from(label.as_str())).collect()
}

/// One picture that was encoded or failed.
struct Waiting {
    image: ImageName,
    class: usize,
    outcome: Result<Known>,
}

/// Counts pictures and writes what is asked for.
struct Evaluating<'a> {
    dataset: &'a Labelled,
    variants: Vec<Variant>,
    steps: Vec<sweep::Step>,
    labels: Vec<Arc<str>>,
    out: Option<Folder>,
    page: Option<Page>,
    /// Labels of a picture that a record holds.
    keep: usize,
    waiting: Vec<Waiting>,
    /// The next sample, counted in the order of the dataset.
    next: usize,
}

impl Evaluating<'_> {
    fn take(&mut self, encoded: Encoded) -> Result<()> {
        let class = self.dataset.samples[self.next].class;
        self.next += 1;
        self.waiting.push(Waiting {
            image: encoded.image,
            class,
            outcome: encoded.outcome,
        });
        if self.waiting.len() == TOGETHER {
            self.count()?;
        }
        Ok(())
    }

    /// Compares all pictures that wait with all labels.
    fn count(&mut self) -> Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        let mut embeddings = Vec::new();
        let mut classes = Vec::new();
        for one in &waiting {
            if let Ok(known) = &one.outcome {
                embeddings.extend_from_slice(&known.embedding);
                classes.push(one.class);
            }
        }
        let mut answers = Vec::new();
        if !classes.is_empty() {
            for variant in &mut self.variants {
                answers.push(variant.count(&embeddings, &classes)?.into_iter());
            }
            for step in &mut self.steps {
                step.variant.count(&embeddings, &classes)?;
            }
        }
        for one in waiting {
            let scores: Vec<Vec<ClassScore>> = match &one.outcome {
                Ok(_) => answers.iter_mut().filter_map(Iterator::next).collect(),
                Err(_) => Vec::new(),
            };
            self.write(one, &scores)?;
        }
        Ok(())
    }

    /// `scores` are those of each set of labels; none for a picture that failed.
    fn write(&mut self, one: Waiting, scores: &[Vec<ClassScore>]) -> Result<()> {
        if let Some(page) = &mut self.page {
            page.picture(&one.image, one.class, &one.outcome, scores)?;
        }
        let Some(out) = &mut self.out else {
            return Ok(());
        };
        let prediction = |score: &ClassScore| Prediction {
            label: self.labels[score.class].clone(),
            probability: score.probability,
            logit: score.logit,
            cosine: score.cosine,
        };
        let (outcome, warnings) = match one.outcome {
            Ok(known) => {
                let kept = scores[0].iter().take(self.keep);
                (Ok(kept.map(prediction).collect()), known.warnings)
            }
            Err(error) => (Err(format!("{error:#}")), Vec::new()),
        };
        out.write(&Record {
            warnings,
            target: Some(self.labels[self.variants[0].label_of_class[one.class]].clone()),
            ..Record::new(one.image, outcome)
        })
    }

    /// After a signal: figures of a part would be taken for those of the whole.
    fn keep_partial(self, console: &Console) -> Result<()> {
        self.out.map_or(Ok(()), |out| out.keep_partial(console))
    }
}
