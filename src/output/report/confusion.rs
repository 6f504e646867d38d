//! The confusion matrix of the classes that matter, and the most frequent confusions.

use std::collections::{BTreeSet, HashMap};

use super::content::Confused;
use super::embed::text;
use super::number;
use super::summary::label;

/// A matrix of more classes can neither be read nor printed; scripts draw a map of all of them.
const MAX_CLASSES: usize = 32;

/// Pairs in the list of most frequent confusions.
const WORST: usize = 12;

/// Shades of a cell; `style.css` has as many.
const LEVELS: f64 = 10.0;

/// Counts by pair, and the images of each true class.
struct Counts {
    cells: HashMap<(usize, usize), u64>,
    totals: HashMap<usize, u64>,
}

impl Counts {
    fn of(confusion: &[Confused]) -> Self {
        let mut counts = Self {
            cells: HashMap::new(),
            totals: HashMap::new(),
        };
        for one in confusion {
            *counts.cells.entry((one.truth, one.predicted)).or_default() += one.count;
            *counts.totals.entry(one.truth).or_default() += one.count;
        }
        counts
    }

    fn share(&self, truth: usize, count: u64) -> f64 {
        count as f64 / self.totals.get(&truth).copied().unwrap_or(1).max(1) as f64
    }

    /// Pairs of different classes, by falling count, then by falling share.
    fn mistakes(&self) -> Vec<Confused> {
        let different = self
            .cells
            .iter()
            .filter(|((a, b), count)| a != b && **count > 0);
        let mut mistakes: Vec<Confused> = different
            .map(|((truth, predicted), count)| Confused {
                truth: *truth,
                predicted: *predicted,
                count: *count,
            })
            .collect();
        let share = |one: &Confused| self.share(one.truth, one.count);
        mistakes.sort_by(|a, b| {
            let by_count = b.count.cmp(&a.count);
            by_count
                .then(share(b).total_cmp(&share(a)))
                .then((a.truth, a.predicted).cmp(&(b.truth, b.predicted)))
        });
        mistakes
    }

    /// All classes if they are few, else those of the most frequent confusions, so that both
    /// classes of a confusion are there.
    fn shown_classes(&self) -> Vec<usize> {
        let pairs = self
            .cells
            .keys()
            .flat_map(|(truth, predicted)| [*truth, *predicted]);
        let mut classes: BTreeSet<usize> = pairs.collect();
        if classes.len() > MAX_CLASSES {
            classes.clear();
            for one in self.mistakes() {
                let both = [one.truth, one.predicted];
                let new = both.iter().filter(|class| !classes.contains(class)).count();
                if classes.len() + new <= MAX_CLASSES {
                    classes.extend(both);
                }
            }
        }
        classes.into_iter().collect()
    }

    fn describe(&self, one: &Confused, labels: &[String]) -> String {
        let (truth, predicted) = (label(labels, one.truth), label(labels, one.predicted));
        let total = self.totals.get(&one.truth).copied().unwrap_or(0);
        let verb = if one.truth == one.predicted {
            "recognised".to_owned()
        } else {
            format!("predicted as {predicted}")
        };
        format!(
            "{truth} {verb}: {} of {} ({})",
            number::count(one.count),
            number::count(total),
            number::share(self.share(one.truth, one.count))
        )
    }
}

/// Whether there are more classes than the matrix shows.
pub(super) fn needs_map(confusion: &[Confused]) -> bool {
    let mut classes: Vec<usize> = confusion
        .iter()
        .flat_map(|one| [one.truth, one.predicted])
        .collect();
    classes.sort_unstable();
    classes.dedup();
    classes.len() > MAX_CLASSES
}

/// The matrix as a table; scripts make its cells open their images.
pub(super) fn matrix(confusion: &[Confused], labels: &[String]) -> String {
    let counts = Counts::of(confusion);
    let classes = counts.shown_classes();
    let header = classes.iter().map(|class| {
        format!(
            "<th scope=\"col\"><span><bdi>{}</bdi></span></th>",
            label(labels, *class)
        )
    });
    let rows = classes.iter().map(|truth| {
        let cells = classes
            .iter()
            .map(|predicted| cell(&counts, labels, *truth, *predicted));
        format!(
            "<tr><th scope=\"row\"><bdi>{}</bdi></th>{}</tr>\n",
            label(labels, *truth),
            cells.collect::<String>()
        )
    });
    let size = match classes.len() {
        ..=12 => "large",
        13..=20 => "middle",
        _ => "small",
    };
    format!(
        "<div class=\"wide\" tabindex=\"0\" role=\"group\" aria-label=\"Confusion matrix\"><table class=\"matrix {size}\" id=\"matrix\"><caption>Rows: true class. Columns: predicted class.</caption><thead><tr><td></td>{}</tr></thead><tbody>\n{}</tbody></table></div>\n<p class=\"readout\" id=\"matrix-readout\"></p>\n",
        header.collect::<String>(),
        rows.collect::<String>()
    )
}

fn cell(counts: &Counts, labels: &[String], truth: usize, predicted: usize) -> String {
    let count = counts.cells.get(&(truth, predicted)).copied().unwrap_or(0);
    let place = format!("data-true=\"{truth}\" data-predicted=\"{predicted}\"");
    let is_right = if truth == predicted {
        " class=\"right\""
    } else {
        ""
    };
    if count == 0 {
        return format!("<td{is_right} {place}></td>");
    }
    let one = Confused {
        truth,
        predicted,
        count,
    };
    // The square root makes one mistake among a hundred visible.
    let level = (counts.share(truth, count).sqrt() * LEVELS).ceil();
    format!(
        "<td{is_right} data-level=\"{level}\" {place} title=\"{}\">{}</td>",
        counts.describe(&one, labels),
        number::count(count)
    )
}

/// The most frequent confusions; scripts put images next to each.
pub(super) fn worst(confusion: &[Confused], labels: &[String]) -> String {
    let counts = Counts::of(confusion);
    let mistakes = counts.mistakes();
    if mistakes.is_empty() {
        return "<p>There are no confusions.</p>\n".to_owned();
    }
    let items = mistakes.iter().take(WORST).map(|one| {
        let total = counts.totals.get(&one.truth).copied().unwrap_or(0);
        format!(
            "<li><span class=\"open\" data-true=\"{}\" data-predicted=\"{}\"><bdi>{}</bdi> <span \
             class=\"for\">predicted as</span> <bdi>{}</bdi></span> <span class=\"of\">{} of \
             {}</span></li>\n",
            one.truth,
            one.predicted,
            label(labels, one.truth),
            label(labels, one.predicted),
            number::count(one.count),
            number::count(total)
        )
    });
    format!(
        "<h3>{}</h3>\n<ol class=\"worst\">\n{}</ol>\n",
        text("Most frequent confusions"),
        items.collect::<String>()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn confused(cells: &[(usize, usize, u64)]) -> Vec<Confused> {
        let one = |(truth, predicted, count): &(usize, usize, u64)| Confused {
            truth: *truth,
            predicted: *predicted,
            count: *count,
        };
        cells.iter().map(one).collect()
    }

    fn labels(count: usize) -> Vec<String> {
        (0..count).map(|at| format!("<c{at}>")).collect()
    }

    #[test]
    fn cells_hold_counts_and_shades_of_their_row() {
        let html = matrix(&confused(&[(0, 0, 99), (0, 1, 1), (1, 1, 4)]), &labels(2));
        let cell = "<td data-level=\"1\" data-true=\"0\" data-predicted=\"1\" title=\"&lt;c0&gt; \
                    predicted as &lt;c1&gt;: 1 of 100 (1.0%)\">1</td>";
        assert!(html.contains(cell), "{html}");
        assert!(
            html.contains("<td data-true=\"1\" data-predicted=\"0\"></td>"),
            "{html}"
        );
        assert!(
            html.contains("<td class=\"right\" data-level=\"10\" data-true=\"1\""),
            "{html}"
        );
    }

    #[test]
    fn many_classes_are_reduced_to_those_with_mistakes() {
        let mut cells: Vec<(usize, usize, u64)> = (0..1000).map(|at| (at, at, 50)).collect();
        cells.extend([(7, 900, 3), (900, 7, 1), (12, 13, 2)]);
        let confusion = confused(&cells);
        assert!(needs_map(&confusion));
        assert_eq!(Counts::of(&confusion).shown_classes(), [7, 12, 13, 900]);
        cells.extend((100..200).map(|at| (at, at + 1, 1)));
        let classes = Counts::of(&confused(&cells)).shown_classes();
        assert_eq!(classes.len(), MAX_CLASSES);
        assert!(classes.is_sorted() && classes[..4] == [7, 12, 13, 100]);
        assert!(!needs_map(&confused(&cells[..MAX_CLASSES])));
    }

    #[test]
    fn the_most_frequent_come_first_and_ties_by_share() {
        let confusion = confused(&[(0, 0, 96), (0, 1, 4), (1, 0, 4), (1, 1, 4), (2, 0, 9)]);
        let worst: Vec<(usize, usize)> = Counts::of(&confusion)
            .mistakes()
            .iter()
            .map(|one| (one.truth, one.predicted))
            .collect();
        assert_eq!(worst, [(2, 0), (1, 0), (0, 1)]);
    }

    #[test]
    fn the_absence_of_confusions_is_stated() {
        assert!(worst(&confused(&[(0, 0, 3)]), &labels(1)).contains("no confusions"));
    }
}
