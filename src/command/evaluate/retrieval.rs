//! Pictures with captions: which finds which.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};

use super::{CaptionLines, EvaluateArgs, facts, files, summary, sweep};
use crate::command::images::{PICTURES, Running};
use crate::command::pipeline::{Known, Plan};
use crate::command::remembered::{self, Engine, Remembered};
use crate::command::report::{self, count, model_facts};
use crate::command::session::{Session, Stop};
use crate::command::texts::Fitter;
use crate::command::{Console, Outcome};
use crate::input::dataset::{self, CaptionOptions, Captioned, Lines};
use crate::input::paths::ImageSource;
use crate::input::tokenizer::{Fitted, LongText};
use crate::model::DualEncoder;
use crate::output::evaluation::{RecallSweepRow, Recalls, RetrievalEvaluation};
use crate::output::report::{
    Axis, Chart, Direction, Head, Kind, Picture, Point, ReportWriter, Retrieval as Shown, Scale,
    Series, Summary,
};
use crate::output::{self, ImageName};
use crate::task::retrieval::{Pairs, Retrieval, retrieve};
use crate::task::text_embedding::TextEmbeddings;

/// Captions that are encoded together.
const TOGETHER: usize = 256;
/// Depths that are told.
const DEPTHS: [usize; 3] = [1, 5, 10];

/// Evaluates captions.
pub(super) fn run(args: &EvaluateArgs, console: &Console) -> Result<Outcome> {
    let dataset = dataset::captioned(&args.dataset, &options(args), PICTURES)?;
    console.note(&dataset.protocol);
    let policy = args.labels.long.policy()?;
    let cache = remembered::folder(&args.cache)?;
    let session = Arc::new(Session::open(&args.model, console)?);
    let context_length = session.checkpoint.architecture.context_length;
    let texts = fit(&dataset, Fitter::new(context_length, policy, console))?;
    let lengths = sweep::lengths(&args.against.truncate_sweep, context_length, console);
    let cut = lengths.iter().map(|&tokens| {
        let fitter = Fitter::silent(tokens, LongText::Truncate);
        Ok((tokens, fit(&dataset, fitter)?))
    });
    let cut = cut.collect::<Result<Vec<_>>>()?;

    let thumbnails = args.results.report.as_ref().map(|_| report::THUMBNAIL);
    let plan = Plan::new(&session, &args.model, &args.pictures).thumbnails(thumbnails);
    let memory = cache.map(|folder| Remembered::open(&folder, session.clone(), &plan));
    let memory = memory.transpose()?;
    let sources = dataset
        .images
        .iter()
        .map(|path| Ok(ImageSource::Path(path.clone())));
    let images = Running::of(
        sources.collect(),
        plan.memory(memory.clone()),
        Stop::default(),
    );
    let engine = Engine::new(&session, memory, console)?;
    images.give(engine.encoder.clone());
    let mut pictures: Vec<(ImageName, Result<Known>)> = Vec::new();
    let counts = images.for_each(console, |encoded| {
        pictures.push((encoded.image, encoded.outcome));
        Ok(())
    })?;
    let outcome = counts.outcome(console);
    if counts.signal.is_some() || counts.answered == 0 {
        engine.finish(console);
        return Ok(outcome);
    }
    let kept = Kept::new(&dataset, &pictures)?;
    console.note(&format!("encoding {} captions", kept.texts.len()));
    let retrieval = kept.retrieve(engine.encoder.as_ref(), &texts)?;
    let mut steps = Vec::new();
    for (tokens, texts) in &cut {
        let found = kept.retrieve(engine.encoder.as_ref(), texts)?;
        steps.push(RecallSweepRow {
            tokens: *tokens,
            cut: kept.cut(texts),
            recalls: recalls(&found),
        });
    }
    engine.finish(console);
    session.checkpoint.unchanged()?;
    let evaluation = RetrievalEvaluation {
        task: "retrieval",
        recalls: recalls(&retrieval),
        images: kept.images,
        texts: kept.texts.len(),
        failed: counts.failed,
        protocol: dataset.protocol.clone(),
        long_text: policy.name().to_owned(),
        truncate_sweep: steps,
        provenance: facts::provenance(args, &session)?,
    };
    write_page(args, &session, (&dataset, &pictures), &evaluation)?;
    if let Some(folder) = &args.results.out {
        write_folder(folder, &dataset, &kept, &retrieval, &evaluation)?;
    }
    summary::retrieval(&evaluation, args.results.format, console)?;
    Ok(outcome)
}

fn options(args: &EvaluateArgs) -> CaptionOptions {
    CaptionOptions {
        lines: match args.captions.caption_lines {
            CaptionLines::Whole => Lines::Whole,
            CaptionLines::First => Lines::First,
        },
        most: args.captions.captions_per_image.map(|most| most as usize),
        images: args.captions.images.clone(),
        split: args.captions.split.clone(),
    }
}

fn fit(dataset: &Captioned, mut fitter: Fitter<'_>) -> Result<Vec<Fitted>> {
    let numbered = (1..).zip(&dataset.texts);
    let fitted = numbered.map(|(place, text)| fitter.fit(&format!("caption {place}"), text));
    let fitted = fitted.collect::<Result<_>>();
    fitter.finish();
    fitted
}

/// The pictures that could be read, and their captions.
struct Kept {
    images: usize,
    dim: usize,
    /// [images, dim].
    embeddings: Vec<f32>,
    /// The captions, counted in the dataset's order.
    texts: Vec<usize>,
    /// The picture of each, counted among those kept.
    image_of_text: Vec<usize>,
}

impl Kept {
    fn new(dataset: &Captioned, pictures: &[(ImageName, Result<Known>)]) -> Result<Self> {
        let mut kept = Self {
            images: 0,
            dim: 0,
            embeddings: Vec::new(),
            texts: Vec::new(),
            image_of_text: Vec::new(),
        };
        let mut place_of = Vec::with_capacity(pictures.len());
        for (_, outcome) in pictures {
            let known = outcome.as_ref().ok();
            place_of.push(known.map(|_| kept.images));
            if let Some(known) = known {
                kept.dim = known.embedding.len();
                kept.embeddings.extend_from_slice(&known.embedding);
                kept.images += 1;
            }
        }
        for (text, &image) in dataset.image_of_text.iter().enumerate() {
            if let Some(Some(place)) = place_of.get(image) {
                kept.texts.push(text);
                kept.image_of_text.push(*place);
            }
        }
        ensure!(
            !kept.texts.is_empty(),
            "no picture that could be read has a caption"
        );
        Ok(kept)
    }

    /// Encodes the captions and ranks everything against everything.
    fn retrieve(&self, model: &dyn DualEncoder, texts: &[Fitted]) -> Result<Retrieval> {
        let wanted: Vec<Fitted> = self.texts.iter().map(|&text| texts[text].clone()).collect();
        let mut rows = Vec::new();
        let mut text_of_row = Vec::new();
        for part in wanted.chunks(TOGETHER) {
            let encoded =
                TextEmbeddings::encode(model, part).context("cannot encode the captions")?;
            for (text, embeddings) in
                (text_of_row.last().map_or(0, |last| last + 1)..).zip(encoded.texts())
            {
                rows.extend_from_slice(embeddings);
                text_of_row.extend(std::iter::repeat_n(text, embeddings.len() / self.dim));
            }
        }
        let one_each = text_of_row.len() == self.texts.len();
        retrieve(&Pairs {
            images: &self.embeddings,
            texts: &rows,
            dim: self.dim,
            image_of_text: &self.image_of_text,
            text_of_row: (!one_each).then_some(&text_of_row),
        })
    }

    /// How many of the captions were cut.
    fn cut(&self, texts: &[Fitted]) -> usize {
        let cut = self.texts.iter().filter(|&&text| texts[text].cut.is_some());
        cut.count()
    }
}

fn recalls(found: &Retrieval) -> Recalls {
    let (image, text) = (&found.image_of_text, &found.text_of_image);
    let [image_at_1, image_at_5, image_at_10] = DEPTHS.map(|k| image.recall(k));
    let [text_at_1, text_at_5, text_at_10] = DEPTHS.map(|k| text.recall(k));
    Recalls {
        image_at_1,
        image_at_5,
        image_at_10,
        image_retrieval_median_rank: image.median(),
        text_at_1,
        text_at_5,
        text_at_10,
        text_retrieval_median_rank: text.median(),
    }
}

/// `ranks.csv`, a row a caption with the place of its image, and `results.json`.
fn write_folder(
    folder: &std::path::Path,
    dataset: &Captioned,
    kept: &Kept,
    found: &Retrieval,
    evaluation: &RetrievalEvaluation,
) -> Result<()> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let path = folder.join("ranks.csv");
    let file = output::file::AtomicFile::create(&path)?;
    let write = || -> Result<()> {
        let mut writer = csv::Writer::from_writer(file.sink()?);
        writer.write_record(["image", "caption", "rank_of_image"])?;
        for (&text, rank) in kept.texts.iter().zip(&found.image_of_text.0) {
            let image = dataset.images[dataset.image_of_text[text]].to_string_lossy();
            writer.write_record([&*image, &dataset.texts[text], &rank.to_string()])?;
        }
        Ok(writer.flush()?)
    };
    write().with_context(|| format!("cannot write {}", path.display()))?;
    file.commit()?;
    files::write_json(&folder.join("results.json"), evaluation)
}

fn write_page(
    args: &EvaluateArgs,
    session: &Session,
    (dataset, pictures): (&Captioned, &[(ImageName, Result<Known>)]),
    evaluation: &RetrievalEvaluation,
) -> Result<()> {
    let Some(path) = &args.results.report else {
        return Ok(());
    };
    let mut facts = model_facts(session)?;
    facts.push(("Protocol".to_owned(), evaluation.protocol.clone()));
    facts.push(("Long captions".to_owned(), evaluation.long_text.clone()));
    report::push_arguments(&mut facts);
    let head = Head {
        kind: Kind::Retrieval,
        title: report::title(&args.dataset),
        lead: format!(
            "{} pictures and {} captions",
            evaluation.images, evaluation.texts
        ),
        labels: dataset.texts.clone(),
        score: output::Score::Cosine,
        facts,
    };
    let mut captions_of = vec![Vec::new(); dataset.images.len()];
    for (text, &image) in dataset.image_of_text.iter().enumerate() {
        captions_of[image].push(text);
    }
    let mut writer = ReportWriter::create(path, &head)?;
    for ((image, outcome), captions) in pictures.iter().zip(captions_of) {
        writer.picture(&Picture {
            targets: captions,
            ..report::picture(image, outcome)
        })?;
    }
    let recalls = &evaluation.recalls;
    let direction = |name: &str, queries: usize, at: [f64; 3]| Direction {
        name: name.to_owned(),
        queries: queries as u64,
        recalls: DEPTHS.into_iter().zip(at).collect(),
    };
    writer.finish(&Summary {
        notes: report::notes(&evaluation.provenance.model.name),
        figures: vec![
            report::share("Text to image, R@1", recalls.image_at_1, None),
            report::share("Image to text, R@1", recalls.text_at_1, None),
            count("Pictures", evaluation.images as u64),
            count("Captions", evaluation.texts as u64),
        ],
        retrieval: Some(Shown {
            protocol: evaluation.protocol.clone(),
            directions: vec![
                direction(
                    "pictures for a caption",
                    evaluation.texts,
                    [recalls.image_at_1, recalls.image_at_5, recalls.image_at_10],
                ),
                direction(
                    "captions for a picture",
                    evaluation.images,
                    [recalls.text_at_1, recalls.text_at_5, recalls.text_at_10],
                ),
            ],
        }),
        charts: sweep_chart(&evaluation.truncate_sweep)
            .into_iter()
            .collect(),
        ..Summary::default()
    })
}

fn sweep_chart(steps: &[RecallSweepRow]) -> Option<Chart> {
    let series = |name: &str, value: fn(&Recalls) -> f64| Series {
        name: name.to_owned(),
        points: (steps.iter())
            .map(|step| Point {
                x: step.tokens as f64,
                y: value(&step.recalls),
                interval: None,
            })
            .collect(),
    };
    (!steps.is_empty()).then(|| Chart {
        title: "Recall by length of the captions".to_owned(),
        caption: "R@1 with every caption cut to so many tokens, start and end included.".to_owned(),
        x: Axis {
            title: "Tokens of a caption".to_owned(),
            scale: Scale::Linear,
        },
        y: Axis {
            title: "R@1".to_owned(),
            scale: Scale::Percent,
        },
        series: vec![
            series("text to image", |recalls| recalls.image_at_1),
            series("image to text", |recalls| recalls.text_at_1),
        ],
    })
}
