//! The page of `--report` for a classification.

use std::collections::HashMap;

use anyhow::Result;

use super::EvaluateArgs;
use super::facts::Findings;
use crate::input::corrupt::STRENGTHS;
use crate::input::dataset::Labelled;
use crate::output::evaluation::{CorruptionRow, Evaluation};
use crate::output::report::{
    Axis, Change, Chart, LabelScore, PageHead, PageKind, PageSummary, Point, ReportWriter,
    RunComparison, Scale, Series,
};
use crate::output::{self, ImageName};
use crate::run::labelling::Labelling;
use crate::run::pipeline::Known;
use crate::run::report::{self, add_tally, count, headline, share};
use crate::run::session::Session;
use crate::task::zero_shot::ClassScore;

/// Labels shown per image.
const SHOWN: usize = 5;

/// The page being written.
pub(super) struct Page {
    writer: ReportWriter,
    /// For each label of each set, its index on the page; sets share the labels of classes.
    labels: Vec<Vec<usize>>,
    /// For each class, the index of its label on the page.
    label_of_class: Vec<usize>,
}

impl Page {
    /// Starts the page, if requested.
    pub(super) fn create(
        args: &EvaluateArgs,
        session: &Session,
        dataset: &Labelled,
        variants: &[Labelling],
    ) -> Result<Option<Self>> {
        let Some(path) = &args.results.report else {
            return Ok(None);
        };
        let (names, labels) = shared_labels(variants);
        let main = &variants[0];
        let facts = vec![
            ("Labels", main.facts.source.clone()),
            ("Labels SHA-256", main.facts.sha256.clone()),
            ("Templates", main.facts.templates.clone()),
        ];
        let lead = format!(
            "{} images of {} classes, {} labels",
            dataset.samples.len(),
            dataset.classes.len(),
            main.labels.len()
        );
        let head = PageHead {
            kind: match variants {
                [_] => PageKind::Evaluation,
                _ => PageKind::RunComparison,
            },
            title: report::title(&args.dataset),
            lead,
            labels: names,
            score: output::Score::Probability,
            facts: report::run_facts(session, facts)?,
        };
        Ok(Some(Self {
            writer: ReportWriter::create(path, &head)?,
            label_of_class: main.label_of_class.clone(),
            labels,
        }))
    }

    /// Adds an image; `scores` are those of each label set.
    pub(super) fn image(
        &mut self,
        image: &ImageName,
        class: usize,
        outcome: &Result<Known>,
        scores: &[Vec<ClassScore>],
    ) -> Result<()> {
        let answer = |labels: &[usize], score: &ClassScore| LabelScore {
            label: labels[score.class],
            score: score.probability.unwrap_or(0.0),
        };
        let mut image = report::image(image, outcome);
        image.targets = vec![self.label_of_class[class]];
        if let Some(first) = scores.first() {
            let shown = first.iter().take(SHOWN);
            image.predictions = shown.map(|score| answer(&self.labels[0], score)).collect();
        }
        if scores.len() > 1 {
            let best = scores.iter().zip(&self.labels);
            image.runs = best
                .map(|(scores, labels)| answer(labels, &scores[0]))
                .collect();
        }
        self.writer.image(&image)
    }

    /// Writes the page.
    pub(super) fn finish(self, findings: &Findings<'_>, evaluation: &Evaluation) -> Result<()> {
        let main = &findings.variants[0];
        let figures = &evaluation.figures;
        let mut shown = headline(figures);
        shown.insert(1, share("Top-5 accuracy", figures.acc5));
        shown.push(count("Images", figures.n as u64));
        if evaluation.failed > 0 {
            shown.push(count("Failed", evaluation.failed));
        }
        let mut summary = PageSummary {
            notes: report::notes(&evaluation.provenance.model.name),
            figures: shown,
            comparison: (findings.variants.len() > 1)
                .then(|| comparison(findings, evaluation, &self.label_of_class)),
            charts: (sweep_chart(evaluation).into_iter())
                .chain(corruption_charts(evaluation))
                .collect(),
            ..PageSummary::default()
        };
        // The labels of the page begin with those of the first set.
        add_tally(&mut summary, &main.tally, &evaluation.per_class)?;
        self.writer.finish(&summary)
    }
}

/// One list of labels for all sets, and the indices of each set's labels in it. A label of a class
/// is the first set's label of that class, whatever other sets call it.
fn shared_labels(variants: &[Labelling]) -> (Vec<String>, Vec<Vec<usize>>) {
    let main = &variants[0];
    let mut names = main.labels.clone();
    let mut place_of: HashMap<String, usize> = HashMap::new();
    for (place, name) in names.iter().enumerate() {
        place_of.entry(name.clone()).or_insert(place);
    }
    let mut shared = vec![(0..names.len()).collect()];
    for variant in &variants[1..] {
        let mut places: Vec<Option<usize>> = vec![None; variant.labels.len()];
        for (class, &label) in variant.label_of_class.iter().enumerate() {
            places[label] = Some(main.label_of_class[class]);
        }
        let mut place = |(label, known): (&String, Option<usize>)| {
            known.unwrap_or_else(|| {
                *place_of.entry(label.clone()).or_insert_with(|| {
                    names.push(label.clone());
                    names.len() - 1
                })
            })
        };
        shared.push(variant.labels.iter().zip(places).map(&mut place).collect());
    }
    (names, shared)
}

fn comparison(
    findings: &Findings<'_>,
    evaluation: &Evaluation,
    label_of_class: &[usize],
) -> RunComparison {
    let recalls: Vec<Vec<f64>> = (findings.variants.iter())
        .map(|variant| {
            let figures = variant.tally.per_class();
            let of_class = variant.label_of_class.iter();
            of_class.map(|&label| figures[label].recall()).collect()
        })
        .collect();
    let support = findings.variants[0].tally.per_class();
    let mut changes: Vec<Change> = (0..label_of_class.len())
        .map(|class| Change {
            label: label_of_class[class],
            support: support[label_of_class[class]].support as u64,
            recalls: recalls.iter().map(|recalls| recalls[class]).collect(),
        })
        .filter(|change| spread(change) > 0.0)
        .collect();
    changes.sort_by(|a, b| spread(b).total_cmp(&spread(a)));
    RunComparison {
        runs: evaluation.compare.clone(),
        pairs: evaluation.pairs.clone(),
        changes,
    }
}

/// How much the runs differ on a class, in images.
fn spread(change: &Change) -> f64 {
    let largest = change.recalls.iter().copied().fold(0.0, f64::max);
    let least = change.recalls.iter().copied().fold(1.0, f64::min);
    (largest - least) * change.support as f64
}

/// Mean accuracy by strength with a line per run, then each run's with a line per corruption.
fn corruption_charts(evaluation: &Evaluation) -> Vec<Chart> {
    let rows = &evaluation.corruptions;
    let runs: Vec<&[CorruptionRow]> = rows.chunk_by(|a, b| a.run == b.run).collect();
    let clean = |run: &str| {
        let compared = evaluation.compare.iter().find(|row| row.name == run);
        Point::new(
            0.0,
            compared
                .map_or(&evaluation.figures, |row| &row.figures)
                .acc1,
        )
    };
    let line = |row: &CorruptionRow| {
        let point = Point::new(row.strength as f64, row.figures.acc1);
        point.between(row.figures.acc1_interval)
    };
    let mean = |rows: &[CorruptionRow]| {
        let mut points = vec![clean(&rows[0].run)];
        for strength in 1..=STRENGTHS {
            let of_strength = rows.iter().filter(|row| row.strength == strength);
            let accuracies: Vec<f64> = of_strength.map(|row| row.figures.acc1).collect();
            let mean = accuracies.iter().sum::<f64>() / accuracies.len().max(1) as f64;
            points.push(Point::new(strength as f64, mean));
        }
        points
    };
    let chart = |title: String, caption: &str, series: Vec<Series>| Chart {
        title,
        caption: caption.to_owned(),
        x: Axis::new("Strength (0: as it is)", Scale::Linear),
        y: Axis::new("Top-1 accuracy", Scale::Percent),
        series,
    };
    let mut charts = Vec::new();
    if runs.len() > 1 {
        let series = runs
            .iter()
            .map(|rows| Series::new(&rows[0].run, mean(rows)));
        charts.push(chart(
            "Accuracy by corruption strength".to_owned(),
            "Top-1 accuracy, the mean over noise, blur, JPEG, brightness and contrast.",
            series.collect(),
        ));
    }
    charts.extend(runs.iter().map(|rows| {
        let of_kind = |rows: &[CorruptionRow]| {
            let points = std::iter::once(clean(&rows[0].run)).chain(rows.iter().map(line));
            Series::new(rows[0].corruption, points.collect())
        };
        let kinds = rows.chunk_by(|a, b| a.corruption == b.corruption);
        chart(
            format!("Accuracy by corruption: {}", rows[0].run),
            "Top-1 accuracy with each corruption at each strength, with 95% intervals.",
            kinds.map(of_kind).collect(),
        )
    }));
    charts
}

fn sweep_chart(evaluation: &Evaluation) -> Option<Chart> {
    let steps = &evaluation.truncate_sweep;
    let points = steps.iter().map(|step| {
        let point = Point::new(step.tokens as f64, step.figures.acc1);
        point.between(step.figures.acc1_interval)
    });
    (!steps.is_empty()).then(|| Chart {
        title: "Accuracy by text length".to_owned(),
        caption: "Top-1 accuracy with every text cut to this many tokens, including start and end."
            .to_owned(),
        x: Axis::new("Tokens per text", Scale::Linear),
        y: Axis::new("Top-1 accuracy", Scale::Percent),
        series: vec![Series::new("Top-1 accuracy", points.collect())],
    })
}
