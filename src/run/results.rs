//! Where records go, and in which format: that of a flag, else of the file's suffix, else a default
//! for the destination.

use std::io;
use std::io::{IsTerminal as _, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::Console;
use crate::file::atomic::AtomicFile;
use crate::output;
use crate::output::suffix::Suffix;
use crate::output::{Extras, Format, Record, RecordWriter, suffix};
use crate::run::flags::OutputArgs;
use crate::task::zero_shot::Score;

/// Chooses the output format: `flag`, else the one in `known` that matches the suffix of `file`,
/// else `otherwise`.
///
/// # Errors
/// When no flag was given and the suffix belongs to a format that is not in `known`.
pub(crate) fn chosen<F: Copy + PartialEq>(
    flag: Option<F>,
    file: Option<&Path>,
    known: &[(&str, F)],
    otherwise: F,
    console: &Console,
) -> Result<F> {
    let Some(path) = file else {
        return Ok(flag.unwrap_or(otherwise));
    };
    match (flag, suffix::of(path, known)) {
        (None, Suffix::Silent) => Ok(otherwise),
        (None, Suffix::Names(format)) => Ok(format),
        (None, Suffix::Other(suffix)) => bail!(
            "{}: results cannot be written as .{suffix}; name a file that ends in {}{}, or pass \
             --format",
            path.display(),
            suffix::listed(known),
            match suffix.as_str() {
                "xls" | "xlsx" | "ods" => " (Excel opens .csv written with --bom)",
                _ => "",
            }
        ),
        (Some(flag), said) => {
            let contradicts = match said {
                Suffix::Names(format) => format != flag,
                Suffix::Other(suffix) => suffix::is_data(&suffix),
                Suffix::Silent => false,
            };
            if contradicts {
                console.warn(&format!(
                    "{}: --format overrides the suffix",
                    path.display()
                ));
            }
            Ok(flag)
        }
    }
}

/// Fails if the name of an output that is always `what`, such as `an HTML page`, has the suffix of
/// another format.
pub(crate) fn check_suffix(path: &Path, known: &[&str], what: &str) -> Result<()> {
    let known: Vec<(&str, ())> = known.iter().map(|name| (*name, ())).collect();
    match suffix::of(path, &known) {
        Suffix::Other(suffix) if suffix::is_data(&suffix) => bail!(
            "{} would contain {what}; name a file that ends in {}",
            path.display(),
            suffix::listed(&known)
        ),
        _ => Ok(()),
    }
}

/// The format of a run's records and its options.
#[derive(Clone, Copy)]
pub(crate) struct Form {
    format: Format,
    extras: Extras,
}

impl Form {
    /// Reads it from the arguments.
    ///
    /// # Errors
    /// As [`chosen`], and when an option does not apply to the format.
    pub(crate) fn of(args: &OutputArgs, console: &Console) -> Result<Self> {
        let file = args.file.path().map(PathBuf::as_path);
        let otherwise = match file.is_none() && std::io::stdout().is_terminal() {
            true => Format::Table,
            false => Format::Jsonl,
        };
        let format = chosen(args.format, file, Format::SUFFIXES, otherwise, console)?;
        Ok(Self {
            format,
            extras: args.file.extras(is_csv(format))?,
        })
    }

    /// Adds a column for the exact bytes of paths if it is CSV and `has_odd_names` returns true.
    pub(crate) fn with_exact_names(mut self, has_odd_names: impl FnOnce() -> bool) -> Self {
        if is_csv(self.format) && !self.extras.image_bytes {
            self.extras.image_bytes = has_odd_names();
        }
        self
    }
}

fn is_csv(format: Format) -> bool {
    matches!(format, Format::Csv | Format::Tsv)
}

/// The output of a run.
pub(crate) struct Results<'a> {
    writer: Box<dyn RecordWriter + Send>,
    file: Option<(AtomicFile, PathBuf)>,
    form: Form,
    /// Whether a warning about an inexact path was printed.
    is_warned: bool,
    console: &'a Console,
}

impl<'a> Results<'a> {
    pub(crate) fn open(
        args: &OutputArgs,
        form: Form,
        score: Score,
        console: &'a Console,
    ) -> Result<Self> {
        let to_terminal = args.file.path().is_none() && std::io::stdout().is_terminal();
        let file = match args.file.path() {
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
            extras: form.extras,
        };
        Ok(Self {
            writer: output::writer(form.format, sink, style),
            file,
            form,
            is_warned: false,
            console,
        })
    }

    /// Writes and flushes one record.
    pub(crate) fn write(&mut self, record: &Record) -> Result<()> {
        let is_exact = !is_csv(self.form.format) || self.form.extras.image_bytes;
        if record.image.bytes.is_some() && !is_exact && !self.is_warned {
            self.is_warned = true;
            self.console.warn(&format!(
                "the path {} is not UTF-8 and was written inexactly; add --image-bytes for a \
                 column with the exact bytes of such paths",
                record.image.text
            ));
        }
        self.writer.write(record).with_context(|| self.failure())
    }

    fn failure(&self) -> String {
        let place = self
            .file
            .as_ref()
            .map_or(Path::new("stdout"), |(_, path)| path);
        format!("cannot write the results to {}", place.display())
    }

    /// Ends the output; a file appears only now.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.writer.finish().with_context(|| self.failure())?;
        match self.file {
            Some((file, _)) => file.commit(),
            None => Ok(()),
        }
    }

    /// After a signal: keeps complete records, in FILE.partial if there is an output file.
    pub(crate) fn keep_partial(mut self) -> Result<()> {
        self.writer.finish().with_context(|| self.failure())?;
        if let Some((file, _)) = self.file {
            let path = file.keep_partial()?;
            self.console.warn(&format!(
                "stopped; the results so far are in {}",
                path.display()
            ));
        }
        Ok(())
    }
}

pub(crate) fn cannot_write(path: &Path) -> String {
    format!("cannot write {}", path.display())
}

/// Writes a value as indented JSON.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    json(path, value)?.commit()
}

pub(crate) fn json(path: &Path, value: &impl Serialize) -> Result<AtomicFile> {
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

/// Writes rows as CSV, after `mark`, which is [`output::MARK`] or nothing.
pub(crate) fn table(
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

/// Prints results. If the reader went away, files and the status of a gate are unaffected.
pub(crate) fn to_stdout(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write the results to stdout")
        }
        _ => Ok(()),
    }
}
