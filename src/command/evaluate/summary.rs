//! The summary of an evaluation on stdout.

use std::io::IsTerminal as _;

use anyhow::Result;
use serde::Serialize;

use super::SummaryFormat;
use crate::output::evaluation::{Evaluation, Figures, Recalls, RetrievalEvaluation};
use crate::output::text::{padded, printable};
use crate::run::Console;
use crate::run::results::to_stdout;

/// Classes and confusions listed in the table.
const LISTED: usize = 5;

/// Prints a classification's figures.
pub(super) fn classification(
    evaluation: &Evaluation,
    format: Option<SummaryFormat>,
    console: &Console,
) -> Result<()> {
    print(evaluation, format, console, classification_table)
}

/// Prints a retrieval's figures.
pub(super) fn retrieval(
    evaluation: &RetrievalEvaluation,
    format: Option<SummaryFormat>,
    console: &Console,
) -> Result<()> {
    print(evaluation, format, console, retrieval_table)
}

fn print<T: Serialize>(
    value: &T,
    format: Option<SummaryFormat>,
    console: &Console,
    table: fn(&T) -> String,
) -> Result<()> {
    let to_terminal = std::io::stdout().is_terminal();
    let text = match format {
        Some(SummaryFormat::Table) => table(value),
        None if to_terminal => table(value),
        _ => serde_json::to_string_pretty(value)? + "\n",
    };
    console.around(|| to_stdout(&text))
}

/// Three decimals; scientific notation for small values.
fn p_value(p: f64) -> String {
    if p < 0.001 {
        format!("{p:.1e}")
    } else {
        format!("{p:.3}")
    }
}

fn percent(share: f64) -> String {
    format!("{:.2}%", share * 100.0)
}

fn classification_table(evaluation: &Evaluation) -> String {
    let figures = &evaluation.figures;
    let mut lines = Lines::default();
    if let [first, _, ..] = &evaluation.compare[..] {
        lines.0 += &format!("{}, the first run:\n", printable(&first.name));
    }
    let [low, high] = figures.acc1_interval;
    lines.figure(
        "top-1 accuracy",
        &format!(
            "{}  (95%: {} to {})",
            percent(figures.acc1),
            percent(low),
            percent(high)
        ),
    );
    // With five labels or fewer, top-5 accuracy is always 1.
    if evaluation.labels.count > 5 {
        lines.figure("top-5 accuracy", &percent(figures.acc5));
    }
    lines.figure(
        "mean per-class recall",
        &percent(figures.mean_per_class_recall),
    );
    lines.figure("mean per-class F1", &percent(evaluation.macro_average.f1));
    lines.figure(
        "calibration error",
        &format!("{} over 15 bins", percent(figures.ece)),
    );
    let classes = evaluation
        .per_class
        .iter()
        .filter(|class| class.support > 0);
    lines.figure(
        "images",
        &format!("{} of {} classes", figures.n, classes.count()),
    );
    if evaluation.failed > 0 {
        lines.figure(
            "failed",
            &format!("{} (not counted above)", evaluation.failed),
        );
    }
    runs(&mut lines, evaluation);
    sweep(&mut lines, evaluation);
    mistakes(&mut lines, evaluation);
    lines.0
}

/// The accuracy by text length.
fn sweep(lines: &mut Lines, evaluation: &Evaluation) {
    if !evaluation.truncate_sweep.is_empty() {
        lines.heading("texts cut to", "top-1      cut");
        for step in &evaluation.truncate_sweep {
            let tokens = format!("{} tokens", step.tokens);
            lines.row(
                &tokens,
                &format!("{:>7}  {:>7}", percent(step.figures.acc1), step.cut),
            );
        }
    }
}

/// The classes with the lowest recall, and the most frequent confusions.
fn mistakes(lines: &mut Lines, evaluation: &Evaluation) {
    let mut hard: Vec<_> = evaluation
        .per_class
        .iter()
        .filter(|class| class.support > 0)
        .collect();
    if hard.len() > 1 {
        hard.sort_by(|a, b| a.recall.total_cmp(&b.recall));
        lines.heading("lowest recall", "recall   precision  images");
        for class in hard.iter().take(LISTED) {
            let numbers = format!(
                "{:>7}    {:>7}  {:>8}",
                percent(class.recall),
                percent(class.precision),
                class.support
            );
            lines.row(&class.label, &numbers);
        }
    }
    if !evaluation.worst_confusions.is_empty() {
        lines.heading("most confused", "count  predicted as");
        for mistake in evaluation.worst_confusions.iter().take(LISTED) {
            let numbers = format!("{:>5}  {}", mistake.count, printable(&mistake.predicted));
            lines.row(&mistake.target, &numbers);
        }
    }
}

/// The runs of a comparison, and the difference of every pair.
fn runs(lines: &mut Lines, evaluation: &Evaluation) {
    if evaluation.compare.is_empty() {
        return;
    }
    lines.heading("run", "  top-1  95% interval        top-5    ECE");
    for run in &evaluation.compare {
        let Figures {
            acc1,
            acc5,
            ece,
            acc1_interval: [low, high],
            ..
        } = run.figures;
        let numbers = format!(
            "{:>7}  {:>7} to {:>7}  {:>7}  {:>6}",
            percent(acc1),
            percent(low),
            percent(high),
            percent(acc5),
            percent(ece)
        );
        lines.row(&run.name, &numbers);
    }
    for pair in &evaluation.pairs {
        let [low, high] = pair.difference_interval;
        lines.0 += &format!(
            "\n{} vs {}: {:+.2} points ({:+.2} to {:+.2}), {} won, {} lost, McNemar p = {} ({})\n",
            printable(&pair.second),
            printable(&pair.first),
            pair.difference * 100.0,
            low * 100.0,
            high * 100.0,
            pair.won,
            pair.lost,
            p_value(pair.mcnemar_p),
            pair.mcnemar_method,
        );
        for change in pair.changed.iter().take(LISTED) {
            let numbers = format!(
                "{:+} of {}",
                change.won as i64 - change.lost as i64,
                change.support
            );
            lines.row(&change.class, &numbers);
        }
    }
}

fn retrieval_table(evaluation: &RetrievalEvaluation) -> String {
    let mut lines = Lines::default();
    lines.0 += &format!("{}\n", printable(&evaluation.protocol));
    lines.heading("", "    R@1      R@5     R@10  median rank");
    let row = |at: [f64; 3], median: f64| {
        format!(
            "{:>7}  {:>7}  {:>7}  {median:>11}",
            percent(at[0]),
            percent(at[1]),
            percent(at[2])
        )
    };
    let Recalls {
        image_at_1,
        image_at_5,
        image_at_10,
        image_retrieval_median_rank,
        ..
    } = evaluation.recalls;
    lines.row(
        "text to image",
        &row(
            [image_at_1, image_at_5, image_at_10],
            image_retrieval_median_rank,
        ),
    );
    let Recalls {
        text_at_1,
        text_at_5,
        text_at_10,
        text_retrieval_median_rank,
        ..
    } = evaluation.recalls;
    lines.row(
        "image to text",
        &row(
            [text_at_1, text_at_5, text_at_10],
            text_retrieval_median_rank,
        ),
    );
    if evaluation.failed > 0 {
        lines.figure(
            "failed",
            &format!("{} (not counted above)", evaluation.failed),
        );
    }
    if !evaluation.truncate_sweep.is_empty() {
        lines.heading(
            "captions cut to",
            "text to image R@1  image to text R@1      cut",
        );
        for step in &evaluation.truncate_sweep {
            let numbers = format!(
                "{:>17}  {:>17}  {:>7}",
                percent(step.recalls.image_at_1),
                percent(step.recalls.text_at_1),
                step.cut
            );
            lines.row(&format!("{} tokens", step.tokens), &numbers);
        }
    }
    lines.0
}

/// Two columns of text.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn row(&mut self, name: &str, value: &str) {
        self.0 += &format!("  {}  {value}\n", padded(&printable(name), 28));
    }

    fn figure(&mut self, name: &str, value: &str) {
        self.0 += &format!("{}  {value}\n", padded(name, 30));
    }

    fn heading(&mut self, name: &str, value: &str) {
        self.0 += &format!("\n{}  {value}\n", padded(name, 30));
    }
}
