//! The frame of a chart: numbers -> SVG coordinates, ticks, axes with their titles.

use super::content::{Axis, Scale};
use super::embed::text;
use super::number;

/// A chart's size and axes.
pub(super) struct Plot<'a> {
    /// Width of the SVG, in its units.
    pub(super) width: f64,
    /// Height of the SVG, in its units.
    pub(super) height: f64,
    /// Margin at the right, for the names of curves.
    pub(super) right: f64,
    /// The horizontal axis.
    pub(super) x: Span<'a>,
    /// The vertical axis.
    pub(super) y: Span<'a>,
}

/// An axis with the numbers at its ends and those that get a tick.
pub(super) struct Span<'a> {
    axis: &'a Axis,
    start: f64,
    end: f64,
    ticks: Vec<f64>,
}

/// Margin for the numbers and the title of the vertical axis.
const LEFT: f64 = 64.0;
const TOP: f64 = 14.0;
/// Margin for the numbers and the title of the horizontal axis.
const BOTTOM: f64 = 52.0;

impl<'a> Span<'a> {
    /// An axis from `start` to `end`, widened to whole ticks.
    pub(super) fn rounded(axis: &'a Axis, start: f64, end: f64) -> Self {
        let (start, end) = if start < end {
            (start, end)
        } else {
            (start - room(start), start + room(start))
        };
        let step = step(end - start);
        let (first, last) = ((start / step).floor(), (end / step).ceil());
        let ticks = (0..=(last - first) as usize).map(|at| (first + at as f64) * step);
        Self {
            axis,
            start: first * step,
            end: last * step,
            ticks: ticks.collect(),
        }
    }

    /// An axis around `places`, which are the ticks as well: the measured lengths or steps.
    pub(super) fn at(axis: &'a Axis, places: Vec<f64>) -> Self {
        let (first, last) = (places[0], places[places.len() - 1]);
        let (start, end) = match axis.scale {
            Scale::Logarithmic => (first / 1.12, last * 1.12),
            _ => {
                let margin = if first < last {
                    (last - first) * 0.03
                } else {
                    room(first)
                };
                (first - margin, last + margin)
            }
        };
        Self {
            axis,
            start,
            end,
            ticks: places,
        }
    }

    /// An axis from 0 to `end`, with ticks at both only: for charts too low for more.
    pub(super) fn ends(axis: &'a Axis, end: f64) -> Self {
        Self {
            axis,
            start: 0.0,
            end,
            ticks: vec![0.0, end],
        }
    }

    /// Relative position of `number`, 0 at the start and 1 at the end.
    fn place(&self, number: f64) -> f64 {
        let on_scale = |number: f64| match self.axis.scale {
            Scale::Logarithmic => number.ln(),
            Scale::Linear | Scale::Percent => number,
        };
        let (start, end) = (on_scale(self.start), on_scale(self.end));
        ((on_scale(number) - start) / (end - start)).clamp(0.0, 1.0)
    }

    /// `number` as the axis shows it.
    pub(super) fn shown(&self, number: f64) -> String {
        match self.axis.scale {
            Scale::Percent => number::plain(number * 100.0) + "%",
            Scale::Linear | Scale::Logarithmic => number::plain(number),
        }
    }
}

/// The ends of an axis around a single number.
fn room(number: f64) -> f64 {
    (number.abs() * 0.1).max(0.5)
}

/// About five steps of 1, 2 or 5 times a power of ten over `length`.
fn step(length: f64) -> f64 {
    let rough = length / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|times| times * power);
    let fitting = steps.into_iter().find(|step| *step >= rough * 0.999);
    fitting.unwrap_or(10.0 * power)
}

impl Plot<'_> {
    /// Horizontal SVG coordinate of `x`.
    pub(super) fn across(&self, x: f64) -> f64 {
        LEFT + self.x.place(x) * (self.width - LEFT - self.right)
    }

    /// Vertical SVG coordinate of `y`.
    pub(super) fn down(&self, y: f64) -> f64 {
        let floor = self.floor();
        floor - self.y.place(y) * (floor - TOP)
    }

    /// Vertical SVG coordinate of the horizontal axis.
    pub(super) fn floor(&self) -> f64 {
        self.height - BOTTOM
    }

    /// The SVG around `content`: its accessible name, the grid, the axes.
    pub(super) fn svg(&self, name: &str, content: &str) -> String {
        let (width, height) = (self.width, self.height);
        format!(
            "<svg class=\"chart\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\">\n{}{}{content}</svg>\n",
            text(name),
            self.upright(),
            self.level(),
        )
    }

    fn upright(&self) -> String {
        let (start, end) = (LEFT, self.width - self.right);
        let mut drawn = String::new();
        for tick in &self.y.ticks {
            let (down, number) = (self.down(*tick), self.y.shown(*tick));
            drawn += &format!(
                "<path class=\"grid\" d=\"M{start:.1} {down:.1}H{end:.1}\"/><text class=\"tick\" text-anchor=\"end\" x=\"{:.1}\" y=\"{:.1}\">{number}</text>\n",
                start - 8.0,
                down + 4.5
            );
        }
        let middle = f64::midpoint(TOP, self.floor());
        drawn += &format!(
            "<text class=\"axis\" text-anchor=\"middle\" transform=\"translate(15 {middle:.1}) rotate(-90)\">{}</text>\n",
            text(&self.y.axis.title)
        );
        drawn
    }

    fn level(&self) -> String {
        let floor = self.floor();
        let mut drawn = format!(
            "<path class=\"base\" d=\"M{LEFT:.1} {floor:.1}H{:.1}\"/>\n",
            self.width - self.right
        );
        let mut free = f64::NEG_INFINITY;
        for tick in &self.x.ticks {
            let (across, number) = (self.across(*tick), self.x.shown(*tick));
            drawn += &format!("<path class=\"base\" d=\"M{across:.1} {floor:.1}v5\"/>");
            let half = number.len() as f64 * 4.0;
            // If numbers would overlap, every other one is omitted.
            if across - half > free {
                free = across + half + 4.0;
                let below = floor + 20.0;
                drawn += &format!(
                    "<text class=\"tick\" text-anchor=\"middle\" x=\"{across:.1}\" y=\"{below:.1}\">{number}</text>\n"
                );
            }
        }
        let middle = f64::midpoint(LEFT, self.width - self.right);
        let below = self.height - 8.0;
        drawn += &format!(
            "<text class=\"axis\" text-anchor=\"middle\" x=\"{middle:.1}\" y=\"{below:.1}\">{}</text>\n",
            text(&self.x.axis.title)
        );
        drawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(scale: Scale) -> Axis {
        Axis {
            title: "a < b".to_owned(),
            scale,
        }
    }

    #[test]
    fn ticks_are_round_and_span_the_numbers() {
        let cases: [(f64, f64, &[f64]); 5] = [
            (0.0, 1.0, &[0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
            (0.61, 0.93, &[0.6, 0.7, 0.8, 0.9, 1.0]),
            (0.0, 248.0, &[0.0, 50.0, 100.0, 150.0, 200.0, 250.0]),
            (3.0, 3.0, &[2.4, 2.6, 2.8, 3.0, 3.2, 3.4, 3.6]),
            (-1.0, 1.0, &[-1.0, -0.5, 0.0, 0.5, 1.0]),
        ];
        let axis = axis(Scale::Linear);
        for (start, end, expected) in cases {
            let span = Span::rounded(&axis, start, end);
            let is_near = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-9;
            assert_eq!(span.ticks.len(), expected.len(), "{:?}", span.ticks);
            assert!(
                span.ticks.iter().zip(expected).all(is_near),
                "{:?}",
                span.ticks
            );
        }
    }

    #[test]
    fn a_logarithmic_axis_spaces_ratios_equally() {
        let axis = axis(Scale::Logarithmic);
        let span = Span::at(&axis, vec![10.0, 40.0, 160.0]);
        let places = [10.0, 40.0, 160.0].map(|number| span.place(number));
        assert!((places[1] - 0.5).abs() < 1e-9, "{places:?}");
        assert!((places[0] + places[2] - 1.0).abs() < 1e-9, "{places:?}");
    }

    #[test]
    fn a_single_place_is_in_the_middle() {
        for scale in [Scale::Linear, Scale::Percent, Scale::Logarithmic] {
            let axis = axis(scale);
            let place = Span::at(&axis, vec![20.0]).place(20.0);
            assert!(place.is_finite(), "{scale:?} {place}");
        }
    }

    #[test]
    fn titles_are_text() {
        let axis = axis(Scale::Percent);
        let plot = Plot {
            width: 400.0,
            height: 300.0,
            right: 20.0,
            x: Span::rounded(&axis, 0.0, 1.0),
            y: Span::rounded(&axis, 0.0, 1.0),
        };
        let svg = plot.svg("\"<b>", "");
        assert!(
            svg.contains("a &lt; b") && svg.contains("\"&quot;&lt;b&gt;\""),
            "{svg}"
        );
        assert!(svg.contains(">60%</text>"), "{svg}");
    }
}
