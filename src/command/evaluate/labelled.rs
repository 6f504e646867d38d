//! Evaluates classification of images with one class each.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};

use super::corrupt::{Corrupted, Corrupting};
use super::facts::Findings;
use super::files::Folder;
use super::page::Page;
use super::{EvaluateArgs, ResultArgs, facts, made_by, summary, sweep};
use crate::input::dataset::{self, Labelled, LabelledOptions, Split};
use crate::model::{DualEncoder, Towers};
use crate::output::FailureKind;
use crate::output::evaluation::Evaluation;
use crate::output::github::notice;
use crate::output::{self, Format, ImageName, Prediction, Record, RecordWriter, Style};
use crate::run::calibration::Calibration;
use crate::run::engine::Engine;
use crate::run::images::{IMAGES, Running};
use crate::run::labelling::{LabelSource, Labelling};
use crate::run::pipeline::{Encoded, Known};
use crate::run::results::{print_summary, stdout, to_stdout};
use crate::run::session::{Session, Stop};
use crate::run::texts::Fitter;
use crate::run::trained::TrainedProbe;
use crate::run::{Console, Outcome};
use crate::task::metric::Resampling;
use crate::task::zero_shot::{ClassScore, Score};

/// Images scored per matrix product.
const TOGETHER: usize = 128;

/// Evaluates a classification.
pub(super) fn run(args: &EvaluateArgs, console: &Console) -> Result<Outcome> {
    let started = Instant::now();
    let options = LabelledOptions {
        images: args.captions.images.as_deref(),
        split: (args.captions.split.as_deref()).map_or(Split::Usual("test"), Split::Named),
        shards: true,
    };
    let dataset = dataset::labelled(&args.dataset, &options, IMAGES)?;
    console.remarks(&dataset.remarks);
    let source = LabelSource::new(&args.dataset, &args.labelling);
    let mut variants = match &args.probe {
        Some(path) => {
            let probe = TrainedProbe::read(path, Score::Softmax)?;
            vec![source.of_probe(probe, &dataset.classes, console)?]
        }
        None => source.compared(&args.against.compare, &dataset.classes, console)?,
    };
    let calibration = Calibration::read(&args.calibration)?;
    let cache = args.engine.cache.folder()?;
    let mut probes = variants.iter_mut().map(Labelling::probe);
    let model = match probes.find_map(|probe| probe) {
        Some(probe) => probe.made_with().model(&args.engine, console)?,
        None => args.engine.model.clone(),
    };
    let session = Session::open(&model, console)?;
    let towers = match variants.iter_mut().all(|one| one.probe().is_some()) {
        true => Towers::Image,
        false => Towers::Both,
    };
    let mut is_guess =
        |one: &mut Labelling| one.probe().is_none_or(|probe| probe.texts().is_some());
    let guesses = variants.iter_mut().any(&mut is_guess);
    let first_is_probe = variants[0].probe().is_some();
    let labels_facts = variants[0].facts.clone();
    let mut labels = Labels::fit(variants, args, &session, console)?;

    let engine = Engine::new(&session, args.engine.decoding(&session))
        .guesses(guesses)
        .towers(towers)
        .thumbnails(args.results.report.is_some());
    if args.against.corrupt && cache.is_some() {
        console.note("with --corrupt, the cache is not used");
    }
    let engine = match args.against.corrupt {
        true => engine.encoded_by(Arc::new(Corrupting {
            model: session.load(towers, console)?,
            preprocess: session.checkpoint.preprocess.clone(),
            seed: args.against.seed,
        })),
        false => engine.cached(cache)?,
    };
    let images = Running::of(dataset.stream(IMAGES)?, &engine, Stop::default());
    let model = engine.load(console)?;
    let labels_sha256 = &labels.variants[0].facts.sha256;
    let temperature = match &calibration {
        Some(calibration) => calibration.temperature_for(&session, labels_sha256, console)?,
        None => 1.0,
    };
    labels.encode(&session, model.as_ref(), temperature)?;
    session.checkpoint.unchanged()?;

    let mut evaluating = Evaluating::new(args, &dataset, &session, labels)?;
    let counts = images.for_each(&engine, console, |encoded| evaluating.take(encoded));
    engine.finish(console);
    let counts = counts?;
    evaluating.count()?;
    let mut acc1 = None;
    if counts.signal.is_some() {
        evaluating.keep_partial(console)?;
    } else if counts.answered > 0 {
        let evaluation = evaluating.finish(args, &session, temperature, counts.failed)?;
        match args.results.format {
            Some(Format::Github) => console.around(|| to_stdout(&notice(&evaluation)))?,
            format => print_summary(&evaluation, format, summary::classification, console)?,
        }
        acc1 = Some(evaluation.figures.acc1);
    }
    let made_by = made_by(started, &session, Some(&labels_facts), first_is_probe);
    let outcome = counts.outcome(console);
    let gate = |outcome| match acc1 {
        Some(acc1) => gated(outcome, &args.results, acc1, console),
        None => outcome,
    };
    args.failures.end_gated(&made_by, &counts, outcome, gate)
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
    variants: Vec<Labelling>,
    steps: Vec<sweep::Step>,
}

impl Labels {
    /// A probe has no texts.
    fn fit(
        mut variants: Vec<Labelling>,
        args: &EvaluateArgs,
        session: &Arc<Session>,
        console: &Console,
    ) -> Result<Self> {
        let context_length = session.checkpoint.architecture.context_length;
        let mut fitter = Fitter::new(session, args.labelling.labels.long.policy()?, console);
        for variant in &mut variants {
            match variant.probe() {
                Some(probe) => probe.check(session)?,
                None => variant.fit(&mut fitter)?,
            }
        }
        fitter.finish();
        let lengths = sweep::lengths(&args.against.truncate_sweep, context_length, console);
        let steps = sweep::steps(&variants[0], &lengths)?;
        Ok(Self { variants, steps })
    }

    /// Runs the text tower once per set.
    fn encode(
        &mut self,
        session: &Session,
        model: &dyn DualEncoder,
        temperature: f32,
    ) -> Result<()> {
        let steps = self.steps.iter_mut().map(|step| &mut step.variant);
        let mut all = self.variants.iter_mut().chain(steps);
        all.try_for_each(|variant| match variant.probe() {
            Some(_) => variant.answer_by_probe(session),
            None => variant.encode(model, temperature),
        })
    }
}

fn labels_of(variants: &[Labelling]) -> Vec<Arc<str>> {
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
    variants: Vec<Labelling>,
    steps: Vec<sweep::Step>,
    corrupted: Option<Corrupted>,
    labels: Vec<Arc<str>>,
    out: Option<Folder>,
    /// Of wrong images, on stdout.
    annotations: Option<Box<dyn RecordWriter + Send>>,
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
            annotations: (args.results.format == Some(Format::Github))
                .then(|| output::writer(Format::Github, stdout(Format::Github), Style::plain()))
                .transpose()?,
            page: Page::create(args, session, dataset, &labels.variants)?,
            keep: args.results.top_k.map_or(usize::MAX, |k| k as usize),
            labels: labels_of(&labels.variants),
            corrupted: (args.against.corrupt).then(|| {
                Corrupted::new(&labels.variants, session.checkpoint.architecture.embed_dim)
            }),
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
        temperature: f32,
        failed: u64,
    ) -> Result<Evaluation> {
        let how = Resampling {
            seed: args.against.seed,
            ..Resampling::default()
        };
        let findings = Findings {
            dataset: self.dataset,
            variants: &self.variants,
            sweep: &self.steps,
            corrupted: self.corrupted.as_ref(),
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
            if let Some(corrupted) = &mut self.corrupted {
                corrupted.count(&self.variants, &mut embeddings, &classes)?;
            }
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
        if self.out.is_none() && self.annotations.is_none() {
            return Ok(());
        }
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
            Err(error) => (Err(FailureKind::Decode.else_this(&error)), Vec::new()),
        };
        let record = Record {
            warnings,
            target: Some(self.labels[self.variants[0].label_of_class[one.class]].clone()),
            ..Record::new(one.image, outcome)
        };
        if let Some(annotations) = &mut self.annotations {
            match annotations.write(&record) {
                // As for summaries: files and the status of the gate do not depend on a reader.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.annotations = None,
                written => written.context("cannot write the results to stdout")?,
            }
        }
        match &mut self.out {
            Some(out) => out.write(&record),
            None => Ok(()),
        }
    }

    /// After a signal: keeps predictions but no figures, which would be mistaken for those of the
    /// whole dataset.
    fn keep_partial(self, console: &Console) -> Result<()> {
        self.out.map_or(Ok(()), |out| out.keep_partial(console))
    }
}
