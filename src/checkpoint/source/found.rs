//! Finds models in the hub's cache that have no short name.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use serde_json::Value;

use super::{ALIASES, choice, pipeline};
use crate::checkpoint::hub::{Settings, Stored};

/// The supported values of `model_type` in config.json.
const MODEL_TYPES: [&str; 2] = ["clip", "longclip"];
/// Maximum size of a config.json in bytes.
const CONFIG_LIMIT_BYTES: u64 = 1 << 20;

/// The names of the cached repositories that look like CLIP and have no short name, as `--model`
/// accepts them: `OWNER/REPO`, with `@COMMIT` if the cache does not know the commit of `main`.
#[must_use]
pub fn found_in_cache(hub: &Settings) -> Vec<String> {
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
    folder.join(choice::OPEN_CLIP_CONFIG).is_file()
        || model_type(&folder.join(choice::CONFIG))
            .is_some_and(|found| MODEL_TYPES.contains(&found.as_str()))
}

fn model_type(config: &Path) -> Option<String> {
    let mut content = Vec::new();
    let file = File::open(config).ok()?;
    file.take(CONFIG_LIMIT_BYTES)
        .read_to_end(&mut content)
        .ok()?;
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
