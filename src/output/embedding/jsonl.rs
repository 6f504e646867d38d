//! One self-contained JSON object per row: name, embedding, model.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::{About, Entry, Line, Rows};
use crate::output::file::AtomicFile;

/// Writes the line of one entry.
///
/// # Errors
/// When a number cannot be written.
pub fn jsonl_line(entry: Entry<'_>, about: &About) -> Result<Vec<u8>> {
    match entry {
        Entry::Failed(failure) => Line::of_failure(failure).to_bytes(),
        Entry::Row(row, embedding) => {
            let line = Line::of_row(row).with_embedding(embedding);
            line.with(about).to_bytes()
        }
    }
}

pub(super) fn write(path: &Path, about: &About, rows: &dyn Rows) -> Result<()> {
    let file = AtomicFile::create_alone(path)?;
    let mut sink = file.sink()?;
    let writing = || format!("cannot write {}", path.display());
    rows.visit(&mut |entry| {
        let line = jsonl_line(entry, about)?;
        sink.write_all(&line).with_context(writing)
    })?;
    sink.flush().with_context(writing)?;
    file.commit()
}
