//! `longclip models pull` and `path`: download and locate the files of a model.

use anyhow::{Result, bail};
use clap::Args;

use super::{each, lines, print, size, typed};
use crate::checkpoint::source::{ModelFiles, ModelSource, Planned, Presence};
use crate::checkpoint::{hub, source};
use crate::output::table::{Column, TextTable};
use crate::run::console::counted;
use crate::run::flags::HubArgs;
use crate::run::{Console, Outcome};

const PULL_NOTES: &str = "\
Examples:
  longclip models pull longclip-b
  longclip models pull longclip-l openai/clip-vit-base-patch16@main
  longclip models pull longclip-l --dry-run
  HF_TOKEN=… longclip models pull somebody/gated-model

Prints the paths of the weights. An interrupted download resumes where it stopped, and downloads
are verified before use. A cached model causes no request. With --dry-run, the files are listed
instead, each with its size and what is cached of it, and nothing is kept.

Exit status: 0 all models are cached, 1 some failed, 2 all failed, 75 all failed but trying again
may help.";

/// The arguments of `longclip models pull`.
#[derive(Debug, Args)]
#[command(after_help = PULL_NOTES)]
pub(super) struct PullArgs {
    /// As `--model` takes it.
    #[arg(help = "Model names, or repositories OWNER/REPO[@REV][:FILE]")]
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    /// Print which files would be downloaded, and their sizes
    #[arg(long)]
    dry_run: bool,
    /// Whether the hub may be asked.
    #[command(flatten)]
    hub: HubArgs,
}

const PATH_NOTES: &str = "\
Examples:
  longclip models path longclip-b
  sha256sum \"$(longclip models path longclip-b)\"

For a model in several shards, one path is printed per line.

Exit status: 0 success, 2 the model is not on this machine.";

/// The arguments of `longclip models path`.
#[derive(Debug, Args)]
#[command(after_help = PATH_NOTES)]
pub(super) struct PathArgs {
    /// As `--model` takes it.
    #[arg(help = "Model name, file, folder, or repository OWNER/REPO[@REV][:FILE]")]
    #[arg(value_name = "NAME")]
    name: String,
}

/// Downloads what is not cached and prints the paths of the weights, or what would be downloaded.
pub(super) fn run(args: &PullArgs, console: &Console) -> Result<Outcome> {
    let settings = &args.hub.settings();
    each(&args.names, console, |name| {
        let here = here(name, settings, console)?;
        let files = match here {
            Some(_) if args.dry_run => return Ok(Vec::new()),
            Some(files) => files,
            None if args.dry_run => return plan(name, settings, console),
            None => match source::resolve(name, settings, console)? {
                ModelSource::BuiltIn => None,
                ModelSource::Files(files) => Some(files),
            },
        };
        Ok(files.map_or_else(Vec::new, |files| {
            lines(files.weights.iter().map(AsRef::as_ref))
        }))
    })
}

/// The files of a model that needs no download, none of the built-in one; `None` if it needs one.
fn here(
    name: &str,
    settings: &hub::Settings,
    console: &Console,
) -> Result<Option<Option<ModelFiles>>> {
    let (place, files) = match source::presence(name, settings)? {
        Presence::BuiltIn => ("built in; there is nothing to download", None),
        Presence::Local(files) => ("already on this machine", Some(files)),
        Presence::Cached {
            files,
            complete: true,
        } => ("already cached", Some(files)),
        Presence::Cached { .. } | Presence::Begun | Presence::Absent => return Ok(None),
    };
    console.note(&format!("{name} is {place}"));
    Ok(Some(files))
}

/// A table of the files that a download would bring, and a note with their sum.
fn plan(name: &str, settings: &hub::Settings, console: &Console) -> Result<Vec<u8>> {
    let planned = source::plan(name, settings, console)?;
    let missing = |file: &Planned| file.bytes.saturating_sub(file.cached_bytes);
    let mut table = TextTable::new([Column::RIGHT, Column::LEFT, Column::LEFT]);
    for file in &planned {
        let cached = match (file.cached_bytes, missing(file)) {
            (_, 0) => "cached".to_owned(),
            (0, _) => "not cached".to_owned(),
            (cached, _) => format!("{} cached", size(cached)),
        };
        table.row([&size(file.bytes), &cached, &file.file]);
    }
    let wanted = planned.iter().filter(|file| missing(file) > 0);
    let (count, bytes) = wanted.fold((0, 0), |(count, bytes), file| {
        (count + 1, bytes + missing(file))
    });
    console.note(&format!(
        "{name}: {} of {} would be downloaded",
        size(bytes),
        counted(count, "file")
    ));
    Ok(table.plain().into_bytes())
}

/// Prints the paths of a model's weights.
pub(super) fn print_path(args: &PathArgs, settings: &hub::Settings) -> Result<Outcome> {
    let name = &args.name;
    let what = match source::presence(name, settings)? {
        Presence::Local(files) | Presence::Cached { files, .. } => {
            print(&lines(files.weights.iter().map(AsRef::as_ref)))?;
            return Ok(Outcome::Answered);
        }
        Presence::BuiltIn => bail!("{name} is built into the program and has no file"),
        Presence::Begun => "is only partly cached",
        Presence::Absent => "is not cached",
    };
    bail!(
        "{name} {what}; download it with `longclip models pull {}`",
        typed(name)
    );
}
