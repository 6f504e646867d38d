//! Tables of other programs (Parquet, JSON lines): one column or key with the numbers, perhaps one with
//! the names.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use parquet::basic::{LogicalType, Type};
use parquet::data_type::{AsBytes as _, DoubleType, FixedLenByteArrayType, FloatType};
use parquet::file::reader::FileReader as _;
use parquet::schema::types::ColumnDescriptor;

use super::Names;
use super::numbers::{Element, Layout, Numbers};
use crate::checkpoint::container::Bytes;
use crate::input::embedding::lines::Lines;
use crate::input::embedding::parquet::{Column, Columns, MOST_VALUES, groups, reader};
use crate::input::embedding::{NoRows, map};
use crate::output::ImageName;
use crate::output::embedding::{Line, Name, check_dim};

/// Columns that name a row's image.
const IMAGES: [&str; 8] = [
    "path",
    "image",
    "image_path",
    "file",
    "file_name",
    "filename",
    "filepath",
    "url",
];

/// Columns that are a row's text.
const TEXTS: [&str; 3] = ["text", "caption", "sentence"];

/// Reads JSON lines whose objects have an `embedding`, and perhaps `image`, `path` or `text`.
pub(super) fn lines(path: &Path) -> Result<(Numbers, Names)> {
    let bytes = map(path)?;
    let lines = Lines::new(&bytes, 0..bytes.len())?;
    let (mut stored, mut names, mut dim) = (Vec::new(), Vec::new(), None);
    let mut rows = 0;
    for index in 0..lines.count() {
        let text = lines.get(index)?;
        let place = || format!("line {}", index + 1);
        let line = Line::from_bytes(text).with_context(place)?;
        let Some(embedding) = line.embedding.as_deref() else {
            ensure!(
                line.error.is_some(),
                "line {} has no \"embedding\"",
                index + 1
            );
            continue;
        };
        let dim = *dim.get_or_insert(embedding.len());
        ensure!(
            embedding.len() == dim,
            "line {} has {} numbers where the first has {dim}",
            index + 1,
            embedding.len()
        );
        stored.extend(embedding.iter().flat_map(|value| value.to_le_bytes()));
        rows += 1;
        names.extend(line.name().ok());
    }
    let dim = dim.context(NoRows)?;
    check_dim(dim)?;
    let names = named(names, rows)?;
    Ok((owned(stored, Element::F32, [rows, dim])?, names))
}

/// Reads the column `wanted` of the Parquet file at `path`, or its only one of lists of numbers.
pub(super) fn parquet(path: &Path, wanted: Option<&str>) -> Result<(Numbers, Names)> {
    let reader = reader(path)?;
    let schema = reader.metadata().file_metadata().schema_descr_ptr();
    let columns: Vec<&ColumnDescriptor> = schema.columns().iter().map(|c| c.as_ref()).collect();
    let name = |column: &ColumnDescriptor| column.path().parts().first().cloned();
    let lists: Vec<(String, Element)> = columns
        .iter()
        .filter_map(|column| Some((name(column)?, element(column)?)))
        .collect();
    let (column, element) = choose(path, lists, wanted)?;
    let strings = columns
        .iter()
        .filter(|column| column.max_rep_level() == 0 && column.physical_type() == Type::BYTE_ARRAY);
    let strings: Vec<String> = strings.filter_map(|column| name(column)).collect();
    let has = |known: &[&str]| {
        let found = known
            .iter()
            .find(|known| strings.iter().any(|s| s == *known));
        found.map(|name| (*name).to_owned())
    };
    let (images, texts) = (has(&IMAGES), has(&TEXTS));
    let (mut stored, mut names, mut dim) = (Vec::new(), Vec::new(), None);
    let groups = groups(&reader, 1)?;
    for (index, range) in groups.iter().enumerate() {
        let columns = Columns::new(&reader, index, range.len())?;
        let found = numbers(&columns, &column, element, &mut stored)?;
        let found = found.of(range.len()).with_context(|| {
            format!("the column {column:?} has rows of different numbers of values, or empty ones")
        })?;
        ensure!(
            *dim.get_or_insert(found) == found,
            "the column {column:?} has rows of {found} numbers where the first has others"
        );
        if let Some(column) = images.as_ref().or(texts.as_ref()) {
            let named = columns.texts(column)?.into_iter();
            names.extend(named.map(|text| match images {
                Some(_) => Name::Image(ImageName { text, bytes: None }),
                None => Name::Text(text),
            }));
        }
    }
    let dim = dim.context(NoRows)?;
    check_dim(dim)?;
    let rows = groups.last().map_or(0, |range| range.end);
    let names = named(names, rows)?;
    Ok((owned(stored, element, [rows, dim])?, names))
}

/// The type of the numbers that a column has lists of, if it has such.
fn element(column: &ColumnDescriptor) -> Option<Element> {
    let is_list = column.max_rep_level() == 1;
    match (column.physical_type(), column.logical_type_ref()) {
        _ if !is_list => None,
        (Type::FLOAT, _) => Some(Element::F32),
        (Type::DOUBLE, _) => Some(Element::F64),
        (Type::FIXED_LEN_BYTE_ARRAY, Some(LogicalType::Float16)) => Some(Element::F16),
        _ => None,
    }
}

fn choose(
    path: &Path,
    lists: Vec<(String, Element)>,
    wanted: Option<&str>,
) -> Result<(String, Element)> {
    let names: Vec<String> = lists.iter().map(|(name, _)| format!("{name:?}")).collect();
    let names = names.join(", ");
    match (wanted, &lists[..]) {
        (_, []) => bail!("no column has lists of floating-point numbers"),
        (None, [one]) => Ok(one.clone()),
        (None, [first, ..]) => bail!(
            "the columns {names} all have lists of numbers; name one of them, as in {}:{}",
            path.display(),
            first.0
        ),
        (Some(wanted), _) => {
            let found = lists.into_iter().find(|(name, _)| name == wanted);
            found.with_context(|| format!("no column {wanted:?} has lists of numbers, but {names}"))
        }
    }
}

/// How many values the rows of a column have.
struct Lists {
    values: usize,
    repetitions: Vec<i16>,
}

impl Lists {
    fn new<T>(column: &Column<T>) -> Self {
        Self {
            values: column.values.len(),
            repetitions: column.repetitions.clone(),
        }
    }

    /// The number that each of `rows` rows has, if it is one.
    fn of(&self, rows: usize) -> Option<usize> {
        let dim = self.values.checked_div(rows)?;
        let is_even = dim > 0
            && self.values == rows * dim
            && self.repetitions.len() == self.values
            && self
                .repetitions
                .chunks(dim)
                .all(|row| row.first() == Some(&0) && row.iter().skip(1).all(|level| *level == 1));
        is_even.then_some(dim)
    }
}

/// Adds the numbers of a column to `stored`, little-endian.
fn numbers(
    columns: &Columns<'_>,
    name: &str,
    element: Element,
    stored: &mut Vec<u8>,
) -> Result<Lists> {
    Ok(match element {
        Element::F64 => {
            let column = columns.read::<DoubleType>(name, MOST_VALUES)?;
            stored.extend(column.values.iter().flat_map(|value| value.to_le_bytes()));
            Lists::new(&column)
        }
        Element::F16 => {
            let column = columns.read::<FixedLenByteArrayType>(name, MOST_VALUES)?;
            for value in &column.values {
                stored.extend_from_slice(value.as_bytes());
            }
            Lists::new(&column)
        }
        _ => {
            let column = columns.read::<FloatType>(name, MOST_VALUES)?;
            stored.extend(column.values.iter().flat_map(|value| value.to_le_bytes()));
            Lists::new(&column)
        }
    })
}

/// All rows have names or none has.
fn named(names: Vec<Name>, rows: usize) -> Result<Names> {
    if names.is_empty() {
        return Ok(Names::None);
    }
    ensure!(
        names.len() == rows,
        "{} of {rows} rows have names (\"image\", \"path\" or \"text\"); name all of them or none",
        names.len()
    );
    Ok(Names::Listed(names))
}

fn owned(stored: Vec<u8>, element: Element, shape: [usize; 2]) -> Result<Numbers> {
    let range = 0..stored.len();
    Numbers::new(
        Arc::new(Bytes::Owned(stored)),
        range,
        Layout::plain(element, shape),
    )
}
