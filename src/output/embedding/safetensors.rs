//! safetensors: `embeddings` `[rows, dim]`, and `rows`, the UTF-8 bytes of one JSON object per row.
//! The metadata in the header record what made the embeddings.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

use super::{About, Dtype, Line, Rows, push_values, visit_rows};
use crate::output::file::AtomicFile;

pub(super) fn write(path: &Path, about: &About, rows: &dyn Rows) -> Result<()> {
    // The header comes first and states both lengths, so the names are measured beforehand.
    let mut names_length = 0;
    visit_rows(rows, |row, _| {
        names_length += Line::of_row(row).to_bytes()?.len();
        Ok(())
    })?;
    let file = AtomicFile::create_alone(path)?;
    let mut sink = file.sink()?;
    let writing = || format!("cannot write {}", path.display());
    sink.write_all(&header(rows.rows(), names_length, about))
        .with_context(writing)?;
    let mut bytes = Vec::with_capacity(about.dim * about.dtype.size());
    visit_rows(rows, |_, embedding| {
        bytes.clear();
        push_values(&mut bytes, embedding, about.dtype);
        sink.write_all(&bytes).with_context(writing)
    })?;
    visit_rows(rows, |row, _| {
        let line = Line::of_row(row).to_bytes()?;
        sink.write_all(&line).with_context(writing)
    })?;
    sink.flush().with_context(writing)?;
    file.commit()
}

/// Padded so that the numbers begin at a multiple of 64.
fn header(rows: usize, names_length: usize, about: &About) -> Vec<u8> {
    let dtype = match about.dtype {
        Dtype::F32 => "F32",
        Dtype::F16 => "F16",
    };
    let pairs = about.pairs().into_iter();
    let pairs: Map<String, Value> = pairs
        .map(|(key, value)| (key.to_owned(), json!(value)))
        .collect();
    let end = rows * about.dim * about.dtype.size();
    let header = json!({
        "__metadata__": pairs,
        "embeddings": {"dtype": dtype, "shape": [rows, about.dim], "data_offsets": [0, end]},
        "rows": {"dtype": "U8", "shape": [names_length], "data_offsets": [end, end + names_length]},
    });
    let mut header = header.to_string().into_bytes();
    header.resize((8 + header.len()).next_multiple_of(64) - 8, b' ');
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    bytes
}
