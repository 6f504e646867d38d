//! Line charts with their intervals and a table of the data.

use super::content::{Chart, Point, Scale, Series};
use super::embed::text;
use super::plot::{Plot, Span};

/// Curves that differ in colour, dash and marker; further ones repeat.
const STYLES: usize = 6;

/// Curves with more points are drawn without markers.
const MAX_MARKERS: usize = 40;

/// Tables with more rows are thinned out to stay readable.
const MAX_ROWS: usize = 250;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 380.0;

/// The chart as a figure: heading, SVG, caption, table. Empty if no point can be drawn.
pub(super) fn figure(chart: &Chart) -> String {
    let series: Vec<Series> = chart
        .series
        .iter()
        .map(|one| drawable(chart, one))
        .collect();
    let points = || series.iter().flat_map(|one| &one.points);
    let mut places: Vec<f64> = points().map(|point| point.x).collect();
    if places.is_empty() {
        return String::new();
    }
    places.sort_by(f64::total_cmp);
    places.dedup();
    let is_measured = places.len() <= 12 || chart.x.scale == Scale::Logarithmic;
    let ends = (places[0], places[places.len() - 1]);
    let plot = Plot {
        width: WIDTH,
        height: HEIGHT,
        right: room_for_names(&series),
        x: if is_measured {
            Span::at(&chart.x, places.clone())
        } else {
            Span::rounded(&chart.x, ends.0, ends.1)
        },
        y: upright(chart, points()),
    };
    let mut content = String::new();
    for (at, one) in series.iter().enumerate() {
        content += &curve(&plot, one, at % STYLES);
    }
    content += &names(&plot, &series);
    let svg = plot.svg(&chart.title, &content);
    format!(
        "<figure class=\"plot\">\n<h3>{}</h3>\n<div class=\"wide\" tabindex=\"0\" role=\"group\" aria-label=\"{}\">{svg}</div>\n<figcaption>{}</figcaption>\n{}</figure>\n",
        text(&chart.title),
        text(&format!("{}, chart", chart.title)),
        text(&chart.caption),
        table(chart, &plot, &series, &places),
    )
}

fn drawable(chart: &Chart, series: &Series) -> Series {
    let fits = |scale: Scale, number: f64| {
        number.is_finite() && (scale != Scale::Logarithmic || number > 0.0)
    };
    let mut points = series.points.clone();
    points.retain(|point| fits(chart.x.scale, point.x) && fits(chart.y.scale, point.y));
    for point in &mut points {
        let is_sound = |(low, high): &(f64, f64)| fits(chart.y.scale, *low) && high.is_finite();
        point.interval = point.interval.filter(is_sound);
    }
    Series {
        name: series.name.clone(),
        points,
    }
}

/// Proportions are shown on the tenths around them, so that differences are visible; a curve that
/// begins near zero begins at zero.
fn upright<'a>(chart: &'a Chart, points: impl Iterator<Item = &'a Point>) -> Span<'a> {
    let ends = points.flat_map(|point| {
        let (low, high) = point.interval.unwrap_or((point.y, point.y));
        [low, high, point.y]
    });
    let (low, high) = ends.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), number| {
        (low.min(number), high.max(number))
    });
    match chart.y.scale {
        Scale::Percent if low >= 0.0 && high <= 1.0 => {
            let low = (low * 10.0).floor() / 10.0;
            let high = (high * 10.0).ceil() / 10.0;
            Span::rounded(&chart.y, low, high.max(low + 0.1))
        }
        Scale::Logarithmic => Span::at(&chart.y, vec![low, high]),
        _ if low > 0.0 && low < high / 2.0 => Span::rounded(&chart.y, 0.0, high),
        _ => Span::rounded(&chart.y, low, high),
    }
}

fn room_for_names(series: &[Series]) -> f64 {
    let longest = series.iter().map(|one| one.name.chars().count()).max();
    // About 7.5 units per letter; longer names are cut with an ellipsis, and are complete in the
    // table.
    24.0 + 7.5 * longest.unwrap_or(0).min(LONGEST_NAME) as f64
}

const LONGEST_NAME: usize = 22;

fn curve(plot: &Plot<'_>, series: &Series, style: usize) -> String {
    let mut drawn = format!("<g class=\"s{style}\">");
    let place = |point: &Point| format!("{:.1} {:.1}", plot.across(point.x), plot.down(point.y));
    let line: Vec<String> = series.points.iter().map(place).collect();
    for point in &series.points {
        if let Some((low, high)) = point.interval {
            let (across, low, high) = (plot.across(point.x), plot.down(low), plot.down(high));
            drawn += &format!(
                "<path class=\"interval\" d=\"M{across:.1} {low:.1}V{high:.1}m-4 0h8M{:.1} {low:.1}h8\"/>",
                across - 4.0
            );
        }
    }
    drawn += &format!("<path class=\"line\" d=\"M{}\"/>\n", line.join("L"));
    if series.points.len() <= MAX_MARKERS {
        for point in &series.points {
            let description = format!(
                "{}: {} at {}{}",
                series.name,
                plot.y.shown(point.y),
                plot.x.shown(point.x),
                interval_text(plot, point),
            );
            drawn += &format!(
                "<path class=\"marker\" d=\"M{}{}\"><title>{}</title></path>\n",
                place(point),
                MARKERS[style],
                text(&description)
            );
        }
    }
    drawn + "</g>\n"
}

/// Circle, square, diamond, triangle, cross, inverted triangle; around the point they start at.
const MARKERS: [&str; STYLES] = [
    "m-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0z",
    "m-4.5 -4.5h9v9h-9z",
    "m0 -6.5l6.5 6.5l-6.5 6.5l-6.5 -6.5z",
    "m0 -6l6 10.5h-12z",
    "m-5.5 -1.5h4v-4h3v4h4v3h-4v4h-3v-4h-4z",
    "m0 6l6 -10.5h-12z",
];

/// The curves' names at their right ends, moved apart to avoid overlaps.
fn names(plot: &Plot<'_>, series: &[Series]) -> String {
    const LINE: f64 = 17.0;
    let ends = series.iter().enumerate();
    let mut ends: Vec<(f64, usize, &Series)> = ends
        .filter_map(|(at, one)| Some((plot.down(one.points.last()?.y), at % STYLES, one)))
        .collect();
    ends.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut free = 0.0f64;
    for (down, ..) in &mut ends {
        *down = down.max(free);
        free = *down + LINE;
    }
    // Names pushed below the axis move back up.
    let mut most = plot.floor();
    for (down, ..) in ends.iter_mut().rev() {
        *down = down.min(most);
        most = *down - LINE;
    }
    let across = plot.width - plot.right + 12.0;
    let mut drawn = String::new();
    for (down, style, one) in ends {
        let mut name: String = one.name.chars().take(LONGEST_NAME).collect();
        if name.len() < one.name.len() {
            name.push('…');
        }
        drawn += &format!(
            "<text class=\"name s{style}\" x=\"{across:.1}\" y=\"{:.1}\">{}</text>\n",
            down + 4.5,
            text(&name)
        );
    }
    drawn
}

fn interval_text(plot: &Plot<'_>, point: &Point) -> String {
    point.interval.map_or_else(String::new, |(low, high)| {
        format!(" ({} to {})", plot.y.shown(low), plot.y.shown(high))
    })
}

/// The same numbers as a table: a row per x value, a column per curve.
fn table(chart: &Chart, plot: &Plot<'_>, series: &[Series], places: &[f64]) -> String {
    let mut rows = String::new();
    let stride = places.len().div_ceil(MAX_ROWS);
    for place in places.iter().step_by(stride) {
        rows += &format!("<tr><th scope=\"row\">{}</th>", plot.x.shown(*place));
        for one in series {
            let at = one.points.iter().find(|point| point.x == *place);
            let cell = at.map(|point| plot.y.shown(point.y) + &interval_text(plot, point));
            rows += &format!("<td>{}</td>", cell.unwrap_or_default());
        }
        rows += "</tr>\n";
    }
    let mut header = format!("<th scope=\"col\">{}</th>", text(&chart.x.title));
    for one in series {
        header += &format!("<th scope=\"col\">{}</th>", text(&one.name));
    }
    let thinned = match stride {
        1 => String::new(),
        stride => format!(", every {stride}th point"),
    };
    format!(
        "<details><summary>Data{thinned}</summary><div class=\"wide\" tabindex=\"0\" role=\"group\" aria-label=\"{0}\"><table><caption>{0}</caption><thead><tr>{header}</tr></thead><tbody>\n{rows}</tbody></table></div></details>\n",
        text(&format!("{} by {}", chart.y.title, chart.x.title)),
    )
}

#[cfg(test)]
mod tests {
    use super::super::content::Axis;
    use super::*;

    fn chart(points: &[(f64, f64)]) -> Chart {
        let points = points.iter();
        let points = points.map(|(x, y)| Point::new(*x, *y).between((y - 0.05, y + 0.05)));
        Chart {
            title: "Accuracy by <length>".to_owned(),
            caption: "Texts were truncated.".to_owned(),
            x: Axis::new("Text length in tokens", Scale::Logarithmic),
            y: Axis::new("Top-1 accuracy", Scale::Percent),
            series: vec![Series::new("a & b", points.collect())],
        }
    }

    #[test]
    fn every_point_is_drawn_labelled_and_listed() {
        let html = figure(&chart(&[(10.0, 0.5), (77.0, 0.75)]));
        assert_eq!(html.matches("class=\"marker\"").count(), 2);
        assert!(
            html.contains("<title>a &amp; b: 75% at 77 (70% to 80%)</title>"),
            "{html}"
        );
        assert!(html.contains("<tr><th scope=\"row\">10</th><td>50% (45% to 55%)</td></tr>"));
        assert!(html.contains("Accuracy by &lt;length&gt;"));
    }

    #[test]
    fn points_that_cannot_be_drawn_are_omitted() {
        let odd = [(0.0, 0.5), (f64::NAN, 0.5), (10.0, f64::INFINITY)];
        assert_eq!(figure(&chart(&odd)), "");
        let html = figure(&chart(&[(0.0, 0.5), (10.0, 0.5), (f64::NAN, 0.1)]));
        assert_eq!(html.matches("class=\"marker\"").count(), 1);
        assert!(!html.contains("NaN") && !html.contains("inf "), "{html}");
    }

    #[test]
    fn long_curves_have_no_markers_and_a_thinned_table() {
        let points: Vec<(f64, f64)> = (1..1001).map(|x| (f64::from(x), 0.5)).collect();
        let html = figure(&chart(&points));
        assert_eq!(html.matches("class=\"marker\"").count(), 0);
        assert_eq!(html.matches("<tr><th scope=\"row\">").count(), 250);
        assert!(html.contains("every 4th point"));
    }

    #[test]
    fn names_of_curves_do_not_overlap() {
        let mut chart = chart(&[(10.0, 0.5)]);
        chart.series = vec![chart.series[0].clone(); 9];
        let html = figure(&chart);
        let downs: Vec<f64> = html
            .lines()
            .filter(|line| line.contains("class=\"name"))
            .filter_map(|line| line.split(" y=\"").nth(1)?.split('"').next()?.parse().ok())
            .collect();
        assert_eq!(downs.len(), 9);
        assert!(
            downs.windows(2).all(|pair| pair[1] - pair[0] > 16.0),
            "{downs:?}"
        );
    }
}
