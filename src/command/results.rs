//! Where records go: stdout, or a file that appears whole or not at all.

use std::io::{IsTerminal as _, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Console;
use crate::cli::OutputArgs;
use crate::output::file::AtomicFile;
use crate::output::{self, Format, Record, RecordWriter};
use crate::task::zero_shot::Score;

/// The output of a run.
pub(super) struct Results {
    writer: Box<dyn RecordWriter + Send>,
    file: Option<(AtomicFile, PathBuf)>,
}

impl Results {
    pub(super) fn open(args: &OutputArgs, score: Score, console: &Console) -> Result<Self> {
        let to_terminal = args.file().is_none() && std::io::stdout().is_terminal();
        let by_suffix = || args.file().and_then(|path| format_of(path));
        let format = args.format.or_else(by_suffix).unwrap_or(if to_terminal {
            Format::Table
        } else {
            Format::Jsonl
        });
        let file = match args.file() {
            Some(path) => Some((AtomicFile::create(path)?, path.clone())),
            None => None,
        };
        let sink: Box<dyn Write + Send> = match &file {
            Some((file, path)) => file
                .sink()
                .with_context(|| format!("cannot write {}", path.display()))?,
            None => Box::new(std::io::stdout()),
        };
        let style = output::Style {
            score: match score {
                Score::Softmax | Score::Sigmoid => output::Score::Probability,
                Score::Cosine => output::Score::Cosine,
                Score::Logit => output::Score::Logit,
            },
            width: terminal_size::terminal_size().map_or(80, |(width, _)| usize::from(width.0)),
            colour: if console.colors_results(to_terminal) {
                output::Colour::Ansi
            } else {
                output::Colour::Plain
            },
            characters: output::Characters::Unicode,
        };
        Ok(Self {
            writer: output::writer(format, sink, style),
            file,
        })
    }

    /// Writes one record, and on to the reader.
    pub(super) fn write(&mut self, record: &Record) -> Result<()> {
        self.writer.write(record).with_context(|| self.failure())
    }

    fn failure(&self) -> String {
        let place = self
            .file
            .as_ref()
            .map_or(Path::new("stdout"), |(_, path)| path);
        format!("cannot write the results to {}", place.display())
    }

    /// Ends the output; a file appears now.
    pub(super) fn finish(mut self) -> Result<()> {
        self.writer.finish().with_context(|| self.failure())?;
        match self.file {
            Some((file, _)) => file.commit(),
            None => Ok(()),
        }
    }

    /// After a signal: what is complete stays, under another name where a file was asked for.
    pub(super) fn keep_partial(mut self, console: &Console) -> Result<()> {
        self.writer.finish().with_context(|| self.failure())?;
        if let Some((file, _)) = self.file {
            let path = file.keep_partial()?;
            console.warn(&format!(
                "stopped; the results so far are in {}",
                path.display()
            ));
        }
        Ok(())
    }
}

/// What a file's suffix stands for, if for anything.
fn format_of(path: &Path) -> Option<Format> {
    let suffix = path.extension()?.to_str()?.to_ascii_lowercase();
    Some(match suffix.as_str() {
        "json" => Format::Json,
        "jsonl" | "ndjson" => Format::Jsonl,
        "csv" => Format::Csv,
        "tsv" => Format::Tsv,
        _ => return None,
    })
}
