//! Apache Parquet: the rows of CSV, one per prediction, with types. Rows are written in groups, so
//! that memory does not grow with their number; nothing can be read before the end.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use parquet::basic::{Compression, ZstdLevel};
use parquet::column::writer::ColumnCloseResult;
use parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DoubleType, FloatType, Int32Type, Int64Type,
};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::columns::{bytes, write_column, write_lists, write_optional};
use super::{Prediction, Record, RecordWriter};
use crate::file::guard;

/// Rows per group.
const GROUP_ROWS: usize = 1 << 16;

/// CSV's columns, those for frames and odd paths included, and what only JSON has.
const SCHEMA: &str = "message longclip {
    REQUIRED BYTE_ARRAY image (UTF8);
    OPTIONAL BYTE_ARRAY label (UTF8);
    OPTIONAL FLOAT probability;
    OPTIONAL FLOAT logit;
    OPTIONAL FLOAT cosine;
    OPTIONAL INT32 rank;
    OPTIONAL BYTE_ARRAY error (UTF8);
    OPTIONAL INT64 frame;
    OPTIONAL DOUBLE time;
    OPTIONAL BYTE_ARRAY image_bytes;
    REQUIRED BOOLEAN uncertain;
    REQUIRED GROUP warnings (LIST) { REPEATED GROUP list { REQUIRED BYTE_ARRAY element (UTF8); } }
}";

type Sink = Box<dyn Write + Send>;

/// Writes records as rows.
pub(super) struct ParquetWriter {
    /// `None` once it is finished.
    writer: Option<SerializedFileWriter<Sink>>,
    waiting: Vec<Record>,
    /// Rows of the records that wait.
    rows: usize,
}

impl ParquetWriter {
    pub(super) fn new(sink: Sink) -> io::Result<Self> {
        let schema = parse_message_type(SCHEMA).map_err(|error| into_io(error.into()))?;
        let properties = WriterProperties::builder()
            .set_created_by(format!("longclip version {}", env!("CARGO_PKG_VERSION")))
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .build();
        let writer = SerializedFileWriter::new(sink, Arc::new(schema), Arc::new(properties));
        Ok(Self {
            writer: Some(writer.map_err(|error| into_io(error.into()))?),
            waiting: Vec::new(),
            rows: 0,
        })
    }

    fn write_group(&mut self) -> Result<()> {
        let (Some(writer), false) = (&mut self.writer, self.waiting.is_empty()) else {
            return Ok(());
        };
        let records = std::mem::take(&mut self.waiting);
        let rows: Vec<Row<'_>> = records.iter().flat_map(rows).collect();
        self.rows = 0;
        let texts = |of: fn(&Row<'_>) -> Option<ByteArray>| rows.iter().map(of).collect::<Vec<_>>();
        let numbers = |of: fn(&Prediction) -> Option<f32>| -> Vec<Option<f32>> {
            let number = |row: &Row<'_>| row.ranked.and_then(|(_, prediction)| of(prediction));
            rows.iter().map(number).collect()
        };
        let mut group = writer.next_row_group()?;
        let images: Vec<ByteArray> = rows.iter().map(|row| row.image.clone()).collect();
        write_column::<ByteArrayType>(&mut group, &images, None, None)?;
        let label = |row: &Row<'_>| row.ranked.map(|(_, prediction)| bytes(&prediction.label));
        write_optional::<ByteArrayType>(&mut group, &texts(label))?;
        write_optional::<FloatType>(&mut group, &numbers(|one| one.probability))?;
        write_optional::<FloatType>(&mut group, &numbers(|one| Some(one.logit)))?;
        write_optional::<FloatType>(&mut group, &numbers(|one| one.cosine))?;
        let ranks: Vec<_> = rows
            .iter()
            .map(|row| row.ranked.map(|(rank, _)| rank))
            .collect();
        write_optional::<Int32Type>(&mut group, &ranks)?;
        let error = |row: &Row<'_>| {
            row.record
                .outcome
                .as_ref()
                .err()
                .map(|error| bytes(&error.cause))
        };
        write_optional::<ByteArrayType>(&mut group, &texts(error))?;
        let frames = rows.iter().map(|row| row.record.frame);
        let indices: Vec<_> = frames
            .clone()
            .map(|frame| frame.and_then(|frame| i64::try_from(frame.index).ok()))
            .collect();
        write_optional::<Int64Type>(&mut group, &indices)?;
        let times: Vec<_> = frames
            .map(|frame| frame.and_then(|frame| frame.time))
            .collect();
        write_optional::<DoubleType>(&mut group, &times)?;
        let exact = |row: &Row<'_>| row.record.image.bytes.clone().map(ByteArray::from);
        write_optional::<ByteArrayType>(&mut group, &texts(exact))?;
        let uncertain: Vec<bool> = rows.iter().map(|row| row.record.uncertain).collect();
        write_column::<BoolType>(&mut group, &uncertain, None, None)?;
        let warnings = rows.iter().map(|row| &row.record.warnings);
        let lengths: Vec<usize> = warnings.clone().map(Vec::len).collect();
        let warnings: Vec<_> = warnings.flatten().map(|text| bytes(text)).collect();
        write_lists::<ByteArrayType>(&mut group, &warnings, &lengths)?;
        group.close()?;
        Ok(())
    }
}

impl RecordWriter for ParquetWriter {
    fn write(&mut self, record: &Record) -> io::Result<()> {
        self.rows += record.outcome.as_ref().map_or(1, |all| all.len().max(1));
        self.waiting.push(record.clone());
        if self.rows >= GROUP_ROWS {
            self.write_group().map_err(into_io)?;
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.write_group().map_err(into_io)?;
        let Some(writer) = self.writer.take() else {
            return Ok(());
        };
        let sink = writer.into_inner();
        sink.map_err(|error| into_io(error.into()))?.flush()
    }
}

/// Writes the rows of `files`, which a [`ParquetWriter`] wrote, one after another.
///
/// # Errors
/// When one has other columns, or cannot be read or written.
pub(crate) fn join(sink: Sink, files: &[PathBuf]) -> Result<()> {
    let mut writer = ParquetWriter::new(sink)?;
    for path in files {
        // The crate panics on some damage.
        let appended = guard::catch(|| writer.append(File::open(path)?));
        let appended = appended.context("it is damaged").flatten();
        appended.with_context(|| format!("cannot append {}", path.display()))?;
    }
    Ok(writer.finish()?)
}

impl ParquetWriter {
    /// Copies the row groups of a file as they are.
    fn append(&mut self, file: File) -> Result<()> {
        let writer = self.writer.as_mut().context("the file is finished")?;
        let reader = SerializedFileReader::new(file.try_clone()?)?;
        let metadata = reader.metadata();
        ensure!(
            *metadata.file_metadata().schema() == parse_message_type(SCHEMA)?,
            "its columns are not those of longclip classify"
        );
        for group in metadata.row_groups() {
            let mut copy = writer.next_row_group()?;
            for column in group.columns() {
                let whole = ColumnCloseResult {
                    bytes_written: u64::try_from(column.compressed_size())?,
                    rows_written: u64::try_from(group.num_rows())?,
                    metadata: column.clone(),
                    bloom_filter: None,
                    column_index: None,
                    offset_index: None,
                };
                copy.append_column(&file, whole)?;
            }
            copy.close()?;
        }
        Ok(())
    }
}

/// One row: an image and one of its predictions, with its rank from 1.
struct Row<'a> {
    image: ByteArray,
    record: &'a Record,
    ranked: Option<(i32, &'a Prediction)>,
}

/// The rows of a record; one without predictions has one row too.
fn rows(record: &Record) -> Vec<Row<'_>> {
    let image = bytes(&record.image.text);
    let row = |ranked| Row {
        image: image.clone(),
        record,
        ranked,
    };
    match record.outcome.as_deref() {
        Ok(all) if !all.is_empty() => (1..).zip(all).map(|one| row(Some(one))).collect(),
        _ => vec![row(None)],
    }
}

/// The error of the sink with its kind, which decides whether retrying may help.
fn into_io(error: anyhow::Error) -> io::Error {
    match error.downcast::<ParquetError>() {
        Ok(ParquetError::External(cause)) => match cause.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(cause) => io::Error::other(cause),
        },
        Ok(error) => io::Error::other(error),
        Err(error) => io::Error::other(error),
    }
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader as _, SerializedFileReader};
    use parquet::record::RowAccessor as _;

    use super::super::testing::{Shared, answered, contract, prediction};
    use super::super::{Format, FrameId, ImageName, Style, writer};
    use super::*;

    #[test]
    fn rows_are_those_of_csv_and_read_back() {
        let sink = Shared::default();
        let mut writer = writer(Format::Parquet, Box::new(sink.clone()), Style::plain()).unwrap();
        let mut odd = answered("c.jpg", vec![prediction("é", None, 0.25)]);
        odd.warnings = vec!["jpeg: cut short".to_owned()];
        odd.uncertain = true;
        odd.frame = Some(FrameId {
            index: 3,
            time: Some(0.12),
        });
        odd.image = ImageName {
            text: "caf\u{fffd}".to_owned(),
            bytes: Some(b"caf\xe9".to_vec()),
        };
        let [first, second] = contract();
        for record in [&first, &second, &answered("b.jpg", vec![]), &odd] {
            writer.write(record).unwrap();
        }
        writer.finish().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&sink.content()).unwrap();
        let reader = SerializedFileReader::new(file).unwrap();
        let rows: Vec<_> = reader
            .get_row_iter(None)
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let images: Vec<&String> = rows.iter().map(|row| row.get_string(0).unwrap()).collect();
        assert_eq!(
            images,
            ["img.jpg", "img.jpg", "broken.jpg", "b.jpg", "caf\u{fffd}"]
        );
        assert_eq!(rows[1].get_string(1).unwrap(), "a cat jumping");
        assert_eq!(rows[1].get_float(2).unwrap(), 0.002_018_81);
        assert_eq!(
            (rows[0].get_int(5).unwrap(), rows[1].get_int(5).unwrap()),
            (1, 2)
        );
        assert!(rows[2].get_string(6).unwrap().starts_with("not an image"));
        assert!(rows[2].get_string(1).is_err() && rows[3].get_string(6).is_err());
        assert_eq!(rows[4].get_long(7).unwrap(), 3);
        assert!(rows[4].get_double(8).unwrap() == 0.12 && rows[3].get_long(7).is_err());
        assert_eq!(rows[4].get_bytes(9).unwrap().data(), b"caf\xe9");
        assert!(rows[4].get_bool(10).unwrap() && !rows[3].get_bool(10).unwrap());
        assert_eq!(rows[4].get_list(11).unwrap().len(), 1);
    }
}
