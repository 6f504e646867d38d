//! Reads or computes the embeddings of both sets, and the answers of the labels.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};

use super::ShiftArgs;
use super::set::{Set, Source};
use crate::embedding::About;
use crate::file::memory;
use crate::model::Towers;
use crate::output::evaluation::LabelFacts;
use crate::run::calibration::Calibration;
use crate::run::engine::Engine;
use crate::run::images::{Counts, IMAGES, Running};
use crate::run::labelling::{LabelSource, Labelling};
use crate::run::made_with::about_images;
use crate::run::session::{Session, Stop, start_threads};
use crate::run::texts::Fitter;
use crate::run::{Console, Outcome, report};
use crate::task::shift::accuracy::Answer;

/// Images classified per matrix product.
const TOGETHER: usize = 128;
/// Maximum deviation of an embedding's length from 1: rounding to 16 bits, with a margin.
const TOLERANCE: f64 = 2e-3;

/// The images of a set.
#[derive(Default)]
pub(super) struct Read {
    /// [images, dim], unit length.
    pub(super) rows: Vec<f32>,
    /// The label of each image, if all are known.
    pub(super) truths: Option<Vec<usize>>,
    /// Images that could not be read.
    pub(super) failed: u64,
    /// The files of images that this run read.
    pub(super) files: Vec<PathBuf>,
}

/// Both sets.
pub(super) struct Gathered {
    pub(super) sets: [Read; 2],
    pub(super) dim: usize,
    /// What made the embeddings, if that is known.
    pub(super) about: Option<About>,
    pub(super) answers: Option<Answers>,
}

/// What the labels say of all images.
pub(super) struct Answers {
    pub(super) facts: LabelFacts,
    /// The labels, followed by the none label.
    pub(super) labels: Vec<String>,
    pub(super) sets: [Vec<Answer>; 2],
    /// The probabilities of B [images, labels].
    pub(super) probabilities: Vec<f32>,
}

/// How gathering ended.
pub(super) enum Gathering {
    /// With two sets.
    Done(Box<Gathered>),
    /// Without, by a signal or because no image could be read.
    Ended(Outcome),
}

/// Opens both sets and reads them.
pub(super) fn gather(args: &ShiftArgs, stop: &Stop, console: &Console) -> Result<Gathering> {
    let sets = [
        Set::open(&args.a, args.has_labels(), console)?,
        Set::open(&args.b, args.has_labels(), console)?,
    ];
    let labels = args
        .has_labels()
        .then(|| Labels::new(args, &sets, console))
        .transpose()?;
    if labels.is_none() && sets.iter().all(|set| set.embedded().is_some()) {
        return embedded(args, &sets, stop, console);
    }
    encoded(args, sets, labels, stop, console)
}

/// The labels, and the label of each class of the sets.
struct Labels {
    labelling: Labelling,
    places: [Option<Vec<usize>>; 2],
}

impl Labels {
    fn new(args: &ShiftArgs, sets: &[Set; 2], console: &Console) -> Result<Self> {
        let source = LabelSource::new(&args.a, &args.labelling);
        // The class map is for the classes of the sets, which come later.
        let unmapped = LabelSource {
            class_map: None,
            ..source
        };
        let labelling = unmapped.labelling(&[], console)?;
        let mut places = [None, None];
        for (set, places) in sets.iter().zip(&mut places) {
            let Some(classes) = set.classes() else {
                continue;
            };
            match source.places(&labelling, classes, console) {
                Ok(found) => *places = Some(found),
                Err(error) => console.note(&format!(
                    "{} counts as images without true labels: {error:#}",
                    set.path.display()
                )),
            }
        }
        if places[0].is_none() {
            let flag = match (&args.test.baseline, args.results.max_drop) {
                (Some(_), _) => Some("--baseline"),
                (None, Some(_)) => Some("--max-drop"),
                (None, None) => None,
            };
            if let Some(flag) = flag {
                bail!(
                    "{flag} needs the accuracy on A, but {} has no true labels; put its images \
                     into one folder per label",
                    args.a.display()
                );
            }
        }
        ensure!(
            args.test.baseline.is_none() || places[1].is_some(),
            "--baseline needs the accuracy on B, but {} has no true labels; put its images into \
             one folder per label",
            args.b.display()
        );
        Ok(Self { labelling, places })
    }
}

/// Without a model: both sets are embedded, and nothing is labelled.
fn embedded(
    args: &ShiftArgs,
    sets: &[Set; 2],
    stop: &Stop,
    console: &Console,
) -> Result<Gathering> {
    start_threads(&args.engine.model)?;
    let dims = sets
        .each_ref()
        .map(|set| set.embedded().map_or(0, |one| one.file.dim()));
    let about = match sets.each_ref().map(Set::made_with) {
        [Some(a), Some(b)] => {
            a.check_same(&b)?;
            a.warn_difference(&args.b.display().to_string(), b.about, console);
            Some(a.about.clone())
        }
        _ => {
            ensure!(
                dims[0] == dims[1],
                "{} has rows of {} numbers and {} of {}, so that different models made them; embed \
                 both with the same one",
                args.a.display(),
                dims[0],
                args.b.display(),
                dims[1]
            );
            console.note(
                "a file does not say which model made it; if it was another one, the sets differ \
                 for that reason",
            );
            None
        }
    };
    let notes = about.iter().flat_map(|about| report::notes(&about.model));
    notes.for_each(|note| console.note(&note));
    stop.listen()?;
    let [a, b] = sets;
    Ok(Gathering::Done(Box::new(Gathered {
        sets: [read(a, dims[0], None)?, read(b, dims[0], None)?],
        dim: dims[0],
        about,
        answers: None,
    })))
}

/// With a model, for images or labels.
fn encoded(
    args: &ShiftArgs,
    sets: [Set; 2],
    labels: Option<Labels>,
    stop: &Stop,
    console: &Console,
) -> Result<Gathering> {
    let calibration = Calibration::read(&args.calibration)?;
    let cache = args.engine.cache.folder()?;
    let model = match sets.iter().find_map(Set::made_with) {
        Some(file) => file.model(&args.engine, console)?,
        None => args.engine.model.clone(),
    };
    let mut matrices = sets.iter().filter_map(Set::foreign);
    matrices.try_for_each(|matrix| matrix.check_choice(args.engine.choice))?;
    let session = Session::open(&model, console)?;
    for file in sets.iter().filter_map(Set::made_with) {
        file.check_dim(&session)?;
        file.check_model(&session)?;
    }
    for matrix in sets.iter().filter_map(Set::foreign) {
        matrix.check_dim(&session)?;
        matrix.report(&session, console);
    }
    let about = about_images(&session, &args.engine)?;
    for file in sets.iter().filter_map(Set::made_with) {
        file.warn_difference("the images of this run", &about, console);
    }
    let engine = Engine::new(&session, args.engine.decoding(&session))
        .guesses(labels.is_some())
        .towers(match labels {
            Some(_) => Towers::Both,
            None => Towers::Image,
        })
        .cached(cache)?;
    let (mut labelling, places) = match labels {
        Some(labels) => (Some(labels.labelling), labels.places),
        None => (None, [None, None]),
    };
    if let Some(labelling) = &mut labelling {
        let policy = args.labelling.labels.long.policy()?;
        let mut fitter = Fitter::new(&session, policy, console);
        labelling.fit(&mut fitter)?;
        fitter.finish();
        let temperature = match &calibration {
            Some(known) => known.temperature_for(&session, &labelling.facts.sha256, console)?,
            None => 1.0,
        };
        labelling.encode(engine.load(console)?.as_ref(), temperature)?;
    }
    session.checkpoint.unchanged()?;
    let dim = session.checkpoint.architecture.embed_dim;
    let mut found = Vec::new();
    for (set, places) in sets.into_iter().zip(places) {
        let read = if set.embedded().is_some() {
            read(&set, dim, places)?
        } else {
            let (read, counts) = encode(set.source, places, &engine, stop, console)?;
            if counts.signal.is_some() || read.rows.is_empty() {
                engine.finish(console);
                let outcome = counts.outcome(console);
                ensure!(
                    outcome != Outcome::Answered,
                    "no image was found in {}",
                    set.path.display()
                );
                return Ok(Gathering::Ended(outcome));
            }
            read
        };
        found.push(read);
    }
    engine.finish(console);
    let sets: [Read; 2] = found.try_into().ok().context("there are two sets")?;
    let answers = labelling
        .map(|labelling| Answers::new(&labelling, &sets, dim))
        .transpose()?;
    Ok(Gathering::Done(Box::new(Gathered {
        sets,
        dim,
        about: Some(about),
        answers,
    })))
}

/// Encodes the images of a set.
fn encode(
    source: Source,
    places: Option<Vec<usize>>,
    engine: &Engine,
    stop: &Stop,
    console: &Console,
) -> Result<(Read, Counts)> {
    let (running, classes) = match source {
        Source::Images(images) => (images.start(engine, stop.clone()), Vec::new()),
        Source::Dataset(dataset) => {
            let classes = dataset.samples.iter().map(|sample| sample.class).collect();
            let sources = dataset.stream(IMAGES)?;
            (Running::of(sources, engine, stop.clone()), classes)
        }
        Source::Embedded(_) => bail!("the set is embedded already"),
    };
    let mut read = Read {
        truths: places.as_ref().map(|_| Vec::new()),
        ..Read::default()
    };
    let mut next = 0;
    let counts = running.for_each(engine, console, |encoded| {
        if let Ok(known) = encoded.outcome {
            read.push(&known.embedding)?;
            read.files.extend(encoded.path);
            if let (Some(truths), Some(places)) = (&mut read.truths, &places) {
                truths.push(places[classes[next]]);
            }
        }
        next += 1;
        Ok(())
    })?;
    read.failed = counts.failed;
    Ok((read, counts))
}

/// Reads a file of embeddings of `dim` numbers.
fn read(set: &Set, dim: usize, places: Option<Vec<usize>>) -> Result<Read> {
    let embedded = set.embedded().context("the set is not embedded")?;
    ensure!(
        embedded.file.dim() == dim,
        "the rows do not have {dim} numbers"
    );
    memory::ensure(
        (embedded.len() * dim * 4) as u64,
        &format!("the embeddings of {} need", set.path.display()),
        "compare fewer images",
    )?;
    let classes = embedded.classes.as_ref().zip(places);
    let mut read = Read {
        truths: classes.as_ref().map(|_| Vec::new()),
        ..Read::default()
    };
    embedded.for_each(&set.path, |row, vector| {
        // Rows of zeros, which are reported when the file is opened.
        if vector.iter().all(|value| value.is_nan()) {
            return Ok(());
        }
        read.push(vector).with_context(|| format!("row {row}"))?;
        if let (Some(truths), Some(((_, of), places))) = (&mut read.truths, &classes) {
            truths.push(places[of[row]]);
        }
        Ok(())
    })?;
    ensure!(
        !read.rows.is_empty(),
        "{} has only rows of zeros",
        set.path.display()
    );
    Ok(read)
}

impl Read {
    fn push(&mut self, vector: &[f32]) -> Result<()> {
        let squares: f64 = vector.iter().map(|x| f64::from(*x).powi(2)).sum();
        let length = squares.sqrt();
        ensure!(
            (length - 1.0).abs() <= TOLERANCE,
            "it has length {length} instead of 1: the file was changed or is damaged; embed again"
        );
        let unit = vector.iter().map(|x| (f64::from(*x) / length) as f32);
        self.rows.extend(unit);
        Ok(())
    }
}

impl Answers {
    fn new(labelling: &Labelling, sets: &[Read; 2], dim: usize) -> Result<Self> {
        let labels = labelling.labels.clone();
        let mut answers = Self {
            facts: labelling.facts.clone(),
            sets: [Vec::new(), Vec::new()],
            probabilities: Vec::new(),
            labels,
        };
        let wants_all = sets[0].truths.is_some();
        for (which, set) in sets.iter().enumerate() {
            for rows in set.rows.chunks(TOGETHER * dim) {
                for scores in labelling.classify(rows)? {
                    let best = scores.first().context("an image has no scores")?.class;
                    let mut all = vec![0.0; scores.len()];
                    for score in scores {
                        all[score.class] = score.probability.unwrap_or(0.0);
                    }
                    let at = answers.sets[which].len();
                    answers.sets[which].push(Answer {
                        label: best,
                        confidence: f64::from(all[best]),
                        negative_entropy: negative_entropy(&all),
                        truth: set.truths.as_ref().map(|truths| truths[at]),
                    });
                    if which == 1 && wants_all {
                        answers.probabilities.extend(all);
                    }
                }
            }
        }
        Ok(answers)
    }
}

fn negative_entropy(probabilities: &[f32]) -> f64 {
    let all = probabilities.iter().map(|p| f64::from(*p));
    all.filter(|p| *p > 0.0).map(|p| p * p.ln()).sum()
}
