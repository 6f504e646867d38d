//! `longclip merge`: joins the parts that classify and embed write to a folder.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;

use crate::embedding;
use crate::embedding::joined::Piece;
use crate::file::atomic::AtomicFile;
use crate::output::suffix::{self, Suffix};
use crate::output::{Format, parquet};
use crate::run::advice::check_output;
use crate::run::console::counted;
use crate::run::parts::{Folder, Part};
use crate::run::results::{cannot_write, stdout};
use crate::run::{Console, Outcome};

const EXAMPLES: &str = "\
Examples:
  longclip merge parts/ > all.jsonl
  longclip merge parts/ -o all.csv

The parts are those of classify or embed with -o DIR/, perhaps of several processes with --shard.
The result is what one process would have written: the same bytes, for Parquet of classify the same
rows. Nothing is written before each part is there and has the bytes that were recorded. The parts
stay.

Exit status: 0 joined, however many images failed in the parts; 1 parts are missing (each is named
on stderr, with the share that makes it); 2 it cannot be joined, such as a part that was changed; 75
temporary failure, try again (the disk is full).";

/// The arguments of `longclip merge`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct MergeArgs {
    /// Folder that classify or embed wrote parts to
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Write to FILE, atomically, in the format of the parts; - is stdout [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Joins the parts.
///
/// # Errors
/// When the folder has none, or one is not what was written.
pub fn run(args: &MergeArgs, console: &Console) -> Result<Outcome> {
    let output = args
        .output
        .as_deref()
        .filter(|path| path.as_os_str() != "-");
    let (folder, settings) = Folder::read(&args.folder)?;
    let setting = |name: &str| {
        let value = settings.get(name);
        value.with_context(|| format!("{} does not state the {name}", args.folder.display()))
    };
    let (command, format) = (setting("command")?, setting("format")?);
    if let Some(output) = output {
        check_output(output)?;
        ensure!(
            !folder.owns(output),
            "the output {} would be one of the parts; choose another name",
            output.display()
        );
        check_suffix(output, format)?;
    }
    let parts = match folder.parts()? {
        Ok(parts) => parts,
        Err(missing) => {
            let shown = args.folder.display().to_string();
            missing
                .iter()
                .for_each(|cause| console.failed(&shown, cause));
            return Ok(Outcome::SomeFailed);
        }
    };
    if parts.is_empty() {
        console.note("there were no images, so there is nothing to join");
        return Ok(Outcome::Answered);
    }
    for part in &parts {
        folder.verify(part)?;
    }
    let answered: u64 = parts.iter().map(|part| part.answered).sum();
    let failed: u64 = parts.iter().map(|part| part.failed).sum();
    match (command, format, output) {
        (_, "jsonl" | "csv" | "tsv", _) => text(&folder, &parts, format, output)?,
        (_, _, None) => bail!("{format} is not text; name a file with --output"),
        ("classify", "parquet", Some(output)) => {
            let files = files(&folder, &parts, format)?;
            let file = AtomicFile::create(output)?;
            let writing = || cannot_write(output);
            parquet::join(file.sink().with_context(writing)?, &files).with_context(writing)?;
            file.commit()?;
        }
        ("embed", _, Some(output)) if answered == 0 => {
            console.warn(&format!(
                "none of the inputs could be embedded, so {} was not written",
                output.display()
            ));
            return Ok(Outcome::NoneRead);
        }
        ("embed", _, Some(output)) => embeddings(&folder, &parts, format, output)?,
        _ => bail!("{command} writes no parts in {format}; a newer longclip may join them"),
    }
    console.note(&format!(
        "joined {}: {}, {failed} failed",
        counted(parts.len() as u64, "part"),
        counted(answered, "result")
    ));
    Ok(Outcome::Answered)
}

/// Fails if the suffix names another format than that of the parts.
fn check_suffix(output: &Path, format: &str) -> Result<()> {
    let formats = [
        "jsonl",
        "ndjson",
        "csv",
        "tsv",
        "parquet",
        "npy",
        "safetensors",
    ];
    let known = formats.map(|name| (name, if name == "ndjson" { "jsonl" } else { name }));
    let fits = match suffix::of(output, &known) {
        Suffix::Names(name) => name == format,
        Suffix::Other(name) => !suffix::is_data(&name),
        Suffix::Silent => true,
    };
    // Readers of embeddings go by the suffix.
    let is_silent = |path: &Path| !matches!(suffix::of(path, &known), Suffix::Names(_));
    let needs_suffix = ["npy", "safetensors"].contains(&format) && is_silent(output);
    ensure!(
        fits && !needs_suffix,
        "the parts are {format}; name a file that ends in .{format}, not {}",
        output.display()
    );
    Ok(())
}

/// The files with the answers, in order.
fn files(folder: &Folder, parts: &[Part], format: &str) -> Result<Vec<PathBuf>> {
    let file = |part: &Part| {
        let file = folder.file(part, &format!(".{format}"));
        file.with_context(|| format!("the part {} has no file of answers", part.unit))
    };
    parts.iter().map(file).collect()
}

/// Joins lines; rows of a table have one header.
fn text(folder: &Folder, parts: &[Part], format: &str, output: Option<&Path>) -> Result<()> {
    let files = files(folder, parts, format)?;
    let file = output.map(AtomicFile::create).transpose()?;
    let place = output.unwrap_or(Path::new("stdout"));
    let writing = || cannot_write(place);
    let mut sink = match &file {
        Some(file) => file.sink().with_context(writing)?,
        None => stdout(Format::Jsonl),
    };
    for (index, path) in files.iter().enumerate() {
        let reading = || format!("cannot read {}", path.display());
        let mut part = BufReader::new(File::open(path).with_context(reading)?);
        if index > 0 && format != "jsonl" {
            part.skip_until(b'\n').with_context(reading)?;
        }
        io::copy(&mut part, &mut sink).with_context(writing)?;
    }
    sink.flush().with_context(writing)?;
    match file {
        Some(file) => file.commit(),
        None => Ok(()),
    }
}

/// Joins matrices.
fn embeddings(folder: &Folder, parts: &[Part], format: &str, output: &Path) -> Result<()> {
    let piece = |part: &Part| -> Result<Piece> {
        Ok(Piece {
            file: match part.answered {
                0 => None,
                _ => folder.file(part, &format!(".{format}")),
            },
            errors: folder.file(part, &format!(".{format}.errors.jsonl")),
            rows: usize::try_from(part.answered)?,
            failures: usize::try_from(part.failed)?,
        })
    };
    let pieces = parts.iter().map(piece).collect::<Result<Vec<_>>>()?;
    embedding::joined::join(embedding::Format::of_path(output)?, output, &pieces)
}
