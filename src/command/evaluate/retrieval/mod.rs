//! Evaluates retrieval on images with captions.

mod page;

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};

use super::{CaptionLines, EvaluateArgs, facts, made_by, summary, sweep};
use crate::input::dataset::{self, BadCaptions, CaptionOptions, Captioned};
use crate::input::tokenizer::{Fitted, LongText};
use crate::model::DualEncoder;
use crate::output::evaluation::{RecallSweepRow, RetrievalEvaluation};
use crate::output::{IMAGE_BYTES, ImageName};
use crate::run::engine::Engine;
use crate::run::images::{IMAGES, Running};
use crate::run::pipeline::Known;
use crate::run::recalls::{Kept, recalls};
use crate::run::results::print_summary;
use crate::run::session::{Session, Stop};
use crate::run::texts::Fitter;
use crate::run::{Console, Outcome, results};
use crate::task::retrieval::Retrieval;

/// Evaluates retrieval.
pub(super) fn run(args: &EvaluateArgs, console: &Console) -> Result<Outcome> {
    let started = Instant::now();
    let dataset = dataset::captioned(&args.dataset, &options(args), IMAGES)?;
    dataset.notes.iter().for_each(|note| console.note(note));
    console.note(&dataset.protocol);
    let cache = args.engine.cache.folder()?;
    let session = Session::open(&args.engine.model, console)?;
    let captions = Captions::fit(&dataset, args, &session, console)?;
    let engine = Engine::new(&session, args.engine.decoding(&session))
        .thumbnails(args.results.report.is_some())
        .cached(cache)?;
    let stop = Stop::default();
    let images = Running::of(dataset.sources(), &engine, stop.clone());
    let model = engine.load(console)?;
    let mut answers: Vec<(ImageName, Result<Known>)> = Vec::new();
    let counts = images.for_each(&engine, console, |encoded| {
        answers.push((encoded.image, encoded.outcome));
        Ok(())
    });
    engine.finish(console);
    let counts = counts?;
    let end = |outcome| {
        let made_by = made_by(started, &session, None, false);
        args.failures.end(&made_by, &counts, outcome)
    };
    let outcome = counts.outcome(console);
    if counts.signal.is_some() || counts.answered == 0 {
        return end(outcome);
    }
    let kept = Kept::new(&dataset, &answers)?;
    console.note(&format!("encoding {} captions", kept.texts.len()));
    let found = captions.retrieve(&kept, model.as_ref(), &stop);
    engine.finish(console);
    if let Some(signal) = stop.signal() {
        return end(Outcome::Stopped(signal));
    }
    let (found, truncate_sweep) = found?;
    session.checkpoint.unchanged()?;
    let evaluation = RetrievalEvaluation {
        task: "retrieval",
        recalls: recalls(&found),
        images: kept.images,
        texts: kept.texts.len(),
        failed: counts.failed,
        protocol: dataset.protocol.clone(),
        long_text: args.labelling.labels.long.policy()?.name().to_owned(),
        truncate_sweep,
        provenance: facts::provenance(args, &session)?,
    };
    if let Some(path) = &args.results.report {
        let head = page::head(args, &session, &dataset, &evaluation)?;
        page::write(path, &head, &dataset, &answers, &evaluation)?;
    }
    if let Some(folder) = &args.results.out {
        let mark = args.results.mark();
        write_folder(folder, &dataset, &kept, &found, &evaluation, mark)?;
    }
    let format = args.results.format;
    print_summary(&evaluation, format, summary::retrieval, console)?;
    end(outcome)
}

/// All tokenised captions, whole and at each length of the sweep.
struct Captions {
    texts: Vec<Fitted>,
    cut: Vec<(usize, Vec<Fitted>)>,
}

impl Captions {
    fn fit(
        dataset: &Captioned,
        args: &EvaluateArgs,
        session: &Session,
        console: &Console,
    ) -> Result<Self> {
        let context_length = session.checkpoint.architecture.context_length;
        let policy = args.labelling.labels.long.policy()?;
        let lengths = sweep::lengths(&args.against.truncate_sweep, context_length, console);
        let cut = lengths.iter().map(|&tokens| {
            let fitter = Fitter::silent(tokens, LongText::Truncate);
            Ok((tokens, fit(dataset, fitter)?))
        });
        Ok(Self {
            cut: cut.collect::<Result<_>>()?,
            texts: fit(dataset, Fitter::new(session, policy, console))?,
        })
    }

    /// Ranks whole captions, then those of each length.
    fn retrieve(
        &self,
        kept: &Kept,
        model: &dyn DualEncoder,
        stop: &Stop,
    ) -> Result<(Retrieval, Vec<RecallSweepRow>)> {
        let found = kept.retrieve(model, &self.texts, stop)?;
        let row = |(tokens, texts): &(usize, Vec<Fitted>)| {
            Ok(RecallSweepRow {
                tokens: *tokens,
                cut: kept.cut(texts),
                recalls: recalls(&kept.retrieve(model, texts, stop)?),
            })
        };
        Ok((found, self.cut.iter().map(row).collect::<Result<_>>()?))
    }
}

fn options(args: &EvaluateArgs) -> CaptionOptions {
    CaptionOptions {
        lines: match args.captions.caption_lines {
            CaptionLines::Whole => dataset::CaptionLines::Whole,
            CaptionLines::First => dataset::CaptionLines::First,
        },
        most: args.captions.captions_per_image.map(|most| most as usize),
        images: args.captions.images.clone(),
        split: args.captions.split.clone(),
        usual_split: None,
        bad: BadCaptions::Refused,
    }
}

fn fit(dataset: &Captioned, mut fitter: Fitter<'_>) -> Result<Vec<Fitted>> {
    let numbered = (1..).zip(&dataset.texts);
    let fitted = numbered.map(|(place, text)| fitter.fit(&format!("caption {place}"), text));
    let fitted = fitted.collect::<Result<_>>();
    fitter.finish();
    fitted
}

/// Writes `ranks.csv`, with the rank of the image per caption, and `results.json`.
fn write_folder(
    folder: &Path,
    dataset: &Captioned,
    kept: &Kept,
    found: &Retrieval,
    evaluation: &RetrievalEvaluation,
    mark: &[u8],
) -> Result<()> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot create the folder {}", folder.display()))?;
    // As in classify's CSV: a last column if a path is not UTF-8.
    let has_odd_names = dataset.images.iter().any(|path| path.to_str().is_none());
    let last = |text: &str| has_odd_names.then(|| text.to_owned());
    let header = ["image", "caption", "rank_of_image"].map(str::to_owned);
    let header = header.into_iter().chain(last(IMAGE_BYTES)).collect();
    let rows = kept.texts.iter().zip(&found.image_of_text.0);
    let rows = rows.map(|(&text, rank)| {
        let path: &Path = &dataset.images[dataset.image_of_text[text]];
        let image = ImageName::from(path);
        let bytes = image.bytes_as_text().unwrap_or_default();
        let row = [image.text, dataset.texts[text].clone(), rank.to_string()];
        row.into_iter().chain(last(&bytes)).collect()
    });
    results::table(&folder.join("ranks.csv"), header, rows, mark)?.commit()?;
    results::write_json(&folder.join("results.json"), evaluation)
}
