//! `longclip undo`: takes back what classify --link, --copy, --move or --xmp did.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::output::undo::{Run, Undo, undo};
use crate::run::console::counted;
use crate::run::{Console, Outcome};

const EXAMPLES: &str = "\
Examples:
  longclip undo sorted/longclip-sorted-20261121T101530Z.jsonl
  longclip undo --dry-run sorted/longclip-sorted-20261121T101530Z.jsonl

Images that have changed since are left alone, and nothing is overwritten. A sidecar of --xmp that
is unchanged becomes what it was before; one that has changed since loses only these labels, and
those that are gone are counted.

A list that you did not write on this machine, such as one that came with a folder, moves no image
out of its folder and changes no sidecar elsewhere unless --yes is given: check the paths with
--dry-run first.

Exit status: 0 everything that is there is back in place, 1 some images could not be restored (each
has a line on stderr), 2 the list cannot be used, 75 temporary failure, try again (the disk is full).";

/// The arguments of `longclip undo`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct UndoArgs {
    /// List that classify --link, --copy, --move or --xmp wrote
    #[arg(value_name = "FILE")]
    list: PathBuf,
    /// Print what would be undone, without doing it
    #[arg(long)]
    dry_run: bool,
    /// Follow paths to other folders in a list that someone else wrote
    #[arg(long)]
    yes: bool,
}

/// Undoes sorting, or labels in sidecars.
///
/// # Errors
/// When the list cannot be used.
pub fn run(args: &UndoArgs, console: &Console) -> Result<Outcome> {
    let run = if args.dry_run { Run::Dry } else { Run::Real };
    let undone = undo(&args.list, run, args.yes, &mut |step| match step {
        Undo::Undone { path, how } if args.dry_run => {
            console.note(&format!("would undo {}, {how}", path.display()));
        }
        Undo::Undone { path, how } => {
            console.detail(&format!("undid {}, {how}", path.display()));
        }
        Undo::Failed { path, cause } => {
            console.failed(&path.display().to_string(), &format!("{cause:#}"))
        }
    })?;
    let images = counted(undone.undone, "image");
    let done = match undone.gone {
        0 => "everything is back in place".to_owned(),
        1 => "1 sidecar is gone".to_owned(),
        gone => format!("{gone} sidecars are gone"),
    };
    match (run, undone.failed) {
        (Run::Dry, _) => console.note(&format!("would undo {images}")),
        (Run::Real, 0) => console.note(&format!("undid {images}; {done}")),
        (Run::Real, _) => console.note(&format!(
            "undid {images}; {} keeps the others",
            args.list.display()
        )),
    }
    Ok(match undone.failed {
        0 => Outcome::Answered,
        _ => Outcome::SomeFailed,
    })
}
