//! Where records go, and in which format: the one that a flag names, else the one that the file's
//! suffix names, else what suits the destination.

use std::io::{IsTerminal as _, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::Console;
use crate::cli::OutputArgs;
use crate::file::atomic::AtomicFile;
use crate::output::suffix::{self, Suffix};
use crate::output::{self, Extras, Format, Record, RecordWriter};
use crate::task::zero_shot::Score;

/// Chooses the format of results: `flag`, else what the suffix of `file` names among `known`, else
/// `otherwise`.
///
/// # Errors
/// When no flag was given and the suffix names something that is not among `known`.
pub(super) fn chosen<F: Copy + PartialEq>(
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
            "{}: results are not written as .{suffix}; name a file that ends in {}{}, or choose its \
             content with --format",
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
                    "{} will hold what --format says and not what its suffix promises",
                    path.display()
                ));
            }
            Ok(flag)
        }
    }
}

/// Fails if the name of an output that can be `what` only, such as `a page of HTML`, promises another
/// format.
pub(super) fn check_suffix(path: &Path, known: &[&str], what: &str) -> Result<()> {
    let known: Vec<(&str, ())> = known.iter().map(|name| (*name, ())).collect();
    match suffix::of(path, &known) {
        Suffix::Other(suffix) if suffix::is_data(&suffix) => bail!(
            "{} would hold {what}, which its name does not say; name a file that ends in {}",
            path.display(),
            suffix::listed(&known)
        ),
        _ => Ok(()),
    }
}

/// How a run's records are written.
#[derive(Clone, Copy)]
pub(super) struct Form {
    format: Format,
    extras: Extras,
}

impl Form {
    /// The form that the arguments ask for.
    ///
    /// # Errors
    /// As [`chosen`], and when something is asked for that the format does not have.
    pub(super) fn of(args: &OutputArgs, console: &Console) -> Result<Self> {
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

    /// The same, with a column for the exact bytes of paths if it is CSV and `has_odd_names` says that
    /// some are not UTF-8.
    pub(super) fn with_exact_names(mut self, has_odd_names: impl FnOnce() -> bool) -> Self {
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
pub(super) struct Results<'a> {
    writer: Box<dyn RecordWriter + Send>,
    file: Option<(AtomicFile, PathBuf)>,
    form: Form,
    /// It was said that a path is not written exactly.
    is_warned: bool,
    console: &'a Console,
}

impl<'a> Results<'a> {
    pub(super) fn open(
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

    /// Writes one record, and on to the reader.
    pub(super) fn write(&mut self, record: &Record) -> Result<()> {
        let is_exact = !is_csv(self.form.format) || self.form.extras.image_bytes;
        if record.image.bytes.is_some() && !is_exact && !self.is_warned {
            self.is_warned = true;
            self.console.warn(&format!(
                "the path {} is not UTF-8, and the header was written before it was read; add \
                 --image-bytes for a column with the exact bytes of such paths",
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

    /// Ends the output; a file appears now.
    pub(super) fn finish(mut self) -> Result<()> {
        self.writer.finish().with_context(|| self.failure())?;
        match self.file {
            Some((file, _)) => file.commit(),
            None => Ok(()),
        }
    }

    /// After a signal: what is complete stays, under another name where a file was asked for.
    pub(super) fn keep_partial(mut self) -> Result<()> {
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
