//! Writes rows to a file by way of its journal, or to stdout immediately.

use std::io::Write as _;
use std::sync::Arc;

use anyhow::{Context as _, Result};

use super::EmbedArgs;
use super::earlier::{Earlier, Place};
use super::making::Making;
use crate::embedding::{About, Entry, Failure, Row, jsonl_line};
use crate::run::{Console, Outcome};

pub(super) struct Destination {
    about: About,
    /// The file; `None` is stdout.
    making: Option<Making>,
    rows: u64,
    failures: u64,
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
        })
    }

    /// What earlier runs computed, with `--resume`.
    pub(super) fn earlier(&self) -> Option<Arc<Earlier>> {
        self.making.as_ref().and_then(Making::earlier)
    }

    /// Writes a row that was computed.
    pub(super) fn row(&mut self, row: &Row, embedding: &[f32]) -> Result<()> {
        self.rows += 1;
        self.entry(Entry::Row(row, embedding))
    }

    /// Keeps a row that an earlier run computed.
    pub(super) fn again(&mut self, place: Place) {
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
                let mut stdout = std::io::stdout().lock();
                let written = stdout.write_all(&line).and_then(|()| stdout.flush());
                written.context("cannot write the results to stdout")
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
            match (self.rows, self.failures) {
                // More likely an unmounted disk than the wish for an empty file.
                (0, 0) if making.has_something() => {
                    making.give_up("there was nothing to embed", console)?;
                }
                (0, 1..) => making.give_up("none of the inputs could be embedded", console)?,
                _ => making.finish(console)?,
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
