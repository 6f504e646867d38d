//! The files of `--out`, and the class map.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Serialize;

use super::variant::Variant;
use crate::command::Console;
use crate::input::dataset;
use crate::input::text_file::{self, Table, usual_separator};
use crate::output::file::AtomicFile;
use crate::output::{self, Format, Record, RecordWriter, Style};

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
            writer: output::writer(Format::Jsonl, sink, Style::plain()),
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
    pub(super) fn finish(mut self, variant: &Variant, results: &impl Serialize) -> Result<()> {
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

fn cannot_write(path: &Path) -> String {
    format!("cannot write {}", path.display())
}

/// Writes a value as indented JSON.
pub(in crate::command) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    json(path, value)?.commit()
}

fn json(path: &Path, value: &impl Serialize) -> Result<AtomicFile> {
    let file = AtomicFile::create(path)?;
    let write = || -> io::Result<()> {
        let mut sink = file.sink()?;
        serde_json::to_writer_pretty(&mut sink, value)?;
        sink.write_all(b"\n")?;
        sink.flush()
    };
    write().with_context(|| cannot_write(path))?;
    Ok(file)
}

/// Writes the confusion matrix: rows are true labels, columns predicted ones.
fn confusion(path: &Path, variant: &Variant, mark: &[u8]) -> Result<AtomicFile> {
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

/// Writes rows as CSV, after `mark`, which is [`output::MARK`] or nothing.
pub(super) fn table(
    path: &Path,
    header: Vec<String>,
    rows: impl Iterator<Item = Vec<String>>,
    mark: &[u8],
) -> Result<AtomicFile> {
    let file = AtomicFile::create(path)?;
    // As an io::Error, whose kind decides whether retrying may help.
    let write = || -> io::Result<()> {
        let mut sink = file.sink()?;
        sink.write_all(mark)?;
        let mut writer = csv::Writer::from_writer(sink);
        for row in std::iter::once(header).chain(rows) {
            writer.write_record(row)?;
        }
        writer.flush()
    };
    write().with_context(|| cannot_write(path))?;
    Ok(file)
}

/// Column names of a class map.
const CLASS: &[&str] = &["class", "folder"];
const LABEL: &[&str] = &["label"];

/// The names that a `--class-map` gives to classes; others keep their own.
pub(super) fn class_map(path: &Path, classes: &[String], console: &Console) -> Result<Vec<String>> {
    let reading = || format!("cannot use the class map {}", path.display());
    let table = Table::new(text_file::open(path)?, usual_separator(path), None);
    let rows = table.with_context(reading)?.named().with_context(reading)?;
    ensure!(
        rows.has(CLASS) && rows.has(LABEL),
        "{}: the first line must name the columns class and label",
        reading()
    );
    for note in rows.notes() {
        console.note(&format!("{}: {note}", path.display()));
    }
    let mut map = HashMap::new();
    for (line, row) in rows {
        let row = row.with_context(reading)?;
        let field = |names: &[&str]| {
            let mut values = names.iter().filter_map(|name| row.get(*name)?.as_str());
            let value = values.find(|value| !value.is_empty());
            dataset::composed(value.unwrap_or_default())
        };
        let (class, label) = (field(CLASS), field(LABEL));
        ensure!(
            !class.is_empty() && !label.is_empty(),
            "{}: line {line} lacks a class or its label",
            reading()
        );
        if let Some(other) = map.insert(class.clone(), label) {
            bail!(
                "{}: line {line} maps {class:?} again, which is {other:?} above; keep one of the \
                 lines",
                reading()
            );
        }
    }
    let mut unknown: Vec<&String> = map
        .keys()
        .filter(|class| !classes.contains(class))
        .collect();
    unknown.sort();
    if let Some(class) = unknown.first() {
        console.warn(&format!(
            "{} names {class:?}, which is not a class of the dataset ({} such name{})",
            path.display(),
            unknown.len(),
            if unknown.len() == 1 { "" } else { "s" }
        ));
    }
    let renamed = |class: &String| map.get(class).unwrap_or(class).clone();
    Ok(classes.iter().map(renamed).collect())
}
