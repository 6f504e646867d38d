//! Which files of a folder or repository are the model.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::checkpoint::hub::check_file_name;

pub(super) const CONFIG: &str = "config.json";
pub(super) const OPEN_CLIP_CONFIG: &str = "open_clip_config.json";
pub(super) const PREPROCESSOR: &str = "preprocessor_config.json";
pub(super) const VOCABULARY: &str = "vocab.json";
pub(super) const MERGES: &str = "merges.txt";
pub(super) const TOKENIZER: &str = "tokenizer.json";

/// All that can stand beside the weights and is read.
pub(super) const COMPANIONS: [&str; 6] = [
    CONFIG,
    OPEN_CLIP_CONFIG,
    PREPROCESSOR,
    VOCABULARY,
    MERGES,
    TOKENIZER,
];

/// The usual names of weights, best first. They say which program wrote the
/// folder, so the configuration beside them belongs to them.
const USUAL: [&str; 6] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];

/// Endings of weights with names of their own, best first.
const ENDINGS: [&str; 2] = [".safetensors", ".pt"];

/// An index with more bytes is not one.
const INDEX_LIMIT_BYTES: u64 = 16 << 20;

/// Whether a file of this name has configuration files beside it. Anything
/// else (a lone `.pt` among downloads) may have a stranger's beside it.
pub(super) fn has_companions(file: &str) -> bool {
    let name = file.rsplit('/').next().unwrap_or(file);
    USUAL.contains(&name)
}

/// The configuration files that a model of this weights file is not complete
/// without, unless its publisher has none.
pub(super) fn needed_companions(file: &str) -> &'static [&'static str] {
    let name = file.rsplit('/').next().unwrap_or(file);
    if !has_companions(file) {
        &[]
    } else if name.starts_with("open_clip_") {
        &[OPEN_CLIP_CONFIG]
    } else {
        &[CONFIG, PREPROCESSOR]
    }
}

/// Whether a name ends like a file of weights.
pub(super) fn is_weights_name(name: &str) -> bool {
    [".pt", ".bin", ".safetensors"]
        .iter()
        .any(|ending| name.ends_with(ending))
}

/// Whether the file lists shards instead of holding weights.
pub(super) fn is_index(name: &str) -> bool {
    name.ends_with(".index.json")
}

/// Chooses the weights (or their index) among the names of one folder.
///
/// # Errors
/// When none is there, or several of equal rank are.
pub(super) fn choose(names: &[String], place: &str) -> anyhow::Result<String> {
    if let Some(usual) = USUAL
        .iter()
        .find(|usual| names.iter().any(|name| name == *usual))
    {
        return Ok((*usual).to_owned());
    }
    for ending in ENDINGS {
        let mut found: Vec<&String> = names
            .iter()
            .filter(|name| name.ends_with(ending) && !name.contains('/'))
            .filter(|name| check_file_name(name).is_ok())
            .collect();
        found.sort();
        match found.as_slice() {
            [] => {}
            [one] => return Ok((*one).clone()),
            several => bail!(
                "{place} has several files of weights, and none has a usual name; name one of them: {}",
                listed(several)
            ),
        }
    }
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    if has("log.jsonl") && has("settings.json") {
        bail!(
            "{place} is a run of longclip finetune without a model: finish it with the same command and --resume (what was \
             trained with --adapter-only has an adapter and no model; without that flag it has both)"
        );
    }
    let hint = if names.iter().any(|name| name.contains("-of-")) {
        " (shards without their index cannot be read)"
    } else if has("adapter_config.json") {
        " (an adapter alone is no model)"
    } else {
        ""
    };
    bail!(
        "{place} has no weights{hint}; expected {}, or a single .safetensors or .pt file",
        USUAL.join(", ")
    )
}

fn listed(names: &[&String]) -> String {
    let shown: Vec<&str> = names.iter().take(10).map(|name| name.as_str()).collect();
    let rest = names.len() - shown.len();
    let more = if rest > 0 {
        format!(" and {rest} more")
    } else {
        String::new()
    };
    format!("{}{more}", shown.join(", "))
}

/// The shards that an index names, in name order, each a plain file name.
///
/// # Errors
/// When the file is no index, or names something outside its folder.
pub(super) fn shards(index: &Path) -> anyhow::Result<Vec<String>> {
    let place = index.display();
    let bytes = index
        .metadata()
        .with_context(|| format!("cannot read {place}"))?
        .len();
    ensure!(
        bytes <= INDEX_LIMIT_BYTES,
        "{place} has {bytes} bytes, too many for an index of shards"
    );
    let content = std::fs::read(index).with_context(|| format!("cannot read {place}"))?;
    let content: Value = serde_json::from_slice(&content)
        .with_context(|| format!("{place} is not an index of shards: not JSON"))?;
    let map = content.get("weight_map").and_then(Value::as_object);
    let map = map.with_context(|| format!("{place} is not an index of shards: no weight_map"))?;
    let mut shards = BTreeSet::new();
    for (tensor, shard) in map {
        let shard = shard
            .as_str()
            .filter(|name| !name.contains('/') && check_file_name(name).is_ok())
            .with_context(|| {
                format!("{place} puts {tensor:?} into {shard}, which is not a plain file name")
            })?;
        shards.insert(shard.to_owned());
    }
    ensure!(!shards.is_empty(), "{place} names no shards");
    Ok(shards.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_best_file_is_chosen() {
        let cases: [(&[&str], &str); 8] = [
            (
                &["pytorch_model.bin", "model.safetensors"],
                "model.safetensors",
            ),
            (
                &[
                    "open_clip_model.safetensors",
                    "model.safetensors.index.json",
                ],
                "model.safetensors.index.json",
            ),
            (
                &["open_clip_pytorch_model.bin", "pytorch_model.bin"],
                "open_clip_pytorch_model.bin",
            ),
            (
                &["open_clip_pytorch_model.bin", "open_clip_model.safetensors"],
                "open_clip_model.safetensors",
            ),
            (
                &["pytorch_model.bin.index.json", "x.pt"],
                "pytorch_model.bin.index.json",
            ),
            (&["README.md", "longclip-L@336px.pt"], "longclip-L@336px.pt"),
            (&["x.pt", "x.safetensors"], "x.safetensors"),
            (&["x.pt", "sub/y.pt", "a\nb.pt"], "x.pt"),
        ];
        for (list, expected) in cases {
            assert_eq!(choose(&names(list), "here").unwrap(), expected, "{list:?}");
        }
    }

    #[test]
    fn none_or_several_of_equal_rank_are_errors() {
        let cases: [(&[&str], &str); 5] = [
            (&["b.pt", "a.pt"], "a.pt, b.pt"),
            (
                &["a.safetensors", "b.safetensors", "c.pt"],
                "a.safetensors, b.safetensors",
            ),
            (
                &["config.json"],
                "here has no weights; expected model.safetensors",
            ),
            (
                &["pytorch_model-00001-of-00002.bin"],
                "shards without their index",
            ),
            (&["log.jsonl", "report.html", "settings.json"], "--resume"),
        ];
        for (list, expected) in cases {
            let error = choose(&names(list), "here").unwrap_err().to_string();
            assert!(error.contains(expected), "{list:?}: {error}");
        }
    }

    #[test]
    fn an_index_may_name_plain_files_only() {
        let cases = [
            (
                r#"{"weight_map":{"a":"2.bin","b":"1.bin","c":"2.bin"}}"#,
                Ok(["1.bin", "2.bin"]),
            ),
            (
                r#"{"weight_map":{"a":"../x.bin"}}"#,
                Err("not a plain file name"),
            ),
            (
                r#"{"weight_map":{"a":"/etc/passwd"}}"#,
                Err("not a plain file name"),
            ),
            (
                r#"{"weight_map":{"a":"sub/x.bin"}}"#,
                Err("not a plain file name"),
            ),
            (r#"{"weight_map":{"a":7}}"#, Err("not a plain file name")),
            (r#"{"weight_map":{}}"#, Err("names no shards")),
            (r#"{"metadata":{}}"#, Err("no weight_map")),
            ("<html>", Err("not JSON")),
        ];
        let folder = tempfile::tempdir().unwrap();
        let index = folder.path().join("model.safetensors.index.json");
        for (content, expected) in cases {
            std::fs::write(&index, content).unwrap();
            match (shards(&index), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(error), Err(expected)) => {
                    assert!(format!("{error:#}").contains(expected), "{error:#}")
                }
                (found, _) => panic!("{content}: {found:?}"),
            }
        }
    }
}
