//! One self-contained JSON object per row: name, embedding, model.

use std::io::Write as _;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, ensure};

use super::line::LineIndex;
use super::read::{EmbeddingFile, NoRows, check_range, map};
use super::{About, Dtype, Entry, Line, Row, Rows, check_dim, push_values};
use crate::file::atomic::AtomicFile;
use crate::input::text_file::Lines;

/// Writes the line of one entry.
///
/// # Errors
/// When a number cannot be written.
pub(crate) fn jsonl_line(entry: Entry<'_>, about: &About) -> Result<Vec<u8>> {
    match entry {
        Entry::Failed(failure) => Line::of_failure(failure).to_bytes(),
        Entry::Row(row, embedding) => {
            let mut bytes = Vec::new();
            push_values(&mut bytes, embedding, Dtype::F32);
            let line = Line::of_row(row).with_crc32(crc32fast::hash(&bytes));
            line.with_embedding(embedding).with(about).to_bytes()
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

/// Text that only a line with an embedding has: quotes within strings are escaped.
const MARK: &[u8] = b"\"embedding\":[";

pub(super) struct Jsonl {
    about: About,
    lines: LineIndex,
    /// The lines that are rows; the others are failures.
    rows: Vec<usize>,
}

impl Jsonl {
    /// Whether the first row names its model, as longclip embed writes it; a file without rows
    /// counts as longclip embed's.
    pub(super) fn has_model(path: &Path) -> Result<bool> {
        for (_, line) in foreign(path)? {
            let line = line?;
            if line.embedding.is_some() {
                return Ok(line.has_model());
            }
        }
        Ok(true)
    }

    pub(super) fn open(path: &Path) -> Result<Self> {
        let bytes = map(path)?;
        let lines = LineIndex::new(&bytes, 0..bytes.len())?;
        let mut rows = Vec::new();
        for index in 0..lines.count() {
            let text = lines.get(index)?;
            let has_mark = || text.windows(MARK.len()).any(|window| window == MARK);
            // Lines in another formatting are parsed in full.
            if has_mark() || line(text, index)?.error.is_none() {
                rows.push(index);
            }
        }
        let first = *rows.first().context(NoRows)?;
        let parsed = line(lines.get(first)?, first)?;
        let dim = parsed.embedding.as_ref().map_or(0, |values| values.len());
        check_dim(dim)?;
        Ok(Self {
            about: parsed.about(dim, Dtype::F32)?,
            lines,
            rows,
        })
    }

    fn line(&self, row: usize) -> Result<Line<'static>> {
        let index = *self
            .rows
            .get(row)
            .with_context(|| format!("there is no row {row}"))?;
        let line = line(self.lines.get(index)?, index)?;
        ensure!(
            line.is_of(&self.about),
            "line {} was made by another model than the first row",
            index + 1
        );
        Ok(line)
    }
}

/// The objects of a file by any program, with their line numbers, in every encoding that text files
/// have; blank lines are skipped.
pub(super) fn foreign(
    path: &Path,
) -> Result<impl Iterator<Item = (u64, Result<Line<'static>>)> + use<>> {
    // Opening a pipe without a writer would block.
    ensure!(
        std::fs::metadata(path)?.is_file(),
        "this is not a regular file"
    );
    Ok(Lines::open(path)?.filter_map(|line| {
        let number = line.number;
        let read = match line.text() {
            Ok(text) if text.trim().is_empty() => return None,
            Ok(text) => Line::from_bytes(text.as_bytes()),
            Err(error) => Err(anyhow!("{}", error.cause)),
        };
        Some((number, read.with_context(|| format!("line {number}"))))
    }))
}

fn line(text: &[u8], index: usize) -> Result<Line<'static>> {
    Line::from_bytes(text).with_context(|| format!("line {} is damaged", index + 1))
}

impl EmbeddingFile for Jsonl {
    fn about(&self) -> &About {
        &self.about
    }

    fn rows(&self) -> usize {
        self.rows.len()
    }

    fn row(&self, index: usize) -> Result<Row> {
        self.line(index)?.row()
    }

    fn vectors(&self, range: Range<usize>, values: &mut Vec<f32>) -> Result<()> {
        check_range(&range, self.rows.len())?;
        values.clear();
        for row in range {
            let line = self.line(row)?;
            let embedding = line.embedding.as_deref().unwrap_or_default();
            ensure!(
                embedding.len() == self.about.dim,
                "row {row} has {} numbers but the first has {}",
                embedding.len(),
                self.about.dim
            );
            values.extend_from_slice(embedding);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedding::testing::{about, vector};
    use crate::embedding::{Entry, Item, Kind, jsonl_line};

    #[test]
    fn numbers_survive_the_conversion_to_text() {
        let about = about(Kind::Texts, 512);
        let row = Row {
            given: None,
            item: Item::Text("a".to_owned()),
            warnings: Vec::new(),
        };
        for seed in 0..200 {
            let mut values = vector(seed, 512);
            values[..4].copy_from_slice(&[f32::MIN_POSITIVE, -0.0, f32::from_bits(1), 1.0]);
            let text = jsonl_line(Entry::Row(&row, &values), &about).unwrap();
            let back = Line::from_bytes(&text)
                .unwrap()
                .embedding
                .unwrap()
                .into_owned();
            let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert!(bits(&back) == bits(&values), "{seed}");
        }
    }

    #[test]
    fn rows_and_failures_are_distinguished_in_any_formatting() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let id = about(Kind::Texts, 2).model_id();
        let row = |text: &str, numbers: &str| {
            format!(
                "{{ \"text\": {text:?}, \"embedding\": {numbers}, \"model\": \"{id}\", \
                 \"precision\": \"f32\", \"settings\": \"\", \"version\": \"1\" }}\n"
            )
        };
        let failure = "{\"text\": \"\\\"embedding\\\":[\", \"error\": \"x\"}\n";
        let content = [&row("a", "[1, 0]"), failure, &row("b", "[0.6,0.8]")].concat();
        std::fs::write(&path, content).unwrap();
        let file = Jsonl::open(&path).unwrap();
        let mut values = Vec::new();
        file.vectors(0..2, &mut values).unwrap();
        assert_eq!(values, [1.0, 0.0, 0.6, 0.8]);
        assert_eq!(file.row(1).unwrap().item.text(), "b");
        for odd in ["[1]", "[1,0,0]", "null", "[1,\"0\"]", "[1,null]"] {
            std::fs::write(&path, [row("a", "[1,0]"), row("b", odd)].concat()).unwrap();
            let read = Jsonl::open(&path).and_then(|file| file.vectors(0..2, &mut values));
            assert!(read.is_err(), "{odd}");
        }
    }
}
