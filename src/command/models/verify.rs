//! `longclip models verify`: checks downloaded files against the hub's hashes.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde::Serialize;

use super::{ReportFormat, Tally, print, size, typed};
use crate::checkpoint::hub::{Condition, Stored};
use crate::checkpoint::source::{ALIASES, Presence, Reference};
use crate::checkpoint::{hub, source};
use crate::output::text::printable;
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
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<ReportFormat>,
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
    let text = match ReportFormat::chosen(args.format) {
        ReportFormat::Table => reports.iter().map(Report::table).collect(),
        ReportFormat::Json => serde_json::to_string_pretty(&reports)? + "\n",
    };
    print(text.as_bytes())?;
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
        let mut text = format!("{} ({})\n", self.name, self.repository);
        let several = self
            .files
            .iter()
            .any(|file| file.commit != self.files[0].commit);
        for file in &self.files {
            let detail = match (&file.detail, file.bytes) {
                (Some(why), _) => format!(": {}", printable(why)),
                (None, bytes) => bytes.map_or(String::new(), |bytes| format!(", {}", size(bytes))),
            };
            let commit = match several {
                true => format!("{} ", &file.commit[..8]),
                false => String::new(),
            };
            // Writing to a string does not fail.
            let _ = writeln!(
                text,
                "  {:7}  {commit}{}{detail}",
                file.status,
                printable(&file.file)
            );
        }
        if self.files.is_empty() {
            text.push_str("  no complete file\n");
        }
        text
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
