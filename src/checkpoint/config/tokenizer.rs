//! The tokenizer_config.json of transformers: whether it would produce token ids other than CLIP's.

use anyhow::Result;
use serde_json::Value;

use super::keys::{Keys, Object, Place, Rule};
use crate::input::tokenizer::{END_OF_TEXT, START_OF_TEXT, symbol};

const PLACE: Place<'static> = Place {
    file: "tokenizer_config.json",
    path: "",
    library: "transformers",
};

const KEYS: &[Keys] = &[
    Keys(
        &[
            "added_tokens_decoder",
            "additional_special_tokens",
            "bos_token",
            "eos_token",
            "extra_special_tokens",
            "pad_token",
            "unk_token",
        ],
        Rule::Read,
    ),
    Keys(
        &["tokenizer_class"],
        Rule::Only(&[
            "\"CLIPTokenizer\"",
            "\"CLIPTokenizerFast\"",
            // These classes read tokenizer.json, whose vocabulary is checked.
            "\"PreTrainedTokenizerFast\"",
            "\"TokenizersBackend\"",
            "null",
        ]),
    ),
    // Left padding moves the text to other positions.
    Keys(&["padding_side"], Rule::Only(&["\"right\"", "null"])),
    // Truncation and padding: --long-text decides about long texts, and padding after a text is
    // invisible.
    Keys(
        &[
            "max_length",
            "model_max_length",
            "pad_to_multiple_of",
            "pad_token_type_id",
            "padding",
            "stride",
            "truncation",
            "truncation_side",
            "truncation_strategy",
        ],
        Rule::Harmless,
    ),
    // CLIPTokenizer ignores them: it always lowercases and always adds start and end.
    Keys(
        &[
            "add_bos_token",
            "add_eos_token",
            "add_prefix_space",
            "do_lower_case",
            "strip_accents",
        ],
        Rule::Harmless,
    ),
    // Decoding of ids to text.
    Keys(&["clean_up_tokenization_spaces", "errors"], Rule::Harmless),
    // For texts that contain CLIP's two special tokens literally.
    Keys(&["split_special_tokens"], Rule::Harmless),
    // Provenance, the code that reads the file, and additional outputs.
    Keys(
        &[
            "add_special_tokens",
            "auto_map",
            "backend",
            "chat_template",
            "from_slow",
            "is_local",
            "legacy",
            "local_files_only",
            "merges_file",
            "model_input_names",
            "name_or_path",
            "processor_class",
            "return_token_type_ids",
            "special_tokens_map_file",
            "tokenizer_file",
            "use_fast",
            "vocab_file",
        ],
        Rule::Harmless,
    ),
];

/// Fails if the file would change token ids; warns about unknown keys.
///
/// # Errors
/// Names the offending key and its value.
pub(super) fn check(config: &Object, warnings: &mut Vec<String>) -> Result<()> {
    let unknown = PLACE.check(config, &[KEYS])?;
    warnings.extend(PLACE.warning(&unknown));
    let clips = [symbol(START_OF_TEXT), symbol(END_OF_TEXT)];
    for (key, expected) in ["bos_token", "eos_token"].into_iter().zip(&clips) {
        if let Some(value) = config
            .get(key)
            .filter(|value| content(value) != Some(expected))
        {
            let why = format!(
                "but longclip supports only \"{expected}\"; use transformers for this model"
            );
            return PLACE.refuse(key, value, &why);
        }
    }
    for key in ["pad_token", "unk_token"] {
        let token = config.get(key).and_then(content);
        let own = token.filter(|token| !clips.iter().any(|clips| clips == token));
        warnings.extend(own.map(|token| splits(key, token)));
    }
    for key in [
        "added_tokens_decoder",
        "additional_special_tokens",
        "extra_special_tokens",
    ] {
        let Some(value) = config.get(key) else {
            continue;
        };
        for (id, token) in
            tokens(value).filter(|(_, token)| !clips.iter().any(|clips| clips == token))
        {
            let is_named = ["pad_token", "unk_token"]
                .iter()
                .any(|key| config.get(*key).and_then(content) == Some(token));
            if id.is_some_and(|id| id < START_OF_TEXT && symbol(id) == token) {
                // One that is also the padding was already reported.
                warnings.extend((!is_named).then(|| splits(key, token)));
                continue;
            }
            let why = format!(
                "with the token \"{token}\", which is not one of CLIP's special tokens or not its id; use \
                 transformers for this model"
            );
            return PLACE.refuse(key, value, &why);
        }
    }
    Ok(())
}

/// The warning about a special token that texts may contain.
fn splits(key: &str, token: &str) -> String {
    format!(
        "{} is \"{token}\": transformers tokenizes a text that contains it differently",
        PLACE.name(key)
    )
}

/// A token: a string, or an object that holds it under `content`.
fn content(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

/// All tokens of a list or an object, with their ids where these are the object's keys.
fn tokens(value: &Value) -> Box<dyn Iterator<Item = (Option<u32>, &str)> + '_> {
    match value {
        Value::Array(list) => Box::new(
            list.iter()
                .filter_map(|token| Some((None, content(token)?))),
        ),
        Value::Object(object) => Box::new(
            object
                .iter()
                .filter_map(|(id, token)| Some((id.parse().ok(), content(token)?))),
        ),
        _ => Box::new(std::iter::empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn warnings(config: &Value) -> Result<Vec<String>> {
        let mut warnings = Vec::new();
        check(config.as_object().unwrap(), &mut warnings)?;
        Ok(warnings)
    }

    #[test]
    fn published_files_are_read_in_silence() {
        let old = json!({
            "unk_token": {"content": "<|endoftext|>", "single_word": false, "__type": "AddedToken"},
            "bos_token": {"content": "<|startoftext|>", "normalized": true},
            "eos_token": {"content": "<|endoftext|>"}, "pad_token": "<|endoftext|>",
            "add_prefix_space": false, "errors": "replace", "do_lower_case": true,
            "name_or_path": "openai/clip-vit-base-patch32", "model_max_length": 77,
            "special_tokens_map_file": "./special_tokens_map.json",
            "tokenizer_class": "CLIPTokenizer",
        });
        let new = json!({
            "backend": "tokenizers", "bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>",
            "is_local": true, "local_files_only": false, "model_max_length": 1e30,
            "pad_token": "<|endoftext|>", "processor_class": "CLIPProcessor",
            "tokenizer_class": "CLIPTokenizer", "unk_token": "<|endoftext|>",
            "added_tokens_decoder": {
                "49406": {"content": "<|startoftext|>", "special": true},
                "49407": {"content": "<|endoftext|>", "special": true},
            },
            "additional_special_tokens": [], "extra_special_tokens": {},
        });
        for config in [old, new, json!({})] {
            assert_eq!(warnings(&config).unwrap(), [""; 0]);
        }
    }

    #[test]
    fn other_ids_are_refused_by_name_and_strange_keys_named() {
        let cases = [
            ("tokenizer_class", json!("BertTokenizer")),
            ("padding_side", json!("left")),
            ("bos_token", json!("<s>")),
            ("bos_token", json!(null)),
            ("eos_token", json!({"content": "!"})),
            ("additional_special_tokens", json!(["<photo>"])),
            ("extra_special_tokens", json!({"image": "<photo>"})),
            (
                "added_tokens_decoder",
                json!({"49408": {"content": "<photo>"}}),
            ),
            ("added_tokens_decoder", json!({"1": {"content": "!"}})),
            (
                "added_tokens_decoder",
                json!({"4294967295": {"content": "!"}}),
            ),
        ];
        for (key, value) in cases {
            let error = warnings(&json!({ key: value })).unwrap_err().to_string();
            assert!(
                error.contains(&format!("tokenizer_config.json: {key} is ")),
                "{error}"
            );
        }
        let own = json!({"0": {"content": "!", "special": true}});
        for config in [
            json!({"pad_token": "!"}),
            json!({"pad_token": "!", "added_tokens_decoder": own}),
            json!({"added_tokens_decoder": own}),
            json!({"lower": false}),
        ] {
            assert_eq!(warnings(&config).unwrap().len(), 1, "{config}");
        }
    }
}
