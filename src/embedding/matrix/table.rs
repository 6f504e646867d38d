//! Tables of other programs (Parquet, JSON Lines): one column or key with the numbers, and
//! optionally one with the names.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use parquet::basic::{LogicalType, Type};
use parquet::data_type::{AsBytes as _, DoubleType, FixedLenByteArrayType, FloatType};
use parquet::file::reader::FileReader as _;
use parquet::schema::types::ColumnDescriptor;

use super::Names;
use super::numbers::{Element, MatrixLayout, Numbers};
use crate::checkpoint::container::Bytes;
use crate::embedding::parquet::{Column, Columns, MAX_VALUES, groups, reader};
use crate::embedding::{NoRows, check_dim, jsonl};
use crate::input::text_file::column::{PARQUET_IMAGE, PARQUET_TEXT};
use crate::output::{ImageName, Name};

/// Reads JSON Lines whose objects have an `embedding`, and optionally `image`, `path` or `text`.
pub(super) fn lines(path: &Path) -> Result<(Numbers, Names)> {
    let (mut stored, mut names, mut dim) = (Vec::new(), Vec::new(), None);
    let mut rows = 0;
    for (number, line) in jsonl::foreign(path)? {
        let line = line?;
        let Some(embedding) = line.embedding.as_deref() else {
            ensure!(line.error.is_some(), "line {number} has no \"embedding\"");
            continue;
        };
        let dim = *dim.get_or_insert(embedding.len());
        ensure!(
            embedding.len() == dim,
            "line {number} has {} numbers but the first has {dim}",
            embedding.len()
        );
        // Checked here, where the line number is known: not every line is a row.
        ensure!(
            embedding.iter().all(|value| value.is_finite()),
            "line {number} holds a number that float32 cannot hold; correct it or remove the line"
        );
        stored.extend(embedding.iter().flat_map(|value| value.to_le_bytes()));
        rows += 1;
        let name = match line.is_named() {
            true => Some(line.name().with_context(|| format!("line {number}"))?),
            false => None,
        };
        names.push(name);
    }
    let dim = dim.context(NoRows)?;
    check_dim(dim)?;
    Ok((owned(stored, Element::F32, [rows, dim])?, named(names)))
}

/// Reads the column `wanted` of the Parquet file at `path`, or its only column of lists of numbers.
pub(super) fn parquet(path: &Path, wanted: Option<&str>) -> Result<(Numbers, Names)> {
    let reader = reader(path)?;
    let schema = reader.metadata().file_metadata().schema_descr_ptr();
    let columns: Vec<&ColumnDescriptor> = schema.columns().iter().map(|c| c.as_ref()).collect();
    let lists = columns.iter().enumerate().filter_map(|(leaf, column)| {
        let element = element(column)?;
        let name = list_name(column);
        Some(List {
            leaf,
            name,
            element,
        })
    });
    let List {
        leaf,
        name: column,
        element,
    } = choose(path, lists.collect(), wanted)?;
    let leaf_of = |path: &[&str]| {
        columns.iter().position(|column| {
            column.max_rep_level() == 0
                && column.physical_type() == Type::BYTE_ARRAY
                && column.path().parts() == path
        })
    };
    let has = |known: &[&str]| known.iter().find_map(|name| leaf_of(&[*name]));
    // Datasets of images often have a column `image` in two parts, the file's bytes and its path.
    let images = has(PARQUET_IMAGE).or_else(|| leaf_of(&["image", "path"]));
    let names_in = images.or_else(|| has(PARQUET_TEXT));
    let (mut stored, mut names, mut dim) = (Vec::new(), Vec::new(), None);
    let groups = groups(&reader, 1)?;
    for (index, range) in groups.iter().enumerate() {
        let columns = Columns::new(&reader, index, range.len())?;
        let found = numbers(&columns, leaf, element, &mut stored)?;
        let found = found.of(range.len()).with_context(|| {
            format!("the column {column:?} has rows of different lengths or empty rows")
        })?;
        ensure!(
            *dim.get_or_insert(found) == found,
            "the column {column:?} has rows of {found} numbers, unlike its first row"
        );
        if let Some(leaf) = names_in {
            let texts = columns.optional_texts(leaf)?.into_iter();
            names.extend(texts.map(|text| match images {
                Some(_) => text.map(|text| Name::Image(ImageName { text, bytes: None })),
                None => text.map(Name::Text),
            }));
        }
    }
    let dim = dim.context(NoRows)?;
    check_dim(dim)?;
    let rows = groups.last().map_or(0, |range| range.end);
    Ok((owned(stored, element, [rows, dim])?, named(names)))
}

/// The element type of a column of lists of numbers; `None` for other columns.
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

/// A column of lists of numbers.
struct List {
    /// Its index among the leaves of the schema.
    leaf: usize,
    name: String,
    element: Element,
}

/// The column's name as people write it: its path to the list, without the inner groups of the
/// list.
fn list_name(column: &ColumnDescriptor) -> String {
    let parts = column.path().parts();
    let end = match parts {
        [_, .., group, _] if ["list", "bag", "array"].contains(&group.as_str()) => parts.len() - 2,
        [_, _, ..] => parts.len() - 1,
        _ => parts.len(),
    };
    parts
        .iter()
        .take(end)
        .cloned()
        .collect::<Vec<_>>()
        .join(".")
}

fn choose(path: &Path, mut lists: Vec<List>, wanted: Option<&str>) -> Result<List> {
    let names: Vec<String> = lists
        .iter()
        .map(|list| format!("{:?}", list.name))
        .collect();
    let names = names.join(", ");
    match (wanted, &lists[..]) {
        (_, []) => bail!("no column has lists of floating-point numbers"),
        (None, [_]) => Ok(lists.remove(0)),
        (None, [first, ..]) => bail!(
            "the columns {names} all have lists of numbers; name one of them, such as {}:{}",
            path.display(),
            first.name
        ),
        (Some(wanted), _) => {
            let found = lists.into_iter().find(|list| list.name == wanted);
            found.with_context(|| {
                format!(
                    "no column {wanted:?} has lists of numbers; columns \
                                           that have: {names}"
                )
            })
        }
    }
}

/// Number of values in each row of a column.
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

    /// The number of values that each of `rows` rows has, if it is the same for all.
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

/// Appends the numbers of a column to `stored`, little-endian.
fn numbers(
    columns: &Columns<'_>,
    leaf: usize,
    element: Element,
    stored: &mut Vec<u8>,
) -> Result<Lists> {
    Ok(match element {
        Element::F64 => {
            let column = columns.read_leaf::<DoubleType>(leaf, MAX_VALUES)?;
            stored.extend(column.values.iter().flat_map(|value| value.to_le_bytes()));
            Lists::new(&column)
        }
        Element::F16 => {
            let column = columns.read_leaf::<FixedLenByteArrayType>(leaf, MAX_VALUES)?;
            for value in &column.values {
                stored.extend_from_slice(value.as_bytes());
            }
            Lists::new(&column)
        }
        _ => {
            let column = columns.read_leaf::<FloatType>(leaf, MAX_VALUES)?;
            stored.extend(column.values.iter().flat_map(|value| value.to_le_bytes()));
            Lists::new(&column)
        }
    })
}

/// The names, if any row has one.
fn named(names: Vec<Option<Name>>) -> Names {
    match names.iter().any(Option::is_some) {
        true => Names::Listed(names),
        false => Names::None,
    }
}

fn owned(stored: Vec<u8>, element: Element, shape: [usize; 2]) -> Result<Numbers> {
    let range = 0..stored.len();
    Numbers::new(
        Arc::new(Bytes::Owned(stored)),
        range,
        MatrixLayout::plain(element, shape),
    )
}
