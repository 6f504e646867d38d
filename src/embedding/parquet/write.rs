//! Apache Parquet: one column each for path, size, file, embedding and model. Row groups are small
//! enough that neither the writer nor a reader needs much memory, for any number of rows.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use parquet::basic::Encoding;
use parquet::data_type::{ByteArray, ByteArrayType, FloatType, Int64Type};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{WriterProperties, WriterPropertiesPtr};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::{ColumnPath, TypePtr};

use crate::embedding::{About, Item, Kind, Row, Rows, visit_rows};
use crate::file::atomic::AtomicFile;
use crate::output::columns::{bytes, write_column, write_lists, write_optional};

/// Key of the checksums of the row groups' numbers, in decimal digits.
const SUMS: &str = "longclip.crc32";

/// The CRC-32 of numbers as they are stored.
pub(super) fn sum_of(values: &[f32]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    for values in values.chunks(1024) {
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        sum.update(&bytes);
    }
    sum.finalize()
}

/// Numbers of embeddings per row group: 8 MB.
const GROUP_VALUES: usize = 2 << 20;

const IMAGES: &str = "message longclip {
    REQUIRED BYTE_ARRAY path (UTF8);
    OPTIONAL BYTE_ARRAY path_bytes;
    REQUIRED INT64 width;
    REQUIRED INT64 height;
    OPTIONAL INT64 bytes;
    OPTIONAL INT64 mtime_ns;
    REQUIRED GROUP warnings (LIST) { REPEATED GROUP list { REQUIRED BYTE_ARRAY element (UTF8); } }
    REQUIRED GROUP embedding (LIST) { REPEATED GROUP list { REQUIRED FLOAT element; } }
    REQUIRED BYTE_ARRAY model_id (UTF8);
}";

const TEXTS: &str = "message longclip {
    REQUIRED BYTE_ARRAY text (UTF8);
    REQUIRED GROUP warnings (LIST) { REPEATED GROUP list { REQUIRED BYTE_ARRAY element (UTF8); } }
    REQUIRED GROUP embedding (LIST) { REPEATED GROUP list { REQUIRED FLOAT element; } }
    REQUIRED BYTE_ARRAY model_id (UTF8);
}";

/// The columns of a file.
///
/// # Errors
/// Never: the schemas are constants.
pub(in crate::embedding) fn schema(kind: Kind) -> Result<TypePtr> {
    let message = match kind {
        Kind::Images => IMAGES,
        Kind::Texts => TEXTS,
    };
    Ok(Arc::new(parse_message_type(message)?))
}

pub(in crate::embedding) fn write(path: &Path, about: &About, rows: &dyn Rows) -> Result<()> {
    let file = AtomicFile::create_alone(path)?;
    let sink = file.sink()?;
    let writing = || format!("cannot write {}", path.display());
    let schema = schema(about.kind)?;
    let mut writer =
        SerializedFileWriter::new(sink, schema, properties(about)).with_context(writing)?;
    let most = (GROUP_VALUES / about.dim).max(1);
    let mut group = Group::new(about);
    visit_rows(rows, |row, embedding| {
        group.push(row, embedding);
        if group.rows.len() == most {
            group.write(&mut writer).with_context(writing)?;
        }
        Ok(())
    })?;
    group.write(&mut writer).with_context(writing)?;
    let sums: Vec<String> = group.sums.iter().map(u32::to_string).collect();
    writer.append_key_value_metadata(KeyValue::new(SUMS.to_owned(), sums.join(" ")));
    let mut sink = writer.into_inner().with_context(writing)?;
    sink.flush().with_context(writing)?;
    file.commit()
}

fn properties(about: &About) -> WriterPropertiesPtr {
    let embedding = ColumnPath::new(["embedding", "list", "element"].map(str::to_owned).to_vec());
    let pairs = about.pairs().into_iter();
    let pairs = pairs.map(|(key, value)| KeyValue::new(format!("longclip.{key}"), value));
    let properties = WriterProperties::builder()
        .set_created_by(format!("longclip version {}", about.version))
        .set_key_value_metadata(Some(pairs.collect()))
        // No number repeats, and minimum and maximum are meaningless.
        .set_column_dictionary_enabled(embedding.clone(), false)
        .set_column_encoding(embedding.clone(), Encoding::PLAIN)
        .set_column_statistics_enabled(
            embedding,
            parquet::file::properties::EnabledStatistics::None,
        );
    Arc::new(properties.build())
}

/// The rows of one row group.
struct Group<'a> {
    about: &'a About,
    rows: Vec<Row>,
    values: Vec<f32>,
    /// The checksum of the numbers of each group that was written.
    sums: Vec<u32>,
}

impl<'a> Group<'a> {
    fn new(about: &'a About) -> Self {
        Self {
            about,
            rows: Vec::new(),
            values: Vec::new(),
            sums: Vec::new(),
        }
    }

    fn push(&mut self, row: &Row, embedding: &[f32]) {
        self.rows.push(row.clone());
        self.values.extend_from_slice(embedding);
    }

    /// Writes the rows, column by column, and clears them.
    fn write<W: Write + Send>(&mut self, writer: &mut SerializedFileWriter<W>) -> Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let mut group = writer.next_row_group()?;
        let rows = &self.rows;
        match self.about.kind {
            Kind::Images => write_images(&mut group, rows)?,
            Kind::Texts => {
                let texts: Vec<_> = rows.iter().map(|row| bytes(row.item.text())).collect();
                write_column::<ByteArrayType>(&mut group, &texts, None, None)?;
            }
        }
        let warnings: Vec<&[String]> = rows.iter().map(|row| row.warnings.as_slice()).collect();
        let lengths: Vec<usize> = warnings.iter().map(|list| list.len()).collect();
        let flat: Vec<_> = warnings.concat().iter().map(|text| bytes(text)).collect();
        write_lists::<ByteArrayType>(&mut group, &flat, &lengths)?;
        let lengths = vec![self.about.dim; rows.len()];
        write_lists::<FloatType>(&mut group, &self.values, &lengths)?;
        let model = vec![bytes(&self.about.model_id()); rows.len()];
        write_column::<ByteArrayType>(&mut group, &model, None, None)?;
        group.close()?;
        self.sums.push(sum_of(&self.values));
        self.rows.clear();
        self.values.clear();
        Ok(())
    }
}

fn write_images<W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    rows: &[Row],
) -> Result<()> {
    let (mut paths, mut path_bytes) = (Vec::new(), Vec::new());
    let (mut widths, mut heights, mut stamps) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        if let Item::Image {
            name,
            width,
            height,
            stamp,
        } = &row.item
        {
            paths.push(bytes(&name.text));
            path_bytes.push(name.bytes.clone().map(ByteArray::from));
            widths.push(i64::from(*width));
            heights.push(i64::from(*height));
            stamps.push(*stamp);
        }
    }
    write_column::<ByteArrayType>(group, &paths, None, None)?;
    write_optional::<ByteArrayType>(group, &path_bytes)?;
    write_column::<Int64Type>(group, &widths, None, None)?;
    write_column::<Int64Type>(group, &heights, None, None)?;
    let sizes = stamps
        .iter()
        .map(|stamp| stamp.map(|stamp| stamp.bytes as i64));
    write_optional::<Int64Type>(group, &sizes.collect::<Vec<_>>())?;
    let times = stamps
        .iter()
        .map(|stamp| stamp.map(|stamp| stamp.modified_ns));
    write_optional::<Int64Type>(group, &times.collect::<Vec<_>>())
}
