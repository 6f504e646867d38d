//! Writes rows to a file by way of its journal, or to stdout immediately.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};

use super::EmbedArgs;
use super::earlier::{Earlier, StoredAt};
use crate::embedding::journal::{Entries, Journal, OwnedEntry};
use crate::embedding::{
    self, About, Entry, Failure, Format, Row, Rows, Take, journal_of, jsonl_line,
};
use crate::file::lock::lock;
use crate::run::results::print;
use crate::run::{Console, Outcome};

pub(super) struct Destination {
    about: About,
    /// The file; `None` is stdout.
    making: Option<Making>,
    rows: u64,
    failures: u64,
    /// Whether rows have keys of their lines in a list.
    have_keys: bool,
}

impl Destination {
    /// Opens the output file, with what earlier runs left of it.
    pub(super) fn open(args: &EmbedArgs, about: About, console: &Console) -> Result<Self> {
        let about = About {
            dtype: args.dtype,
            ..about
        };
        let making = match &args.output {
            Some(path) => Some(Making::open(path, &about, args.resume, console)?),
            None => None,
        };
        Ok(Self {
            about,
            making,
            rows: 0,
            failures: 0,
            have_keys: false,
        })
    }

    /// A part at `path`, of the format of its suffix.
    pub(super) fn of_part(path: &Path, about: About, console: &Console) -> Result<Self> {
        Ok(Self {
            making: Some(Making::open(path, &about, false, console)?),
            about,
            rows: 0,
            failures: 0,
            have_keys: false,
        })
    }

    /// Writes a part, also one without rows.
    pub(super) fn finish_part(self) -> Result<()> {
        self.making.map_or(Ok(()), Making::finish)
    }

    /// What earlier runs computed, with `--resume`.
    pub(super) fn earlier(&self) -> Option<Arc<Earlier>> {
        self.making.as_ref().and_then(Making::earlier)
    }

    /// Writes a row that was computed.
    pub(super) fn row(&mut self, row: &Row, embedding: &[f32]) -> Result<()> {
        self.have_keys |= row.given.as_ref().is_some_and(|given| given.says_more());
        self.rows += 1;
        self.entry(Entry::Row(row, embedding))
    }

    /// Keeps a row that an earlier run computed.
    pub(super) fn again(&mut self, place: StoredAt) {
        self.rows += 1;
        if let Some(making) = &mut self.making {
            making.again(place);
        }
    }

    /// Records an input that failed.
    pub(super) fn failed(&mut self, failure: &Failure) -> Result<()> {
        self.failures += 1;
        self.entry(Entry::Failed(failure))
    }

    fn entry(&mut self, entry: Entry<'_>) -> Result<()> {
        match &mut self.making {
            Some(making) => making.add(entry),
            None => {
                let line = jsonl_line(entry, &self.about)?;
                print(&line).context("cannot write the results to stdout")
            }
        }
    }

    /// Ends the run. The file appears now, unless a signal stopped the run or there is nothing to
    /// write.
    pub(super) fn finish(self, signal: Option<i32>, console: &Console) -> Result<Outcome> {
        if let Some(signal) = signal {
            if let Some(making) = &self.making {
                console.warn(&format!(
                    "stopped; the rows so far are in {}; pass --resume to continue",
                    making.journal().display()
                ));
            }
            return Ok(Outcome::Stopped(signal));
        }
        if let Some(making) = self.making {
            if self.have_keys && making.format == Format::Parquet {
                console.warn(
                    "Parquet has no place for the keys of --files-from's objects; .npy, .jsonl and \
                     .safetensors have",
                );
            }
            match (self.rows, self.failures) {
                // More likely an unmounted disk than the wish for an empty file.
                (0, 0) if making.has_something() => {
                    making.give_up("there was nothing to embed", console)?;
                }
                (0, 1..) => making.give_up("none of the inputs could be embedded", console)?,
                _ => {
                    if self.failures > 0 && making.format != Format::Jsonl {
                        console.note(&format!(
                            "failed inputs are listed in {}",
                            embedding::errors_of(&making.path).display()
                        ));
                    }
                    making.finish()?;
                }
            }
        }
        Ok(match (self.rows, self.failures) {
            (0, 0) => {
                console.note("nothing to embed: the list, folders or file are empty");
                Outcome::Answered
            }
            (_, 0) => Outcome::Answered,
            (0, _) => Outcome::NoneRead,
            _ => Outcome::SomeFailed,
        })
    }
}

pub(super) struct Making {
    path: PathBuf,
    format: Format,
    about: About,
    journal: Journal,
    earlier: Option<Arc<Earlier>>,
    /// Where each entry is stored, in input order. Nothing else grows in memory.
    order: Vec<StoredAt>,
    rows: usize,
    failures: usize,
}

impl Making {
    /// Starts the file at `path`, or continues it.
    pub(super) fn open(
        path: &Path,
        about: &About,
        resume: bool,
        console: &Console,
    ) -> Result<Self> {
        let format = Format::of_path(path)?;
        let place = journal_of(path);
        let file = lock(&place)?;
        let (journal, earlier) = if resume {
            let found = Earlier::find(path, &file, about, console)?;
            let journal = match found.journal_end() {
                Some(end) => Journal::go_on(file, &place, end)?,
                None => Journal::begin(file, &place, about)?,
            };
            (journal, Some(Arc::new(found)))
        } else {
            let was_there = file.metadata().is_ok_and(|metadata| metadata.len() > 0);
            let journal = Journal::begin(file, &place, about)?;
            if was_there {
                console.note(&format!(
                    "replacing {}, which an earlier run left; --resume would have continued it",
                    place.display()
                ));
            }
            (journal, None)
        };
        Ok(Self {
            path: path.to_owned(),
            format,
            about: about.clone(),
            journal,
            earlier,
            order: Vec::new(),
            rows: 0,
            failures: 0,
        })
    }

    pub(super) fn earlier(&self) -> Option<Arc<Earlier>> {
        self.earlier.clone()
    }

    /// The path of the journal.
    pub(super) fn journal(&self) -> PathBuf {
        journal_of(&self.path)
    }

    pub(super) fn add(&mut self, entry: Entry<'_>) -> Result<()> {
        match entry {
            Entry::Row(..) => self.rows += 1,
            Entry::Failed(_) => self.failures += 1,
        }
        let place = self.journal.add(entry).with_context(|| self.kept())?;
        self.order.push(StoredAt::Journal(place));
        Ok(())
    }

    pub(super) fn again(&mut self, place: StoredAt) {
        self.rows += 1;
        self.order.push(place);
    }

    /// The error when the file cannot be written.
    fn kept(&self) -> String {
        format!(
            "cannot finish {}; the rows so far are in {}; pass --resume to continue",
            self.path.display(),
            self.journal().display()
        )
    }

    /// Writes the file, then removes the journal.
    pub(super) fn finish(self) -> Result<()> {
        let rows = Ordered {
            entries: Entries::open(&self.journal.file()?, &self.about)?,
            making: &self,
        };
        embedding::write(self.format, &self.path, &self.about, &rows)
            .with_context(|| self.kept())?;
        self.remove_journal()
    }

    /// Whether earlier runs left something that an empty file would destroy.
    pub(super) fn has_something(&self) -> bool {
        let has_journal = |earlier: &Arc<Earlier>| earlier.journal_end().is_some();
        self.path.exists() || self.earlier.as_ref().is_some_and(has_journal)
    }

    /// Reports why nothing was embedded; an existing file is kept.
    pub(super) fn give_up(self, reason: &str, console: &Console) -> Result<()> {
        console.warn(&format!(
            "{reason}, so {} was not written",
            self.path.display()
        ));
        // The journal of an interrupted run can still be continued.
        match self
            .earlier
            .as_ref()
            .and_then(|earlier| earlier.journal_end())
        {
            Some(_) => Ok(()),
            None => self.remove_journal(),
        }
    }

    fn remove_journal(&self) -> Result<()> {
        let journal = self.journal();
        fs::remove_file(&journal).with_context(|| format!("cannot remove {}", journal.display()))
    }
}

/// The entries of a file in order, wherever they are stored.
struct Ordered<'a> {
    making: &'a Making,
    /// The entries of the journal as it is now.
    entries: Entries,
}

impl Rows for Ordered<'_> {
    fn rows(&self) -> usize {
        self.making.rows
    }

    fn failures(&self) -> usize {
        self.making.failures
    }

    fn visit(&self, take: &mut Take<'_>) -> Result<()> {
        for place in &self.making.order {
            let found = match (place, &self.making.earlier) {
                (StoredAt::File(_), Some(earlier)) => {
                    let (row, values) = earlier.get(*place)?;
                    OwnedEntry::Row(row, values)
                }
                (StoredAt::File(at) | StoredAt::Journal(at), _) => self.entries.get(*at)?,
            };
            match &found {
                OwnedEntry::Row(row, embedding) => take(Entry::Row(row, embedding))?,
                OwnedEntry::Failed(failure) => take(Entry::Failed(failure))?,
            }
        }
        Ok(())
    }
}
