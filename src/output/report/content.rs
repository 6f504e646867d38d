//! What a report page shows, as plain data. Nothing here knows how it looks.

/// What is known before the first image.
#[derive(Clone, Debug)]
pub struct Head {
    /// What was done; it sets the words of the page.
    pub kind: Kind,
    /// The page's heading: usually the folder or dataset.
    pub title: String,
    /// One sentence under the heading.
    pub lead: String,
    /// The labels (or captions) that the images' answers and targets count from 0.
    pub labels: Vec<String>,
    /// Which number the images' answers hold.
    pub score: super::super::Score,
    /// What was run, as names and values: model, hashes, templates, version, arguments, date.
    pub facts: Vec<(String, String)>,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Images were given labels.
    Classification,
    /// Answers were held against the truth.
    Evaluation,
    /// A classifier was trained, and its answers held against the truth.
    Probe,
    /// Several runs over the same images were held against each other.
    Comparison,
    /// Captions were found for images, and images for captions.
    Retrieval,
    /// A model was trained.
    Training,
}

/// One image.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// Its path or key.
    pub name: String,
    /// Width and height in pixels, where it could be decoded.
    pub size: Option<(usize, usize)>,
    /// A JPEG file of at most 128 pixels a side ([`crate::input::image::thumbnail`]).
    pub thumbnail: Option<Vec<u8>>,
    /// The best few answers, best first.
    pub predictions: Vec<Answer>,
    /// The labels that are true; more than one where several captions describe it, none where
    /// nothing is known.
    pub targets: Vec<usize>,
    /// The best answer of each run of a comparison, in the order of [`Comparison::runs`].
    pub runs: Vec<Answer>,
    /// Why there is no answer.
    pub error: Option<String>,
    /// What was wrong with an image that was answered all the same.
    pub warnings: Vec<String>,
}

/// A label and its score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answer {
    /// Counts [`Head::labels`].
    pub label: usize,
    /// The number that [`Head::score`] names.
    pub score: f32,
}

/// What is known after the last image; each part is shown when it is there.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// What a reader must know before any number: random weights, images left out.
    pub notes: Vec<String>,
    /// The headline figures, the most important first.
    pub figures: Vec<Figure>,
    /// Runs held against each other.
    pub comparison: Option<Comparison>,
    /// Recall both ways.
    pub retrieval: Option<Retrieval>,
    /// Curves: accuracy against text length, loss against steps.
    pub charts: Vec<Chart>,
    /// Whether probabilities mean what they say.
    pub reliability: Option<Reliability>,
    /// What was taken for what: counts of images that were answered.
    pub confusion: Vec<Confused>,
    /// Precision and recall by class.
    pub classes: Vec<Class>,
}

/// A number for the top of the page.
#[derive(Clone, Debug)]
pub struct Figure {
    /// What it is: `Top-1 accuracy`.
    pub name: String,
    /// The number.
    pub value: Value,
    /// The ends of its 95% interval, in the value's own measure.
    pub interval: Option<(f64, f64)>,
}

/// A number and how it is read. What is not finite is shown as a dash.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// A part of 1, shown in percent.
    Share(f64),
    /// How many.
    Count(u64),
    /// Anything else.
    Number(f64),
}

/// Runs over the same images.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// The runs; the first is the one that [`Image::predictions`] are of.
    pub runs: Vec<Run>,
    /// What every two of them differ by.
    pub pairs: Vec<Pair>,
    /// The classes whose recall differs between runs, the most changed first.
    pub changes: Vec<Change>,
}

/// One run of a comparison.
#[derive(Clone, Debug)]
pub struct Run {
    /// What it is told apart by: a file of labels, a set of templates.
    pub name: String,
    /// Top-1 accuracy.
    pub acc1: f64,
    /// The ends of its 95% interval.
    pub interval: (f64, f64),
}

/// The second run against the first.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    /// Counts [`Comparison::runs`].
    pub first: usize,
    /// Counts [`Comparison::runs`].
    pub second: usize,
    /// The second's accuracy less the first's.
    pub difference: f64,
    /// The ends of its 95% interval.
    pub interval: (f64, f64),
    /// McNemar's test: how likely so uneven a split of won and lost is by chance.
    pub p_value: f64,
    /// Images that only the second answers rightly.
    pub won: u64,
    /// Images that only the first answers rightly.
    pub lost: u64,
}

/// A class whose recall differs between runs.
#[derive(Clone, Debug)]
pub struct Change {
    /// Counts [`Head::labels`].
    pub label: usize,
    /// Its images.
    pub support: u64,
    /// Its recall in each run.
    pub recalls: Vec<f64>,
}

/// Recall at several depths, both ways.
#[derive(Clone, Debug, Default)]
pub struct Retrieval {
    /// What counts as found, and which part of each caption was read.
    pub protocol: String,
    /// Usually two: captions for an image, images for a caption.
    pub directions: Vec<Direction>,
}

/// One direction of a retrieval.
#[derive(Clone, Debug)]
pub struct Direction {
    /// `captions for an image`.
    pub name: String,
    /// How many were asked for.
    pub queries: u64,
    /// Depth and the share of queries with something right among the first so many.
    pub recalls: Vec<(usize, f64)>,
}

/// Curves over one pair of axes.
#[derive(Clone, Debug)]
pub struct Chart {
    /// The heading.
    pub title: String,
    /// What it shows, in a sentence.
    pub caption: String,
    /// Left to right.
    pub x: Axis,
    /// Bottom to top.
    pub y: Axis,
    /// The curves, at most six that can be told apart.
    pub series: Vec<Series>,
}

/// One axis of a chart.
#[derive(Clone, Debug)]
pub struct Axis {
    /// What it measures, with its unit: `Text length in tokens`.
    pub title: String,
    /// How its numbers are shown and spaced.
    pub scale: Scale,
}

/// How an axis shows and spaces numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Equal differences are equal lengths.
    Linear,
    /// The same, numbers in percent.
    Percent,
    /// Equal ratios are equal lengths; points at 0 or below are left out.
    Logarithmic,
}

/// One curve.
#[derive(Clone, Debug)]
pub struct Series {
    /// What it is told apart by.
    pub name: String,
    /// By rising `x`. Points that are not finite are left out.
    pub points: Vec<Point>,
}

/// One point of a curve.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// Where.
    pub x: f64,
    /// How much.
    pub y: f64,
    /// The ends of the 95% interval of `y`.
    pub interval: Option<(f64, f64)>,
}

/// Accuracy against confidence.
#[derive(Clone, Debug, Default)]
pub struct Reliability {
    /// Expected calibration error.
    pub ece: f64,
    /// The bins by rising confidence; empty ones too.
    pub bins: Vec<Bin>,
}

/// The images whose best probability lies in one range.
#[derive(Clone, Copy, Debug)]
pub struct Bin {
    /// Where the range starts and ends, in 0..=1.
    pub range: (f64, f64),
    /// How many images.
    pub count: u64,
    /// The mean of their best probabilities.
    pub confidence: f64,
    /// The share of them answered rightly.
    pub accuracy: f64,
}

/// How often `truth` was taken for `predicted`; right answers are among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confused {
    /// Counts [`Head::labels`].
    pub truth: usize,
    /// Counts [`Head::labels`].
    pub predicted: usize,
    /// Images.
    pub count: u64,
}

/// One class's figures.
#[derive(Clone, Copy, Debug)]
pub struct Class {
    /// Counts [`Head::labels`].
    pub label: usize,
    /// Of the images given this label, the share that has it.
    pub precision: f64,
    /// Of the images that have this label, the share that was given it.
    pub recall: f64,
    /// Harmonic mean of both.
    pub f1: f64,
    /// Its images.
    pub support: u64,
}
