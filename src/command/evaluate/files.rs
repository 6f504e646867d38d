//! The files of `--out`, and those that say what classes are called.

use std::collections::HashMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Serialize;

use super::variant::Variant;
use crate::command::Console;
use crate::output::file::AtomicFile;
use crate::output::{self, Format, Record, RecordWriter, Style};

/// Beyond so many labels the confusion matrix has rows and columns only for those that occur.
const MOST_LABELS_IN_FULL: usize = 2000;

/// The folder of `--out`, being filled.
pub(super) struct Folder {
    path: PathBuf,
    records: Records,
}

/// A file of records in the making.
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
    /// Makes the folder and starts `predictions.jsonl`.
    pub(super) fn create(path: &Path) -> Result<Self> {
        fs::create_dir_all(path)
            .with_context(|| format!("cannot make the folder {}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            records: Records::create(path.join("predictions.jsonl"))?,
        })
    }

    pub(super) fn write(&mut self, record: &Record) -> Result<()> {
        let records = &mut self.records;
        records
            .writer
            .write(record)
            .with_context(|| cannot_write(&records.path))
    }

    /// Makes all files appear, the figures last: who finds them finds the rest.
    pub(super) fn finish(mut self, variant: &Variant, results: &impl Serialize) -> Result<()> {
        self.records
            .writer
            .finish()
            .with_context(|| cannot_write(&self.records.path))?;
        self.records.file.commit()?;
        write_confusion(&self.path.join("confusion.csv"), variant)?;
        write_json(&self.path.join("results.json"), results)
    }

    /// After a signal: the records so far stay under another name.
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
    let file = AtomicFile::create(path)?;
    let write = || -> Result<()> {
        let mut sink = file.sink()?;
        serde_json::to_writer_pretty(&mut sink, value)?;
        sink.write_all(b"\n")?;
        Ok(sink.flush()?)
    };
    write().with_context(|| cannot_write(path))?;
    file.commit()
}

/// Rows are true labels, columns predicted ones; both are headed by the labels' texts.
fn write_confusion(path: &Path, variant: &Variant) -> Result<()> {
    let figures = variant.tally.per_class();
    let count = variant.labels.len();
    let occurs = |label: &usize| {
        count <= MOST_LABELS_IN_FULL || figures[*label].support + figures[*label].predicted > 0
    };
    let labels: Vec<usize> = (0..count).filter(occurs).collect();
    let confusions = variant.tally.confusions();
    let file = AtomicFile::create(path)?;
    let write = || -> Result<()> {
        let mut writer = csv::Writer::from_writer(file.sink()?);
        writer.write_field("")?;
        writer.write_record(labels.iter().map(|&label| &variant.labels[label]))?;
        for &row in &labels {
            writer.write_field(&variant.labels[row])?;
            let cell = |&column: &usize| confusions.count(row, column).to_string();
            writer.write_record(labels.iter().map(cell))?;
        }
        Ok(writer.flush()?)
    };
    write().with_context(|| cannot_write(path))?;
    file.commit()
}

/// The names that a `--class-map` gives to the classes; those it does not name keep theirs.
pub(super) fn class_map(path: &Path, classes: &[String]) -> Result<Vec<String>> {
    let reading = || format!("cannot use the class map {}", path.display());
    let mut reader = csv::Reader::from_path(path).with_context(reading)?;
    let names: Vec<String> = (reader.headers().with_context(reading)?.iter())
        .map(|name| name.trim_start_matches('\u{feff}').trim().to_lowercase())
        .collect();
    let column = |wanted: &[&str]| {
        names
            .iter()
            .position(|name| wanted.contains(&name.as_str()))
    };
    let (Some(class), Some(label)) = (column(&["class", "folder"]), column(&["label"])) else {
        bail!(
            "{}: the first line must name the columns class and label",
            reading()
        );
    };
    let mut map = HashMap::new();
    for record in reader.records() {
        let record = record.with_context(reading)?;
        let field = |place: usize| record.get(place).unwrap_or_default().trim().to_owned();
        map.insert(field(class), field(label));
    }
    let unknown = map.keys().find(|class| !classes.contains(class));
    if let Some(class) = unknown {
        ensure!(
            map.keys().any(|class| classes.contains(class)),
            "{}: it names {class:?} and no class of the dataset, such as {:?}",
            reading(),
            classes[0]
        );
    }
    let renamed = |class: &String| map.get(class).unwrap_or(class).clone();
    Ok(classes.iter().map(renamed).collect())
}
