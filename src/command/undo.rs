//! `longclip undo`: takes back what classify --link, --copy or --move did.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::output::sorted::Run;
use crate::output::sorted::undo::{Undo, undo};
use crate::run::console::counted;
use crate::run::{Console, Outcome};

const EXAMPLES: &str = "\
Examples:
  longclip undo sorted/longclip-sorted-20261121T101530Z.jsonl
  longclip undo --dry-run sorted/longclip-sorted-20261121T101530Z.jsonl

Files that have changed since are left alone, and nothing is overwritten.

A list that you did not write on this machine, such as one that came with a folder, moves no image
out of its folder unless --yes is given: check the old paths with --dry-run first.

Exit status: 0 everything is back in place, 1 some images could not be restored (each has a line
on stderr), 2 the list cannot be used, 75 temporary failure, try again (the disk is full).";

/// The arguments of `longclip undo`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct UndoArgs {
    /// List that classify --link, --copy or --move wrote into the folder
    #[arg(value_name = "FILE")]
    list: PathBuf,
    /// Print what would be undone, without doing it
    #[arg(long)]
    dry_run: bool,
    /// Move images to the old paths in a list that someone else wrote
    #[arg(long)]
    yes: bool,
}

/// Undoes sorting.
///
/// # Errors
/// When the list cannot be used.
pub fn run(args: &UndoArgs, console: &Console) -> Result<Outcome> {
    let run = if args.dry_run { Run::Dry } else { Run::Real };
    let undone = undo(&args.list, run, args.yes, &mut |step| match step {
        Undo::Undone { to, from } if args.dry_run => {
            console.note(&format!(
                "would undo {}, sorted from {}",
                to.display(),
                from.display()
            ));
        }
        Undo::Undone { to, from } => {
            console.detail(&format!(
                "undid {}, sorted from {}",
                to.display(),
                from.display()
            ));
        }
        Undo::Failed { to, cause } => {
            console.failed(&to.display().to_string(), &format!("{cause:#}"))
        }
    })?;
    let images = counted(undone.undone, "image");
    match (run, undone.failed) {
        (Run::Dry, _) => console.note(&format!("would undo {images}")),
        (Run::Real, 0) => console.note(&format!("undid {images}; everything is back in place")),
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
