//! The page of `--report` for a retrieval.

use std::path::Path;

use anyhow::Result;

use super::super::EvaluateArgs;
use crate::input::dataset::Captioned;
use crate::output::evaluation::{RecallSweepRow, Recalls, RetrievalEvaluation};
use crate::output::report::{
    Axis, Chart, PageHead, PageImage, PageKind, PageSummary, Point, ReportWriter, Scale, Series,
};
use crate::output::{self, ImageName};
use crate::run::pipeline::Known;
use crate::run::report::{self, count, share};
use crate::run::session::Session;

/// The head of the page.
pub(super) fn head(
    args: &EvaluateArgs,
    session: &Session,
    dataset: &Captioned,
    evaluation: &RetrievalEvaluation,
) -> Result<PageHead> {
    let facts = vec![
        ("Protocol", evaluation.protocol.clone()),
        ("Long captions", evaluation.long_text.clone()),
    ];
    Ok(PageHead {
        kind: PageKind::Retrieval,
        title: report::title(&args.dataset),
        lead: format!(
            "{} images and {} captions",
            evaluation.images, evaluation.texts
        ),
        labels: dataset.texts.clone(),
        score: output::Score::Cosine,
        facts: report::run_facts(session, facts)?,
    })
}

/// Writes the page, with recalls and every image with its captions.
pub(super) fn write(
    path: &Path,
    head: &PageHead,
    dataset: &Captioned,
    images: &[(ImageName, Result<Known>)],
    evaluation: &RetrievalEvaluation,
) -> Result<()> {
    let mut captions_of = vec![Vec::new(); dataset.images.len()];
    for (text, &image) in dataset.image_of_text.iter().enumerate() {
        captions_of[image].push(text);
    }
    let mut writer = ReportWriter::create(path, head)?;
    for ((image, outcome), captions) in images.iter().zip(captions_of) {
        writer.image(&PageImage {
            targets: captions,
            ..report::image(image, outcome)
        })?;
    }
    writer.finish(&summary(evaluation))
}

fn summary(evaluation: &RetrievalEvaluation) -> PageSummary {
    let recalls = &evaluation.recalls;
    PageSummary {
        notes: report::notes(&evaluation.provenance.model.name),
        figures: vec![
            share("Text to image, R@1", recalls.image_at_1),
            share("Image to text, R@1", recalls.text_at_1),
            count("Images", evaluation.images as u64),
            count("Captions", evaluation.texts as u64),
        ],
        retrieval: Some(evaluation.clone()),
        charts: sweep_chart(&evaluation.truncate_sweep)
            .into_iter()
            .collect(),
        ..PageSummary::default()
    }
}

fn sweep_chart(steps: &[RecallSweepRow]) -> Option<Chart> {
    let series = |name: &str, value: fn(&Recalls) -> f64| {
        let points = steps.iter();
        let points = points.map(|step| Point::new(step.tokens as f64, value(&step.recalls)));
        Series::new(name, points.collect())
    };
    (!steps.is_empty()).then(|| Chart {
        title: "Recall by caption length".to_owned(),
        caption: "R@1 with every caption cut to this many tokens, including start and \
            end."
            .to_owned(),
        x: Axis::new("Tokens per caption", Scale::Linear),
        y: Axis::new("R@1", Scale::Percent),
        series: vec![
            series("text to image", |recalls| recalls.image_at_1),
            series("image to text", |recalls| recalls.text_at_1),
        ],
    })
}
