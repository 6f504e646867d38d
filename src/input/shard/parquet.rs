//! Tables with a column of images, in Apache Parquet: each row is an image.
//!
//! The names of the rows are read one after another, and the column of images only up to the row
//! that is asked for, so that a list of names costs little. Of a column, at most two pages and a
//! packed one are in memory.

use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use parquet::basic::{ConvertedType, LogicalType, Type};
use parquet::column::reader::{ColumnReaderImpl, get_column_reader, get_typed_column_reader};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, Int32Type, Int64Type};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::schema::types::ColumnDescriptor;
use serde_json::Value;

use super::{Archive, Entry, LABEL_KEYS, name};
use crate::file::open;
use crate::file::parquet::{Checked, Packing, Pages, guarded};
use crate::output::FailureKind;

/// Columns of images have these names.
const IMAGES: [&str; 8] = [
    "image", "img", "jpg", "jpeg", "png", "webp", "content", "bytes",
];

/// Columns of images' names, the best first, after that within the column of images. An address
/// (`url`) says where an image was, and is often too long for a name.
const NAMES: [&str; 5] = ["path", "filename", "file_name", "__key__", "key"];

/// Each row gets a record, and a few bytes can claim any number of rows.
const MOST_ROWS: u64 = 10_000_000;

/// Longer names are not paths, in bytes.
const LONGEST_NAME: usize = 4096;

/// Columns that a message names.
const SHOWN: usize = 20;

/// An open table.
pub(super) struct Parquet {
    table: Table,
    images: Column<ByteArrayType>,
    /// The first that has a name for a row gives it.
    names: Vec<Column<ByteArrayType>>,
    /// Sought when the first label is asked for.
    labels: Option<Labels>,
    /// Row group and row of what is read next.
    next: (usize, usize),
    /// Those of the last row, and its number in the file.
    at: Option<(usize, usize)>,
    number: u64,
    /// The image of the last row, from when its length is asked for.
    image: Option<ByteArray>,
}

impl Parquet {
    /// Reads the footer and finds the columns.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let (file, length) = open::regular(path).context("cannot be read")?;
        ensure!(length > 0, "the file is empty");
        let file = Checked::new(file)?;
        let metadata = guarded(|| Ok(ParquetMetaDataReader::new().parse_and_finish(&file)?))
            .context("the footer is damaged")?;
        let table = Table {
            file: Arc::new(file),
            metadata,
        };
        let image = table.image()?;
        table.check(image)?;
        let inside = table
            .columns()
            .get(image)
            .map_or(&[][..], |column| column.path().parts());
        let sibling = [inside.first().map_or("", String::as_str), "path"];
        let mut names = Vec::new();
        if inside.len() > 1 {
            names.extend(table.texts(&sibling));
        }
        names.extend(NAMES.iter().filter_map(|name| table.texts(&[name])));
        Ok(Self {
            images: Column::new(image),
            names: names.into_iter().map(Column::new).collect(),
            table,
            labels: None,
            next: (0, 0),
            at: None,
            number: 0,
            image: None,
        })
    }

    /// The name of a row, by the first column that has one, else its number.
    fn name(&mut self, group: usize, row: usize) -> Result<PathBuf> {
        for column in &mut self.names {
            let Some(text) = column.value(&self.table, group, row)? else {
                continue;
            };
            ensure!(
                text.len() <= LONGEST_NAME,
                "the name of row {} has over {LONGEST_NAME} bytes",
                self.number
            );
            let name = name::safe(text.data());
            if name != PathBuf::new() {
                return Ok(name);
            }
        }
        Ok(self.number.to_string().into())
    }

    /// The bytes of the last row's image.
    fn image(&mut self) -> Result<ByteArray> {
        if let Some(image) = self.image.take() {
            return Ok(image);
        }
        let (group, row) = self.at.context("no row was asked for")?;
        let image = self.images.value(&self.table, group, row)?;
        image.with_context(|| {
            let column = self.table.name(self.images.leaf);
            FailureKind::Format.because(format!(
                "has no image in its row of the table: {column} is null (a path is not followed)"
            ))
        })
    }
}

impl Archive for Parquet {
    fn next(&mut self) -> Result<Option<Entry>> {
        self.image = None;
        let (mut group, mut row) = self.next;
        while group < self.table.metadata.num_row_groups() && row >= self.table.rows(group) {
            (group, row) = (group + 1, 0);
        }
        if group >= self.table.metadata.num_row_groups() {
            return Ok(None);
        }
        self.number += u64::from(self.at.is_some());
        self.at = Some((group, row));
        self.next = (group, row + 1);
        Ok(Some(Entry {
            name: self.name(group, row)?,
            bytes: None,
            refusal: None,
            is_image: true,
        }))
    }

    fn content(&mut self) -> Result<Box<dyn Read + '_>> {
        Ok(Box::new(Cursor::new(self.image()?)))
    }

    fn length(&mut self) -> Result<u64> {
        let image = self.image()?;
        let length = image.len() as u64;
        self.image = Some(image);
        Ok(length)
    }

    fn label(&mut self) -> Result<Option<String>> {
        let (group, row) = self.at.context("no row was asked for")?;
        if self.labels.is_none() {
            self.labels = Some(self.table.labels()?);
        }
        let labels = self.labels.as_mut().context("the labels were not read")?;
        let label = labels.of(&self.table, group, row);
        label.with_context(|| format!("cannot use the label of row {}", self.number))
    }
}

/// The file and its footer.
struct Table {
    file: Arc<Checked>,
    metadata: ParquetMetaData,
}

impl Table {
    fn columns(&self) -> &[Arc<ColumnDescriptor>] {
        self.metadata.file_metadata().schema_descr().columns()
    }

    /// The rows of a group, which [`Self::check`] has counted.
    fn rows(&self, group: usize) -> usize {
        let group = self.metadata.row_groups().get(group);
        group.map_or(0, |group| usize::try_from(group.num_rows()).unwrap_or(0))
    }

    fn name(&self, leaf: usize) -> String {
        self.columns()
            .get(leaf)
            .map_or_else(String::new, |column| column.path().string())
    }

    /// The leaf of this path, if it has one value per row.
    fn leaf(&self, path: &[&str]) -> Option<usize> {
        let is_it = |column: &Arc<ColumnDescriptor>| {
            column.path().parts() == path && column.max_rep_level() == 0
        };
        self.columns().iter().position(is_it)
    }

    /// The leaf of this path, if it has texts or bytes.
    fn texts(&self, path: &[&str]) -> Option<usize> {
        let leaf = self.leaf(path)?;
        let column = self.columns().get(leaf)?;
        (column.physical_type() == Type::BYTE_ARRAY).then_some(leaf)
    }

    /// The only column of images: bytes of a known name, or `bytes` in a group of such a name.
    fn image(&self) -> Result<usize> {
        let mut found = self.images(|name| IMAGES.contains(&name));
        if found.is_empty() {
            let features = self.features().ok().flatten().unwrap_or_default();
            let kind = |name: &str| features.get(name)?.get("_type")?.as_str();
            found = self.images(|name| kind(name) == Some("Image"));
        }
        match found[..] {
            [only] => Ok(only),
            [] => bail!(
                "the table has no column of images: it needs a column of bytes, or one of bytes and \
                 path, that is named {}; it has {}",
                IMAGES.join(", "),
                self.shown()
            ),
            [first, second, ..] => bail!(
                "the table has more than one column of images, {} and {}; keep one, or rename the \
                 others",
                self.name(first),
                self.name(second)
            ),
        }
    }

    fn images(&self, is_known: impl Fn(&str) -> bool) -> Vec<usize> {
        let is_image = |column: &ColumnDescriptor| match column.path().parts() {
            [name] => is_known(name),
            [name, bytes] => bytes == "bytes" && is_known(name),
            _ => false,
        };
        let columns = self.columns().iter().enumerate();
        let found = columns.filter(|(_, column)| is_bytes(column) && is_image(column));
        found.map(|(leaf, _)| leaf).collect()
    }

    /// Names and types of the columns.
    fn shown(&self) -> String {
        let columns = self.columns().iter().take(SHOWN);
        let columns =
            columns.map(|column| format!("{} ({})", column.path().string(), kind(column)));
        let more = self.columns().len().saturating_sub(SHOWN);
        let more = (more > 0).then(|| format!("{more} more"));
        columns.chain(more).collect::<Vec<_>>().join(", ")
    }

    /// Checks the numbers of rows, and that the column of images can be unpacked.
    fn check(&self, image: usize) -> Result<()> {
        let mut rows = 0u64;
        for group in self.metadata.row_groups() {
            let more = u64::try_from(group.num_rows()).ok();
            let sum = more.and_then(|more| rows.checked_add(more));
            rows = sum.filter(|rows| *rows <= MOST_ROWS).with_context(|| {
                format!("the table claims over {MOST_ROWS} rows; split it into several")
            })?;
            let column = group
                .columns()
                .get(image)
                .context("a row group lacks a column")?;
            ensure!(
                column.num_values() == group.num_rows(),
                "the column {} has {} values for {} rows; the file is damaged",
                self.name(image),
                column.num_values(),
                group.num_rows()
            );
            ensure!(
                Packing::of(column.compression()).is_some(),
                "the column {} is compressed by {:?}, which is not read; write it with snappy, zstd, \
                 gzip or without compression",
                self.name(image),
                column.compression_codec()
            );
        }
        Ok(())
    }

    /// What the hub's `datasets` say of the columns.
    fn features(&self) -> Result<Option<Value>> {
        let pairs = self.metadata.file_metadata().key_value_metadata();
        let pair = pairs.and_then(|pairs| pairs.iter().find(|pair| pair.key == "huggingface"));
        let Some(text) = pair.and_then(|pair| pair.value.as_deref()) else {
            return Ok(None);
        };
        let mut about: Value = serde_json::from_str(text)
            .context("the footer's \"huggingface\" metadata is not JSON")?;
        Ok(about.pointer_mut("/info/features").map(Value::take))
    }

    /// The first column of labels.
    fn labels(&self) -> Result<Labels> {
        let Some(leaf) = LABEL_KEYS.iter().find_map(|name| self.leaf(&[name])) else {
            return Ok(Labels::None);
        };
        let column = self.columns().get(leaf).context("the column is missing")?;
        let name = column.name();
        let classes = || -> Result<Option<Vec<String>>> {
            let mut features = self.features()?.unwrap_or_default();
            let feature = features.get_mut(name);
            let names = feature.and_then(|feature| feature.get_mut("names"));
            let names = names.map(|names| serde_json::from_value(names.take()));
            names.transpose().with_context(|| {
                format!("the footer's \"huggingface\" metadata has no texts as names of {name}")
            })
        };
        Ok(match column.physical_type() {
            Type::BYTE_ARRAY => Labels::Texts(Column::new(leaf)),
            Type::INT32 if is_integer(column) => Labels::Small(Column::new(leaf), classes()?),
            Type::INT64 if is_integer(column) => Labels::Large(Column::new(leaf), classes()?),
            _ => bail!(
                "the column {name} ({}) has neither texts nor integers, so it has no labels",
                kind(column)
            ),
        })
    }
}

/// Whether a column has bytes that are not said to be text.
fn is_bytes(column: &ColumnDescriptor) -> bool {
    column.physical_type() == Type::BYTE_ARRAY
        && column.max_rep_level() == 0
        && column.logical_type_ref().is_none()
        && column.converted_type() == ConvertedType::NONE
}

/// Not a date, a time or a decimal number.
fn is_integer(column: &ColumnDescriptor) -> bool {
    let logical = column.logical_type_ref();
    let is_plain = column.converted_type() == ConvertedType::NONE && logical.is_none();
    is_plain
        || matches!(logical, Some(LogicalType::Integer { .. }))
        || matches!(
            column.converted_type(),
            ConvertedType::INT_8
                | ConvertedType::INT_16
                | ConvertedType::INT_32
                | ConvertedType::INT_64
                | ConvertedType::UINT_8
                | ConvertedType::UINT_16
                | ConvertedType::UINT_32
                | ConvertedType::UINT_64
        )
}

/// The type of a column, for messages.
fn kind(column: &ColumnDescriptor) -> String {
    let kind = match column.physical_type() {
        Type::BYTE_ARRAY if is_bytes(column) => "bytes".to_owned(),
        Type::BYTE_ARRAY => "text".to_owned(),
        other => other.to_string().to_lowercase(),
    };
    match column.max_rep_level() {
        0 => kind,
        _ => format!("list of {kind}"),
    }
}

/// The labels of a table.
enum Labels {
    None,
    Texts(Column<ByteArrayType>),
    /// Integers of 32 bits, and the names that they stand for.
    Small(Column<Int32Type>, Option<Vec<String>>),
    /// Of 64 bits.
    Large(Column<Int64Type>, Option<Vec<String>>),
}

impl Labels {
    /// The label of a row; `None` if it has none.
    fn of(&mut self, table: &Table, group: usize, row: usize) -> Result<Option<String>> {
        let (number, classes) = match self {
            Self::None => return Ok(None),
            Self::Texts(column) => {
                let text = column.value(table, group, row)?;
                let text = text.map(|text| String::from_utf8(text.data().to_vec()));
                let text = text.transpose().context("it is not UTF-8")?;
                ensure!(
                    text.as_ref().is_none_or(|text| !text.trim().is_empty()),
                    "it is empty"
                );
                return Ok(text);
            }
            Self::Small(column, classes) => {
                (column.value(table, group, row)?.map(i64::from), classes)
            }
            Self::Large(column, classes) => (column.value(table, group, row)?, classes),
        };
        // The hub's mark of an image without a label.
        let Some(number) = number.filter(|number| *number != -1) else {
            return Ok(None);
        };
        let Some(classes) = classes else {
            return Ok(Some(number.to_string()));
        };
        let class = usize::try_from(number)
            .ok()
            .and_then(|number| classes.get(number));
        let class = class.with_context(|| {
            format!(
                "{number} is none of the {} classes that the footer names",
                classes.len()
            )
        })?;
        Ok(Some(class.clone()))
    }
}

/// A column with at most one value per row, read one by one.
struct Column<T: DataType> {
    leaf: usize,
    state: State<T>,
}

enum State<T: DataType> {
    Closed,
    /// In this row group, at this row.
    Open(usize, usize, Box<ColumnReaderImpl<T>>),
    /// The rest of this row group cannot be read.
    Broken(usize),
}

impl<T: DataType> Column<T> {
    fn new(leaf: usize) -> Self {
        let state = State::Closed;
        Self { leaf, state }
    }

    /// The value of a row that was not passed yet; `None` if it is null.
    fn value(&mut self, table: &Table, group: usize, row: usize) -> Result<Option<T::T>> {
        let reading = || format!("cannot read {} in row group {group}", table.name(self.leaf));
        let state = std::mem::replace(&mut self.state, State::Broken(group));
        let work = || {
            let (mut reader, mut next) = match state {
                State::Broken(broken) if broken == group => bail!("it is damaged before this row"),
                State::Open(open, next, reader) if open == group => (reader, next),
                // Its page goes before another comes.
                other => {
                    drop(other);
                    (Box::new(column::<T>(table, self.leaf, group)?), 0)
                }
            };
            let mut value = None;
            // Not by the crate's way to skip, which holds all that is skipped.
            while next <= row {
                value = one(&mut reader)?;
                next += 1;
            }
            Ok((value, State::Open(group, next, reader)))
        };
        let (value, state) = guarded(work).with_context(reading)?;
        self.state = state;
        Ok(value)
    }
}

/// The column's values in a row group.
fn column<T: DataType>(table: &Table, leaf: usize, group: usize) -> Result<ColumnReaderImpl<T>> {
    let group = table
        .metadata
        .row_groups()
        .get(group)
        .context("the row group is missing")?;
    let column = group
        .columns()
        .get(leaf)
        .context("the row group lacks the column")?;
    let rows = usize::try_from(group.num_rows())?;
    let pages = Pages::of(table.file.clone(), column, rows)?;
    let reader = get_column_reader(column.column_descr_ptr(), Box::new(pages));
    Ok(get_typed_column_reader(reader))
}

/// The next value of a column; `None` if it is null.
fn one<T: DataType>(reader: &mut ColumnReaderImpl<T>) -> Result<Option<T::T>> {
    let (mut levels, mut values) = (Vec::new(), Vec::new());
    let (rows, ..) = reader.read_records(1, Some(&mut levels), None, &mut values)?;
    ensure!(rows == 1, "it ends before its rows do");
    Ok(values.pop())
}
