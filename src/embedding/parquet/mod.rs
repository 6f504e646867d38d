//! Apache Parquet, as [`crate::embedding`] writes it: fixed columns, uncompressed.
//!
//! What [`crate::file::parquet`] checks first is read, and every call of the crate is guarded.

mod write;

use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use parquet::basic::Compression;
use parquet::column::reader::{ColumnReaderImpl, get_column_reader, get_typed_column_reader};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, FloatType, Int64Type};
use parquet::file::reader::{FileReader as _, RowGroupReader, SerializedFileReader};
use parquet::schema::types::ColumnDescPtr;

use super::read::{EmbeddingFile, check_range};
use super::{About, Item, Kind, Row, check_dim};
use crate::file::open;
use crate::file::parquet::{Checked, Packing, Pages, guarded};
use crate::file::stamp::Stamp;
use crate::output::ImageName;

use write::sum_of;
pub(super) use write::{schema, write};

/// Numbers per row group: 256 MB. Longclip writes 8 MB.
pub(super) const MAX_VALUES: usize = 64 << 20;

pub(super) struct Parquet {
    about: About,
    /// First and last row of each group.
    groups: Vec<Range<usize>>,
    /// The checksum of each group's numbers; older files have none.
    sums: Option<Vec<u32>>,
    rows: usize,
    state: Mutex<State>,
}

/// The reader moves one file position, so only one thread reads at a time.
struct State {
    reader: SerializedFileReader<Checked>,
    /// The group that was read last, per kind of column.
    rows: Option<(usize, Vec<Row>)>,
    values: Option<(usize, Vec<f32>)>,
}

impl Parquet {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let reader = reader(path)?;
        let metadata = reader.metadata();
        let about = About::from_pairs(|key| pair(&reader, key))?;
        check_dim(about.dim)?;
        let expected = schema(about.kind)?;
        ensure!(
            *metadata.file_metadata().schema() == *expected,
            "its columns are not those of longclip embed's {}",
            about.kind
        );
        let groups = groups(&reader, about.dim)?;
        let numbers = |text: String| text.split_whitespace().map(str::parse).collect();
        let sums: Option<Result<Vec<u32>, _>> = pair(&reader, "crc32").map(numbers);
        let sums = sums.transpose().context("its checksums are damaged")?;
        ensure!(
            sums.as_ref().is_none_or(|sums| sums.len() == groups.len()),
            "it has other checksums than row groups"
        );
        Ok(Self {
            sums,
            rows: groups.last().map_or(0, |group| group.end),
            about,
            groups,
            state: Mutex::new(State {
                reader,
                rows: None,
                values: None,
            }),
        })
    }

    fn group_of(&self, row: usize) -> Result<usize> {
        let group = self.groups.partition_point(|group| group.end <= row);
        ensure!(row < self.rows, "there is no row {row}");
        Ok(group)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EmbeddingFile for Parquet {
    fn about(&self) -> &About {
        &self.about
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn row(&self, index: usize) -> Result<Row> {
        let group = self.group_of(index)?;
        let range = self.groups.get(group).context("the row group is missing")?;
        let mut state = self.state();
        if state.rows.as_ref().is_none_or(|(held, _)| *held != group) {
            let rows = Columns::new(&state.reader, group, range.len())?.rows(&self.about)?;
            state.rows = Some((group, rows));
        }
        let rows = state.rows.as_ref().map(|(_, rows)| rows);
        let row = rows.and_then(|rows| rows.get(index - range.start));
        row.cloned().context("the row group is damaged")
    }

    fn vectors(&self, range: Range<usize>, values: &mut Vec<f32>) -> Result<()> {
        check_range(&range, self.rows)?;
        let dim = self.about.dim;
        values.clear();
        let mut at = range.start;
        while at < range.end {
            let group = self.group_of(at)?;
            let rows = self.groups.get(group).context("the row group is missing")?;
            let mut state = self.state();
            if state.values.as_ref().is_none_or(|(held, _)| *held != group) {
                let columns = Columns::new(&state.reader, group, rows.len())?;
                let embeddings = columns.embeddings(&self.about)?;
                drop(columns);
                let stated = self.sums.as_ref().and_then(|sums| sums.get(group));
                ensure!(
                    stated.is_none_or(|stated| *stated == sum_of(&embeddings)),
                    "the row group was changed or damaged (its checksum differs)"
                );
                state.values = Some((group, embeddings));
            }
            let end = range.end.min(rows.end);
            let held = state.values.as_ref().map_or(&[][..], |(_, values)| values);
            let part = held.get((at - rows.start) * dim..(end - rows.start) * dim);
            values.extend_from_slice(part.context("the row group is damaged")?);
            at = end;
        }
        Ok(())
    }

    fn block_rows(&self) -> usize {
        self.groups.first().map_or(1, ExactSizeIterator::len).max(1)
    }
}

/// Opens the file after validating its footer.
pub(super) fn reader(path: &Path) -> Result<SerializedFileReader<Checked>> {
    let (file, _) = open::regular(path)?;
    let file = Checked::new(file)?;
    guarded(|| Ok(SerializedFileReader::new(file)?))
}

/// The footer's value for one of [`About`]'s keys.
pub(super) fn pair(reader: &SerializedFileReader<Checked>, key: &str) -> Option<String> {
    let key = format!("longclip.{key}");
    let pairs = reader.metadata().file_metadata().key_value_metadata();
    let found = pairs?.iter().find(|pair| pair.key == key)?;
    found.value.clone()
}

/// The rows of each group, after validating the footer; each row has at least `dim` numbers.
pub(super) fn groups(
    reader: &SerializedFileReader<Checked>,
    dim: usize,
) -> Result<Vec<Range<usize>>> {
    let mut groups = Vec::new();
    let mut end = 0usize;
    for group in reader.metadata().row_groups() {
        let rows = usize::try_from(group.num_rows()).context(
            "a row group does not state its number of \
                                                       rows",
        )?;
        let values = rows.checked_mul(dim).filter(|values| *values <= MAX_VALUES);
        values.with_context(|| format!("a row group of {rows} rows is too large"))?;
        for column in group.columns() {
            ensure!(
                column.compression() == Compression::UNCOMPRESSED,
                "column {} is compressed, which is not supported; write it uncompressed",
                column.column_path()
            );
        }
        if rows > 0 {
            groups.push(end..end.checked_add(rows).context("too many rows")?);
            end += rows;
        }
    }
    ensure!(
        groups.len() == reader.metadata().num_row_groups(),
        "a row group has no rows"
    );
    Ok(groups)
}

/// The columns of one row group.
pub(super) struct Columns<'a> {
    group: Box<dyn RowGroupReader + 'a>,
    rows: usize,
}

impl<'a> Columns<'a> {
    pub(super) fn new(
        reader: &'a SerializedFileReader<Checked>,
        group: usize,
        rows: usize,
    ) -> Result<Self> {
        let group = guarded(|| Ok(reader.get_row_group(group)?))?;
        Ok(Self { group, rows })
    }

    fn index(&self, name: &str) -> Result<usize> {
        let columns = self.group.metadata().columns().iter();
        let mut paths = columns.map(|column| column.column_path().parts());
        paths
            .position(|parts| parts.first().is_some_and(|part| part == name))
            .with_context(|| format!("there is no column {name}"))
    }

    /// Values, definition and repetition levels of a column of at most `most` entries.
    fn read<T: DataType>(&self, name: &str, most: usize) -> Result<Column<T::T>> {
        self.read_leaf::<T>(self.index(name)?, most)
    }

    /// As `read`, for the column at this index among the leaves of the schema.
    pub(super) fn read_leaf<T: DataType>(&self, index: usize, most: usize) -> Result<Column<T::T>> {
        let columns = self.group.metadata().columns();
        let column = columns.get(index).context("a row group lacks a column")?;
        let name = column.column_path().string();
        guarded(|| {
            let descriptor = self.group.metadata().column(index).column_descr_ptr();
            let mut column = self.typed::<T>(index, descriptor, most)?;
            let (mut definitions, mut repetitions, mut values) = (vec![], vec![], vec![]);
            let (records, ..) = column.read_records(
                self.rows,
                Some(&mut definitions),
                Some(&mut repetitions),
                &mut values,
            )?;
            ensure!(records == self.rows, "column {name} ends too early");
            Ok(Column {
                values,
                definitions,
                repetitions,
            })
        })
        .with_context(|| format!("cannot read the column {name}"))
    }

    fn typed<T: DataType>(
        &self,
        index: usize,
        descriptor: ColumnDescPtr,
        most: usize,
    ) -> Result<ColumnReaderImpl<T>> {
        let pages = self.group.get_column_page_reader(index)?;
        let pages = Box::new(Pages::new(pages, &descriptor, Packing::None, most));
        Ok(get_typed_column_reader(get_column_reader(
            descriptor, pages,
        )))
    }

    fn embeddings(&self, about: &About) -> Result<Vec<f32>> {
        let most = self.rows * about.dim;
        let column = self.read::<FloatType>("embedding", most)?;
        // Each row has dim entries, and only its first begins it.
        let is_even = column.repetitions.chunks(about.dim).all(|row| {
            let begins = |(at, level): (usize, &i16)| *level == i16::from(at > 0);
            row.len() == about.dim && row.iter().enumerate().all(begins)
        });
        ensure!(
            column.values.len() == most && column.repetitions.len() == most && is_even,
            "an embedding does not have {} numbers",
            about.dim
        );
        Ok(column.values)
    }

    fn rows(&self, about: &About) -> Result<Vec<Row>> {
        let model = self.texts("model_id")?;
        let is_of = |id: &String| About::split_id(id).is_ok_and(|(_, hash)| hash == about.sha256);
        ensure!(model.iter().all(is_of), "a row was made by another model");
        let items: Vec<Item> = match about.kind {
            Kind::Texts => self.texts("text")?.into_iter().map(Item::Text).collect(),
            Kind::Images => self.images()?,
        };
        let warnings = self.warnings()?;
        ensure!(
            items.len() == self.rows && warnings.len() == self.rows,
            "the columns are of different lengths"
        );
        let rows = items.into_iter().zip(warnings);
        Ok(rows
            .map(|(item, warnings)| Row {
                item,
                warnings,
                given: None,
            })
            .collect())
    }

    fn images(&self) -> Result<Vec<Item>> {
        let paths = self.texts("path")?;
        let path_bytes = self.optional::<ByteArrayType>("path_bytes")?;
        let widths = self.read::<Int64Type>("width", self.rows)?.values;
        let heights = self.read::<Int64Type>("height", self.rows)?.values;
        let sizes = self.optional::<Int64Type>("bytes")?;
        let times = self.optional::<Int64Type>("mtime_ns")?;
        let mut items = Vec::new();
        let columns = paths
            .into_iter()
            .zip(path_bytes)
            .zip(widths.into_iter().zip(heights));
        for (((text, bytes), (width, height)), stamp) in columns.zip(sizes.into_iter().zip(times)) {
            let stamp = match stamp {
                (Some(bytes), Some(modified_ns)) => Some(Stamp {
                    bytes: u64::try_from(bytes)?,
                    modified_ns,
                }),
                _ => None,
            };
            items.push(Item::Image {
                name: ImageName {
                    text,
                    bytes: bytes.map(|bytes| bytes.data().to_vec()),
                },
                width: u32::try_from(width)?,
                height: u32::try_from(height)?,
                stamp,
            });
        }
        Ok(items)
    }

    fn texts(&self, name: &str) -> Result<Vec<String>> {
        let values = self.read::<ByteArrayType>(name, self.rows)?.values;
        values.iter().map(|value| text(value, name)).collect()
    }

    fn optional<T: DataType>(&self, name: &str) -> Result<Vec<Option<T::T>>> {
        self.optional_leaf::<T>(self.index(name)?)
    }

    fn optional_leaf<T: DataType>(&self, leaf: usize) -> Result<Vec<Option<T::T>>> {
        let column = self.read_leaf::<T>(leaf, self.rows)?;
        let columns = self.group.metadata().columns();
        let whole = columns
            .get(leaf)
            .map_or(0, |c| c.column_descr().max_def_level());
        let mut values = column.values.into_iter();
        if whole == 0 {
            return Ok(values.map(Some).collect());
        }
        let value = |level: i16| (level == whole).then(|| values.next()).flatten();
        Ok(column.definitions.into_iter().map(value).collect())
    }

    /// The texts of a column at this index among the leaves of the schema, one per row.
    pub(super) fn optional_texts(&self, leaf: usize) -> Result<Vec<Option<String>>> {
        let values = self.optional_leaf::<ByteArrayType>(leaf)?;
        ensure!(
            values.len() == self.rows,
            "a column of names ends too early"
        );
        let read = |value: ByteArray| text(&value, "of names");
        values
            .into_iter()
            .map(|value| value.map(read).transpose())
            .collect()
    }

    fn warnings(&self) -> Result<Vec<Vec<String>>> {
        // No image is that large.
        let most = self.rows.saturating_mul(64).saturating_add(1024);
        let column = self.read::<ByteArrayType>("warnings", most)?;
        let mut values = column.values.into_iter();
        let mut lists: Vec<Vec<String>> = Vec::new();
        for (definition, repetition) in column.definitions.into_iter().zip(column.repetitions) {
            if repetition == 0 {
                lists.push(Vec::new());
            }
            if let (true, Some(list)) = (definition > 0, lists.last_mut()) {
                let value = values.next().context("a warning is missing")?;
                list.push(text(&value, "warnings")?);
            }
        }
        Ok(lists)
    }
}

/// The values of a column, and the levels that assign them to rows.
pub(super) struct Column<T> {
    pub(super) values: Vec<T>,
    pub(super) definitions: Vec<i16>,
    pub(super) repetitions: Vec<i16>,
}

fn text(value: &ByteArray, column: &str) -> Result<String> {
    let text = value.as_utf8();
    Ok(text
        .with_context(|| format!("column {column} is not UTF-8"))?
        .to_owned())
}
