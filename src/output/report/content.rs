//! The content of a report page, as plain data. Nothing here knows how it looks. Figures are those
//! of [`crate::output::evaluation`].

use crate::output::Score;
use crate::output::evaluation::{BinRow, ClassRow, PairRow, RetrievalEvaluation, RunRow};
use crate::output::explanation::Explanation;

/// Information available before the first image.
#[derive(Clone, Debug)]
pub struct PageHead {
    /// Kind of run; it determines the words of the page.
    pub kind: PageKind,
    /// The page's heading: usually the folder or dataset.
    pub title: String,
    /// One sentence under the heading.
    pub lead: String,
    /// The labels (or captions) into which the images' predictions and targets are indices.
    pub labels: Vec<String>,
    /// Which number the images' predictions have.
    pub score: Score,
    /// Facts about the run, as names and values: model, hashes, templates, version, arguments,
    /// date.
    pub facts: Vec<(String, String)>,
}

/// Kind of run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageKind {
    /// Classification of images.
    Classification,
    /// Evaluation against known answers.
    Evaluation,
    /// Training of a classifier and its evaluation.
    Probe,
    /// Comparison of several runs over the same images.
    RunComparison,
    /// Retrieval of captions for images, and of images for captions.
    Retrieval,
    /// Training of a model.
    Training,
    /// Explanation of one score.
    Explanation,
    /// Comparison of two sets of images.
    Shift,
}

/// One image.
#[derive(Clone, Debug, Default)]
pub struct PageImage {
    /// Its path or key.
    pub name: String,
    /// Width and height in pixels, if it could be decoded.
    pub size: Option<(usize, usize)>,
    /// A JPEG file of at most 128 pixels per side ([`crate::input::image::thumbnail`]).
    pub thumbnail: Option<Vec<u8>>,
    /// The best few predictions, best first.
    pub predictions: Vec<LabelScore>,
    /// The true labels; several if several captions describe the image, none if unknown.
    pub targets: Vec<usize>,
    /// The best prediction of each run of a comparison, in the order of [`RunComparison::runs`].
    pub runs: Vec<LabelScore>,
    /// Why there is no result.
    pub error: Option<String>,
    /// Warnings about an image that still has a result.
    pub warnings: Vec<String>,
}

/// A label and its score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LabelScore {
    /// Index into [`PageHead::labels`].
    pub label: usize,
    /// The number that [`PageHead::score`] names.
    pub score: f32,
}

/// Results available after the last image; each part is shown if it is present.
#[derive(Clone, Debug, Default)]
pub struct PageSummary {
    /// Caveats that come before any number: random weights, skipped images.
    pub notes: Vec<String>,
    /// The headline metrics, the most important first.
    pub figures: Vec<Metric>,
    /// Comparison of runs.
    pub comparison: Option<RunComparison>,
    /// Recall in both directions.
    pub retrieval: Option<RetrievalEvaluation>,
    /// Curves: accuracy against text length, loss against steps.
    pub charts: Vec<Chart>,
    /// Tables of any kind.
    pub tables: Vec<PageTable>,
    /// Calibration: whether probabilities match accuracies.
    pub reliability: Option<ReliabilityDiagram>,
    /// Confusions: counts of images with a prediction.
    pub confusion: Vec<Confused>,
    /// Precision and recall per class.
    pub classes: Vec<ClassRow>,
    /// Which words and regions a score comes from.
    pub explanation: Option<PageExplanation>,
}

/// An explanation with the square of the image that the model sees.
#[derive(Clone, Debug)]
pub struct PageExplanation {
    /// The words and regions.
    pub(crate) found: Explanation,
    /// A JPEG file of the square.
    pub(crate) picture: Vec<u8>,
    /// Its side in pixels.
    pub(crate) side: usize,
}

/// A table of texts.
#[derive(Clone, Debug, Default)]
pub struct PageTable {
    /// What it shows.
    pub caption: String,
    /// The heads of its columns.
    pub columns: Vec<String>,
    /// Its rows, with a text per column; the first one is the row's head.
    pub rows: Vec<Vec<String>>,
}

/// A metric for the top of the page.
#[derive(Clone, Debug)]
pub struct Metric {
    /// Its name: `Top-1 accuracy`.
    pub name: String,
    /// Its value.
    pub value: Quantity,
    /// The ends of its 95% interval, in the value's unit.
    pub interval: Option<(f64, f64)>,
}

/// A number and its unit. Values that are not finite are shown as a dash.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Quantity {
    /// A proportion, shown in percent.
    Share(f64),
    /// A count.
    Count(u64),
    /// Anything else.
    Number(f64),
}

/// Comparison of runs over the same images.
#[derive(Clone, Debug, Default)]
pub struct RunComparison {
    /// The runs; [`PageImage::predictions`] are those of the first.
    pub runs: Vec<RunRow>,
    /// The differences of all pairs of runs.
    pub pairs: Vec<PairRow>,
    /// The classes whose recall differs between runs, the most changed first.
    pub changes: Vec<Change>,
}

/// A class whose recall differs between runs.
#[derive(Clone, Debug)]
pub struct Change {
    /// Index into [`PageHead::labels`].
    pub label: usize,
    /// Number of its images.
    pub support: u64,
    /// Its recall in each run.
    pub recalls: Vec<f64>,
}

/// A line chart.
#[derive(Clone, Debug)]
pub struct Chart {
    /// The heading.
    pub title: String,
    /// Its caption, one sentence.
    pub caption: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// The curves; at most six can be distinguished.
    pub series: Vec<Series>,
}

/// One axis of a chart.
#[derive(Clone, Debug)]
pub struct Axis {
    /// Its title, with the unit: `Text length in tokens`.
    pub title: String,
    /// How its numbers are shown and spaced.
    pub scale: Scale,
}

impl Axis {
    /// An axis with a title.
    #[must_use]
    pub fn new(title: &str, scale: Scale) -> Self {
        Self {
            title: title.to_owned(),
            scale,
        }
    }
}

/// How an axis shows and spaces numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Linear.
    Linear,
    /// Linear, with numbers in percent.
    Percent,
    /// Logarithmic; points at 0 or below are omitted.
    Logarithmic,
}

/// One curve.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its name.
    pub name: String,
    /// Points by rising `x`. Points that are not finite are omitted.
    pub points: Vec<Point>,
}

impl Series {
    /// A curve with a name.
    #[must_use]
    pub fn new(name: &str, points: Vec<Point>) -> Self {
        Self {
            name: name.to_owned(),
            points,
        }
    }
}

/// One point of a curve.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// Position on the horizontal axis.
    pub x: f64,
    /// Value on the vertical axis.
    pub y: f64,
    /// The ends of the 95% interval of `y`.
    pub interval: Option<(f64, f64)>,
}

impl Point {
    /// A point without an interval.
    #[must_use]
    pub fn new(x: f64, y: f64) -> Self {
        Self {
            x,
            y,
            interval: None,
        }
    }

    /// The same with the ends of its interval.
    #[must_use]
    pub fn between(self, interval: impl Into<(f64, f64)>) -> Self {
        Self {
            interval: Some(interval.into()),
            ..self
        }
    }
}

/// Accuracy against confidence.
#[derive(Clone, Debug, Default)]
pub struct ReliabilityDiagram {
    /// Expected calibration error.
    pub ece: f64,
    /// The bins by rising confidence, including empty ones.
    pub bins: Vec<BinRow>,
}

/// How often `truth` was predicted as `predicted`; correct predictions are included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confused {
    /// Index into [`PageHead::labels`].
    pub truth: usize,
    /// Index into [`PageHead::labels`].
    pub predicted: usize,
    /// Number of images.
    pub count: u64,
}
