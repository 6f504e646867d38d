//! `longclip models rm`: takes models out of the cache.

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

A name stands for its whole repository, with all snapshots of it and what is left of broken
downloads; with @REV only that snapshot goes, and the files that others share stay. Nothing outside
the cache is touched.

Exit status: 0 removed, or kept because you said no; 1 some failed; 2 all failed, or --yes is
missing where nobody can be asked; 75 a download of it is in progress.";

/// The arguments of `longclip models rm`.
#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub(super) struct RmArgs {
    /// As `--model` takes it.
    #[arg(help = "Names of models, or repositories OWNER/REPO[@REV]")]
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

/// Something to remove.
struct Doomed<'a> {
    name: &'a str,
    stored: Stored,
    /// One snapshot; none for all there is.
    commit: Option<String>,
}

/// Asks, removes, and prints what was freed.
pub(super) fn run(args: &RmArgs, settings: &hub::Settings, console: &Console) -> Result<Outcome> {
    let single = args.names.len() == 1;
    let mut tally = Tally::default();
    let mut doomed: Vec<Doomed<'_>> = Vec::new();
    for name in &args.names {
        match find(name, settings) {
            Ok(found) if doomed.iter().any(|other| other.is_same(&found)) => {}
            Ok(found) => doomed.push(found),
            Err(error) if single => return Err(error),
            Err(error) => tally.add(name, Err(error), console),
        }
    }
    if doomed.is_empty() {
        return Ok(tally.outcome());
    }
    if !args.yes && !agreed(&doomed, console)? {
        console.note("nothing was removed");
        return Ok(Outcome::Answered);
    }
    for doomed in &doomed {
        match doomed.remove() {
            Ok(line) => {
                print(line.as_bytes())?;
                tally.add(doomed.name, Ok(()), console);
            }
            Err(error) if single => return Err(error),
            Err(error) => tally.add(doomed.name, Err(error), console),
        }
    }
    Ok(tally.outcome())
}

/// What a name means in the cache.
fn find<'a>(name: &'a str, settings: &hub::Settings) -> Result<Doomed<'a>> {
    let (repository, is_named) = match source::parse(name)? {
        Reference::BuiltIn => bail!("{name} is built into the program and cannot be removed"),
        Reference::Path(path) => bail!(
            "{} is a file or folder of yours, not a download; longclip does not remove it",
            path.display()
        ),
        Reference::Hub { repository, .. } => (repository, source::names_revision(name)),
    };
    ensure!(
        !name.contains(':'),
        "{name:?} names a single file; leave :FILE away to remove the whole repository"
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
    Ok(Doomed {
        name,
        stored,
        commit,
    })
}

/// Asks the person at the terminal.
fn agreed(doomed: &[Doomed<'_>], console: &Console) -> Result<bool> {
    ensure!(
        std::io::stdin().is_terminal(),
        "nobody can be asked, because stdin is not a terminal; pass --yes to remove without asking"
    );
    let list: Vec<String> = doomed.iter().map(Doomed::describe).collect();
    let agreed = console.ask(&format!("remove {}?", list.join(" and ")));
    agreed.context("cannot ask")
}

impl Doomed<'_> {
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
