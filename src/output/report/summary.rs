//! The parts of a page that work without scripts: metrics, comparisons, recalls, classes.

use super::content::{Metric, PageHead, PageKind, PageSummary, PageTable, Quantity, RunComparison};
use super::embed::text;
use super::number;
use crate::output::evaluation::{ClassRow, PairRow, RetrievalEvaluation, RunRow};

/// The label with `index`; an invalid index is a question mark, not a crash.
pub(super) fn label(labels: &[String], index: usize) -> String {
    text(labels.get(index).map_or("?", String::as_str))
}

/// Caveats before any number.
pub(super) fn notes(summary: &PageSummary) -> String {
    let notes = summary.notes.iter();
    let notes: String = notes
        .map(|note| format!("<p class=\"note\">{}</p>\n", text(note)))
        .collect();
    notes
}

/// The headline metrics.
pub(super) fn figures(figures: &[Metric]) -> String {
    if figures.is_empty() {
        return String::new();
    }
    let shown: String = figures.iter().map(figure).collect();
    format!("<dl class=\"figures\" id=\"figures\">\n{shown}</dl>\n")
}

fn figure(figure: &Metric) -> String {
    let interval = figure.interval.map_or_else(String::new, |(low, high)| {
        let drawn = match figure.value {
            Quantity::Share(share) => whisker(share, (low, high), (0.0, 1.0)),
            _ => String::new(),
        };
        format!(
            "<dd class=\"interval\">{drawn}{} – {} <abbr title=\"95% interval\">(95%)</abbr></dd>",
            number::in_unit_of(figure.value, low),
            number::in_unit_of(figure.value, high)
        )
    });
    format!(
        "<div><dt>{}</dt><dd class=\"value\">{}</dd>{interval}</div>\n",
        text(&figure.name),
        number::value(figure.value)
    )
}

/// A dot with its interval on a line from `start` to `end`; nothing if the line has no length.
fn whisker(value: f64, (low, high): (f64, f64), (start, end): (f64, f64)) -> String {
    const WIDTH: f64 = 120.0;
    let place = |number: f64| ((number - start) / (end - start)).clamp(0.0, 1.0) * WIDTH + 6.0;
    let numbers = [value, low, high, start, end];
    if start >= end || !numbers.iter().all(|one| one.is_finite()) {
        return String::new();
    }
    format!(
        "<svg class=\"whisker\" viewBox=\"0 0 132 12\" preserveAspectRatio=\"xMinYMid\" aria-hidden=\"true\"><path class=\"grid\" d=\"M6 6H126\"/><path class=\"line\" d=\"M{:.1} 6H{:.1}\"/><circle cx=\"{:.1}\" cy=\"6\" r=\"4\"/></svg>",
        place(low),
        place(high),
        place(value)
    )
}

/// The runs, all pairs of them, and the classes that changed.
pub(super) fn comparison(comparison: &RunComparison, labels: &[String]) -> String {
    format!(
        "{}{}{}",
        runs(comparison),
        pairs(&comparison.pairs, &comparison.runs),
        changes(comparison, labels)
    )
}

fn runs(comparison: &RunComparison) -> String {
    let ends = comparison.runs.iter();
    let ends = ends.map(|run| &run.figures);
    let ends = ends.flat_map(|run| [run.acc1_interval[0], run.acc1_interval[1], run.acc1]);
    let ends = ends.filter(|end| end.is_finite());
    let span = ends.fold((1.0f64, 0.0f64), |(low, high), end| {
        (low.min(end), high.max(end))
    });
    let rows = comparison.runs.iter().zip(1..).map(|(run, number)| {
        format!(
            "<tr><th scope=\"row\"><span class=\"number-of-run\">{number}</span><bdi>{}</bdi></th><td>{}</td><td>{} – {}</td><td class=\"drawn\">{}</td></tr>\n",
            text(&run.name),
            number::share(run.figures.acc1),
            number::share(run.figures.acc1_interval[0]),
            number::share(run.figures.acc1_interval[1]),
            whisker(run.figures.acc1, run.figures.acc1_interval.into(), span),
        )
    });
    table(
        "Runs",
        &["Run", "Top-1 accuracy", "95% interval", ""],
        &rows.collect::<String>(),
    )
}

fn pairs(pairs: &[PairRow], runs: &[RunRow]) -> String {
    if pairs.is_empty() {
        return String::new();
    }
    // The scripts know runs by their index.
    let place = |name: &str| runs.iter().position(|run| run.name == name).unwrap_or(0);
    let rows = pairs.iter().map(|pair| {
        let (first, second) = (place(&pair.first), place(&pair.second));
        format!(
            "<tr><th scope=\"row\"><bdi>{}</bdi> against <bdi>{}</bdi></th><td>{}</td><td>{} to {}</td><td>{}</td><td><span class=\"open\" data-better=\"{second}\" data-worse=\"{first}\">{}</span></td><td><span class=\"open\" data-better=\"{first}\" data-worse=\"{second}\">{}</span></td></tr>\n",
            text(&pair.second),
            text(&pair.first),
            number::points(pair.difference),
            number::points(pair.difference_interval[0]),
            number::points(pair.difference_interval[1]),
            number::chance(pair.mcnemar_p),
            number::count(pair.won as u64),
            number::count(pair.lost as u64),
        )
    });
    table(
        "Differences, in percentage points",
        &[
            "Runs",
            "Difference",
            "95% interval",
            "McNemar’s p",
            "Won",
            "Lost",
        ],
        &rows.collect::<String>(),
    )
}

fn changes(comparison: &RunComparison, labels: &[String]) -> String {
    if comparison.changes.is_empty() {
        return String::new();
    }
    let rows = comparison.changes.iter().map(|change| {
        let recalls: String = change
            .recalls
            .iter()
            .map(|recall| share_cell(*recall))
            .collect();
        format!(
            "<tr><th scope=\"row\">{}</th><td data-value=\"{2}\">{}</td>{recalls}</tr>\n",
            opener(labels, change.label),
            number::count(change.support),
            change.support,
        )
    });
    let mut columns = vec!["Class", "Images"];
    columns.extend(comparison.runs.iter().map(|run| run.name.as_str()));
    sortable(
        "Recall of the classes that changed",
        &columns,
        &rows.collect::<String>(),
    )
}

/// A class's name; scripts turn it into a button that opens its images.
fn opener(labels: &[String], index: usize) -> String {
    format!(
        "<bdi class=\"open\" data-true=\"{index}\">{}</bdi>",
        label(labels, index)
    )
}

fn share_cell(share: f64) -> String {
    let bar = if share.is_finite() {
        format!(
            "<svg class=\"share\" viewBox=\"0 0 100 4\" preserveAspectRatio=\"none\" aria-hidden=\"true\"><path class=\"grid\" d=\"M0 2H100\"/><path class=\"line\" d=\"M0 2H{:.1}\"/></svg>",
            share.clamp(0.0, 1.0) * 100.0
        )
    } else {
        String::new()
    };
    format!(
        "<td data-value=\"{}\">{}{bar}</td>",
        if share.is_finite() { share } else { -1.0 },
        number::share(share)
    )
}

/// Recall at each depth, in both directions, and what counted.
pub(super) fn retrieval(retrieval: &RetrievalEvaluation) -> String {
    let recalls = &retrieval.recalls;
    let row = |name: &str, queries: usize, recalls: [f64; 3]| {
        format!(
            "<tr><th scope=\"row\">{name}</th><td>{}</td>{}</tr>\n",
            number::count(queries as u64),
            recalls.map(share_cell).concat()
        )
    };
    let rows = [
        row(
            "text to image",
            retrieval.texts,
            [recalls.image_at_1, recalls.image_at_5, recalls.image_at_10],
        ),
        row(
            "image to text",
            retrieval.images,
            [recalls.text_at_1, recalls.text_at_5, recalls.text_at_10],
        ),
    ];
    format!(
        "{}<p class=\"protocol\">{}</p>\n",
        table(
            "Recall",
            &["Direction", "Queries", "R@1", "R@5", "R@10"],
            &rows.concat()
        ),
        text(&retrieval.protocol)
    )
}

/// Precision and recall per class.
pub(super) fn classes(classes: &[ClassRow], labels: &[String]) -> String {
    let rows = classes.iter().map(|class| {
        format!(
            "<tr><th scope=\"row\">{}</th>{}{}{}<td data-value=\"{5}\">{}</td></tr>\n",
            opener(labels, class.index),
            share_cell(class.precision),
            share_cell(class.recall),
            share_cell(class.f1),
            number::count(class.support as u64),
            class.support
        )
    });
    sortable(
        "Metrics per class",
        &["Class", "Precision", "Recall", "F1", "Images"],
        &rows.collect::<String>(),
    )
}

/// Characters above which a cell is read as a sentence.
const LONG: usize = 60;

/// A table of texts.
pub(super) fn texts(shown: &PageTable) -> String {
    let columns: Vec<&str> = shown.columns.iter().map(String::as_str).collect();
    let rows = shown.rows.iter().map(|row| {
        let cells = row.iter().enumerate().map(|(at, cell)| match at {
            0 => format!("<th scope=\"row\"><bdi>{}</bdi></th>", text(cell)),
            _ if cell.chars().count() > LONG => {
                format!("<td class=\"prose\"><bdi>{}</bdi></td>", text(cell))
            }
            _ => format!("<td><bdi>{}</bdi></td>", text(cell)),
        });
        format!("<tr>{}</tr>\n", cells.collect::<String>())
    });
    table(&shown.caption, &columns, &rows.collect::<String>())
}

/// Names and values of the run's facts.
pub(super) fn facts(head: &PageHead) -> String {
    let facts = head.facts.iter();
    let facts: String = facts
        .map(|(name, value)| {
            format!(
                "<div><dt>{}</dt><dd><bdi>{}</bdi></dd></div>\n",
                text(name),
                text(value)
            )
        })
        .collect();
    format!("<dl class=\"facts\">\n{facts}</dl>\n")
}

fn table(caption: &str, columns: &[&str], rows: &str) -> String {
    framed(caption, "", columns, rows)
}

/// A table; scripts turn its headers into buttons that sort it.
fn sortable(caption: &str, columns: &[&str], rows: &str) -> String {
    framed(caption, " class=\"sortable\"", columns, rows)
}

fn framed(caption: &str, class: &str, columns: &[&str], rows: &str) -> String {
    let header = columns.iter().map(|column| match *column {
        "" => "<td></td>".to_owned(),
        column => format!("<th scope=\"col\"><bdi>{}</bdi></th>", text(column)),
    });
    // A scrollable region must be reachable by keyboard.
    format!(
        "<div class=\"wide\" tabindex=\"0\" role=\"group\" aria-label=\"{0}\"><table{class}><caption>{0}</caption><thead><tr>{1}</tr></thead><tbody>\n{rows}</tbody></table></div>\n",
        text(caption),
        header.collect::<String>()
    )
}

impl PageKind {
    /// The kind of run, above the heading.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Classification => "Classification",
            Self::Evaluation => "Evaluation",
            Self::Probe => "Few-shot probe",
            Self::RunComparison => "Comparison",
            Self::Retrieval => "Retrieval",
            Self::Training => "Fine-tuning",
            Self::Explanation => "Explanation",
            Self::Shift => "Two sets",
        }
    }

    /// What a prediction is called.
    pub(super) fn answer(self) -> &'static str {
        match self {
            Self::Retrieval => "caption",
            _ => "label",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::content::Change;
    use super::*;
    use crate::output::evaluation::{Figures, Recalls};

    fn labels() -> Vec<String> {
        vec!["<b>cat".to_owned(), "dog".to_owned()]
    }

    #[test]
    fn metrics_have_their_intervals() {
        let html = figures(&[
            Metric {
                name: "Top-1 <accuracy>".to_owned(),
                value: Quantity::Share(0.873),
                interval: Some((0.841, 0.9)),
            },
            Metric {
                name: "Images".to_owned(),
                value: Quantity::Count(5000),
                interval: None,
            },
        ]);
        assert!(html.contains("Top-1 &lt;accuracy&gt;"));
        assert!(html.contains("87.3%") && html.contains("84.1% – 90.0%"));
        assert!(html.contains("5,000"));
        assert_eq!(html.matches("95% interval").count(), 1);
    }

    #[test]
    fn runs_are_compared_by_name() {
        let run = |name: &str, acc1| RunRow {
            name: name.to_owned(),
            figures: Figures {
                acc1,
                acc1_interval: [acc1 - 0.05, acc1 + 0.05],
                ..Figures::default()
            },
            ..RunRow::default()
        };
        let html = comparison(
            &RunComparison {
                runs: vec![run("a<.txt", 0.5), run("b.txt", f64::NAN)],
                pairs: vec![PairRow {
                    first: "a<.txt".to_owned(),
                    second: "b.txt".to_owned(),
                    difference: 0.25,
                    difference_interval: [-0.01, 0.3],
                    mcnemar_p: 0.031_25,
                    won: 6,
                    lost: 1,
                    ..PairRow::default()
                }],
                changes: vec![Change {
                    label: 0,
                    support: 7,
                    recalls: vec![0.25, 1.0],
                }],
            },
            &labels(),
        );
        assert!(
            html.contains("<bdi>b.txt</bdi> against <bdi>a&lt;.txt</bdi>"),
            "{html}"
        );
        assert!(
            html.contains("<td>+25.0</td><td>−1.0 to +30.0</td><td>0.0312</td>"),
            "{html}"
        );
        assert!(html.contains("data-better=\"1\" data-worse=\"0\">6<"));
        assert!(html.contains("&lt;b&gt;cat") && !html.contains("NaN"));
    }

    #[test]
    fn recalls_come_with_their_protocol() {
        let html = retrieval(&RetrievalEvaluation {
            protocol: "Any of five captions counts.".to_owned(),
            images: 1000,
            recalls: Recalls {
                text_at_5: 0.8,
                ..Recalls::default()
            },
            ..RetrievalEvaluation::default()
        });
        assert!(html.contains("R@5") && html.contains("80.0%") && html.contains("1,000"));
        assert!(html.contains("Any of five captions counts."));
    }

    #[test]
    fn an_invalid_label_index_is_a_question_mark() {
        let class = ClassRow {
            index: 7,
            precision: f64::NAN,
            ..ClassRow::default()
        };
        let html = classes(&[class], &labels());
        assert!(
            html.contains(">?</bdi>") && html.contains(">–</td>"),
            "{html}"
        );
    }
}
