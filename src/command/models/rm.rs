//! `longclip models rm`: removes models from the cache.

use std::io::IsTerminal as _;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;

use super::{Tally, print, size};
use crate::checkpoint::hub::Stored;
use crate::checkpoint::source::Reference;
use crate::checkpoint::{hub, source};
use crate::run::{Console, Outcome};

const NOTES: &str = "\
Examples:
  longclip models rm longclip-l
  longclip models rm --yes longclip-b owner/model
  longclip models rm owner/model@0123456789abcdef0123456789abcdef01234567

Removes the whole repository of a name, with all snapshots and partial downloads. With @REV,
removes only that snapshot and keeps files that other snapshots share. Never touches anything
outside the cache.

Exit status: 0 removed, or kept because you answered no; 1 some failed; 2 all failed, or --yes is
missing and stdin is not a terminal; 75 the model is being downloaded.";

/// The arguments of `longclip models rm`.
#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub(super) struct RmArgs {
    /// As `--model` takes it.
    #[arg(help = "Model names, or repositories OWNER/REPO[@REV]")]
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    /// Remove without asking
    #[arg(short, long)]
    yes: bool,
}

/// A repository or snapshot to remove.
struct Removal<'a> {
    name: &'a str,
    stored: Stored,
    /// One snapshot; `None` removes all of them.
    commit: Option<String>,
}

/// Asks for confirmation, removes, and prints the space freed.
pub(super) fn run(args: &RmArgs, settings: &hub::Settings, console: &Console) -> Result<Outcome> {
    let single = args.names.len() == 1;
    let mut tally = Tally::default();
    let mut removals: Vec<Removal<'_>> = Vec::new();
    for name in &args.names {
        match find(name, settings) {
            Ok(found) if removals.iter().any(|other| other.is_same(&found)) => {}
            Ok(found) => removals.push(found),
            Err(error) if single => return Err(error),
            Err(error) => tally.add(name, Err(error), console),
        }
    }
    if removals.is_empty() {
        return Ok(tally.outcome());
    }
    if !args.yes && !agreed(&removals, console)? {
        console.note("nothing was removed");
        return Ok(Outcome::Answered);
    }
    for removal in &removals {
        match removal.remove() {
            Ok(line) => {
                print(line.as_bytes())?;
                tally.add(removal.name, Ok(()), console);
            }
            Err(error) if single => return Err(error),
            Err(error) => tally.add(removal.name, Err(error), console),
        }
    }
    Ok(tally.outcome())
}

/// Finds a name in the cache.
fn find<'a>(name: &'a str, settings: &hub::Settings) -> Result<Removal<'a>> {
    let (repository, is_named) = match source::parse(name)? {
        Reference::BuiltIn => bail!("{name} is built into the program and cannot be removed"),
        Reference::Path(path) => bail!(
            "{} is a local file or folder, not a download; longclip does not remove it",
            path.display()
        ),
        Reference::Hub { repository, .. } => (repository, source::names_revision(name)),
    };
    ensure!(
        !name.contains(':'),
        "{name:?} names a single file; drop :FILE to remove the whole repository"
    );
    let absent = || format!("{name} is not cached; there is nothing to remove");
    let stored = Stored::open(settings, &repository).with_context(absent)?;
    let commit = match is_named {
        true => {
            let commit = stored.commit().with_context(absent)?;
            ensure!(stored.commits().contains(&commit), "{}", absent());
            Some(commit)
        }
        false => None,
    };
    Ok(Removal {
        name,
        stored,
        commit,
    })
}

/// Asks for confirmation on the terminal.
fn agreed(removals: &[Removal<'_>], console: &Console) -> Result<bool> {
    ensure!(
        std::io::stdin().is_terminal(),
        "cannot ask for confirmation, because stdin is not a terminal; pass --yes to remove \
         without asking"
    );
    let list: Vec<String> = removals.iter().map(Removal::describe).collect();
    let agreed = console.ask(&format!("remove {}?", list.join(" and ")));
    agreed.context("cannot ask for confirmation")
}

impl Removal<'_> {
    fn is_same(&self, other: &Self) -> bool {
        (self.stored.id(), &self.commit) == (other.stored.id(), &other.commit)
    }

    fn describe(&self) -> String {
        let id = self.stored.id();
        match &self.commit {
            Some(commit) => format!("the snapshot {commit} of {id}"),
            None => format!(
                "{id} ({} in {})",
                size(self.stored.bytes()),
                self.stored.folder().display()
            ),
        }
    }

    fn remove(&self) -> Result<String> {
        let removed = self
            .stored
            .remove(self.commit.as_deref())
            .with_context(|| format!("cannot remove {}", self.name))?;
        let snapshots = match removed.snapshots {
            1 => "1 snapshot".to_owned(),
            several => format!("{several} snapshots"),
        };
        Ok(format!(
            "removed {snapshots} of {}, freed {}\n",
            self.stored.id(),
            size(removed.bytes)
        ))
    }
}
