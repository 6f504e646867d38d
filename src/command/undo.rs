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

Only what is still as it was left is touched, and nothing is overwritten.

Exit status: 0 all is as it was, 1 some images could not be taken back (each has a line on
stderr), 2 the list cannot be used.";

/// The arguments of `longclip undo`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct UndoArgs {
    /// The list that classify --link, --copy or --move left in the folder
    #[arg(value_name = "FILE")]
    list: PathBuf,
    /// Say what would be taken back, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// Takes back what was sorted.
///
/// # Errors
/// When the list cannot be used.
pub fn run(args: &UndoArgs, console: &Console) -> Result<Outcome> {
    let run = if args.dry_run { Run::Dry } else { Run::Real };
    let undone = undo(&args.list, run, &mut |step| match step {
        Undo::Undone { to, from } if args.dry_run => {
            console.note(&format!(
                "would take back {} as {}",
                to.display(),
                from.display()
            ));
        }
        Undo::Undone { to, from } => {
            console.detail(&format!("took back {} as {}", to.display(), from.display()));
        }
        Undo::Failed { to, cause } => {
            console.failed(&to.display().to_string(), &format!("{cause:#}"))
        }
    })?;
    let images = counted(undone.undone, "image");
    match (run, undone.failed) {
        (Run::Dry, _) => console.note(&format!("{images} would be taken back")),
        (Run::Real, 0) => console.note(&format!("took back {images}; all is as it was")),
        (Run::Real, _) => console.note(&format!(
            "took back {images}; {} stays for the others",
            args.list.display()
        )),
    }
    Ok(match undone.failed {
        0 => Outcome::Answered,
        _ => Outcome::SomeFailed,
    })
}
