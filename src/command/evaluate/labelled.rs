//! Evaluates classification of images with one class each.

use std::sync::Arc;

use anyhow::Result;

use super::facts::Findings;
use super::files::Folder;
use super::page::Page;
use super::{EvaluateArgs, ResultArgs, facts, summary, sweep};
use crate::input::dataset;
use crate::input::dataset::{Labelled, LabelledOptions, Split};
use crate::model::DualEncoder;
use crate::output::evaluation::Evaluation;
use crate::output::{ImageName, Prediction, Record};
use crate::run::calibration::Calibration;
use crate::run::images::{IMAGES, Running};
use crate::run::labels::Texts;
use crate::run::pipeline::{Encoded, Known, Plan};
use crate::run::remembered::Ready;
use crate::run::results::print_summary;
use crate::run::session::{Session, Stop};
use crate::run::texts::Fitter;
use crate::run::trained::TrainedProbe;
use crate::run::variant::{Base, Choice, Variant};
use crate::run::{Console, Outcome, remembered, report};
use crate::task::metric::Resampling;
use crate::task::zero_shot::{ClassScore, Score};

/// Images scored per matrix product.
const TOGETHER: usize = 128;

/// Evaluates a classification.
pub(super) fn run(args: &EvaluateArgs, console: &Console) -> Result<Outcome> {
    let options = LabelledOptions {
        images: args.captions.images.as_deref(),
        split: (args.captions.split.as_deref()).map_or(Split::Usual("test"), Split::Named),
    };
    let dataset = dataset::labelled(&args.dataset, &options, IMAGES)?;
    console.remarks(&dataset.remarks);
    let choice = Choice {
        dataset: &args.dataset,
        labels: &args.labels,
        none: &args.none,
        class_map: args.class_map.as_deref(),
    };
    let base = Base::new(choice, &dataset.classes, console)?;
    let probe = TrainedProbe::read(args.probe.as_deref(), Score::Softmax)?;
    let variants = match &probe {
        Some(probe) => vec![base.probe(probe)?],
        None => base.variants(&args.against.compare)?,
    };
    let calibration = Calibration::read(&args.calibration)?;
    let cache = remembered::folder(&args.cache)?;
    let model = match &probe {
        Some(probe) => {
            let made_with = probe.made_with();
            made_with.model(&args.model, args.model_choice, console)?
        }
        None => args.model.clone(),
    };
    let session = Arc::new(Session::open(&model, console)?);
    let mut texts = Labels::fit((variants, &probe), args, &session, console)?;

    let thumbnails = args.results.report.as_ref().map(|_| report::THUMBNAIL);
    let plan = Plan::new(&session, &args.model, &args.decode).thumbnails(thumbnails);
    let ready = Ready::new(session, plan, cache.as_deref())?;
    let sources = dataset.samples.iter().map(dataset::Sample::image_source);
    let images = Running::of(sources.collect(), ready.plan.clone(), Stop::default());
    let engine = ready.engine(console)?;
    let session = &ready.session;
    let labels_sha256 = &texts.variants[0].facts.sha256;
    let temperature = match &calibration {
        Some(calibration) => calibration.temperature_for(session, labels_sha256, console)?,
        None => 1.0,
    };
    match probe {
        Some(probe) => texts.variants[0].answer_by(probe)?,
        None => texts.encode(engine.encoder.as_ref(), temperature)?,
    }
    session.checkpoint.unchanged()?;
    images.give(engine.encoder.clone());

    let mut evaluating = Evaluating::new(args, &dataset, session, texts)?;
    let counts = images.for_each(console, |encoded| evaluating.take(encoded));
    engine.finish(console);
    let counts = counts?;
    evaluating.count()?;
    if counts.signal.is_some() {
        evaluating.keep_partial(console)?;
    } else if counts.answered > 0 {
        let evaluation = evaluating.finish(args, session, (temperature, counts.failed))?;
        let format = args.results.format;
        print_summary(&evaluation, format, summary::classification, console)?;
        let outcome = counts.outcome(console);
        let acc1 = evaluation.figures.acc1;
        return Ok(gated(outcome, &args.results, acc1, console));
    }
    Ok(counts.outcome(console))
}

/// Fails the gate if top-1 accuracy is too low.
fn gated(outcome: Outcome, args: &ResultArgs, acc1: f64, console: &Console) -> Outcome {
    match args.min_acc {
        Some(least) if acc1 < least => {
            console.failed(
                "--min-acc",
                &format!("top-1 accuracy is {acc1:.4}, below {least}"),
            );
            Outcome::SomeFailed
        }
        _ => outcome,
    }
}

/// All label sets, and the main one at each length of the sweep.
struct Labels {
    variants: Vec<Variant>,
    /// The prompts of each set.
    texts: Vec<Texts>,
    steps: Vec<sweep::Step>,
}

impl Labels {
    /// A probe has no texts.
    fn fit(
        (variants, probe): (Vec<Variant>, &Option<TrainedProbe>),
        args: &EvaluateArgs,
        session: &Session,
        console: &Console,
    ) -> Result<Self> {
        if let Some(probe) = probe {
            probe.check(session)?;
            return Ok(Self {
                variants,
                texts: Vec::new(),
                steps: Vec::new(),
            });
        }
        let context_length = session.checkpoint.architecture.context_length;
        let mut fitter = Fitter::new(context_length, args.labels.long.policy()?, console);
        let texts = variants.iter().map(|variant| variant.fit(&mut fitter));
        let texts = texts.collect::<Result<_>>()?;
        fitter.finish();
        let lengths = sweep::lengths(&args.against.truncate_sweep, context_length, console);
        let steps = sweep::steps(&variants[0], &lengths)?;
        Ok(Self {
            variants,
            texts,
            steps,
        })
    }

    /// Runs the text tower once per set.
    fn encode(&mut self, model: &dyn DualEncoder, temperature: f32) -> Result<()> {
        for (variant, texts) in self.variants.iter_mut().zip(&self.texts) {
            variant.encode(texts, model, temperature)?;
        }
        let steps = &mut self.steps;
        steps
            .iter_mut()
            .try_for_each(|step| step.encode(model, temperature))
    }
}

fn labels_of(variants: &[Variant]) -> Vec<Arc<str>> {
    let labels = variants[0].labels.iter();
    labels.map(|label| Arc::from(label.as_str())).collect()
}

/// An image that was encoded or failed, and waits to be scored.
struct Waiting {
    image: ImageName,
    class: usize,
    outcome: Result<Known>,
}

/// Counts images and writes the requested outputs.
struct Evaluating<'a> {
    dataset: &'a Labelled,
    variants: Vec<Variant>,
    steps: Vec<sweep::Step>,
    labels: Vec<Arc<str>>,
    out: Option<Folder>,
    page: Option<Page>,
    /// Labels kept per record.
    keep: usize,
    waiting: Vec<Waiting>,
    /// The index of the next sample of the dataset.
    next: usize,
}

impl<'a> Evaluating<'a> {
    fn new(
        args: &EvaluateArgs,
        dataset: &'a Labelled,
        session: &Session,
        labels: Labels,
    ) -> Result<Self> {
        Ok(Self {
            dataset,
            out: (args.results.out.as_deref())
                .map(|path| Folder::create(path, args.results.mark()))
                .transpose()?,
            page: Page::create(args, session, dataset, &labels.variants)?,
            keep: args.results.top_k.map_or(usize::MAX, |k| k as usize),
            labels: labels_of(&labels.variants),
            variants: labels.variants,
            steps: labels.steps,
            waiting: Vec::new(),
            next: 0,
        })
    }

    /// Computes the figures and completes all files.
    fn finish(
        self,
        args: &EvaluateArgs,
        session: &Session,
        (temperature, failed): (f32, u64),
    ) -> Result<Evaluation> {
        let how = Resampling {
            seed: args.against.seed,
            ..Resampling::default()
        };
        let findings = Findings {
            dataset: self.dataset,
            variants: &self.variants,
            sweep: &self.steps,
            failed,
            temperature,
            how,
        };
        let evaluation = findings.evaluation(facts::provenance(args, session)?)?;
        if let Some(page) = self.page {
            page.finish(&findings, &evaluation)?;
        }
        if let Some(folder) = self.out {
            folder.finish(&self.variants[0], &evaluation)?;
        }
        Ok(evaluation)
    }

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

    /// Scores all waiting images with all labels.
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

    /// `scores` are those of each label set; empty for an image that failed.
    fn write(&mut self, one: Waiting, scores: &[Vec<ClassScore>]) -> Result<()> {
        if let Some(page) = &mut self.page {
            page.image(&one.image, one.class, &one.outcome, scores)?;
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

    /// After a signal: keeps predictions but no figures, which would be mistaken for those of the
    /// whole dataset.
    fn keep_partial(self, console: &Console) -> Result<()> {
        self.out.map_or(Ok(()), |out| out.keep_partial(console))
    }
}
