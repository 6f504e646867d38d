//! A model in a repository on the hub, or in the cache of it.

use std::path::{Path, PathBuf};

use super::{ModelFiles, choice, local};
use crate::checkpoint::hub::{self, Hub, Listing};

/// A model as it was asked for.
pub(super) struct Wanted<'a> {
    /// As typed.
    pub(super) model: &'a str,
    /// The weights file, if one was named.
    pub(super) file: Option<&'a str>,
}

/// A model's files found in the cache.
pub(super) struct InCache {
    pub(super) files: ModelFiles,
    /// Configuration that the publisher may have but the cache has not.
    missing: Vec<&'static str>,
}

impl InCache {
    /// Whether nothing is missing that the publisher may have.
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
        let what = "is not cached, and HF_HUB_OFFLINE forbids to fetch it";
        Err(anyhow::Error::msg(ways_out(wanted, hub, what)))
    } else {
        fetch(wanted, hub)
    };
    match (fetched, found) {
        (Err(error), Some(found)) => {
            let missing = found.missing.join(" and ");
            hub.note(&format!(
                "{} is cached without {missing}, and asking the hub for it failed; going on with the weights alone ({error:#})",
                wanted.model
            ));
            Ok(found.files)
        }
        (Err(error), None) if hub::is_worth_retrying(&error) && !hub::is_disk_full(&error) => {
            Err(error.context(ways_out(wanted, hub, "could not be fetched")))
        }
        (fetched, _) => fetched,
    }
}

/// What the cache has of the model, if it has all of its weights.
pub(super) fn in_cache(model: &str, file: Option<&str>, hub: &Hub<'_>) -> Option<InCache> {
    let snapshot = hub.snapshot()?;
    let file = match file {
        Some(file) => file.to_owned(),
        None => choice::choose(&local::names_in(&snapshot).ok()?, "").ok()?,
    };
    let path = snapshot.join(&file);
    if !path.is_file() {
        return None;
    }
    let files = gather(model, &file, &path).ok()?;
    let prefix = folder_prefix(&file);
    let is_missing = |name: &&&str| {
        let name = format!("{prefix}{name}");
        !snapshot.join(&name).is_file() && !hub.is_known_absent(&name)
    };
    let needed = choice::needed_companions(&file).iter();
    Some(InCache {
        missing: needed.filter(is_missing).copied().collect(),
        files,
    })
}

/// The files on disk as a model.
fn gather(model: &str, file: &str, path: &Path) -> anyhow::Result<ModelFiles> {
    let weights = local::weights(path)?;
    if !choice::has_companions(file) {
        return Ok(ModelFiles::alone(model, weights));
    }
    let folder = path.parent().unwrap_or_else(|| Path::new(""));
    Ok(ModelFiles::with_companions(model, weights, folder))
}

fn fetch(wanted: &Wanted<'_>, hub: &Hub<'_>) -> anyhow::Result<ModelFiles> {
    if let Some(file) = wanted.file
        && !choice::has_companions(file)
    {
        let path = fetch_weights(file, None, hub)?;
        return gather(wanted.model, file, &path);
    }
    let listing = hub.list()?;
    let file = match wanted.file {
        Some(file) => file.to_owned(),
        None => choice::choose(
            &listing.files,
            &format!("the repository {}", hub.repository()),
        )?,
    };
    // The small ones first: weights in the cache mean that all is there.
    fetch_companions(&folder_prefix(&file), &listing, hub)?;
    let path = fetch_weights(&file, Some(&listing.commit), hub)?;
    hub.remember_commit(&listing.commit)?;
    gather(wanted.model, &file, &path)
}

/// Fetches the weights; for an index also the shards it names.
fn fetch_weights(file: &str, commit: Option<&str>, hub: &Hub<'_>) -> anyhow::Result<PathBuf> {
    let path = hub.fetch(file, commit)?;
    if choice::is_index(file) {
        for shard in choice::shards(&path)? {
            hub.fetch(&format!("{}{shard}", folder_prefix(file)), commit)?;
        }
    }
    Ok(path)
}

/// Fetches what the listing has of the files beside the weights, and
/// remembers what it has not.
fn fetch_companions(prefix: &str, listing: &Listing, hub: &Hub<'_>) -> anyhow::Result<()> {
    for companion in choice::COMPANIONS {
        let name = format!("{prefix}{companion}");
        if listing.files.contains(&name) {
            hub.fetch(&name, Some(&listing.commit))?;
        } else {
            // Spares a later request; a cache that cannot take it still works.
            hub.remember_absent(&listing.commit, &name).ok();
        }
    }
    Ok(())
}

/// The folder of a repository's file with its slash, or nothing.
fn folder_prefix(file: &str) -> String {
    file.rsplit_once('/')
        .map_or_else(String::new, |(folder, _)| format!("{folder}/"))
}

/// What a person without the model can do, in one sentence.
fn ways_out(wanted: &Wanted<'_>, hub: &Hub<'_>, what: &str) -> String {
    let (model, id) = (wanted.model, hub.repository());
    let (origin, command, browser) = match wanted.file {
        Some(file) => (
            format!("{id}: {file}"),
            format!("hf download {id} {file}"),
            format!(" (or a browser, from {})", hub.address(file)),
        ),
        None => (id.to_owned(), format!("hf download {id}"), String::new()),
    };
    format!(
        "the model {model} ({origin}) {what}; fetch it on another machine with `{command}`{browser} and pass --model PATH, put it into the cache at {}, or try --model tiny, which needs no network but knows drawn pictures only",
        hub.folder().display()
    )
}
