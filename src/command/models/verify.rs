//! `longclip models verify`: whether downloaded files still are what the hub sent.

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

Without names all models that `longclip models list` shows are checked, as far as they are cached.
The cache names a large file by its sha256 and a small one by git's hash, so that nothing has to be
asked for. unknown: a file that did not come into the cache as a download.

Exit status: 0 nothing is damaged, 1 a file is damaged or some names failed, 2 all names failed.";

/// The arguments of `longclip models verify`.
#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub(super) struct VerifyArgs {
    /// As `--model` takes it.
    #[arg(help = "Names of models, or repositories OWNER/REPO[@REV]")]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// How to print the result [default: table on a terminal, else json]
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<ReportFormat>,
}

/// One model. The names are a contract: scripts read them.
#[derive(Debug, Serialize)]
struct Report {
    name: String,
    repository: String,
    /// Whether all that a run needs is cached.
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

/// Checks and prints.
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
        damaged |= report.tell(console);
    }
    Ok(match tally.outcome() {
        Outcome::Answered if damaged => Outcome::SomeFailed,
        outcome => outcome,
    })
}

/// The names of the models with something in the cache.
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
            "{} is a file or folder of yours; only of downloads it is known what they should be",
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
        files: files.into_iter().map(FileReport::new).collect(),
    })
}

impl FileReport {
    fn new((file, condition): (hub::StoredFile, Condition)) -> Self {
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

    /// Says what to do about the model; true if a file of it is damaged.
    fn tell(&self, console: &Console) -> bool {
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
                "{} is cached only in part; `longclip models pull {name}` fetches the rest",
                self.name
            ));
        }
        false
    }
}
