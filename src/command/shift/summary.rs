//! The findings as a sentence and as text.

use super::record::{Change, Shift};
use crate::output::table::{Column, TextTable, percent};

/// A difference that chance makes at most this often counts.
const LEVEL: f64 = 0.05;
/// Labels listed, those with the smallest p first.
const LISTED: usize = 10;

/// The first column of all tables.
const NAME: Column = Column::LEFT.exactly(30);
/// A column of shares.
const SHARE: Column = Column::RIGHT.at_least(7);

/// Three decimals; scientific notation for small values.
pub(super) fn p_value(p: f64) -> String {
    match p < 5e-4 {
        true => format!("{p:.1e}"),
        false => format!("{p:.3}"),
    }
}

/// An interval of shares.
pub(super) fn interval([low, high]: [f64; 2]) -> String {
    format!("{} to {}", percent(low), percent(high))
}

/// Whole percent, or one decimal below 10%, as a sentence has it.
fn short(share: f64) -> String {
    match (share * 100.0).round() {
        rounded if rounded >= 10.0 || share == 0.0 => format!("{rounded}%"),
        _ => format!("{:.1}%", share * 100.0),
    }
}

/// The findings in one sentence.
pub(super) fn sentence(found: &Shift) -> String {
    let p = p_value(found.mmd.p);
    let mut parts = vec![match found.mmd.p <= LEVEL {
        true => format!("B differs from A (p = {p})"),
        false => format!("no difference between A and B was found (p = {p})"),
    }];
    if let Some(accuracy) = &found.accuracy {
        parts.push(match accuracy.b {
            Some(b) => format!("accuracy {b:.2}, was {:.2}", accuracy.a),
            None => format!(
                "expected accuracy {:.2}, was {:.2}",
                accuracy.atc, accuracy.a
            ),
        });
    }
    let changes = found
        .answers
        .as_ref()
        .map(|answers| ranked(&answers.per_label));
    if let Some(most) = changes.and_then(|all| all.first().copied())
        && most.p_holm <= LEVEL
    {
        let [a, b] = most.shares.map(short);
        parts.push(format!("label {:?} {a} -> {b}", most.label));
    }
    parts.join("; ")
}

/// The labels by their p, ties by the size of the change.
pub(super) fn ranked(all: &[Change]) -> Vec<&Change> {
    let mut ranked: Vec<&Change> = all.iter().collect();
    let size = |change: &Change| (change.shares[1] - change.shares[0]).abs();
    ranked.sort_by(|x, y| x.p.total_cmp(&y.p).then(size(y).total_cmp(&size(x))));
    ranked
}

/// The sentence, and all figures as tables.
pub(super) fn text(found: &Shift) -> String {
    let mut head = TextTable::new([Column::LEFT]);
    head.text(&found.summary);
    let mut parts = vec![head.plain(), figures(found)];
    parts.extend(pictures(found));
    if let Some(answers) = &found.answers {
        parts.extend(changes("answer", &answers.per_label));
    }
    parts.extend(shares(found));
    let measured = found
        .accuracy
        .as_ref()
        .and_then(|all| all.measured.as_ref());
    if let Some(measured) = measured {
        parts.extend(changes("recall", &measured.per_label));
    }
    parts.join("\n")
}

fn figures(found: &Shift) -> String {
    let mut table = TextTable::new([NAME, Column::LEFT]);
    for (name, set) in [("A", &found.a), ("B", &found.b)] {
        let failed = match set.failed {
            0 => String::new(),
            failed => format!(", {failed} failed"),
        };
        table.fact(
            name,
            &format!("{} ({} images{failed})", set.path, set.images),
        );
    }
    let mmd = &found.mmd;
    table.fact(
        "same distribution (MMD)",
        &format!(
            "p = {}  (MMD\u{b2} {:.6}, {} permutations)",
            p_value(mmd.p),
            mmd.squared,
            mmd.permutations
        ),
    );
    table.fact("CMMD", &format!("{:.4}", found.cmmd.value));
    table.fact(
        "Fr\u{e9}chet distance",
        &format!("{:.4}", found.frechet.value),
    );
    if let Some(c2st) = &found.c2st {
        table.fact(
            "separated (C2ST)",
            &format!(
                "{} of held-out images, AUC {:.3}, p = {}",
                percent(c2st.accuracy),
                c2st.auc,
                p_value(c2st.p)
            ),
        );
    }
    if found.duplicates.of_b > 0 {
        let text = format!("{} images of B", found.duplicates.of_b);
        table.fact("also in A", &text);
    }
    if let Some(answers) = &found.answers {
        table.fact(
            "answers changed",
            &format!(
                "{}  (95%: {}), chi\u{b2} p = {}",
                percent(answers.total_variation),
                interval(answers.total_variation_interval),
                p_value(answers.p)
            ),
        );
    }
    if let Some(accuracy) = &found.accuracy {
        table.fact("accuracy on A", &percent(accuracy.a));
        table.fact("expected on B (ATC)", &percent(accuracy.atc));
        table.fact("expected on B (DoC)", &percent(accuracy.doc));
        if let Some((b, measured)) = accuracy.b.zip(accuracy.measured.as_ref()) {
            let ends = interval(measured.interval);
            let drop = percent(measured.drop);
            table.fact(
                "accuracy on B",
                &format!("{}, a drop of {drop}  (95%: {ends})", percent(b)),
            );
        }
        if let Some(robustness) = &accuracy.effective_robustness {
            table.fact(
                "effective robustness",
                &format!(
                    "{:+.2} points over {} expected from {} models",
                    robustness.value * 100.0,
                    percent(robustness.expected),
                    robustness.models
                ),
            );
        }
    }
    table.plain()
}

/// The statistics of the pictures.
fn pictures(found: &Shift) -> Option<String> {
    let pictures = found.pictures.as_ref()?;
    let mut table = TextTable::new([NAME, SHARE, SHARE, Column::RIGHT]);
    table.row(["median of pictures", "A", "B", "p (Holm)"]);
    for row in &pictures.per_statistic {
        let digits = if row.medians[0] >= 2.0 { 0 } else { 4 };
        let [a, b] = row.medians.map(|median| format!("{median:.digits$}"));
        table.row([&format!("  {}", row.name), &a, &b, &p_value(row.p_holm)]);
    }
    Some(table.plain())
}

/// The labels that changed most.
fn changes(what: &str, all: &[Change]) -> Option<String> {
    let mut table = TextTable::new([NAME, SHARE, SHARE, Column::RIGHT, Column::RIGHT]);
    table.row([what, "A", "B", "95% interval", "p (Holm)"]);
    let ranked = ranked(all);
    for change in ranked.iter().take(LISTED) {
        let [a, b] = change.shares.map(percent);
        table.row([
            &format!("  {}", change.label),
            &a,
            &b,
            &interval(change.interval),
            &p_value(change.p_holm),
        ]);
    }
    if ranked.len() > LISTED {
        table.text(&format!("  {} more labels", ranked.len() - LISTED));
    }
    (!ranked.is_empty()).then(|| table.plain())
}

/// The estimated label shares of B, those that changed most first.
fn shares(found: &Shift) -> Option<String> {
    let all = &found.label_shares.as_ref()?.per_label;
    let mut ranked: Vec<_> = all.iter().filter(|share| share.a > 0.0).collect();
    let change = |at: usize| (ranked[at].em - ranked[at].a).abs();
    let mut order: Vec<usize> = (0..ranked.len()).collect();
    order.sort_by(|&x, &y| change(y).total_cmp(&change(x)));
    ranked = order.iter().map(|&at| ranked[at]).collect();
    let mut table = TextTable::new([NAME, SHARE, SHARE, SHARE, SHARE]);
    table.row(["true label", "A", "B: BBSE", "B: EM", "B: true"]);
    let shown = |share: Option<f64>| share.map_or("-".to_owned(), percent);
    for share in ranked.iter().take(LISTED) {
        table.row([
            &format!("  {}", share.label),
            &percent(share.a),
            &shown(share.bbse),
            &percent(share.em),
            &shown(share.b),
        ]);
    }
    if ranked.len() > LISTED {
        table.text(&format!("  {} more labels", ranked.len() - LISTED));
    }
    Some(table.plain())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_shares_keep_a_decimal() {
        for (share, expected) in [(0.0, "0%"), (0.034, "3.4%"), (0.1, "10%"), (0.555, "56%")] {
            assert_eq!(short(share), expected);
        }
    }
}
