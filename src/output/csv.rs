//! CSV and TSV: one row per prediction, quoted according to RFC 4180, lines end in `\n`.
//!
//! A failed image has one row with its error; an image without predictions has one row with its
//! name, so that every image appears. With [`Extras`] a byte order mark comes first, and last columns
//! have frames and the exact bytes of paths that are not UTF-8. By default nothing of it is there:
//! the header is a contract, and it is written before the records are known.

use std::io::{self, Write};

use csv::{ErrorKind, WriterBuilder};
use serde::Serialize;

use super::{Prediction, Record, RecordWriter, emit};

/// Mark before UTF-8 text for Excel, which otherwise reads it in the system's legacy encoding.
pub const MARK: &[u8] = "\u{feff}".as_bytes();

/// The name of the column that [`Extras::image_bytes`] adds.
pub(crate) const IMAGE_BYTES: &str = "image_bytes";

/// Optional parts of CSV and TSV.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// A UTF-8 byte order mark at the start.
    pub mark: bool,
    /// Two columns after the usual ones: the index of a frame, and its time in seconds.
    pub frames: bool,
    /// A last column with the bytes, in base64, of paths that are not UTF-8; empty for others.
    pub image_bytes: bool,
}

/// The columns that [`Extras::frames`] adds.
const FRAMES: [&str; 2] = ["frame", "time"];

const HEADER: [&str; 7] = [
    "image",
    "label",
    "probability",
    "logit",
    "cosine",
    "rank",
    "error",
];

/// The columns of [`HEADER`] and the optional ones; missing values are empty fields.
#[derive(Clone, Copy, Default, Serialize)]
struct PredictionRow<'a> {
    image: &'a str,
    label: Option<&'a str>,
    probability: Option<f32>,
    logit: Option<f32>,
    cosine: Option<f32>,
    rank: Option<usize>,
    error: Option<&'a str>,
    /// Omitted without [`Extras::frames`].
    #[serde(skip_serializing_if = "Option::is_none")]
    frame: Option<Option<u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<Option<f64>>,
    /// Omitted without [`Extras::image_bytes`].
    #[serde(skip_serializing_if = "Option::is_none")]
    image_bytes: Option<&'a str>,
}

/// A writer of rows into memory, after a mark if wanted.
pub(super) fn buffer(delimiter: u8, has_mark: bool) -> csv::Writer<Vec<u8>> {
    let start = if has_mark { MARK } else { &[] };
    WriterBuilder::new()
        .delimiter(delimiter)
        .has_headers(false)
        .from_writer(start.to_vec())
}

/// Writes rows with one delimiter.
pub(super) struct CsvWriter {
    sink: Box<dyn Write + Send>,
    delimiter: u8,
    extras: Extras,
    has_header: bool,
}

impl CsvWriter {
    pub(super) fn new(sink: Box<dyn Write + Send>, delimiter: u8, extras: Extras) -> Self {
        Self {
            sink,
            delimiter,
            extras,
            has_header: false,
        }
    }

    fn emit_rows(&mut self, rows: &[PredictionRow<'_>]) -> io::Result<()> {
        let is_start = !std::mem::replace(&mut self.has_header, true);
        let mut lines = buffer(self.delimiter, is_start && self.extras.mark);
        if is_start {
            let frames = FRAMES.into_iter().filter(|_| self.extras.frames);
            let last = self.extras.image_bytes.then_some(IMAGE_BYTES);
            let header = HEADER.into_iter().chain(frames).chain(last);
            lines.write_record(header).map_err(into_io)?;
        }
        for row in rows {
            lines.serialize(row).map_err(into_io)?;
        }
        let lines = lines.into_inner().map_err(|error| error.into_error())?;
        emit(&mut *self.sink, &lines)
    }
}

impl RecordWriter for CsvWriter {
    fn write(&mut self, record: &Record) -> io::Result<()> {
        let bytes = record.image.bytes_as_text().unwrap_or_default();
        let bytes = self.extras.image_bytes.then_some(bytes.as_str());
        let only_image = PredictionRow {
            image: &record.image.text,
            frame: self
                .extras
                .frames
                .then_some(record.frame.map(|frame| frame.index)),
            time: self
                .extras
                .frames
                .then_some(record.frame.and_then(|frame| frame.time)),
            image_bytes: bytes,
            ..PredictionRow::default()
        };
        self.emit_rows(&rows(record, only_image))
    }

    fn finish(&mut self) -> io::Result<()> {
        self.emit_rows(&[])
    }
}

fn rows<'a>(record: &'a Record, only_image: PredictionRow<'a>) -> Vec<PredictionRow<'a>> {
    match &record.outcome {
        Err(error) => vec![PredictionRow {
            error: Some(&error.cause),
            ..only_image
        }],
        Ok(predictions) if predictions.is_empty() => vec![only_image],
        Ok(predictions) => {
            let ranked = predictions.iter().zip(1..);
            let row = |(prediction, rank)| ranked_row(only_image, prediction, rank);
            ranked.map(row).collect()
        }
    }
}

fn ranked_row<'a>(
    only_image: PredictionRow<'a>,
    prediction: &'a Prediction,
    rank: usize,
) -> PredictionRow<'a> {
    PredictionRow {
        label: Some(&prediction.label),
        probability: prediction.probability,
        logit: Some(prediction.logit),
        cosine: prediction.cosine,
        rank: Some(rank),
        ..only_image
    }
}

fn into_io(error: csv::Error) -> io::Error {
    match error.into_kind() {
        ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{STYLE, answered, contract, failed, prediction, written};
    use super::super::{Format, FrameId, ImageName, Style};
    use super::*;

    #[test]
    fn rows_are_ranked() {
        let expected = "\
image,label,probability,logit,cosine,rank,error
img.jpg,a cat sleeping,0.99798125,27.71,0.2771,1,
img.jpg,a cat jumping,0.00201881,21.51,0.2151,2,
broken.jpg,,,,,,not an image: the file ends before any image data
";
        assert_eq!(written(Format::Csv, STYLE, &contract()), expected);
        let tabs = written(Format::Tsv, STYLE, &contract());
        assert_eq!(tabs, expected.replace(',', "\t"));
    }

    #[test]
    fn the_header_is_written_without_rows_too() {
        let header = "image,label,probability,logit,cosine,rank,error\n";
        assert_eq!(written(Format::Csv, STYLE, &[]), header);
        let nothing_kept = written(Format::Csv, STYLE, &[answered("a.jpg", vec![])]);
        assert_eq!(nothing_kept, format!("{header}a.jpg,,,,,,\n"));
    }

    #[test]
    fn fields_are_quoted_where_needed() {
        let row = |format, image: &str, label: &str| {
            let record = answered(image, vec![prediction(label, None, 0.25)]);
            let content = written(format, STYLE, &[record]);
            content.split_once('\n').unwrap().1.to_owned()
        };
        let cases = [
            (
                "a,b",
                "say \"hi\"",
                "\"a,b\",\"say \"\"hi\"\"\",,25.0,0.25,1,\n",
            ),
            ("a\nb", "c\rd", "\"a\nb\",\"c\rd\",,25.0,0.25,1,\n"),
            ("a\tb", "=1+1", "a\tb,=1+1,,25.0,0.25,1,\n"),
        ];
        for (image, label, expected) in cases {
            assert_eq!(row(Format::Csv, image, label), expected);
        }
        let tabbed = row(Format::Tsv, "a\tb,c", "d\ne");
        assert_eq!(tabbed, "\"a\tb,c\"\t\"d\ne\"\t\t25.0\t0.25\t1\t\n");
    }

    #[test]
    fn a_mark_and_exact_names_are_optional() {
        let odd = ImageName {
            text: "caf\u{fffd}".to_owned(),
            bytes: Some(b"caf\xe9".to_vec()),
        };
        let mut records = vec![failed("a.jpg", "x"), answered("b.jpg", vec![])];
        records.push(answered("c.jpg", vec![prediction("é", None, 0.25)]));
        records[2].image = odd;
        let written = |mark, image_bytes, records: &[Record]| {
            let extras = Extras {
                mark,
                image_bytes,
                frames: false,
            };
            written(Format::Csv, Style { extras, ..STYLE }, records)
        };
        let plain = written(false, false, &records);
        assert_eq!(written(true, false, &records), format!("\u{feff}{plain}"));
        let expected = "\
image,label,probability,logit,cosine,rank,error,image_bytes
a.jpg,,,,,,x,
b.jpg,,,,,,,
caf\u{fffd},é,,25.0,0.25,1,,Y2Fm6Q==
";
        assert_eq!(written(false, true, &records), expected);
        let header = expected.lines().next().unwrap();
        assert_eq!(written(true, true, &[]), format!("\u{feff}{header}\n"));
    }

    #[test]
    fn frames_have_columns_of_their_own_on_request() {
        let mut records = vec![
            answered("a.gif", vec![prediction("x", None, 0.25)]),
            failed("-", "cut"),
            answered("a.jpg", vec![]),
        ];
        let frame = |index, time| Some(FrameId { index, time });
        records[0].frame = frame(3, Some(0.12));
        records[1].frame = frame(4, None);
        let extras = Extras {
            mark: false,
            frames: true,
            image_bytes: true,
        };
        let expected = "\
image,label,probability,logit,cosine,rank,error,frame,time,image_bytes
a.gif,x,,25.0,0.25,1,,3,0.12,
-,,,,,,cut,4,,
a.jpg,,,,,,,,,
";
        let found = written(Format::Csv, Style { extras, ..STYLE }, &records);
        assert_eq!(found, expected);
    }

    #[test]
    fn rows_read_back_as_they_were() {
        let names = ["a,b\"c\"\n", "\r\n", "tab\there", "é", "-", "'", ""];
        let records = names.map(|name| failed(name, name));
        for (format, delimiter) in [(Format::Csv, b','), (Format::Tsv, b'\t')] {
            let content = written(format, STYLE, &records);
            let mut reader = csv::ReaderBuilder::new()
                .delimiter(delimiter)
                .from_reader(content.as_bytes());
            let read: Vec<_> = reader.records().map(Result::unwrap).collect();
            assert_eq!(read.len(), names.len());
            for (row, name) in read.iter().zip(names) {
                assert_eq!((&row[0], &row[6]), (name, name));
            }
        }
    }
}
