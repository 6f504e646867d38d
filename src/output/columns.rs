//! Columns of Parquet files, as their rows come.

use std::io::Write;

use anyhow::{Context as _, Result};
use parquet::column::writer::ColumnWriterImpl;
use parquet::data_type::{ByteArray, DataType};
use parquet::file::writer::SerializedRowGroupWriter;

pub(crate) fn bytes(text: &str) -> ByteArray {
    ByteArray::from(text.as_bytes().to_vec())
}

/// A column with optional values.
pub(crate) fn write_optional<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, impl Write + Send>,
    values: &[Option<T::T>],
) -> Result<()> {
    let levels: Vec<i16> = values
        .iter()
        .map(|value| i16::from(value.is_some()))
        .collect();
    let values: Vec<T::T> = values.iter().flatten().cloned().collect();
    write_column::<T>(group, &values, Some(&levels), None)
}

/// A column of lists, with concatenated values.
pub(crate) fn write_lists<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, impl Write + Send>,
    values: &[T::T],
    lengths: &[usize],
) -> Result<()> {
    let (mut definitions, mut repetitions) = (Vec::new(), Vec::new());
    for &length in lengths {
        // An empty list is one entry without a value; in others only the first begins a row.
        definitions.extend(std::iter::repeat_n(i16::from(length > 0), length.max(1)));
        repetitions.push(0);
        repetitions.extend(std::iter::repeat_n(1, length.saturating_sub(1)));
    }
    write_column::<T>(group, values, Some(&definitions), Some(&repetitions))
}

/// A column with its definition and repetition levels, if it has any.
pub(crate) fn write_column<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, impl Write + Send>,
    values: &[T::T],
    definitions: Option<&[i16]>,
    repetitions: Option<&[i16]>,
) -> Result<()> {
    let mut column = group
        .next_column()?
        .context("the schema has more columns")?;
    let typed: &mut ColumnWriterImpl<'_, T> = column.typed::<T>();
    typed.write_batch(values, definitions, repetitions)?;
    column.close()?;
    Ok(())
}
