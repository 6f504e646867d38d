//! `longclip models list`: lists named models, and those on this machine.

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::size;
use crate::checkpoint::hub::{Repository, Stored};
use crate::checkpoint::source::{ALIASES, Alias, Presence};
use crate::checkpoint::{hub, source, tiny};
use crate::output::Format;
use crate::output::table::{Column, TextTable};
use crate::run::Outcome;
use crate::run::flags::{SUMMARY, formats};
use crate::run::results::print_report;

const NOTES: &str = "\
Examples:
  longclip models list
  longclip models list --format json | jq -r '.[] | select(.cached == \"complete\") | .name'

Models without a name are listed if they are in the hub's cache and look like CLIP. Sizes of
models that are not cached are approximate; \"not stated\" means that the repository does not
state a licence. Does not use the network.

Exit status: 0 success, 2 the cache cannot be read.";

/// The arguments of `longclip models list`.
#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub(super) struct ListArgs {
    /// Output format [default: table on a terminal, else json]
    #[arg(short, long, value_name = "FORMAT", value_parser = formats(SUMMARY))]
    format: Option<Format>,
}

/// One model. The field names are stable, since scripts read them.
#[derive(Debug, Default, Serialize)]
struct ListedModel {
    /// The value for `--model`.
    name: String,
    repository: Option<String>,
    /// The file of the weights, if it does not have a usual name.
    file: Option<String>,
    /// The approximate size of a download in bytes, if known.
    bytes: Option<u64>,
    licence: Option<&'static str>,
    architecture: Option<String>,
    context_length: Option<usize>,
    good_for: Option<&'static str>,
    cached: &'static str,
    /// The size of the repository in the cache, in bytes.
    cached_bytes: u64,
    /// The paths of the weights, or of the partial download.
    paths: Vec<String>,
}

/// Prints the models.
pub(super) fn run(args: &ListArgs, settings: &hub::Settings) -> Result<Outcome> {
    let mut rows = vec![built_in()?];
    rows.extend(ALIASES.iter().map(|alias| named(alias, settings)));
    let found = source::found_in_cache(settings);
    rows.extend(found.into_iter().map(|name| other(name, settings)));
    print_report(&rows, args.format, |rows| table(rows))?;
    Ok(Outcome::Answered)
}

fn built_in() -> Result<ListedModel> {
    let architecture = tiny::architecture()?;
    Ok(ListedModel {
        name: "tiny".to_owned(),
        bytes: Some(0),
        licence: Some("MIT"),
        architecture: Some(architecture.image.describe()),
        context_length: Some(architecture.context_length),
        good_for: Some(tiny::GOOD_FOR),
        cached: "built in",
        ..ListedModel::default()
    })
}

fn named(alias: &Alias, settings: &hub::Settings) -> ListedModel {
    let row = ListedModel {
        name: alias.name.to_owned(),
        file: alias.file.map(str::to_owned),
        bytes: Some(alias.bytes),
        licence: alias.licence,
        architecture: Some(alias.architecture.to_owned()),
        context_length: Some(alias.context_length),
        good_for: Some(alias.good_for),
        ..ListedModel::default()
    };
    row.located(alias.repository, settings)
}

fn other(name: String, settings: &hub::Settings) -> ListedModel {
    let repository = name.split('@').next().unwrap_or(&name).to_owned();
    let row = ListedModel {
        name,
        ..ListedModel::default()
    };
    row.located(&repository, settings)
}

impl ListedModel {
    /// Adds what the cache has of it.
    fn located(mut self, repository: &str, settings: &hub::Settings) -> Self {
        self.repository = Some(repository.to_owned());
        let stored = Repository::new(repository, "main")
            .ok()
            .and_then(|repository| Stored::open(settings, &repository));
        self.cached_bytes = stored.as_ref().map_or(0, Stored::bytes);
        let folder = || stored.iter().map(|stored| shown(stored.folder())).collect();
        (self.cached, self.paths) = match source::presence(&self.name, settings) {
            Ok(Presence::Cached { files, complete }) => {
                let paths = files.weights.iter().map(|path| shown(path)).collect();
                (if complete { "complete" } else { "partial" }, paths)
            }
            Ok(Presence::Begun) => ("partial", folder()),
            // A local folder has the repository's name and takes precedence.
            Ok(Presence::Local(files)) => (
                "local",
                files.weights.iter().map(|path| shown(path)).collect(),
            ),
            _ => ("no", Vec::new()),
        };
        self
    }

    /// The size in the cache, or of the download.
    fn size(&self) -> String {
        match (self.cached, self.bytes) {
            ("complete" | "local", _) | (_, None) => size(self.cached_bytes),
            (_, Some(0)) => "-".to_owned(),
            (_, Some(bytes)) => format!("about {}", size(bytes)),
        }
    }

    /// Adds its row, with details below it.
    fn add_to(&self, table: &mut TextTable<5>) {
        let context = self.context_length.map(|length| length.to_string());
        let known = self.architecture.is_some();
        let licence = if known { "not stated" } else { "-" };
        table.row([
            &self.name,
            self.cached,
            &self.size(),
            context.as_deref().unwrap_or("-"),
            self.licence.unwrap_or(licence),
        ]);
        for detail in self.details() {
            table.text(&format!("  {detail}"));
        }
    }

    /// Further lines below the row.
    fn details(&self) -> Vec<String> {
        let mut details = Vec::new();
        if let (Some(architecture), Some(good_for)) = (&self.architecture, self.good_for) {
            details.push(format!("{architecture}; {good_for}"));
        }
        if let Some(repository) = &self.repository {
            let file = self.file.iter().map(|file| format!(": {file}"));
            details.push(format!("{repository}{}", file.collect::<String>()));
        }
        details.extend(self.paths.iter().cloned());
        details
    }
}

fn shown(path: &std::path::Path) -> String {
    path.display().to_string()
}

/// One row per model, with details below it.
fn table(models: &[ListedModel]) -> String {
    let mut table = TextTable::new([Column::LEFT; 5]);
    table.row(["NAME", "CACHED", "SIZE", "CONTEXT", "LICENCE"]);
    for model in models {
        model.add_to(&mut table);
    }
    table.plain()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_aligned_and_marks_unknown_values() {
        let settings = hub::Settings::new("http://h", None);
        let rows = [
            built_in().unwrap(),
            named(&ALIASES[0], &settings),
            ListedModel {
                name: "a/b".to_owned(),
                repository: Some("a/b".to_owned()),
                cached: "complete",
                cached_bytes: 12_345_678,
                paths: vec!["/x/y\n.pt".to_owned()],
                ..ListedModel::default()
            },
        ];
        let architecture = tiny::architecture().unwrap().image.describe();
        let good_for = tiny::GOOD_FOR;
        let expected = format!(
            "\
NAME        CACHED    SIZE          CONTEXT  LICENCE
tiny        built in  -             248      MIT
  {architecture}; {good_for}
longclip-b  no        about 599 MB  248      Apache-2.0
  ViT-B/16, 224 px; long descriptions; the default
  BeichenZhang/LongCLIP-B: longclip-B.pt
a/b         complete  12.3 MB       -        -
  a/b
  /x/y\\n.pt
"
        );
        assert_eq!(table(&rows), expected);
    }
}
