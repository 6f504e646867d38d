//! The reliability diagram: whether predictions with 80% confidence are right in 80 of 100 cases.

use super::content::{Axis, ReliabilityDiagram, Scale};
use super::embed::text;
use super::number;
use super::plot::{Plot, Span};
use crate::output::evaluation::BinRow;

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 400.0;
const COUNTS_HEIGHT: f64 = 140.0;
const RIGHT: f64 = 20.0;
/// Gap between neighbouring bars.
const GAP: f64 = 2.0;

/// The diagram, the number of images below it, and both as a table. Empty without images.
pub(super) fn figure(reliability: &ReliabilityDiagram) -> String {
    let filled = |bin: &&BinRow| bin.count > 0 && bin.accuracy.is_finite();
    let bins: Vec<&BinRow> = reliability.bins.iter().filter(filled).collect();
    if bins.is_empty() {
        return String::new();
    }
    let description = format!(
        "Reliability diagram; expected calibration error {}",
        number::share(reliability.ece)
    );
    format!(
        "<figure class=\"plot narrow\">\n{}{}<figcaption>Expected calibration error: <strong>{}</strong>. {}</figcaption>\n{}</figure>\n",
        diagram(&description, &bins),
        counts(&bins),
        number::share(reliability.ece),
        "Solid bars show accuracy; the hatched part extends from there to the mean confidence.",
        table(&bins),
    )
}

fn diagram(description: &str, bins: &[&BinRow]) -> String {
    let (x, y) = (
        Axis::new("Confidence", Scale::Percent),
        Axis::new("Accuracy", Scale::Percent),
    );
    let plot = Plot {
        width: WIDTH,
        height: HEIGHT,
        right: RIGHT,
        x: Span::rounded(&x, 0.0, 1.0),
        y: Span::rounded(&y, 0.0, 1.0),
    };
    let mut drawn = String::from(
        "<defs><pattern id=\"hatch\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\"><path class=\"hatch\" d=\"M0 0V6\"/></pattern></defs>\n",
    );
    for bin in bins {
        let (low, high) = (
            bin.accuracy.min(bin.confidence),
            bin.accuracy.max(bin.confidence),
        );
        drawn += &format!(
            "<g><title>{}</title>{}{}</g>\n",
            text(&describe_bin(bin)),
            bar(&plot, bin, "accuracy", (0.0, bin.accuracy)),
            bar(&plot, bin, "distance", (low, high)),
        );
    }
    drawn += &format!(
        "<path class=\"diagonal\" d=\"M{:.1} {:.1}L{:.1} {:.1}\"/>\n",
        plot.across(0.0),
        plot.down(0.0),
        plot.across(1.0),
        plot.down(1.0)
    );
    plot.svg(description, &drawn)
}

fn counts(bins: &[&BinRow]) -> String {
    let (x, y) = (
        Axis::new("Confidence", Scale::Percent),
        Axis::new("Images", Scale::Linear),
    );
    let most = bins.iter().map(|bin| bin.count).max().unwrap_or(1);
    let plot = Plot {
        width: WIDTH,
        height: COUNTS_HEIGHT,
        right: RIGHT,
        x: Span::rounded(&x, 0.0, 1.0),
        y: Span::ends(&y, most as f64),
    };
    let bars = bins.iter().map(|bin| {
        let title = text(&describe_bin(bin));
        let bar = bar(&plot, bin, "count", (0.0, bin.count as f64));
        format!("<g><title>{title}</title>{bar}</g>\n")
    });
    plot.svg(
        "Images in each range of confidence",
        &bars.collect::<String>(),
    )
}

fn bar(plot: &Plot<'_>, bin: &BinRow, class: &str, (low, high): (f64, f64)) -> String {
    let (left, right) = (plot.across(bin.low.into()), plot.across(bin.high.into()));
    let (top, bottom) = (plot.down(high), plot.down(low));
    format!(
        "<rect class=\"{class}\" x=\"{:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>",
        left + GAP / 2.0,
        (right - left - GAP).max(0.5),
        bottom - top
    )
}

fn range(bin: &BinRow) -> String {
    format!(
        "{} to {}",
        number::share(bin.low.into()),
        number::share(bin.high.into())
    )
}

fn describe_bin(bin: &BinRow) -> String {
    format!(
        "{}: {} images, mean confidence {}, accuracy {}",
        range(bin),
        number::count(bin.count as u64),
        number::share(bin.confidence),
        number::share(bin.accuracy)
    )
}

fn table(bins: &[&BinRow]) -> String {
    let rows = bins.iter().map(|bin| {
        format!(
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td></tr>\n",
            range(bin),
            number::count(bin.count as u64),
            number::share(bin.confidence),
            number::share(bin.accuracy)
        )
    });
    format!(
        "<details><summary>Data</summary><table><caption>Accuracy by confidence</caption><thead><tr><th scope=\"col\">Confidence</th><th scope=\"col\">Images</th><th scope=\"col\">Mean confidence</th><th scope=\"col\">Accuracy</th></tr></thead><tbody>\n{}</tbody></table></details>\n",
        rows.collect::<String>()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filled_bins_are_drawn_and_listed() {
        let bin = |(low, high), count, confidence, accuracy| BinRow {
            low,
            high,
            count,
            confidence,
            accuracy,
        };
        let mut reliability = ReliabilityDiagram {
            ece: 0.034,
            bins: vec![
                bin((0.0, 0.5), 0, f64::NAN, f64::NAN),
                bin((0.5, 1.0), 1200, 0.9, 0.75),
            ],
        };
        let html = figure(&reliability);
        assert_eq!(html.matches("class=\"accuracy\"").count(), 1);
        assert!(
            html.contains("50.0% to 100.0%: 1,200 images, mean confidence 90.0%, accuracy 75.0%")
        );
        assert!(html.contains("<td>1,200</td><td>90.0%</td><td>75.0%</td>"));
        assert!(html.contains("<strong>3.4%</strong>") && !html.contains("NaN"));
        reliability.bins.truncate(1);
        assert_eq!(figure(&reliability), "");
    }
}
