//! The page of `--report`.

use std::path::Path;

use anyhow::Result;

use super::record::{Change, Shift};
use super::summary::{interval, p_value, ranked};
use crate::output;
use crate::output::report::{Metric, PageHead, PageKind, PageSummary, PageTable, ReportWriter};
use crate::output::table::percent;
use crate::run::report::{self, count, number, share};

/// Writes the page.
pub(super) fn write(path: &Path, found: &Shift) -> Result<()> {
    let mut facts = vec![
        (
            "A".to_owned(),
            set(&found.a.path, found.a.images, found.a.labelled),
        ),
        (
            "B".to_owned(),
            set(&found.b.path, found.b.images, found.b.labelled),
        ),
    ];
    if let Some(model) = &found.model {
        facts.push(("Model".to_owned(), model.name.clone()));
        facts.push(("Model SHA-256".to_owned(), model.sha256.clone()));
    }
    if let Some(labels) = &found.labels {
        facts.push(("Labels".to_owned(), labels.source.clone()));
        facts.push(("Templates".to_owned(), labels.templates.clone()));
    }
    facts.push(("Seed".to_owned(), found.seed.to_string()));
    facts.push(("longclip".to_owned(), found.version.to_owned()));
    report::push_arguments(&mut facts);
    let head = PageHead {
        kind: PageKind::Shift,
        title: format!(
            "{} and {}",
            report::title(found.a.path.as_ref()),
            report::title(found.b.path.as_ref())
        ),
        lead: found.summary.clone(),
        labels: Vec::new(),
        score: output::Score::Probability,
        facts,
    };
    let model = found.model.as_ref().map_or("", |model| model.name.as_str());
    let mut notes = report::notes(model);
    notes.extend(found.warnings.iter().cloned());
    ReportWriter::create(path, &head)?.finish(&PageSummary {
        notes,
        figures: figures(found),
        tables: tables(found),
        ..PageSummary::default()
    })
}

fn set(path: &str, images: usize, is_labelled: bool) -> String {
    let labels = if is_labelled { "with" } else { "without" };
    format!("{path} ({images} images {labels} true labels)")
}

fn figures(found: &Shift) -> Vec<Metric> {
    let mut figures = vec![number("p (same distribution)", found.mmd.p)];
    if let Some(accuracy) = &found.accuracy {
        figures.push(share("Accuracy on A", accuracy.a));
        figures.push(match accuracy.b {
            Some(b) => share("Accuracy on B", b),
            None => share("Expected on B", accuracy.atc),
        });
    }
    if let Some(answers) = &found.answers {
        figures.push(Metric {
            interval: Some(answers.total_variation_interval.into()),
            ..share("Answers changed", answers.total_variation)
        });
    }
    figures.push(number("CMMD", found.cmmd.value));
    if found.duplicates.of_b > 0 {
        figures.push(count("Images of B in A", found.duplicates.of_b as u64));
    }
    figures
}

fn table(caption: &str, columns: &[&str], rows: Vec<Vec<String>>) -> PageTable {
    PageTable {
        caption: caption.to_owned(),
        columns: columns.iter().map(|&column| column.to_owned()).collect(),
        rows,
    }
}

fn tables(found: &Shift) -> Vec<PageTable> {
    let mut tables = vec![numbers(found)];
    if let Some(answers) = &found.answers {
        tables.push(changes(
            "How often each label is the answer",
            &answers.per_label,
        ));
    }
    if let Some(shares) = &found.label_shares {
        let shown = |share: Option<f64>| share.map_or("-".to_owned(), percent);
        let rows = shares.per_label.iter().map(|row| {
            let cells = [
                percent(row.a),
                shown(row.bbse),
                percent(row.em),
                shown(row.b),
            ];
            [row.label.clone()].into_iter().chain(cells).collect()
        });
        tables.push(table(
            "Shares of the true labels",
            &["Label", "A", "B by BBSE", "B by EM", "B"],
            rows.collect(),
        ));
    }
    let measured = found
        .accuracy
        .as_ref()
        .and_then(|one| one.measured.as_ref());
    tables.extend(measured.map(|one| changes("Recall of each label", &one.per_label)));
    if let Some(pictures) = &found.pictures {
        let rows = pictures.per_statistic.iter().map(|row| {
            let digits = if row.medians[0] >= 2.0 { 0 } else { 4 };
            let [a, b] = row.medians.map(|median| format!("{median:.digits$}"));
            vec![
                format!("{} ({})", row.name, row.what),
                a,
                b,
                p_value(row.p_holm),
            ]
        });
        tables.push(table(
            "Medians of the pictures",
            &["Statistic", "A", "B", "p (Holm)"],
            rows.collect(),
        ));
    }
    tables
}

/// Every comparison with its number and what that rests on.
fn numbers(found: &Shift) -> PageTable {
    let mut rows = Vec::new();
    let mut row = |name: &str, value: String, assumes: &str| {
        rows.push(vec![name.to_owned(), value, assumes.to_owned()]);
    };
    let mmd = &found.mmd;
    let value = format!("p = {}, MMD\u{b2} {:.6}", p_value(mmd.p), mmd.squared);
    row("Same distribution (MMD)", value, mmd.assumes);
    row(
        "CMMD",
        format!("{:.4}", found.cmmd.value),
        found.cmmd.assumes,
    );
    let frechet = &found.frechet;
    row(
        "Fr\u{e9}chet distance",
        format!("{:.4}", frechet.value),
        frechet.assumes,
    );
    if let Some(c2st) = &found.c2st {
        let value = format!(
            "{} of held-out images, AUC {:.3}, p = {}",
            percent(c2st.accuracy),
            c2st.auc,
            p_value(c2st.p)
        );
        row("Separated (C2ST)", value, c2st.assumes);
    }
    if let Some(answers) = &found.answers {
        let value = format!(
            "{} ({}), chi\u{b2} p = {}",
            percent(answers.total_variation),
            interval(answers.total_variation_interval),
            p_value(answers.p)
        );
        row("Answers changed", value, answers.assumes);
    }
    if let Some(accuracy) = &found.accuracy {
        let value = format!(
            "ATC {}, DoC {}",
            percent(accuracy.atc),
            percent(accuracy.doc)
        );
        row("Expected accuracy on B", value, accuracy.assumes);
        if let Some(measured) = &accuracy.measured {
            let value = format!(
                "{} ({})",
                percent(measured.drop),
                interval(measured.interval)
            );
            row(
                "Measured drop",
                value,
                "95% bootstrap interval, both sets drawn again.",
            );
        }
        if let Some(robustness) = &accuracy.effective_robustness {
            let value = format!("{:+.2} points", robustness.value * 100.0);
            row("Effective robustness", value, robustness.assumes);
        }
    }
    table(
        "Every comparison",
        &["Comparison", "Number", "What it rests on"],
        rows,
    )
}

fn changes(caption: &str, all: &[Change]) -> PageTable {
    let rows = ranked(all).into_iter().map(|change| {
        let [a, b] = change.shares.map(percent);
        vec![
            change.label.clone(),
            a,
            b,
            interval(change.interval),
            p_value(change.p_holm),
        ]
    });
    table(
        caption,
        &["Label", "A", "B", "95% interval of the change", "p (Holm)"],
        rows.collect(),
    )
}
