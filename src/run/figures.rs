//! The figures of a tally as plain records: what `results.json`, the summaries and the pages of all
//! commands show.

use anyhow::Result;

use crate::output::evaluation::{BinRow, ClassRow, Figures};
use crate::output::table::{Column, TextTable, percent};
use crate::task::metric::reliability::BINS;
use crate::task::metric::{Resampling, Tally, reliability};

/// Classes and confusions listed in summaries.
pub(crate) const LISTED: usize = 5;

/// The accuracy and calibration of a set of labels.
pub(crate) fn figures(tally: &Tally, how: &Resampling) -> Result<Figures> {
    let interval = how.proportion(tally.correct(), tally.n());
    Ok(Figures {
        acc1: tally.acc1(),
        acc5: tally.acc5(),
        mean_per_class_recall: tally.mean_per_class_recall(),
        n: tally.n(),
        acc1_interval: [interval.low, interval.high],
        ece: tally.reliability(BINS)?.ece,
        nll: tally.negative_log_likelihood(),
        brier: tally.brier(),
    })
}

/// Every class that has samples or was predicted. `class_of_label` has the dataset's name of each
/// label that is a class.
pub(crate) fn class_rows(
    tally: &Tally,
    labels: &[String],
    class_of_label: &[Option<String>],
) -> Vec<ClassRow> {
    let figures = tally.per_class();
    let rows = figures.iter().zip(labels).zip(class_of_label).enumerate();
    rows.filter(|(_, ((figures, _), _))| figures.support + figures.predicted > 0)
        .map(|(index, ((figures, label), class))| ClassRow {
            index,
            label: label.clone(),
            class: class.clone(),
            support: figures.support,
            predicted: figures.predicted,
            precision: figures.precision(),
            recall: figures.recall(),
            f1: figures.f1(),
        })
        .collect()
}

/// The reliability diagram.
pub(crate) fn bin_rows(tally: &Tally) -> Result<Vec<BinRow>> {
    let bins = tally.reliability(BINS)?.bins;
    let row = |bin: &reliability::Bin| BinRow {
        low: bin.low,
        high: bin.high,
        count: bin.count,
        confidence: bin.confidence,
        accuracy: bin.accuracy,
    };
    Ok(bins.iter().map(row).collect())
}

/// The command line, as a file of results stores it.
pub(crate) fn arguments() -> Vec<String> {
    std::env::args_os()
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect()
}

/// The classes with the lowest recall, if there are several, as a table whose first column is
/// `name`.
pub(crate) fn lowest_recall(classes: &[ClassRow], name: Column) -> Option<String> {
    let mut hard: Vec<_> = classes.iter().filter(|class| class.support > 0).collect();
    hard.sort_by(|a, b| a.recall.total_cmp(&b.recall));
    let share = Column::RIGHT.at_least(7);
    let mut table = TextTable::new([name, share, Column::RIGHT, Column::RIGHT]);
    table.row(["lowest recall", "recall", "precision", "images"]);
    for class in hard.iter().take(LISTED) {
        table.row([
            &format!("  {}", class.label),
            &percent(class.recall),
            &percent(class.precision),
            &class.support.to_string(),
        ]);
    }
    (hard.len() > 1).then(|| table.plain())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_without_images_and_predictions_have_no_row() {
        let mut tally = Tally::new(4);
        for (target, ranked) in [(0, [0, 1, 2, 3]), (0, [3, 0, 1, 2])] {
            tally.add(target, &ranked, 0.5).unwrap();
        }
        for _ in 0..2 {
            tally.add(2, &[2, 0, 1, 3], 0.5).unwrap();
        }
        let names = ["a", "b", "c", "none"].map(str::to_owned);
        let classes = [Some("A"), Some("B"), Some("C"), None].map(|name| name.map(str::to_owned));
        let rows = class_rows(&tally, &names, &classes);
        let shown: Vec<_> = rows
            .iter()
            .map(|row| (row.index, row.class.as_deref(), row.support, row.recall))
            .collect();
        assert_eq!(
            shown,
            [
                (0, Some("A"), 2, 0.5),
                (2, Some("C"), 2, 1.0),
                (3, None, 0, 0.0)
            ]
        );
        let expected = "\
lowest recall   recall  precision  images
  a             50.00%    100.00%       2
  c            100.00%    100.00%       2
";
        let name = Column::LEFT.exactly(13);
        assert_eq!(lowest_recall(&rows, name).unwrap(), expected);
        assert_eq!(lowest_recall(&rows[..1], name), None);
    }
}
