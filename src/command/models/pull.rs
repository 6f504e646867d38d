//! `longclip models pull` and `path`: download and locate the files of a model.

use anyhow::{Result, bail};
use clap::Args;

use super::{each, lines, print, typed};
use crate::checkpoint::source::{ModelFiles, ModelSource, Presence};
use crate::checkpoint::{hub, source};
use crate::run::{Console, Outcome};

const PULL_NOTES: &str = "\
Examples:
  longclip models pull longclip-b
  longclip models pull longclip-l openai/clip-vit-base-patch16@main
  HF_TOKEN=… longclip models pull somebody/gated-model

Prints the paths of the weights. An interrupted download resumes where it stopped, and downloads
are verified before use. A cached model causes no request.

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

/// Downloads what is not cached and prints the paths of the weights.
pub(super) fn run(args: &PullArgs, settings: &hub::Settings, console: &Console) -> Result<Outcome> {
    each(&args.names, console, |name| {
        Ok(match pull(name, settings, console)? {
            Some(files) => lines(files.weights.iter().map(AsRef::as_ref)),
            None => Vec::new(),
        })
    })
}

/// The files of a model, downloaded if needed; `None` for the built-in one.
fn pull(name: &str, settings: &hub::Settings, console: &Console) -> Result<Option<ModelFiles>> {
    match source::presence(name, settings)? {
        Presence::BuiltIn => {
            console.note(&format!("{name} is built in; there is nothing to download"));
            Ok(None)
        }
        Presence::Local(files) => {
            console.note(&format!("{name} is already on this machine"));
            Ok(Some(files))
        }
        Presence::Cached {
            files,
            complete: true,
        } => {
            console.note(&format!("{name} is already cached"));
            Ok(Some(files))
        }
        Presence::Cached { .. } | Presence::Begun | Presence::Absent => {
            match source::resolve(name, settings, console)? {
                ModelSource::BuiltIn => Ok(None),
                ModelSource::Files(files) => Ok(Some(files)),
            }
        }
    }
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
