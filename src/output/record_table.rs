//! Human-readable table: each image's name, then its labels with a number and a bar.
//!
//! Labels are as wide as the widest of the record, but leave room for a bar. Image names are never
//! truncated, so that they can be copied.

use std::io::{self, Write};

use anstyle::AnsiColor;

use super::table::{Column, GAP, TextTable, bold, dimmed, foreground, painted};
use super::text::{columns, printable, shortened};
use super::{Prediction, Record, RecordWriter, Score, Style, emit};

/// Wide enough for `100.00%` and for a negative logit.
const NUMBER_COLUMNS: usize = 7;
/// Longer bars show nothing more and are harder to follow.
const LONGEST_BAR: usize = 40;
/// Labels are truncated for a bar of this length, and no further.
const SHORTEST_BAR: usize = 10;
/// A label is not truncated below this, however narrow the terminal.
const SHORTEST_LABEL: usize = 12;

/// One block of lines per record, with an empty line between blocks.
pub(super) struct TableWriter {
    sink: Box<dyn Write + Send>,
    style: Style,
    is_first: bool,
}

impl TableWriter {
    pub(super) fn new(sink: Box<dyn Write + Send>, style: Style) -> Self {
        Self {
            sink,
            style,
            is_first: true,
        }
    }
}

impl RecordWriter for TableWriter {
    fn write(&mut self, record: &Record) -> io::Result<()> {
        let mut block = String::new();
        if !self.is_first {
            block.push('\n');
        }
        self.is_first = false;
        push_record(&mut block, record, &self.style);
        emit(&mut *self.sink, block.as_bytes())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

fn push_record(block: &mut String, record: &Record, style: &Style) {
    let colour = style.terminal.colour;
    let image = printable(&record.image.of_frame(record.frame).text);
    block.push_str(&painted(&image, bold(), colour));
    block.push('\n');
    let mut push_note = |text: &str, paint| {
        block.push_str(GAP);
        block.push_str(&painted(&printable(text), paint, colour));
        block.push('\n');
    };
    let yellow = foreground(AnsiColor::Yellow);
    for warning in &record.warnings {
        push_note(&format!("warning: {warning}"), yellow);
    }
    match &record.outcome {
        Err(error) => push_note(&format!("error: {error}"), foreground(AnsiColor::Red)),
        Ok(predictions) if predictions.is_empty() => {
            push_note("no label reaches the threshold", dimmed());
        }
        Ok(predictions) => {
            if record.uncertain {
                push_note("uncertain: perhaps none of these", yellow);
            }
            block.push_str(&predictions_table(predictions, style));
        }
    }
}

fn predictions_table(predictions: &[Prediction], style: &Style) -> String {
    let room = style.terminal.width;
    let room = room.saturating_sub(3 * GAP.len() + NUMBER_COLUMNS);
    let label_limit = room.saturating_sub(SHORTEST_BAR).max(SHORTEST_LABEL);
    let labels: Vec<String> = predictions
        .iter()
        .map(|prediction| shortened(&printable(&prediction.label), label_limit))
        .collect();
    let label_columns = labels.iter().map(|label| columns(label)).max().unwrap_or(0);
    let bar_columns = room.saturating_sub(label_columns).min(LONGEST_BAR);
    let full = full_bar(predictions, style.score);
    let mut table = TextTable::new([
        Column::LEFT,
        Column::RIGHT.at_least(NUMBER_COLUMNS),
        Column::LEFT.painted(foreground(AnsiColor::Cyan)),
    ]);
    for (label, prediction) in labels.iter().zip(predictions) {
        let share = value(prediction, style.score) / full;
        table.row([
            &format!("{GAP}{label}"),
            &number(prediction, style.score),
            &bar(share, bar_columns),
        ]);
    }
    table.shown(style.terminal.colour)
}

/// The number that is shown and drawn as a bar.
fn value(prediction: &Prediction, score: Score) -> f32 {
    match score {
        Score::Probability => prediction.probability.unwrap_or(prediction.logit),
        Score::Logit => prediction.logit,
        Score::Cosine => prediction.cosine.unwrap_or(0.0),
    }
}

fn number(prediction: &Prediction, score: Score) -> String {
    match (score, prediction.probability) {
        (Score::Probability, Some(probability)) => format!("{:.2}%", probability * 100.0),
        (Score::Cosine, _) => format!("{:.4}", prediction.cosine.unwrap_or(0.0)),
        _ => format!("{:.3}", prediction.logit),
    }
}

/// Value of a full bar. Logits and cosines have no natural maximum (cosines of images and texts
/// stay near 0.2), so the best of the record fills its bar.
fn full_bar(predictions: &[Prediction], score: Score) -> f32 {
    let has_probabilities = predictions.iter().all(|one| one.probability.is_some());
    if score == Score::Probability && has_probabilities {
        return 1.0;
    }
    let best = predictions
        .iter()
        .map(|one| value(one, score))
        .fold(0.0, f32::max);
    if best > 0.0 { best } else { 1.0 }
}

/// A bar of `share` of `columns`, in eighths of a cell and without trailing spaces; empty for
/// shares that are not positive, or NaN.
pub(super) fn bar(share: f32, columns: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    // A cast saturates and converts NaN to 0.
    let eighths = (share.clamp(0.0, 1.0) * columns as f32 * 8.0).round() as usize;
    "█".repeat(eighths / 8) + EIGHTHS[eighths % 8]
}

#[cfg(test)]
mod tests {
    use super::super::testing::{STYLE, answered, contract, failed, prediction, written};
    use super::super::{Colour, Format, Terminal};
    use super::*;

    /// The usual style on a terminal of this width.
    fn wide(width: usize) -> Style {
        let terminal = Terminal {
            width,
            ..STYLE.terminal
        };
        Style { terminal, ..STYLE }
    }

    fn table(style: Style, records: &[Record]) -> String {
        let table = written(Format::Table, style, records);
        // A left margin keeps the expected tables readable below.
        table.lines().map(|line| format!("|{line}\n")).collect()
    }

    #[test]
    fn a_table_is_aligned() {
        let expected = "\
|img.jpg
|  a cat sleeping   99.80%  ████████████████████████████████▉
|  a cat jumping     0.20%  ▏
|
|broken.jpg
|  error: not an image: the file ends before any image data
";
        assert_eq!(table(STYLE, &contract()), expected);
    }

    #[test]
    fn wide_and_long_labels_keep_the_columns() {
        let labels = ["猫", "a very long label that does not fit", "e\u{301}"];
        let probabilities = [0.5, 0.375, 0.125];
        let predictions = labels.iter().zip(probabilities);
        let predictions = predictions
            .map(|(label, probability)| prediction(label, Some(probability), 0.25))
            .collect();
        let expected = "\
|a.jpg
|  猫                      50.00%  █████
|  a very long label th…   37.50%  ███▊
|  é                       12.50%  █▎
"
        .replace('é', "e\u{301}");
        assert_eq!(table(wide(44), &[answered("a.jpg", predictions)]), expected);
    }

    #[test]
    fn scores_without_a_maximum_fill_the_best_bar() {
        let predictions = || {
            [("a", 0.25), ("b", 0.125), ("c", -0.1)]
                .map(|(label, cosine)| prediction(label, None, cosine))
                .to_vec()
        };
        let style = |score| Style { score, ..wide(34) };
        let cosines = "\
|a.jpg
|  a   0.2500  ████████████████████
|  b   0.1250  ██████████
|  c  -0.1000
";
        let logits = "\
|a.jpg
|  a   25.000  ████████████████████
|  b   12.500  ██████████
|  c  -10.000
";
        for (score, expected) in [
            (Score::Cosine, cosines),
            (Score::Logit, logits),
            (Score::Probability, logits),
        ] {
            let record = answered("a.jpg", predictions());
            assert_eq!(table(style(score), &[record]), expected);
        }
    }

    #[test]
    fn notes_have_colours_and_names_no_commands() {
        let mut record = answered("\u{1b}[2J\n.jpg", vec![]);
        record.warnings = vec!["jpeg: \u{9b}cut".to_owned()];
        let mut style = STYLE;
        style.terminal.colour = Colour::Ansi;
        let expected = "\
|\u{1b}[1m\\u{1b}[2J\\n.jpg\u{1b}[0m
|  \u{1b}[33mwarning: jpeg: \\u{9b}cut\u{1b}[0m
|  \u{1b}[2mno label reaches the threshold\u{1b}[0m
|
|a
|  \u{1b}[31merror: b\u{1b}[0m
"
        .replace("|a\n", "|\u{1b}[1ma\u{1b}[0m\n");
        assert_eq!(table(style, &[record, failed("a", "b")]), expected);
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let label = "a label that is longer than any of these terminals, by far and wide";
        for width in 30..100 {
            for label in [label, &label[..20], "a"] {
                let record = answered("a", vec![prediction(label, Some(1.0), 0.2)]);
                let table = written(Format::Table, wide(width), &[record]);
                let widest = table.lines().map(columns).max().unwrap();
                assert!(widest <= width, "{width}: {table}");
            }
        }
    }

    #[test]
    fn bars_grow_by_eighths() {
        let cases = [
            (0.0, ""),
            (-1.0, ""),
            (f32::NAN, ""),
            (0.01, ""),
            (0.0625, "▏"),
            (0.5, "█"),
            (0.8125, "█▋"),
            (1.0, "██"),
            (7.0, "██"),
        ];
        for (share, expected) in cases {
            assert_eq!(bar(share, 2), expected, "{share}");
        }
        assert_eq!(bar(1.0, 0), "");
    }
}
