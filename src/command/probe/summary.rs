//! The summary on stdout.

use anyhow::Result;
use serde::Serialize;

use super::ResultArgs;
use crate::output::evaluation::Figures;
use crate::output::evaluation::{Hyperparameters, ProbeEvaluation};
use crate::output::table::{Column, TextTable, percent};
use crate::output::{Format, MARK, json};
use crate::run::Console;
use crate::run::figures::lowest_recall;
use crate::run::results::{Destination, rendered, to_stdout};

/// The first column of all tables.
const NAME: Column = Column::LEFT.exactly(24);

/// Prints it in the requested format.
pub(super) fn print(
    evaluation: &ProbeEvaluation,
    results: &ResultArgs,
    console: &Console,
) -> Result<()> {
    let text = match Destination::stdout().usual(results.format, Format::Json) {
        Format::Jsonl => {
            let mut lines = Vec::new();
            for row in rows(evaluation) {
                lines.extend(json::printable(&row)?);
                lines.push(b'\n');
            }
            String::from_utf8(lines)?
        }
        Format::Csv => {
            let start = if results.bom { MARK } else { &[] };
            let mut writer = csv::Writer::from_writer(start.to_vec());
            for row in rows(evaluation) {
                writer.serialize(row)?;
            }
            String::from_utf8(writer.into_inner()?)?
        }
        format => rendered(evaluation, format, table)?,
    };
    console.around(|| to_stdout(&text))
}

/// One classifier; missing values are empty.
#[derive(Default, Serialize)]
struct ClassifierRow {
    classifier: &'static str,
    shots: Option<usize>,
    seed: Option<u64>,
    /// The number of training images.
    train: usize,
    acc1: Option<f64>,
    l2: Option<f64>,
    blend: Option<f64>,
    alpha: Option<f64>,
    beta: Option<f64>,
}

impl ClassifierRow {
    fn with(self, numbers: &Hyperparameters) -> Self {
        Self {
            l2: numbers.l2,
            blend: numbers.blend,
            alpha: numbers.alpha,
            beta: numbers.beta,
            ..self
        }
    }
}

/// The zero-shot classifier, each draw, and the final probe.
fn rows(evaluation: &ProbeEvaluation) -> Vec<ClassifierRow> {
    let zero_shot = evaluation.zero_shot.iter().map(|figures| ClassifierRow {
        classifier: "zero-shot",
        acc1: Some(figures.acc1),
        ..ClassifierRow::default()
    });
    let draws = evaluation.shots.iter().flat_map(|row| {
        row.draws.iter().map(|draw| {
            let filled = ClassifierRow {
                classifier: "few-shot",
                shots: Some(row.shots),
                seed: Some(draw.seed),
                train: draw.train,
                acc1: Some(draw.acc1),
                ..ClassifierRow::default()
            };
            filled.with(&draw.numbers)
        })
    });
    let probe = ClassifierRow {
        classifier: "probe",
        // Validation images are added to the training images after scoring.
        train: match evaluation.scored_on {
            Some("validation") => evaluation.images.train,
            _ => evaluation.images.fitted,
        },
        acc1: evaluation.figures.as_ref().map(|figures| figures.acc1),
        ..ClassifierRow::default()
    };
    zero_shot
        .chain(draws)
        .chain([probe.with(&evaluation.numbers)])
        .collect()
}

fn table(evaluation: &ProbeEvaluation) -> String {
    let mut facts = TextTable::new([NAME, Column::LEFT]);
    facts.fact("probe", &described(evaluation));
    let counts = &evaluation.images;
    let mut images = format!("{} of {} classes", counts.fitted, evaluation.classes);
    if counts.validation > 0 {
        images += &format!("; {} for validation", counts.validation);
    }
    if counts.test > 0 {
        images += &format!("; {} for testing", counts.test);
    }
    facts.fact("images", &images);
    if counts.failed > 0 {
        facts.fact("failed", &format!("{} (not counted above)", counts.failed));
    }
    let mut text = facts.plain();
    if let Some(figures) = &evaluation.figures {
        text += &accuracies(evaluation, figures);
        if let Some(hardest) = lowest_recall(&evaluation.per_class, NAME) {
            text += &format!("\n{hardest}");
        }
    }
    if let Some(file) = &evaluation.file {
        let mut written = TextTable::new([NAME, Column::LEFT]);
        written.fact("written to", file);
        text += &format!("\n{}", written.plain());
    }
    text
}

/// The accuracy of the zero-shot classifier, of the draws and of the probe.
fn accuracies(evaluation: &ProbeEvaluation, figures: &Figures) -> String {
    let mut table = TextTable::new([NAME, Column::RIGHT.at_least(7), Column::LEFT]);
    let is_spread = evaluation.shots.iter().any(|row| row.draws.len() > 1);
    let spread = if is_spread {
        " (±: standard deviation)"
    } else {
        ""
    };
    let on = evaluation.scored_on.unwrap_or_default();
    let heading = format!("95% interval{spread}, on the {on} images");
    table.row(["", "top-1", &heading]);
    if let Some(zero_shot) = &evaluation.zero_shot {
        add_accuracy(&mut table, "zero-shot", zero_shot);
    }
    for row in &evaluation.shots {
        let name = match row.shots {
            1 => "1 image per class".to_owned(),
            shots => format!("{shots} images per class"),
        };
        let spread = match row.draws.len() {
            1 => "one draw".to_owned(),
            count => format!("± {} over {count} draws", percent(row.deviation)),
        };
        table.row([&name, &percent(row.mean), &spread]);
    }
    add_accuracy(&mut table, "probe", figures);
    table.plain()
}

fn add_accuracy(table: &mut TextTable<3>, name: &str, figures: &Figures) {
    let [low, high] = figures.acc1_interval.map(percent);
    table.row([name, &percent(figures.acc1), &format!("{low} to {high}")]);
}

/// The method and its hyperparameters, in short.
fn described(evaluation: &ProbeEvaluation) -> String {
    let numbers = &evaluation.numbers;
    if let (Some(alpha), Some(beta)) = (numbers.alpha, numbers.beta) {
        return format!("Tip-Adapter, alpha {alpha}, beta {beta}");
    }
    let mut text = "logistic regression".to_owned();
    if evaluation.init == "zero-shot" {
        text += " from the zero-shot classifier";
    }
    if let Some(l2) = numbers.l2 {
        text += &format!(", l2 {l2:.3e} (C {:.3e})", 1.0 / l2);
    }
    if let Some(share) = numbers.blend {
        text += &format!(", blended {share:.2} : {:.2} with zero-shot", 1.0 - share);
    }
    text
}
