//! The summary of an evaluation on stdout.

use crate::output::evaluation::{CorruptionRow, Evaluation, Recalls, RetrievalEvaluation};
use crate::output::table::{Column, TextTable, percent};
use crate::run::figures::{LISTED, lowest_recall};

/// The first column of all tables.
const NAME: Column = Column::LEFT.exactly(30);
/// A column of shares.
const SHARE: Column = Column::RIGHT.at_least(7);

/// Three decimals; scientific notation for small values.
fn p_value(p: f64) -> String {
    if p < 0.001 {
        format!("{p:.1e}")
    } else {
        format!("{p:.3}")
    }
}

fn interval([low, high]: [f64; 2]) -> String {
    format!("{} to {}", percent(low), percent(high))
}

/// A classification's figures.
pub(super) fn classification(evaluation: &Evaluation) -> String {
    let mut parts = vec![figures(evaluation)];
    parts.extend(runs(evaluation));
    parts.extend(sweep(evaluation));
    parts.extend(corruptions(evaluation));
    parts.extend(lowest_recall(&evaluation.per_class, NAME));
    parts.extend(confusions(evaluation));
    parts.join("\n")
}

fn figures(evaluation: &Evaluation) -> String {
    let figures = &evaluation.figures;
    let mut table = TextTable::new([NAME, Column::LEFT]);
    if let [first, _, ..] = &evaluation.compare[..] {
        table.text(&format!("{}, the first run:", first.name));
    }
    let accuracy = percent(figures.acc1);
    let ends = interval(figures.acc1_interval);
    table.fact("top-1 accuracy", &format!("{accuracy}  (95%: {ends})"));
    // With five labels or fewer, top-5 accuracy is always 1.
    if evaluation.labels.count > 5 {
        table.fact("top-5 accuracy", &percent(figures.acc5));
    }
    let recall = percent(figures.mean_per_class_recall);
    table.fact("mean per-class recall", &recall);
    let f1 = percent(evaluation.macro_average.f1);
    table.fact("mean per-class F1", &f1);
    let error = format!("{} over 15 bins", percent(figures.ece));
    table.fact("calibration error", &error);
    let classes = evaluation.per_class.iter();
    let classes = classes.filter(|class| class.support > 0).count();
    table.fact("images", &format!("{} of {classes} classes", figures.n));
    add_failed(&mut table, evaluation.failed);
    table.plain()
}

fn add_failed(table: &mut TextTable<2>, failed: u64) {
    if failed > 0 {
        table.fact("failed", &format!("{failed} (not counted above)"));
    }
}

/// The accuracy by text length.
fn sweep(evaluation: &Evaluation) -> Option<String> {
    let steps = &evaluation.truncate_sweep;
    let mut table = TextTable::new([NAME, SHARE, Column::RIGHT.at_least(7)]);
    table.row(["texts cut to", "top-1", "cut"]);
    for step in steps {
        table.row([
            &format!("  {} tokens", step.tokens),
            &percent(step.figures.acc1),
            &step.cut.to_string(),
        ]);
    }
    (!steps.is_empty()).then(|| table.plain())
}

/// The accuracy by corruption and strength, a table per run.
fn corruptions(evaluation: &Evaluation) -> Vec<String> {
    let runs = evaluation.corruptions.chunk_by(|a, b| a.run == b.run);
    let table = |rows: &[CorruptionRow]| {
        let mut table = TextTable::new([NAME, SHARE, SHARE, SHARE, SHARE, SHARE, SHARE]);
        table.row([&rows[0].run, "1", "2", "3", "4", "5", "mean"]);
        for rows in rows.chunk_by(|a, b| a.corruption == b.corruption) {
            let mean = rows.iter().map(|row| row.figures.acc1).sum::<f64>() / rows.len() as f64;
            let cells: Vec<String> = (rows.iter().map(|row| row.figures.acc1))
                .chain([mean])
                .map(percent)
                .collect();
            if let [a, b, c, d, e, mean] = &cells[..] {
                table.row([&format!("  {}", rows[0].corruption), a, b, c, d, e, mean]);
            }
        }
        table.plain()
    };
    runs.map(table).collect()
}

/// The most frequent confusions.
fn confusions(evaluation: &Evaluation) -> Option<String> {
    let worst = &evaluation.worst_confusions;
    let mut table = TextTable::new([NAME, Column::RIGHT, Column::LEFT]);
    table.row(["most confused", "count", "predicted as"]);
    for mistake in worst.iter().take(LISTED) {
        table.row([
            &format!("  {}", mistake.target),
            &mistake.count.to_string(),
            &mistake.predicted,
        ]);
    }
    (!worst.is_empty()).then(|| table.plain())
}

/// The runs of a comparison, and the difference of every pair.
fn runs(evaluation: &Evaluation) -> Vec<String> {
    if evaluation.compare.is_empty() {
        return Vec::new();
    }
    let mut table = TextTable::new([NAME, SHARE, Column::RIGHT, SHARE, SHARE]);
    table.row(["run", "top-1", "95% interval", "top-5", "ECE"]);
    for run in &evaluation.compare {
        table.row([
            &format!("  {}", run.name),
            &percent(run.figures.acc1),
            &interval(run.figures.acc1_interval),
            &percent(run.figures.acc5),
            &percent(run.figures.ece),
        ]);
    }
    let pairs = evaluation.pairs.iter().map(|pair| {
        let [low, high] = pair.difference_interval;
        let mut table = TextTable::new([NAME, Column::LEFT]);
        table.text(&format!(
            "{} vs {}: {:+.2} points ({:+.2} to {:+.2}), {} won, {} lost, McNemar p = {} ({})",
            pair.second,
            pair.first,
            pair.difference * 100.0,
            low * 100.0,
            high * 100.0,
            pair.won,
            pair.lost,
            p_value(pair.mcnemar_p),
            pair.mcnemar_method,
        ));
        for change in pair.changed.iter().take(LISTED) {
            let won = change.won as i64 - change.lost as i64;
            table.row([
                &format!("  {}", change.class),
                &format!("{won:+} of {}", change.support),
            ]);
        }
        table.plain()
    });
    std::iter::once(table.plain()).chain(pairs).collect()
}

/// A retrieval's figures.
pub(super) fn retrieval(evaluation: &RetrievalEvaluation) -> String {
    let Recalls {
        image_at_1,
        image_at_5,
        image_at_10,
        image_retrieval_median_rank,
        text_at_1,
        text_at_5,
        text_at_10,
        text_retrieval_median_rank,
    } = evaluation.recalls;
    let mut table = TextTable::new([NAME, SHARE, SHARE, SHARE, Column::RIGHT]);
    table.text(&evaluation.protocol);
    table.text("");
    table.row(["", "R@1", "R@5", "R@10", "median rank"]);
    table.row([
        "  text to image",
        &percent(image_at_1),
        &percent(image_at_5),
        &percent(image_at_10),
        &image_retrieval_median_rank.to_string(),
    ]);
    table.row([
        "  image to text",
        &percent(text_at_1),
        &percent(text_at_5),
        &percent(text_at_10),
        &text_retrieval_median_rank.to_string(),
    ]);
    let mut failed = TextTable::new([NAME, Column::LEFT]);
    add_failed(&mut failed, evaluation.failed);
    let steps = &evaluation.truncate_sweep;
    let mut sweep = TextTable::new([NAME, SHARE, SHARE, Column::RIGHT.at_least(7)]);
    if !steps.is_empty() {
        sweep.text("");
        sweep.row([
            "captions cut to",
            "text to image R@1",
            "image to text R@1",
            "cut",
        ]);
    }
    for step in steps {
        sweep.row([
            &format!("  {} tokens", step.tokens),
            &percent(step.recalls.image_at_1),
            &percent(step.recalls.text_at_1),
            &step.cut.to_string(),
        ]);
    }
    table.plain() + &failed.plain() + &sweep.plain()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_p_values_keep_their_size() {
        let cases = [(0.5, "0.500"), (0.001, "0.001"), (0.000_42, "4.2e-4")];
        for (p, expected) in cases {
            assert_eq!(p_value(p), expected);
        }
    }
}
