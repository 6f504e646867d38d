//! Finds a model in a hub repository, or in its cache; and those in the cache that have no short
//! name.

use std::path::{Path, PathBuf};

use anyhow::bail;
use serde_json::Value;

use super::files::{self, ModelFiles, folder_prefix};
use super::{ALIASES, choice, pipeline};
use crate::checkpoint::hub::{self, Hub, Listing, Settings, Stored};
use crate::file::fault::is_passing;
use crate::file::open;

/// The supported values of `model_type` in config.json.
const MODEL_TYPES: [&str; 2] = ["clip", "longclip"];
/// Maximum size of a config.json in bytes.
const CONFIG_LIMIT_BYTES: u64 = 1 << 20;

/// Why a model that is not cached is not downloaded.
const OFFLINE: &str = "is not cached, and --offline (or LONGCLIP_OFFLINE, HF_HUB_OFFLINE or \
    TRANSFORMERS_OFFLINE) forbids downloading it";

/// A requested model.
pub(super) struct Wanted<'a> {
    /// As typed.
    pub(super) model: &'a str,
    /// The weight file, if one was given.
    pub(super) file: Option<&'a str>,
}

/// A model's files found in the cache.
pub(super) struct InCache {
    pub(super) files: ModelFiles,
    /// Configuration files that the publisher may have but the cache lacks.
    missing: Vec<&'static str>,
}

impl InCache {
    /// Whether nothing that the publisher may have is missing.
    pub(super) fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }
}

/// The model's files, from the cache if it has all of them (then without any
/// request), else from the hub.
pub(super) fn find(wanted: &Wanted<'_>, hub: &Hub<'_>) -> anyhow::Result<ModelFiles> {
    let found = in_cache(wanted.model, wanted.file, hub);
    if let Some(found) = &found
        && found.is_complete()
    {
        return Ok(found.files.clone());
    }
    let fetched = if hub.is_offline() {
        Err(anyhow::Error::msg(ways_out(wanted, hub, OFFLINE)))
    } else {
        fetch(wanted, hub)
    };
    match (fetched, found) {
        (Err(error), Some(found)) => {
            let missing = found.missing.join(" and ");
            hub.note(&format!(
                "{} is cached without {missing}, and requesting it from the hub failed; continuing \
                 with the weights alone ({error:#})",
                wanted.model
            ));
            Ok(found.files)
        }
        (Err(error), None) if hub::is_worth_retrying(&error) && !is_passing(&error) => {
            Err(error.context(ways_out(wanted, hub, "could not be downloaded")))
        }
        (fetched, _) => fetched,
    }
}

/// The cached files of the model, if all of its weights are cached.
pub(super) fn in_cache(model: &str, file: Option<&str>, hub: &Hub<'_>) -> Option<InCache> {
    let snapshot = hub.snapshot()?;
    let file = match file {
        Some(file) => file.to_owned(),
        None => files::choose(&snapshot).ok()?,
    };
    let path = snapshot.join(&file);
    if !path.is_file() {
        return None;
    }
    let files = ModelFiles::of_file(model, &path).ok()?;
    let prefix = folder_prefix(&file);
    let is_there = |name: &str| snapshot.join(format!("{prefix}{name}")).is_file();
    let is_missing =
        |name: &str| !is_there(name) && !hub.is_known_absent(&format!("{prefix}{name}"));
    let needed = files::needed_companions(&file).iter().copied();
    let mut missing: Vec<_> = needed.filter(|name| is_missing(name)).collect();
    // Either file may hold the image processor; a cache from an older version has only one of them.
    if let Some(at) = missing.iter().position(|name| *name == files::PREPROCESSOR) {
        if is_there(files::PROCESSOR) {
            missing.remove(at);
        }
    } else if files::needed_companions(&file).contains(&files::PREPROCESSOR)
        && !is_there(files::PREPROCESSOR)
        && is_missing(files::PROCESSOR)
    {
        missing.push(files::PROCESSOR);
    }
    Some(InCache { missing, files })
}

/// A file that a model needs from the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Planned {
    /// Its name in the repository.
    pub(crate) file: String,
    /// Its size in bytes.
    pub(crate) bytes: u64,
    /// How many of them are in the cache already.
    pub(crate) cached_bytes: u64,
}

/// What [`find`] would bring into the cache, in its order. Asks the hub and changes nothing; the
/// small files that decide which others are needed go to the cache of `scratch`, which is the same
/// repository elsewhere.
pub(super) fn plan(
    wanted: &Wanted<'_>,
    hub: &Hub<'_>,
    scratch: &Hub<'_>,
) -> anyhow::Result<Vec<Planned>> {
    if hub.is_offline() {
        bail!(ways_out(wanted, hub, OFFLINE));
    }
    let planned = || -> anyhow::Result<Vec<Planned>> {
        let lone = wanted.file.filter(|file| !choice::has_companions(file));
        let (mut names, weights, commit) = match lone {
            Some(file) => (Vec::new(), file.to_owned(), None),
            None => {
                let listing = scratch.list()?;
                let weights = match wanted.file {
                    Some(file) => file.to_owned(),
                    None => choose(&listing, scratch)?,
                };
                let prefix = folder_prefix(&weights);
                let names = companions(&prefix).filter(|name| listing.files.contains(name));
                let names = names.collect::<Vec<_>>();
                (names, weights, Some(listing.commit))
            }
        };
        let commit = commit.as_deref();
        names.push(weights.clone());
        if files::is_index(&weights) {
            let shards = files::shards(&scratch.fetch(&weights, commit)?)?;
            let prefix = folder_prefix(&weights);
            names.extend(shards.iter().map(|shard| format!("{prefix}{shard}")));
        }
        let measured = names.into_iter().map(|file| {
            let (bytes, cached_bytes) = hub.measure(&file, commit)?;
            Ok(Planned {
                file,
                bytes,
                cached_bytes,
            })
        });
        measured.collect()
    };
    planned().map_err(|error| match hub::is_worth_retrying(&error) {
        true => error.context(ways_out(wanted, hub, "could not be looked up")),
        false => error,
    })
}

fn fetch(wanted: &Wanted<'_>, hub: &Hub<'_>) -> anyhow::Result<ModelFiles> {
    if let Some(file) = wanted.file
        && !choice::has_companions(file)
    {
        let path = fetch_weights(file, None, hub)?;
        return ModelFiles::of_file(wanted.model, &path);
    }
    let listing = hub.list()?;
    let file = match wanted.file {
        Some(file) => file.to_owned(),
        None => choose(&listing, hub)?,
    };
    // Small files first: weights in the cache then mean that everything is there.
    fetch_companions(&folder_prefix(&file), &listing, hub)?;
    let path = fetch_weights(&file, Some(&listing.commit), hub)?;
    hub.remember_commit(&listing.commit)?;
    ModelFiles::of_file(wanted.model, &path)
}

/// The weights (or their index) in a repository, or in the folder that its pipeline names.
/// Downloads the
/// small files that determine which.
fn choose(listing: &Listing, hub: &Hub<'_>) -> anyhow::Result<String> {
    let fetch_if_there = |file: &str| {
        let is_there = listing.files.iter().any(|name| name == file);
        let fetched = is_there.then(|| hub.fetch(file, Some(&listing.commit)));
        fetched.transpose()
    };
    let inside = match fetch_if_there(pipeline::MODULES)? {
        Some(modules) => pipeline::clip_folder(&modules)?,
        None => String::new(),
    };
    let names = listing.files.iter();
    let names = names.filter_map(|name| name.strip_prefix(&inside).map(str::to_owned));
    let names: Vec<String> = names.collect();
    let config = match choice::needs_config(&names) {
        true => fetch_if_there(&format!("{inside}{}", files::CONFIG))?,
        false => None,
    };
    let place = format!("the repository {}", hub.repository());
    let chosen = choice::choose(&names, &place, config.as_deref())?;
    Ok(format!("{inside}{chosen}"))
}

/// Downloads the weights; for an index, also its shards.
fn fetch_weights(file: &str, commit: Option<&str>, hub: &Hub<'_>) -> anyhow::Result<PathBuf> {
    let path = hub.fetch(file, commit)?;
    if files::is_index(file) {
        for shard in files::shards(&path)? {
            hub.fetch(&format!("{}{shard}", folder_prefix(file)), commit)?;
        }
    }
    Ok(path)
}

/// The files that are read next to the weights, if they are there.
fn companions(prefix: &str) -> impl Iterator<Item = String> {
    let all = files::COMPANIONS.iter();
    all.map(move |companion| format!("{prefix}{companion}"))
}

/// Downloads those files next to the weights that are in the listing, and records which are not.
fn fetch_companions(prefix: &str, listing: &Listing, hub: &Hub<'_>) -> anyhow::Result<()> {
    for name in companions(prefix) {
        if listing.files.contains(&name) {
            hub.fetch(&name, Some(&listing.commit))?;
        } else {
            // Saves a later request; an unwritable cache still works.
            hub.remember_absent(&listing.commit, &name).ok();
        }
    }
    Ok(())
}

/// How to get the model by other means, in one sentence.
fn ways_out(wanted: &Wanted<'_>, hub: &Hub<'_>, what: &str) -> String {
    let (model, id) = (wanted.model, hub.repository());
    let revision = match hub.revision() {
        "main" => String::new(),
        revision => format!(" --revision {revision}"),
    };
    let (origin, command, browser) = match wanted.file {
        Some(file) => (
            format!("{id}: {file}"),
            format!("hf download {id} {file}{revision}"),
            format!(" (or a browser, from {})", hub.address(file)),
        ),
        None => (
            id.to_owned(),
            format!("hf download {id}{revision}"),
            String::new(),
        ),
    };
    format!(
        "the model {model} ({origin}) {what}; download it on another machine with \
         `{command}`{browser} and pass --model PATH, copy it into the cache at {}, or try --model \
         tiny, which needs no network but knows only drawn images",
        hub.folder().display()
    )
}

/// The names of the cached repositories that look like CLIP and have no short name, as `--model`
/// accepts them: `OWNER/REPO`, with `@COMMIT` if the cache does not know the commit of `main`.
#[must_use]
pub(crate) fn found_in_cache(hub: &Settings) -> Vec<String> {
    let mut names = Vec::new();
    for repository in Stored::all(hub) {
        let id = repository.id();
        if ALIASES.iter().any(|alias| alias.repository == id) {
            continue;
        }
        let Some(stored) = Stored::open(hub, &repository) else {
            continue;
        };
        let snapshots = stored.folder().join("snapshots");
        let mut commits = stored.commits();
        let main = stored.commit().filter(|main| commits.contains(main));
        if main.is_some() {
            commits.retain(|commit| Some(commit) == main.as_ref());
        }
        for commit in commits {
            if !looks_like_clip(&snapshots.join(&commit)) {
                continue;
            }
            names.push(match main {
                Some(_) => id.to_owned(),
                None => format!("{id}@{commit}"),
            });
        }
    }
    names
}

fn looks_like_clip(snapshot: &Path) -> bool {
    let folder = snapshot.join(pipeline::clip_folder_in(snapshot).unwrap_or_default());
    folder.join(files::OPEN_CLIP_CONFIG).is_file()
        || model_type(&folder.join(files::CONFIG))
            .is_some_and(|found| MODEL_TYPES.contains(&found.as_str()))
}

fn model_type(config: &Path) -> Option<String> {
    let content = open::bytes(config, CONFIG_LIMIT_BYTES).ok()?;
    let config: Value = serde_json::from_slice(&content).ok()?;
    config.get("model_type")?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn only_what_looks_like_clip_is_found() {
        let cache = tempfile::tempdir().unwrap();
        let write = |path: &str, content: &str| {
            let path = cache.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        };
        let snapshot = |id: &str| format!("models--{id}/snapshots/{COMMIT}");
        for (id, file, content) in [
            ("a--clip", "config.json", r#"{"model_type":"clip"}"#),
            ("a--long", "config.json", r#"{"model_type":"longclip"}"#),
            ("a--bert", "config.json", r#"{"model_type":"bert"}"#),
            ("a--odd", "config.json", "<html>"),
            ("a--open", "open_clip_config.json", "{}"),
            (
                "openai--clip-vit-base-patch32",
                "config.json",
                r#"{"model_type":"clip"}"#,
            ),
        ] {
            write(&format!("{}/{file}", snapshot(id)), content);
        }
        write("models--a--clip/refs/main", COMMIT);
        write("models--a--clip/snapshots/unfinished/config.json", "{}");
        let settings = Settings::new("http://h", Some(cache.path().to_owned()));
        let pinned = |id: &str| format!("{id}@{COMMIT}");
        let expected = ["a/clip".to_owned(), pinned("a/long"), pinned("a/open")];
        assert_eq!(found_in_cache(&settings), expected);
    }
}
