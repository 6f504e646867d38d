//! Plain records -> table, json, jsonl, csv, tsv, parquet, paths, tasks of Label Studio,
//! annotations of GitHub; results of evaluations ([`evaluation`]), HTML reports ([`report`]), search
//! hits ([`found`]), images in folders ([`sorted`]), labels in sidecars (`xmp`), how these are
//! reverted ([`undo`]), and tables for people ([`table`]).
//!
//! Records come from a task and are only shown here: nothing in this folder knows tensors, models
//! or arguments. How to add a format is in `src/lib.rs`.

pub(crate) mod columns;
mod csv;
pub mod evaluation;
pub(crate) mod explanation;
mod format;
pub mod found;
pub(crate) mod github;
mod given;
pub(crate) mod heatmap;
mod journal;
pub(crate) mod json;
pub(crate) mod label_studio;
pub(crate) mod parquet;
mod paths;
mod record_table;
pub mod report;
pub mod sorted;
pub mod suffix;
pub mod table;
pub mod text;
pub mod undo;
pub(crate) mod xmp;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Serialize, Serializer};

pub use crate::file::failure::{Failure, FailureKind};
pub use csv::MARK;
pub use format::Format;
use found::PathEnd;

pub(crate) use csv::{Extras, IMAGE_BYTES};
pub(crate) use given::Given;
pub(crate) use json::RECORD_KEYS;

/// The result of one image.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Which image.
    pub image: ImageName,
    /// Which of its frames, if it has several.
    pub frame: Option<FrameId>,
    /// The keys of its line in a list.
    pub(crate) given: Option<Given>,
    /// The predictions by falling score, or why there are none. An empty list means that no label
    /// reached the threshold.
    pub outcome: Result<Vec<Prediction>, Failure>,
    /// Warnings about an image that still has a result.
    pub warnings: Vec<String>,
    /// The true label, if it is known.
    pub target: Option<Arc<str>>,
    /// Whether the best label's probability is below a calibration's threshold: probably none of
    /// the labels.
    pub uncertain: bool,
    /// The labels that describe the image, best first: the best one, or all that reached a
    /// threshold; none if it is uncertain or the best one stands for none of the labels.
    pub chosen: Vec<Arc<str>>,
}

impl Record {
    /// The result of an image without further information.
    pub(crate) fn new(image: ImageName, outcome: Result<Vec<Prediction>, Failure>) -> Self {
        Self {
            image,
            frame: None,
            given: None,
            outcome,
            warnings: Vec::new(),
            target: None,
            uncertain: false,
            chosen: Vec::new(),
        }
    }
}

/// One label's score for one image.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Prediction {
    /// The label as typed; shared between the records of a run.
    #[serde(serialize_with = "serialize_label")]
    pub label: Arc<str>,
    /// Probability in 0..=1, for scores that have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probability: Option<f32>,
    /// The model's logit: its scale times the cosine; or that of a trained classifier.
    pub logit: f32,
    /// Cosine similarity of the image's and the class's embedding; a trained classifier has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cosine: Option<f32>,
}

fn serialize_label<S: Serializer>(label: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(label)
}

/// An image's path as text, with the exact bytes if it is not UTF-8.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageName {
    /// The path; invalid UTF-8 in it became U+FFFD.
    pub text: String,
    /// The path's bytes if they are not UTF-8.
    pub bytes: Option<Vec<u8>>,
}

/// One frame of an animation or a video.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FrameId {
    /// Its index, from 0.
    pub index: u64,
    /// When it appears, in seconds after the first, if that is known.
    pub time: Option<f64>,
}

impl ImageName {
    /// The name of one of its frames where there is one name only: `a.gif#3`.
    #[must_use]
    pub(crate) fn of_frame(&self, frame: Option<FrameId>) -> Self {
        let mut name = self.clone();
        if let Some(frame) = frame {
            let suffix = format!("#{}", frame.index);
            name.text.push_str(&suffix);
            if let Some(bytes) = &mut name.bytes {
                bytes.extend(suffix.bytes());
            }
        }
        name
    }

    /// The name of an image read from stdin.
    pub(crate) fn stdin() -> Self {
        Self {
            text: "-".to_owned(),
            bytes: None,
        }
    }

    /// The path's bytes in base64, as JSON and CSV store them, if they are not UTF-8.
    #[must_use]
    pub(crate) fn bytes_as_text(&self) -> Option<String> {
        self.bytes.as_ref().map(|bytes| STANDARD.encode(bytes))
    }

    /// The path's bytes as the system stores them.
    fn exact(&self) -> &[u8] {
        self.bytes.as_deref().unwrap_or(self.text.as_bytes())
    }

    /// The path; `None` for stdin.
    pub(crate) fn path(&self) -> Option<PathBuf> {
        #[cfg(unix)]
        if let Some(bytes) = &self.bytes {
            use std::os::unix::ffi::OsStrExt as _;
            return Some(PathBuf::from(std::ffi::OsStr::from_bytes(bytes)));
        }
        (self.text != "-").then(|| PathBuf::from(&self.text))
    }
}

impl From<&Path> for ImageName {
    fn from(path: &Path) -> Self {
        let bytes = path.as_os_str().as_encoded_bytes();
        Self {
            text: path.to_string_lossy().into_owned(),
            bytes: path.to_str().is_none().then(|| bytes.to_vec()),
        }
    }
}

/// The name of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// An image's path.
    Image(ImageName),
    /// The text itself.
    Text(String),
}

/// How records are written: the style of [`Format::Table`], and what other formats need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Style {
    /// The number next to each label.
    pub score: Score,
    /// Where a table is shown.
    pub terminal: Terminal,
    /// Optional parts of [`Format::Csv`] and [`Format::Tsv`].
    pub extras: Extras,
    /// What ends a path in [`Format::Paths`].
    pub end: PathEnd,
    /// The model's name, for [`Format::LabelStudio`].
    pub model: String,
}

impl Style {
    /// For formats without a style.
    #[must_use]
    pub(crate) fn plain() -> Self {
        Self {
            score: Score::Probability,
            terminal: Terminal::PLAIN,
            extras: Extras::default(),
            end: PathEnd::Line,
            model: String::new(),
        }
    }
}

/// A terminal, or its substitute for a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// Its width in columns.
    pub width: usize,
    /// Whether it supports colours.
    pub colour: Colour,
}

impl Terminal {
    /// For a file.
    pub(crate) const PLAIN: Self = Self {
        width: 80,
        colour: Colour::Plain,
    };
}

/// Which number of a prediction a table shows. A prediction without a probability shows its logit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Score {
    /// In percent; a full bar is 100 %.
    Probability,
    /// A full bar is the record's best logit.
    Logit,
    /// A full bar is the record's best cosine.
    Cosine,
}

/// Whether terminal colours are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// ANSI colours.
    Ansi,
    /// None.
    Plain,
}

/// Writes records as they come, in order.
pub trait RecordWriter {
    /// Writes one record and flushes the sink, so that a reader of a pipe sees each record as soon
    /// as it is ready. A record reaches the sink in one piece.
    ///
    /// # Errors
    /// Errors of the sink, with their kind: a closed pipe is `BrokenPipe`.
    fn write(&mut self, record: &Record) -> io::Result<()>;

    /// Writes what follows the last record (the end of an array, or the header of a table without
    /// rows) and flushes the sink. Must be called once, also after no records.
    ///
    /// # Errors
    /// As [`RecordWriter::write`].
    fn finish(&mut self) -> io::Result<()>;
}

/// The writer of `format` to `sink`. It keeps no buffer between records, except for
/// [`Format::Parquet`], whose rows are written in groups.
///
/// # Errors
/// Errors of the sink.
pub fn writer(
    format: Format,
    sink: Box<dyn Write + Send>,
    style: Style,
) -> io::Result<Box<dyn RecordWriter + Send>> {
    Ok(match format {
        Format::Table => Box::new(record_table::TableWriter::new(sink, style)),
        Format::Json | Format::Jsonl => Box::new(json::JsonWriter::new(sink, format)),
        Format::Csv => Box::new(csv::CsvWriter::new(sink, b',', style.extras)),
        Format::Tsv => Box::new(csv::CsvWriter::new(sink, b'\t', style.extras)),
        Format::Paths => Box::new(paths::PathWriter::new(sink, style.end)),
        Format::Parquet => Box::new(parquet::ParquetWriter::new(sink)?),
        Format::Github => Box::new(github::AnnotationWriter::new(sink)),
        Format::LabelStudio => Box::new(label_studio::TaskWriter::new(sink, style.model)?),
    })
}

/// Writes one piece to the sink and flushes it.
fn emit(sink: &mut dyn Write, piece: &[u8]) -> io::Result<()> {
    sink.write_all(piece)?;
    sink.flush()
}

#[cfg(test)]
mod testing {
    use std::sync::Mutex;

    use super::*;

    /// A sink that can be read while a writer holds it.
    #[derive(Clone, Default)]
    pub(super) struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Shared {
        pub(super) fn content(&self) -> Vec<u8> {
            self.0.lock().unwrap().clone()
        }
    }

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    pub(super) const STYLE: Style = Style {
        score: Score::Probability,
        terminal: Terminal {
            width: 60,
            ..Terminal::PLAIN
        },
        extras: Extras {
            mark: false,
            frames: false,
            image_bytes: false,
        },
        end: PathEnd::Line,
        model: String::new(),
    };

    /// The output for `records`.
    pub(super) fn written(format: Format, style: Style, records: &[Record]) -> String {
        let sink = Shared::default();
        let mut writer = writer(format, Box::new(sink.clone()), style).unwrap();
        for record in records {
            writer.write(record).unwrap();
        }
        writer.finish().unwrap();
        String::from_utf8(sink.content()).unwrap()
    }

    pub(super) fn prediction(label: &str, probability: Option<f32>, cosine: f32) -> Prediction {
        Prediction {
            label: label.into(),
            probability,
            logit: cosine * 100.0,
            cosine: Some(cosine),
        }
    }

    pub(super) fn answered(image: &str, predictions: Vec<Prediction>) -> Record {
        Record::new(Path::new(image).into(), Ok(predictions))
    }

    pub(super) fn failed(image: &str, error: &str) -> Record {
        let failure = FailureKind::Decode.because(error);
        Record::new(Path::new(image).into(), Err(failure))
    }

    /// The two records of the command line's contract.
    pub(super) fn contract() -> [Record; 2] {
        let exact = |label: &str, probability, logit, cosine| Prediction {
            label: label.into(),
            probability: Some(probability),
            logit,
            cosine: Some(cosine),
        };
        let predictions = vec![
            exact("a cat sleeping", 0.997_981_25, 27.71, 0.2771),
            exact("a cat jumping", 0.002_018_81, 21.51, 0.2151),
        ];
        let cause = "not an image: the file ends before any image data";
        [
            answered("img.jpg", predictions),
            failed("broken.jpg", cause),
        ]
    }
}

#[cfg(test)]
mod tests;
