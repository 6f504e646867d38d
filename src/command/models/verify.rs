//! `longclip models verify`: checks downloaded files against the hub's hashes.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde::Serialize;

use super::{Tally, size, typed};
use crate::checkpoint::hub::{Condition, Stored};
use crate::checkpoint::source::{ALIASES, Presence, Reference};
use crate::checkpoint::{hub, source};
use crate::output::Format;
use crate::output::table::{Column, TextTable};
use crate::run::flags::{SUMMARY, formats};
use crate::run::results::print_report;
use crate::run::{Console, Outcome};

const NOTES: &str = "\
Examples:
  longclip models verify
  longclip models verify longclip-b --format json

Without names, verifies all models of `longclip models list` that are cached. The cache names
large files by their SHA-256 and small ones by their git hash, so the network is not needed.
unknown: a file that was not downloaded into the cache.

Exit status: 0 no file is damaged, 1 a file is damaged or some names failed, 2 all names failed.";

/// The arguments of `longclip models verify`.
#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub(super) struct VerifyArgs {
    /// As `--model` takes it.
    #[arg(help = "Model names, or repositories OWNER/REPO[@REV]")]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Output format [default: table on a terminal, else json]
    #[arg(short, long, value_name = "FORMAT", value_parser = formats(SUMMARY))]
    format: Option<Format>,
}

/// One model. The field names are stable, since scripts read them.
#[derive(Debug, Serialize)]
struct Report {
    name: String,
    repository: String,
    /// Whether all files that a run needs are cached.
    complete: bool,
    files: Vec<FileReport>,
}

#[derive(Debug, Serialize)]
struct FileReport {
    file: String,
    commit: String,
    path: String,
    /// ok, damaged or unknown.
    status: &'static str,
    bytes: Option<u64>,
    /// Why it is not ok.
    detail: Option<String>,
}

/// Verifies models and prints the result.
pub(super) fn run(
    args: &VerifyArgs,
    settings: &hub::Settings,
    console: &Console,
) -> Result<Outcome> {
    let names = if args.names.is_empty() {
        all_cached(settings)
    } else {
        args.names.clone()
    };
    if names.is_empty() {
        console.note("no model is cached");
    }
    let mut tally = Tally::default();
    let mut reports = Vec::new();
    for name in &names {
        match verify(name, settings, console) {
            Ok(report) => {
                tally.add(name, Ok(()), console);
                reports.push(report);
            }
            Err(error) if names.len() == 1 => return Err(error),
            Err(error) => tally.add(name, Err(error), console),
        }
    }
    let tables = |reports: &Vec<Report>| reports.iter().map(Report::table).collect();
    print_report(&reports, args.format, tables)?;
    let mut damaged = false;
    for report in &reports {
        damaged |= report.advise(console);
    }
    Ok(match tally.outcome() {
        Outcome::Answered if damaged => Outcome::SomeFailed,
        outcome => outcome,
    })
}

/// The names of models that are at least partly cached.
fn all_cached(settings: &hub::Settings) -> Vec<String> {
    let aliases = ALIASES.iter().map(|alias| alias.name.to_owned());
    let mut names: Vec<String> = aliases.chain(source::found_in_cache(settings)).collect();
    names.retain(|name| {
        let presence = source::presence(name, settings);
        matches!(presence, Ok(Presence::Cached { .. } | Presence::Begun))
    });
    names
}

fn verify(name: &str, settings: &hub::Settings, console: &Console) -> Result<Report> {
    let repository = match source::parse(name)? {
        Reference::BuiltIn => bail!("{name} is built into the program; there is no file to check"),
        Reference::Path(path) => bail!(
            "{} is a local file or folder; only downloads can be verified",
            path.display()
        ),
        Reference::Hub { repository, .. } => repository,
    };
    let absent = || {
        format!(
            "{name} is not cached; download it with `longclip models pull {}`",
            typed(name)
        )
    };
    let stored = Stored::open(settings, &repository).with_context(absent)?;
    let mut commits = stored.commits();
    if source::names_revision(name) {
        let wanted = stored.commit().with_context(absent)?;
        commits.retain(|commit| *commit == wanted);
        if commits.is_empty() {
            bail!(absent());
        }
    }
    let files = stored.verify(&commits, |file| {
        console.note(&format!("checking {} of {}", file.name, stored.id()));
    });
    let presence = source::presence(name, settings)?;
    Ok(Report {
        name: name.to_owned(),
        repository: stored.id().to_owned(),
        complete: matches!(presence, Presence::Cached { complete: true, .. }),
        files: files
            .into_iter()
            .map(|(file, condition)| FileReport::new(file, condition))
            .collect(),
    })
}

impl FileReport {
    fn new(file: hub::StoredFile, condition: Condition) -> Self {
        let (status, bytes, detail) = match condition {
            Condition::Whole { bytes } => ("ok", Some(bytes), None),
            Condition::Damaged(why) => ("damaged", None, Some(why)),
            Condition::Unknown(why) => ("unknown", None, Some(why)),
        };
        Self {
            file: file.name,
            commit: file.commit,
            path: file.path.display().to_string(),
            status,
            bytes,
            detail,
        }
    }
}

impl Report {
    fn table(&self) -> String {
        let mut table = TextTable::new([Column::LEFT.at_least("  damaged".len()), Column::LEFT]);
        table.text(&format!("{} ({})", self.name, self.repository));
        let commits: BTreeSet<&str> = self.files.iter().map(|file| &*file.commit).collect();
        for file in &self.files {
            let detail = match (&file.detail, file.bytes) {
                (Some(why), _) => format!(": {why}"),
                (None, Some(bytes)) => format!(", {}", size(bytes)),
                (None, None) => String::new(),
            };
            let commit = match commits.len() {
                1 => String::new(),
                _ => format!("{} ", &file.commit[..8]),
            };
            table.row([
                &format!("  {}", file.status),
                &format!("{commit}{}{detail}", file.file),
            ]);
        }
        if self.files.is_empty() {
            table.text("  no complete file");
        }
        table.plain()
    }

    /// Prints advice about the model; returns whether one of its files is damaged.
    fn advise(&self, console: &Console) -> bool {
        let name = typed(&self.name);
        if self.files.iter().any(|file| file.status == "damaged") {
            console.failed(
                &self.name,
                &format!(
                    "damaged; run `longclip models rm {name}`, then `longclip models pull {name}`"
                ),
            );
            return true;
        }
        if !self.complete {
            console.note(&format!(
                "{} is only partly cached; run `longclip models pull {name}` to download the rest",
                self.name
            ));
        }
        false
    }
}
