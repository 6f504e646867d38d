//! Encoding of values in the cache's tables.

use std::path::Path;

use rusqlite::Row;

/// The stored result for one image.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageRow {
    /// Width and height in pixels, after EXIF orientation.
    pub size: (usize, usize),
    /// Warnings about the file, one line each.
    pub warnings: Vec<String>,
    /// The unit embedding `[dim]`.
    pub embedding: Vec<f32>,
}

/// Decodes a row of width, height, warnings and embedding; `None` if it is damaged.
pub(super) fn image(row: &Row<'_>) -> rusqlite::Result<Option<ImageRow>> {
    let size = |value: i64| usize::try_from(value).ok();
    let (width, height) = (size(row.get(0)?), size(row.get(1)?));
    let warnings: String = row.get(2)?;
    let embedding = floats(row.get_ref(3)?.as_blob()?);
    let read = || {
        Some(ImageRow {
            size: (width?, height?),
            warnings: warnings.lines().map(str::to_owned).collect(),
            embedding: embedding?,
        })
    };
    Ok(read())
}

/// Joins warnings into one text.
pub(super) fn lines(warnings: &[String]) -> String {
    let line = |warning: &String| warning.replace(['\n', '\r'], " ");
    warnings.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// f32 values as little-endian bytes.
pub(super) fn bytes(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

/// Little-endian bytes as f32 values; `None` if the length is not a multiple of four.
pub(super) fn floats(bytes: &[u8]) -> Option<Vec<f32>> {
    let (values, rest) = bytes.as_chunks::<4>();
    let values = values.iter().map(|bytes| f32::from_le_bytes(*bytes));
    rest.is_empty().then(|| values.collect())
}

/// Whether this is a unit vector; false if a number is not finite.
pub(super) fn is_unit_length(values: &[f32]) -> bool {
    let squares: f64 = values.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
    (squares - 1.0).abs() < 1e-3
}

/// The key for a path: its absolute form; `None` if the working folder no longer exists.
pub fn path_bytes(path: &Path) -> Option<Vec<u8>> {
    let absolute = std::path::absolute(path).ok()?;
    Some(absolute.as_os_str().as_encoded_bytes().to_vec())
}
