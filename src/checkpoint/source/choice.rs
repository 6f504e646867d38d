//! Chooses the weights among the files of a folder or repository.

use std::path::Path;

use anyhow::bail;
use serde_json::Value;

use super::files::OPEN_CLIP_CONFIG;
use crate::checkpoint::hub::check_file_name;
use crate::file::open;

/// The standard names of weight files, best first. They show which program wrote the
/// folder, so the configuration next to them belongs to them.
const USUAL: [&str; 6] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];

/// The ones that open_clip writes. timm's repositories have them next to timm's own image tower,
/// which is named as transformers names whole models.
pub(super) const OPEN_CLIP: [&str; 2] =
    ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"];

/// Maximum size of a config.json in bytes.
const CONFIG_LIMIT_BYTES: u64 = 1 << 20;

/// Extensions of weight files with other names, best group first.
const ENDINGS: [&[&str]; 3] = [&[".safetensors"], &[".pt"], &[".ckpt", ".pth", ".bin"]];

/// Name prefixes of training state, which has the extensions of weights.
const TRAINING: [&str; 5] = [
    "optimizer",
    "scheduler",
    "training_args",
    "rng_state",
    "scaler",
];

/// Extensions of models for other programs.
const OTHERS: [(&str, &str); 5] = [
    (".msgpack", "Flax"),
    (".h5", "TensorFlow"),
    (".onnx", "ONNX"),
    (".gguf", "GGUF"),
    ("openvino_model.bin", "OpenVINO"),
];

/// Whether a file of this name has configuration files next to it. For any other file (a lone `.pt`
/// among downloads) they may belong to something else.
pub(super) fn has_companions(file: &str) -> bool {
    let name = file.rsplit('/').next().unwrap_or(file);
    USUAL.contains(&name)
}

/// Whether a name has the extension of a weight file.
pub(super) fn is_weights_name(name: &str) -> bool {
    let mut endings = ENDINGS.into_iter().flatten();
    endings.any(|ending| name.ends_with(ending))
}

/// Whether a file with one of these extensions may be the only weights of a folder.
fn is_own_name(name: &str, endings: &[&str]) -> bool {
    let is_shard = || {
        let numbers = name.split_once("-of-");
        let digit = |letter: char| letter.is_ascii_digit();
        numbers.is_some_and(|(one, all)| one.ends_with(digit) && all.starts_with(digit))
    };
    endings.iter().any(|ending| name.ends_with(ending))
        && !name.contains('/')
        && !TRAINING.iter().any(|state| name.starts_with(state))
        && !is_shard()
        && !name.ends_with("openvino_model.bin")
        && check_file_name(name).is_ok()
}

/// Whether config.json is needed to decide which of these files are the model: open_clip's or those
/// named as in transformers.
pub(super) fn needs_config(names: &[String]) -> bool {
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    let others = || {
        USUAL
            .iter()
            .any(|usual| !OPEN_CLIP.contains(usual) && has(usual))
    };
    OPEN_CLIP.iter().any(|name| has(name)) && others()
}

/// Whether a config.json describes a transformers model; timm's has other keys. If open_clip's
/// configuration is present too, it describes model families other than CLIP.
fn is_of_transformers(config: &Path, has_open_clip_config: bool) -> bool {
    let content = open::bytes(config, CONFIG_LIMIT_BYTES).ok();
    let content = content.and_then(|content| serde_json::from_slice::<Value>(&content).ok());
    content.is_some_and(
        |content| match content.get("model_type").and_then(Value::as_str) {
            Some("clip" | "longclip") => true,
            Some(kind) if has_open_clip_config || kind == "timm_wrapper" => false,
            Some(_) => true,
            None => content.get("vision_config").is_some(),
        },
    )
}

/// Chooses the weights (or their index) among the names in one folder; `config` is its config.json.
///
/// # Errors
/// When there are none, or several of equal rank.
pub(super) fn choose(
    names: &[String],
    place: &str,
    config: Option<&Path>,
) -> anyhow::Result<String> {
    let is_there = |usual: &&&str| names.iter().any(|name| name == **usual);
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    let is_of_transformers = |config: &Path| is_of_transformers(config, has(OPEN_CLIP_CONFIG));
    let preferred: &[&str] = match needs_config(names) && !config.is_some_and(is_of_transformers) {
        true => &OPEN_CLIP,
        false => &USUAL,
    };
    if let Some(usual) = preferred.iter().find(is_there) {
        return Ok((*usual).to_owned());
    }
    for endings in ENDINGS {
        let found = names.iter().filter(|name| is_own_name(name, endings));
        let mut found: Vec<&String> = found.collect();
        found.sort();
        match found.as_slice() {
            [] => {}
            [one] => return Ok((*one).clone()),
            several => bail!(
                "{place} has several weight files, none with a standard name; pass one of them: {}",
                listed(several)
            ),
        }
    }
    bail!(no_weights(names, place))
}

/// The error if none of `names` is usable.
fn no_weights(names: &[String], place: &str) -> String {
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    if has("log.jsonl") && has("settings.json") {
        return format!(
            "{place} is a run of longclip finetune without a model: finish it with the same command and --resume (what was \
             trained with --adapter-only has an adapter and no model; without that flag it has both)"
        );
    }
    if has("model_index.json") {
        return format!(
            "{place} is a diffusers pipeline with only CLIP's text encoder; pass the CLIP model \
             that it was taken from"
        );
    }
    let hint = if names.iter().any(|name| name.contains("-of-")) {
        " (shards without their index cannot be read)".to_owned()
    } else if has("adapter_config.json") {
        " (an adapter alone is not a model)".to_owned()
    } else {
        for_others(names)
    };
    let mut deeper: Vec<&String> = names
        .iter()
        .filter(|name| has_companions(name) && name.contains('/'))
        .collect();
    deeper.sort();
    let deeper = match deeper.as_slice() {
        [] => String::new(),
        deeper => format!("; its folders hold {}: pass one of these", listed(deeper)),
    };
    format!(
        "{place} has no usable weights{hint}; expected {}, or a single .safetensors, .pt, .ckpt, \
         .pth or .bin file{deeper}",
        USUAL.join(", ")
    )
}

/// The hint about models for other programs.
fn for_others(names: &[String]) -> String {
    let of = |ending: &str| names.iter().find(|name| name.ends_with(ending));
    let found = OTHERS
        .iter()
        .filter_map(|(ending, program)| of(ending).map(|name| format!("{name} is for {program}")));
    let found: Vec<String> = found.collect();
    match found.as_slice() {
        [] => String::new(),
        found => format!(" ({}, which is not supported)", found.join(", ")),
    }
}

/// Standard weight files and ONNX files in the subfolders of `folder`, for the error of [`choose`].
pub(super) fn deeper(folder: &Path, inside: &str) -> Vec<String> {
    let names = USUAL
        .iter()
        .chain(&["model.onnx"])
        .filter(|name| folder.join(inside).join(name).is_file());
    names.map(|name| format!("{inside}/{name}")).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::source::files::CONFIG;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_best_file_is_chosen() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join(CONFIG);
        std::fs::write(&config, r#"{"model_type":"clip"}"#).unwrap();
        let cases: [(&[&str], &str); 12] = [
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
            (&["last.ckpt", "README.md"], "last.ckpt"),
            (&["best-of-5.pth", "events.out"], "best-of-5.pth"),
            (&["mine.bin", "optimizer.bin", "scaler.pt"], "mine.bin"),
            (&["x.ckpt", "x.pt", "optimizer.pt"], "x.pt"),
        ];
        for (list, expected) in cases {
            let found = choose(&names(list), "here", Some(&config)).unwrap();
            assert_eq!(found, expected, "{list:?}");
        }
    }

    #[test]
    fn open_clips_weights_win_over_timms_of_the_same_folder() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join(CONFIG);
        let both = ["model.safetensors", "open_clip_model.safetensors"];
        let older = [
            "pytorch_model.bin",
            "model.safetensors",
            "open_clip_pytorch_model.bin",
        ];
        let timm = r#"{"architecture":"vit_base_patch16_clip_224","num_classes":0}"#;
        for (content, is_timms) in [
            (timm, true),
            (r#"{"architecture":"x","model_type":"timm_wrapper"}"#, true),
            ("{}", true),
            ("<html>", true),
            (r#"{"model_type":"clip"}"#, false),
            (r#"{"vision_config":{}}"#, false),
        ] {
            std::fs::write(&config, content).unwrap();
            for (list, open_clip) in [(&both[..], both[1]), (&older, older[2])] {
                let list = names(list);
                assert!(needs_config(&list));
                let expected = if is_timms {
                    open_clip
                } else {
                    "model.safetensors"
                };
                let found = choose(&list, "here", Some(&config)).unwrap();
                assert_eq!(found, expected, "{content}");
                assert_eq!(choose(&list, "here", None).unwrap(), open_clip);
            }
        }
        let list = [both[0], both[1], OPEN_CLIP_CONFIG];
        for (kind, expected) in [
            ("marqo-fashionclip", both[1]),
            ("clip", both[0]),
            ("longclip", both[0]),
        ] {
            std::fs::write(&config, format!(r#"{{"model_type":"{kind}"}}"#)).unwrap();
            let found = choose(&names(&list), "here", Some(&config)).unwrap();
            assert_eq!(found, expected, "{kind}");
        }
        assert!(!needs_config(&names(&[
            "model.safetensors",
            "pytorch_model.bin"
        ])));
    }

    #[test]
    fn none_or_several_of_equal_rank_are_errors() {
        let cases: [(&[&str], &str); 11] = [
            (
                &["README.md", "b/model.safetensors", "a/x.pt"],
                "hold b/model.safetensors: pass",
            ),
            (&["b.pt", "a.pt"], "a.pt, b.pt"),
            (&["b.pth", "a.ckpt", "c.bin"], "a.ckpt, b.pth, c.bin"),
            (
                &["optimizer.pt", "rng_state_0.pth"],
                "has no usable weights",
            ),
            (&["flax_model.msgpack"], "flax_model.msgpack is for Flax"),
            (
                &["tf_model.h5", "onnx/model.onnx"],
                "tf_model.h5 is for TensorFlow, onnx/model.onnx is for ONNX, which is not \
                 supported",
            ),
            (&["model_index.json"], "diffusers pipeline"),
            (
                &["a.safetensors", "b.safetensors", "c.pt"],
                "a.safetensors, b.safetensors",
            ),
            (
                &["config.json"],
                "here has no usable weights; expected model.safetensors",
            ),
            (
                &["pytorch_model-00001-of-00002.bin"],
                "shards without their index",
            ),
            (&["log.jsonl", "report.html", "settings.json"], "--resume"),
        ];
        for (list, expected) in cases {
            let error = choose(&names(list), "here", None).unwrap_err().to_string();
            assert!(error.contains(expected), "{list:?}: {error}");
        }
    }
}
