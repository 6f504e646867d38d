//! The summary on stdout.

use std::io::IsTerminal as _;

use anyhow::Result;
use serde::Serialize;

use super::{ResultArgs, SummaryFormat};
use crate::output::MARK;
use crate::output::evaluation::Figures;
use crate::output::learning::{Numbers, ProbeEvaluation};
use crate::output::text::{padded, printable};
use crate::run::Console;
use crate::run::results::to_stdout;

/// Classes listed in the table.
const LISTED: usize = 5;

/// Prints it in the requested format.
pub(super) fn print(
    evaluation: &ProbeEvaluation,
    results: &ResultArgs,
    console: &Console,
) -> Result<()> {
    let format = match results.format {
        Some(format) => format,
        None if std::io::stdout().is_terminal() => SummaryFormat::Table,
        None => SummaryFormat::Json,
    };
    let text = match format {
        SummaryFormat::Table => table(evaluation),
        SummaryFormat::Json => serde_json::to_string_pretty(evaluation)? + "\n",
        SummaryFormat::Jsonl => {
            let lines = rows(evaluation)
                .into_iter()
                .map(|row| serde_json::to_string(&row));
            lines.collect::<Result<Vec<_>, _>>()?.join("\n") + "\n"
        }
        SummaryFormat::Csv => {
            let start = if results.bom { MARK } else { &[] };
            let mut writer = csv::Writer::from_writer(start.to_vec());
            for row in rows(evaluation) {
                writer.serialize(row)?;
            }
            String::from_utf8(writer.into_inner()?)?
        }
    };
    console.around(|| to_stdout(&text))
}

/// One classifier; missing values are empty.
#[derive(Default, Serialize)]
struct Row {
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

impl Row {
    fn with(self, numbers: &Numbers) -> Self {
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
fn rows(evaluation: &ProbeEvaluation) -> Vec<Row> {
    let zero_shot = evaluation.zero_shot.iter().map(|figures| Row {
        classifier: "zero-shot",
        acc1: Some(figures.acc1),
        ..Row::default()
    });
    let draws = evaluation.shots.iter().flat_map(|row| {
        row.draws.iter().map(|draw| {
            let filled = Row {
                classifier: "few-shot",
                shots: Some(row.shots),
                seed: Some(draw.seed),
                train: draw.train,
                acc1: Some(draw.acc1),
                ..Row::default()
            };
            filled.with(&draw.numbers)
        })
    });
    let probe = Row {
        classifier: "probe",
        // Validation images are added to the training images after scoring.
        train: match evaluation.scored_on {
            Some("validation") => evaluation.images.train,
            _ => evaluation.images.fitted,
        },
        acc1: evaluation.figures.as_ref().map(|figures| figures.acc1),
        ..Row::default()
    };
    zero_shot
        .chain(draws)
        .chain([probe.with(&evaluation.numbers)])
        .collect()
}

fn percent(share: f64) -> String {
    format!("{:.2}%", share * 100.0)
}

fn table(evaluation: &ProbeEvaluation) -> String {
    let mut lines = String::new();
    let mut line = |name: &str, value: &str| {
        lines += &format!("{}  {value}\n", padded(&printable(name), 24));
    };
    line("probe", &described(evaluation));
    let counts = &evaluation.images;
    let mut images = format!("{} of {} classes", counts.fitted, evaluation.classes);
    if counts.validation > 0 {
        images += &format!("; {} for validation", counts.validation);
    }
    if counts.test > 0 {
        images += &format!("; {} for testing", counts.test);
    }
    line("images", &images);
    if counts.failed > 0 {
        line("failed", &format!("{} (not counted above)", counts.failed));
    }
    if let Some(figures) = &evaluation.figures {
        let on = evaluation.scored_on.unwrap_or_default();
        let is_spread = evaluation.shots.iter().any(|row| row.draws.len() > 1);
        let spread = if is_spread {
            " (±: standard deviation)"
        } else {
            ""
        };
        line(
            "",
            &format!("  top-1  95% interval{spread}, on the {on} images"),
        );
        if let Some(zero_shot) = &evaluation.zero_shot {
            line("zero-shot", &accuracy(zero_shot));
        }
        for row in &evaluation.shots {
            let name = match row.shots {
                1 => "1 image per class".to_owned(),
                shots => format!("{shots} images per class"),
            };
            let (count, deviation) = (row.draws.len(), percent(row.deviation));
            let shown = match count {
                1 => format!("{:>7}  one draw", percent(row.mean)),
                _ => format!("{:>7}  ± {deviation} over {count} draws", percent(row.mean)),
            };
            line(&name, &shown);
        }
        line("probe", &accuracy(figures));
        for (name, value) in hardest(evaluation) {
            line(&name, &value);
        }
    }
    if let Some(file) = &evaluation.file {
        line("", "");
        line("written to", &printable(file));
    }
    let trimmed = lines.lines().map(|line| line.trim_end().to_owned() + "\n");
    trimmed.collect()
}

/// The classes with the lowest recall, as lines.
fn hardest(evaluation: &ProbeEvaluation) -> Vec<(String, String)> {
    let classes = evaluation.per_class.iter();
    let mut hard: Vec<_> = classes.filter(|row| row.support > 0).collect();
    hard.sort_by(|a, b| a.recall.total_cmp(&b.recall));
    let heading = " recall  precision  images".to_owned();
    let mut lines = vec![
        (String::new(), String::new()),
        ("lowest recall".to_owned(), heading),
    ];
    for class in hard.iter().take(LISTED) {
        let (recall, precision) = (percent(class.recall), percent(class.precision));
        let numbers = format!("{recall:>7}    {precision:>7}  {:>8}", class.support);
        lines.push((format!("  {}", class.label), numbers));
    }
    lines
}

fn accuracy(figures: &Figures) -> String {
    let [low, high] = figures.acc1_interval;
    let (acc1, low, high) = (percent(figures.acc1), percent(low), percent(high));
    format!("{acc1:>7}  {low} to {high}")
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
