//! CSV and TSV: one row a prediction, quoted as RFC 4180 says, lines end in `\n`.
//!
//! A failed image has one row with its error; an image without predictions has one row
//! with its name, so that every image appears.

use std::io::{self, Write};

use csv::{ErrorKind, WriterBuilder};
use serde::Serialize;

use super::{Prediction, Record, RecordWriter, emit};

const HEADER: [&str; 7] = [
    "image",
    "label",
    "probability",
    "logit",
    "cosine",
    "rank",
    "error",
];

/// The columns of [`HEADER`]; what is missing is an empty field.
#[derive(Default, Serialize)]
struct Row<'a> {
    image: &'a str,
    label: Option<&'a str>,
    probability: Option<f32>,
    logit: Option<f32>,
    cosine: Option<f32>,
    rank: Option<usize>,
    error: Option<&'a str>,
}

/// Rows with one delimiter.
pub(super) struct CsvWriter {
    sink: Box<dyn Write + Send>,
    delimiter: u8,
    has_header: bool,
}

impl CsvWriter {
    pub(super) fn new(sink: Box<dyn Write + Send>, delimiter: u8) -> Self {
        Self {
            sink,
            delimiter,
            has_header: false,
        }
    }

    fn emit_rows(&mut self, rows: &[Row<'_>]) -> io::Result<()> {
        let mut lines = WriterBuilder::new()
            .delimiter(self.delimiter)
            .has_headers(false)
            .from_writer(Vec::new());
        if !self.has_header {
            lines.write_record(HEADER).map_err(into_io)?;
            self.has_header = true;
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
        self.emit_rows(&rows(record))
    }

    fn finish(&mut self) -> io::Result<()> {
        self.emit_rows(&[])
    }
}

fn rows(record: &Record) -> Vec<Row<'_>> {
    let only_image = Row {
        image: &record.image.text,
        ..Row::default()
    };
    match &record.outcome {
        Err(error) => vec![Row {
            error: Some(error),
            ..only_image
        }],
        Ok(predictions) if predictions.is_empty() => vec![only_image],
        Ok(predictions) => {
            let ranked = predictions.iter().zip(1..);
            let row = |(prediction, rank)| ranked_row(&record.image.text, prediction, rank);
            ranked.map(row).collect()
        }
    }
}

fn ranked_row<'a>(image: &'a str, prediction: &'a Prediction, rank: usize) -> Row<'a> {
    Row {
        image,
        label: Some(&prediction.label),
        probability: prediction.probability,
        logit: Some(prediction.logit),
        cosine: prediction.cosine,
        rank: Some(rank),
        error: None,
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
    use super::super::Format;
    use super::super::testing::{STYLE, answered, contract, failed, prediction, written};

    #[test]
    fn rows_are_ranked() {
        let expected = "\
image,label,probability,logit,cosine,rank,error
img.jpg,a cat sleeping,0.99798125,27.71,0.2771,1,
img.jpg,a cat jumping,0.00201881,21.51,0.2151,2,
broken.jpg,,,,,,not a picture: the file ends before any image data
";
        assert_eq!(written(Format::Csv, STYLE, &contract()), expected);
        let tabs = written(Format::Tsv, STYLE, &contract());
        assert_eq!(tabs, expected.replace(',', "\t"));
    }

    #[test]
    fn the_header_comes_with_no_rows_too() {
        let header = "image,label,probability,logit,cosine,rank,error\n";
        assert_eq!(written(Format::Csv, STYLE, &[]), header);
        let nothing_kept = written(Format::Csv, STYLE, &[answered("a.jpg", vec![])]);
        assert_eq!(nothing_kept, format!("{header}a.jpg,,,,,,\n"));
    }

    #[test]
    fn fields_are_quoted_where_they_must_be() {
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
