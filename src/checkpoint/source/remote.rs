//! Finds a model in a hub repository, or in its cache.

use std::path::{Path, PathBuf};

use super::local::{self, folder_prefix};
use super::{ModelFiles, choice, pipeline};
use crate::checkpoint::hub::{self, Hub, Listing};

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
        let what = "is not cached, and HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE forbids downloading \
            it";
        Err(anyhow::Error::msg(ways_out(wanted, hub, what)))
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
        (Err(error), None) if hub::is_worth_retrying(&error) && !hub::is_disk_full(&error) => {
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
        None => local::choose(&snapshot).ok()?,
    };
    let path = snapshot.join(&file);
    if !path.is_file() {
        return None;
    }
    let files = gather(model, &file, &path).ok()?;
    let prefix = folder_prefix(&file);
    let is_there = |name: &str| snapshot.join(format!("{prefix}{name}")).is_file();
    let is_missing =
        |name: &str| !is_there(name) && !hub.is_known_absent(&format!("{prefix}{name}"));
    let needed = choice::needed_companions(&file).iter().copied();
    let mut missing: Vec<_> = needed.filter(|name| is_missing(name)).collect();
    // Either file may hold the image processor; a cache from an older version has only one of them.
    if let Some(at) = missing
        .iter()
        .position(|name| *name == choice::PREPROCESSOR)
    {
        if is_there(choice::PROCESSOR) {
            missing.remove(at);
        }
    } else if choice::needed_companions(&file).contains(&choice::PREPROCESSOR)
        && !is_there(choice::PREPROCESSOR)
        && is_missing(choice::PROCESSOR)
    {
        missing.push(choice::PROCESSOR);
    }
    Some(InCache { missing, files })
}

/// The files on disk, as a model.
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
        None => choose(&listing, hub)?,
    };
    // Small files first: weights in the cache then mean that everything is there.
    fetch_companions(&folder_prefix(&file), &listing, hub)?;
    let path = fetch_weights(&file, Some(&listing.commit), hub)?;
    hub.remember_commit(&listing.commit)?;
    gather(wanted.model, &file, &path)
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
        true => fetch_if_there(&format!("{inside}{}", choice::CONFIG))?,
        false => None,
    };
    let place = format!("the repository {}", hub.repository());
    let chosen = choice::choose(&names, &place, config.as_deref())?;
    Ok(format!("{inside}{chosen}"))
}

/// Downloads the weights; for an index, also its shards.
fn fetch_weights(file: &str, commit: Option<&str>, hub: &Hub<'_>) -> anyhow::Result<PathBuf> {
    let path = hub.fetch(file, commit)?;
    if choice::is_index(file) {
        for shard in choice::shards(&path)? {
            hub.fetch(&format!("{}{shard}", folder_prefix(file)), commit)?;
        }
    }
    Ok(path)
}

/// Downloads those files next to the weights that are in the listing, and records which are not.
fn fetch_companions(prefix: &str, listing: &Listing, hub: &Hub<'_>) -> anyhow::Result<()> {
    for companion in choice::COMPANIONS {
        let name = format!("{prefix}{companion}");
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
