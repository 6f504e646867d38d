//! Where results go, and in which format: that of a flag, else of the file's suffix, else a default
//! for the destination.

use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use super::Console;
use crate::file::atomic::AtomicFile;
use crate::output::found::PathEnd;
use crate::output::suffix::Suffix;
use crate::output::text::Escaping;
use crate::output::{
    self, Colour, Extras, Format, ImageName, Record, RecordWriter, Terminal, label_studio, suffix,
};
use crate::run::flags::OutputArgs;
use crate::task::zero_shot::Score;

/// Why a file cannot be in a task of Label Studio.
const ELSEWHERE: &str = "it is not in the working folder, to which paths in tasks are relative; run \
                         longclip in Label Studio's document root";

/// Where results go.
#[derive(Clone, Copy)]
pub(crate) struct Destination<'a> {
    /// `None` is stdout.
    file: Option<&'a Path>,
    is_terminal: bool,
}

impl<'a> Destination<'a> {
    /// A file, or stdout.
    pub(crate) fn new(file: Option<&'a Path>) -> Self {
        Self {
            file,
            is_terminal: file.is_none() && io::stdout().is_terminal(),
        }
    }

    /// Stdout.
    pub(crate) fn stdout() -> Self {
        Self::new(None)
    }

    /// The format without a file: that of a flag, else a table on a terminal, else `data`.
    pub(crate) fn usual(&self, flag: Option<Format>, data: Format) -> Format {
        let by_destination = if self.is_terminal {
            Format::Table
        } else {
            data
        };
        flag.unwrap_or(by_destination)
    }

    /// The format: that of a flag, else of the file's suffix, one of `known`, else the usual one.
    ///
    /// # Errors
    /// When no flag was given and the suffix belongs to a format that results cannot have.
    pub(crate) fn format(
        &self,
        flag: Option<Format>,
        data: Format,
        known: &[(&str, Format)],
        console: &Console,
    ) -> Result<Format> {
        let Some(path) = self.file else {
            return Ok(self.usual(flag, data));
        };
        let said = suffix::of(path, known);
        if let (None, Suffix::Other(suffix)) = (flag, &said) {
            bail!(
                "{}: results cannot be written as .{suffix}; name a file that ends in {}{}, or \
                 pass --format",
                path.display(),
                suffix::listed(known),
                match suffix.as_str() {
                    "xls" | "xlsx" | "ods" => " (Excel opens .csv written with --bom)",
                    _ => "",
                }
            );
        }
        if flag.is_some_and(|flag| contradicts(flag, &said)) {
            console.warn(&format!(
                "{}: --format overrides the suffix",
                path.display()
            ));
        }
        let by_suffix = match said {
            Suffix::Names(format) => Some(format),
            _ => None,
        };
        Ok(self.usual(flag.or(by_suffix), data))
    }

    /// The terminal, or its substitute.
    pub(crate) fn terminal(&self, console: &Console) -> Terminal {
        let width = terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
        Terminal {
            width: width.unwrap_or(Terminal::PLAIN.width),
            colour: match console.colors_results(self.is_terminal) {
                true => Colour::Ansi,
                false => Colour::Plain,
            },
        }
    }
}

/// Whether a suffix promises another format than the one of the flag.
fn contradicts(flag: Format, said: &Suffix<Format>) -> bool {
    match said {
        // Tasks are JSON.
        Suffix::Names(Format::Json) if flag == Format::LabelStudio => false,
        Suffix::Names(format) => *format != flag,
        Suffix::Other(suffix) => suffix::is_data(suffix),
        Suffix::Silent => false,
    }
}

/// `value` as a table, or as indented JSON.
pub(crate) fn rendered<T: Serialize>(
    value: &T,
    format: Format,
    table: impl FnOnce(&T) -> String,
) -> Result<String> {
    Ok(match format {
        Format::Table => table(value),
        _ => output::json::pretty(value)?,
    })
}

/// Prints a report on stdout: the format of a flag, else a table on a terminal, else JSON.
pub(crate) fn print_report<T: Serialize>(
    report: &T,
    flag: Option<Format>,
    table: impl FnOnce(&T) -> String,
) -> Result<()> {
    let format = Destination::stdout().usual(flag, Format::Json);
    Ok(print(rendered(report, format, table)?.as_bytes())?)
}

/// The same for the summary of a run that has a progress bar, and files or a gate that do not
/// depend on who reads the summary.
pub(crate) fn print_summary<T: Serialize>(
    summary: &T,
    flag: Option<Format>,
    table: impl FnOnce(&T) -> String,
    console: &Console,
) -> Result<()> {
    let format = Destination::stdout().usual(flag, Format::Json);
    let text = rendered(summary, format, table)?;
    console.around(|| to_stdout(&text))
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
    end: PathEnd,
}

impl Form {
    /// Reads it from the arguments.
    ///
    /// # Errors
    /// As [`Destination::format`], and when an option does not apply to the format.
    pub(crate) fn of(args: &OutputArgs, console: &Console) -> Result<Self> {
        let destination = Destination::new(args.file.path());
        let known = Format::RECORD_SUFFIXES;
        let format = destination.format(args.format, Format::Jsonl, known, console)?;
        ensure!(
            format != Format::Parquet || !destination.is_terminal,
            "parquet is not text; name a file with --output"
        );
        ensure!(
            !args.print0 || format == Format::Paths,
            "--print0 requires --format paths; add it, or drop --print0"
        );
        Ok(Self {
            format,
            extras: args.file.extras(format)?,
            end: match args.print0 {
                true => PathEnd::Nul,
                false => PathEnd::Line,
            },
        })
    }

    /// That of parts: records are joined later, which not every format allows.
    ///
    /// # Errors
    /// When an option does not apply to the format, or it cannot be joined.
    pub(crate) fn of_parts(args: &OutputArgs) -> Result<Self> {
        let format = args.format.unwrap_or(Format::Jsonl);
        ensure!(
            matches!(
                format,
                Format::Jsonl | Format::Csv | Format::Tsv | Format::Parquet
            ),
            "parts can be jsonl, csv, tsv or parquet, but not {}; choose another --format, or name \
             a file with --output",
            format.name()
        );
        Ok(Self {
            format,
            extras: args.file.extras(format)?,
            end: PathEnd::Line,
        })
    }

    /// The format's name, which is the suffix of its files.
    pub(crate) fn name(&self) -> &'static str {
        self.format.name()
    }

    /// The optional columns, as text.
    pub(crate) fn options(&self) -> String {
        let Extras {
            mark,
            frames,
            image_bytes,
        } = self.extras;
        let all = [
            (mark, "bom"),
            (frames, "frames"),
            (image_bytes, "image-bytes"),
        ];
        let all = all.iter().filter(|(has, _)| *has);
        all.map(|(_, name)| *name).collect::<Vec<_>>().join(" ")
    }

    /// Adds columns for frames if it is CSV and records are about some.
    ///
    /// # Errors
    /// When the format is about files only.
    pub(crate) fn with_frames(mut self, are_there: bool) -> Result<Self> {
        ensure!(
            !are_there || !matches!(self.format, Format::Paths | Format::LabelStudio),
            "--format {} is about files, not single frames; add --frames-mean, or choose another",
            self.format.name()
        );
        self.extras.frames = are_there && self.format.is_csv();
        Ok(self)
    }

    /// Whether records are of no use unless images are files.
    pub(crate) fn needs_files(&self) -> bool {
        self.format == Format::LabelStudio
    }

    /// Accepts the images of the command line.
    ///
    /// # Errors
    /// When the format names files relative to the working folder, and one is not in it.
    pub(crate) fn with_images(self, images: &[PathBuf]) -> Result<Self> {
        if self.format == Format::LabelStudio {
            for image in images {
                ensure!(
                    image.as_os_str() != "-",
                    "Label Studio shows files, and an image from stdin is none; save it to a file, \
                     or choose another --format"
                );
                let is_inside = label_studio::is_inside(&ImageName::from(image.as_path()))?;
                ensure!(is_inside, "{}: {ELSEWHERE}", image.display());
            }
        }
        Ok(self)
    }

    /// Adds a column for the exact bytes of paths if it is CSV and `has_odd_names` returns true.
    pub(crate) fn with_exact_names(mut self, has_odd_names: impl FnOnce() -> bool) -> Self {
        if self.format.is_csv() && !self.extras.image_bytes {
            self.extras.image_bytes = has_odd_names();
        }
        self
    }
}

/// The number that records and pages show for a score.
pub(crate) fn shown_score(score: Score) -> output::Score {
    match score {
        Score::Softmax | Score::Sigmoid => output::Score::Probability,
        Score::Cosine => output::Score::Cosine,
        Score::Logit => output::Score::Logit,
    }
}

/// The output of a run.
pub(crate) struct Results<'a> {
    writer: Box<dyn RecordWriter + Send>,
    file: Option<(AtomicFile, PathBuf)>,
    form: Form,
    /// Whether a warning about an inexact path was printed.
    is_warned: bool,
    /// The same about keys of a list that the format cannot hold.
    are_keys_warned: bool,
    /// Records that the format cannot hold.
    left_out: u64,
    console: &'a Console,
}

impl<'a> Results<'a> {
    pub(crate) fn open(
        output: Option<&Path>,
        form: Form,
        score: Score,
        model: &str,
        console: &'a Console,
    ) -> Result<Self> {
        let file = match output {
            Some(path) => Some((AtomicFile::create(path)?, path.to_owned())),
            None => None,
        };
        let sink: Box<dyn Write + Send> = match &file {
            Some((file, path)) => file
                .sink()
                .with_context(|| format!("cannot write {}", path.display()))?,
            None => stdout(form.format),
        };
        let style = output::Style {
            score: shown_score(score),
            terminal: Destination::new(output).terminal(console),
            extras: form.extras,
            end: form.end,
            model: model.to_owned(),
        };
        Ok(Self {
            writer: output::writer(form.format, sink, style)?,
            file,
            form,
            is_warned: false,
            are_keys_warned: false,
            left_out: 0,
            console,
        })
    }

    /// Writes and flushes one record, or says that the format cannot hold it.
    pub(crate) fn write(&mut self, record: &Record) -> Result<()> {
        if self.form.format == Format::LabelStudio && !label_studio::is_inside(&record.image)? {
            self.left_out += 1;
            self.console.failed(&record.image.text, ELSEWHERE);
            return Ok(());
        }
        let is_exact = !self.form.format.is_csv() || self.form.extras.image_bytes;
        if record.image.bytes.is_some() && !is_exact && !self.is_warned {
            self.is_warned = true;
            self.console.warn(&format!(
                "the path {} is not UTF-8 and was written inexactly; add --image-bytes for a \
                 column with the exact bytes of such paths",
                record.image.text
            ));
        }
        let holds_keys = matches!(self.form.format, Format::Json | Format::Jsonl);
        let says_more = record.given.as_ref().is_some_and(|given| given.says_more());
        if says_more && !holds_keys && !self.are_keys_warned {
            self.are_keys_warned = true;
            self.console.warn(&format!(
                "--format {} has no place for the keys of --files-from's objects; json and jsonl \
                 have",
                self.form.format.name()
            ));
        }
        self.writer.write(record).with_context(|| self.failure())
    }

    /// How many records are not in the output, because its format cannot hold them.
    pub(crate) fn left_out(&self) -> u64 {
        self.left_out
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

/// Stdout for results in a format. A terminal gets them escaped, a file or pipe byte for byte.
pub(crate) fn stdout(format: Format) -> Box<dyn Write + Send> {
    let stdout = io::stdout();
    // The cells of a table were escaped when they were laid out; what is left are its colours.
    if format != Format::Table && stdout.is_terminal() {
        return Box::new(Escaping(stdout));
    }
    Box::new(stdout)
}

/// Prints results without colours and flushes. If the reader went away, this is an error that ends
/// the run quietly.
pub(crate) fn print(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = stdout(Format::Paths);
    stdout.write_all(bytes)?;
    stdout.flush()
}

/// Prints results. If the reader went away, files and the status of a gate are unaffected.
pub(crate) fn to_stdout(text: &str) -> Result<()> {
    match print(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write the results to stdout")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
