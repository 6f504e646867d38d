//! The files of `--out`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::file::atomic::AtomicFile;
use crate::output::{self, Format, Record, RecordWriter, Style};
use crate::run::Console;
use crate::run::labelling::Labelling;
use crate::run::results::{cannot_write, json, table};

/// With more labels than this, the confusion matrix has only those that occur.
const MOST_LABELS_IN_FULL: usize = 2000;

/// The folder of `--out`, being written.
pub(super) struct Folder {
    path: PathBuf,
    records: Records,
    /// The byte order mark of .csv files, or nothing.
    mark: &'static [u8],
}

/// A file of records being written.
pub(super) struct Records {
    writer: Box<dyn RecordWriter + Send>,
    file: AtomicFile,
    path: PathBuf,
}

impl Records {
    fn create(path: PathBuf) -> Result<Self> {
        let file = AtomicFile::create(&path)?;
        let sink = file.sink().with_context(|| cannot_write(&path))?;
        Ok(Self {
            writer: output::writer(Format::Jsonl, sink, Style::plain())?,
            file,
            path,
        })
    }
}

impl Folder {
    /// Creates the folder and starts `predictions.jsonl`.
    pub(super) fn create(path: &Path, mark: &'static [u8]) -> Result<Self> {
        fs::create_dir_all(path)
            .with_context(|| format!("cannot create the folder {}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            records: Records::create(path.join("predictions.jsonl"))?,
            mark,
        })
    }

    pub(super) fn write(&mut self, record: &Record) -> Result<()> {
        let records = &mut self.records;
        records
            .writer
            .write(record)
            .with_context(|| cannot_write(&records.path))
    }

    /// Completes all files, `results.json` last: once it exists, so do the others.
    pub(super) fn finish(mut self, variant: &Labelling, results: &impl Serialize) -> Result<()> {
        self.records
            .writer
            .finish()
            .with_context(|| cannot_write(&self.records.path))?;
        let confusion = confusion(&self.path.join("confusion.csv"), variant, self.mark)?;
        let results = json(&self.path.join("results.json"), results)?;
        self.records.file.commit()?;
        confusion.commit()?;
        results.commit()
    }

    /// After a signal: keeps the records so far in a .partial file.
    pub(super) fn keep_partial(mut self, console: &Console) -> Result<()> {
        self.records
            .writer
            .finish()
            .with_context(|| cannot_write(&self.records.path))?;
        let path = self.records.file.keep_partial()?;
        console.warn(&format!(
            "stopped; the predictions so far are in {}",
            path.display()
        ));
        Ok(())
    }
}

/// Writes the confusion matrix: rows are true labels, columns predicted ones.
fn confusion(path: &Path, variant: &Labelling, mark: &[u8]) -> Result<AtomicFile> {
    let figures = variant.tally.per_class();
    let count = variant.labels.len();
    let occurs = |label: &usize| {
        count <= MOST_LABELS_IN_FULL || figures[*label].support + figures[*label].predicted > 0
    };
    let labels: Vec<usize> = (0..count).filter(occurs).collect();
    let confusions = variant.tally.confusions();
    let header = labels.iter().map(|&label| variant.labels[label].clone());
    let rows = labels.iter().map(|&row| {
        let cell = |&column: &usize| confusions.count(row, column).to_string();
        let cells = labels.iter().map(cell);
        std::iter::once(variant.labels[row].clone())
            .chain(cells)
            .collect()
    });
    let header = std::iter::once(String::new()).chain(header).collect();
    table(path, header, rows, mark)
}
