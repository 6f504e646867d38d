//! The page of `--report`.

use anyhow::Result;

use super::ProbeArgs;
use super::findings::Findings;
use super::gather::Gathered;
use crate::output;
use crate::output::evaluation::ProbeEvaluation;
use crate::output::report::{
    Axis, Chart, LabelScore, PageHead, PageImage, PageKind, PageSummary, Point, ReportWriter,
    Scale, Series,
};
use crate::run::report::{self, accuracy, add_tally, count, headline};

/// Writes the page, if requested.
pub(super) fn write(
    args: &ProbeArgs,
    gathered: &Gathered,
    found: &Findings,
    evaluation: &ProbeEvaluation,
) -> Result<()> {
    let Some(path) = &args.results.report else {
        return Ok(());
    };
    let mut writer = ReportWriter::create(path, &head(args, gathered, evaluation))?;
    for (image, class, answers) in found.scored.iter().flat_map(|scored| &scored.images) {
        let answer = |score: &crate::task::zero_shot::ClassScore| LabelScore {
            label: score.class,
            score: score.probability.unwrap_or(0.0),
        };
        writer.image(&PageImage {
            predictions: answers.iter().map(answer).collect(),
            targets: vec![*class],
            ..PageImage::clone(image)
        })?;
    }
    writer.finish(&summary(args, found, evaluation)?)
}

fn head(args: &ProbeArgs, gathered: &Gathered, evaluation: &ProbeEvaluation) -> PageHead {
    let model = &evaluation.model;
    let mut facts = vec![
        ("Model".to_owned(), model.name.clone()),
        ("Model SHA-256".to_owned(), model.sha256.clone()),
        ("Precision".to_owned(), model.precision.clone()),
        ("longclip".to_owned(), evaluation.version.to_owned()),
        ("Method".to_owned(), evaluation.method.to_owned()),
    ];
    let numbers = &evaluation.numbers;
    let mut fact = |name: &str, value: Option<f64>| {
        if let Some(value) = value {
            facts.push((name.to_owned(), format!("{value:.4}")));
        }
    };
    fact("L2", numbers.l2);
    fact("C = 1 / L2", numbers.c);
    fact(
        "Weight of the trained classifier in the blend",
        numbers.blend,
    );
    fact("Alpha", numbers.alpha);
    fact("Beta", numbers.beta);
    if let Some(labels) = &evaluation.labels {
        facts.push(("Labels".to_owned(), labels.source.clone()));
        facts.push(("Templates".to_owned(), labels.templates.clone()));
    }
    report::push_arguments(&mut facts);
    PageHead {
        kind: PageKind::Probe,
        title: report::title(&args.data.data),
        lead: format!(
            "Probe of {} classes, trained on {} images",
            evaluation.classes, evaluation.images.fitted
        ),
        labels: gathered.labels.clone(),
        score: output::Score::Probability,
        facts,
    }
}

fn summary(
    args: &ProbeArgs,
    found: &Findings,
    evaluation: &ProbeEvaluation,
) -> Result<PageSummary> {
    let mut notes = report::notes(&evaluation.model.name);
    let mut shown = Vec::new();
    if let Some(figures) = &evaluation.figures {
        shown = headline(figures);
        if let Some(zero_shot) = &evaluation.zero_shot {
            shown.insert(1, accuracy("Zero-shot", zero_shot));
        }
    }
    shown.push(count("Training images", evaluation.images.fitted as u64));
    if evaluation.images.failed > 0 {
        shown.push(count("Failed", evaluation.images.failed));
    }
    if evaluation.scored_on == Some("validation") {
        let counts = &evaluation.images;
        let mut note = format!(
            "There are no test images: figures are those of a probe trained on {} images, on {} \
             held-out images.",
            counts.train, counts.validation
        );
        if args.recipe().chooses() {
            note += " These also chose the hyperparameters, so the figures are slightly \
                optimistic.";
        }
        notes.push(note);
    }
    let charts = [shots_chart(evaluation), strength_chart(evaluation)];
    let mut summary = PageSummary {
        notes,
        figures: shown,
        charts: charts.into_iter().flatten().collect(),
        ..PageSummary::default()
    };
    if let Some(scored) = &found.scored {
        add_tally(&mut summary, &scored.tally, &evaluation.per_class)?;
    }
    Ok(summary)
}

/// Accuracy by number of shots, with the zero-shot accuracy as a line.
fn shots_chart(evaluation: &ProbeEvaluation) -> Option<Chart> {
    let rows = &evaluation.shots;
    if rows.is_empty() {
        return None;
    }
    let trained = rows.iter().map(|row| {
        let point = Point::new(row.shots as f64, row.mean);
        let (low, high) = (row.mean - row.deviation, row.mean + row.deviation);
        match row.draws.len() {
            0 | 1 => point,
            _ => point.between((low.max(0.0), high.min(1.0))),
        }
    });
    let name = match evaluation.method {
        "tip-adapter" => "Tip-Adapter",
        _ => "Probe",
    };
    let mut series = vec![Series::new(name, trained.collect())];
    let mut flat = |name: &str, acc1: f64| {
        let points = rows.iter().map(|row| Point::new(row.shots as f64, acc1));
        series.push(Series::new(name, points.collect()));
    };
    if let Some(zero_shot) = &evaluation.zero_shot {
        flat("Zero-shot", zero_shot.acc1);
    }
    if let Some(figures) = &evaluation.figures {
        flat("All images", figures.acc1);
    }
    let draws = rows[0].draws.len();
    Some(Chart {
        title: "Accuracy by images per class".to_owned(),
        caption: format!(
            "Top-1 accuracy on the {} images: the mean of {draws} draw{}. Error bars are one \
             standard deviation.",
            evaluation.scored_on.unwrap_or("test"),
            if draws == 1 { "" } else { "s" },
        ),
        x: Axis::new("Images per class", Scale::Logarithmic),
        y: Axis::new("Top-1 accuracy", Scale::Percent),
        series,
    })
}

/// Validation accuracy by the penalties that were tried.
fn strength_chart(evaluation: &ProbeEvaluation) -> Option<Chart> {
    let tried = &evaluation.strengths;
    let points = tried.iter().map(|one| Point::new(one.value, one.acc1));
    (!tried.is_empty()).then(|| Chart {
        title: "Choice of the L2 penalty".to_owned(),
        caption: "Top-1 accuracy on the validation images, which the probe has not seen. Of \
                  equally accurate penalties, the one with the lowest loss is used."
            .to_owned(),
        x: Axis::new("L2 penalty", Scale::Logarithmic),
        y: Axis::new("Validation accuracy", Scale::Percent),
        series: vec![Series::new("Validation", points.collect())],
    })
}
