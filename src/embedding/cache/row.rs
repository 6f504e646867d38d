//! The rows of the cache: how they are written, read and summed.

use super::{Digest, Recipe};
use crate::file::stamp::Stamp;

/// A row to write.
pub(super) enum Row {
    File(Vec<u8>, Stamp, Digest),
    Image(Recipe, Digest, ImageRow),
    Text(Recipe, Digest, Vec<f32>),
    Thumbnail(Recipe, Digest, Vec<u8>),
}

impl Row {
    pub(super) fn statement(&self) -> (&'static str, Vec<rusqlite::types::Value>) {
        let blob = |bytes: &[u8]| rusqlite::types::Value::Blob(bytes.to_vec());
        match self {
            Self::File(path, stamp, content) => (
                "INSERT OR REPLACE INTO file (path, bytes, modified_ns, content, crc32) VALUES \
                 (?1, ?2, ?3, ?4, ?5)",
                vec![
                    blob(path),
                    stamp.bytes.cast_signed().into(),
                    stamp.modified_ns.into(),
                    blob(content),
                    sum_of_file(path, *stamp, content).into(),
                ],
            ),
            Self::Image(recipe, content, row) => {
                let [width, height] = [row.size.0 as i64, row.size.1 as i64];
                let (warnings, embedding) = (lines(&row.warnings), bytes(&row.embedding));
                let sum = sum_of_image(*recipe, content, [width, height], &warnings, &embedding);
                (
                    "INSERT OR REPLACE INTO image (recipe, content, width, height, warnings, \
                 embedding, crc32) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                    vec![
                        recipe.number.into(),
                        blob(content),
                        width.into(),
                        height.into(),
                        warnings.into(),
                        blob(&embedding),
                        sum.into(),
                    ],
                )
            }
            Self::Text(recipe, content, embedding) => (
                "INSERT OR REPLACE INTO text (recipe, content, embedding, crc32) VALUES \
                 (?1, ?2, ?3, ?4)",
                vec![
                    recipe.number.into(),
                    blob(content),
                    blob(&bytes(embedding)),
                    sum_of_text(*recipe, content, &bytes(embedding)).into(),
                ],
            ),
            Self::Thumbnail(recipe, content, jpeg) => (
                "INSERT OR REPLACE INTO thumbnail (recipe, content, jpeg, crc32) VALUES \
                 (?1, ?2, ?3, ?4)",
                vec![
                    recipe.number.into(),
                    blob(content),
                    blob(jpeg),
                    sum_of_thumbnail(*recipe, content, jpeg).into(),
                ],
            ),
        }
    }
}

/// The CRC-32 of some parts, which cannot be divided otherwise.
pub(super) fn sum(parts: &[&[u8]]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    for part in parts {
        sum.update(&(part.len() as u64).to_le_bytes());
        sum.update(part);
    }
    sum.finalize()
}

pub(super) fn sum_of_file(path: &[u8], stamp: Stamp, content: &Digest) -> u32 {
    let (length, time) = (stamp.bytes.to_le_bytes(), stamp.modified_ns.to_le_bytes());
    sum(&[b"file", path, &length, &time, content])
}

pub(super) fn sum_of_image(
    recipe: Recipe,
    content: &Digest,
    size: [i64; 2],
    warnings: &str,
    embedding: &[u8],
) -> u32 {
    let [width, height] = size.map(i64::to_le_bytes);
    sum(&[
        b"image",
        &recipe.crc32.to_le_bytes(),
        content,
        &width,
        &height,
        warnings.as_bytes(),
        embedding,
    ])
}

pub(super) fn sum_of_text(recipe: Recipe, content: &Digest, embedding: &[u8]) -> u32 {
    sum(&[b"text", &recipe.crc32.to_le_bytes(), content, embedding])
}

pub(super) fn sum_of_thumbnail(recipe: Recipe, content: &Digest, jpeg: &[u8]) -> u32 {
    sum(&[b"thumbnail", &recipe.crc32.to_le_bytes(), content, jpeg])
}

/// The stored result for one image.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ImageRow {
    /// Width and height in pixels, after EXIF orientation.
    pub size: (usize, usize),
    /// Warnings about the file, one line each.
    pub warnings: Vec<String>,
    /// The unit embedding `[dim]`.
    pub embedding: Vec<f32>,
}

/// Decodes a row of width, height, warnings and embedding; `None` if it is damaged.
pub(super) fn image(row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<ImageRow>> {
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

/// Whether this is a unit vector of `dim` numbers.
pub(super) fn is_sound(embedding: &[f32], dim: usize) -> bool {
    embedding.len() == dim && is_unit_length(embedding)
}

/// Whether this is a unit vector; false if a number is not finite.
pub(super) fn is_unit_length(values: &[f32]) -> bool {
    let squares: f64 = values.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
    (squares - 1.0).abs() < 1e-3
}
