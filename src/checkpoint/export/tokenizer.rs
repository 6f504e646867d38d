//! CLIP's tokenizer as files that transformers reads.

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::config::Text;
use crate::input::tokenizer::{self, END_OF_TEXT, START_OF_TEXT};

/// `vocab.json`, `merges.txt`, `tokenizer.json`, `tokenizer_config.json` and
/// `special_tokens_map.json` for a model with this context length.
pub(super) fn files(context_length: usize) -> Result<Vec<Text>> {
    let (start, end) = (
        tokenizer::symbol(START_OF_TEXT),
        tokenizer::symbol(END_OF_TEXT),
    );
    let vocabulary: Map<String, Value> = (0..tokenizer::VOCABULARY as u32)
        .map(|id| (tokenizer::symbol(id), json!(id)))
        .collect();
    let merges: Vec<String> = tokenizer::merges()
        .map(|(left, right)| format!("{left} {right}"))
        .collect();
    let lines = merges.join("\n");
    let added = |content: &str, id: u32| {
        json!({
            "id": id, "content": content, "special": true, "normalized": true,
            "single_word": false, "lstrip": false, "rstrip": false,
        })
    };
    let fast = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [added(&start, START_OF_TEXT), added(&end, END_OF_TEXT)],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "NFC"},
            {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "},
            {"type": "Lowercase"},
        ]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {
                "type": "Split",
                "pattern": {"Regex": "'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+"},
                "behavior": "Removed",
                "invert": true,
            },
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        ]},
        "post_processor": {
            "type": "RobertaProcessing",
            "sep": [end, END_OF_TEXT],
            "cls": [start, START_OF_TEXT],
            "trim_offsets": false,
            "add_prefix_space": false,
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": end,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "</w>",
            "fuse_unk": false,
            "vocab": vocabulary,
            "merges": merges,
        },
    });
    let config = json!({
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": context_length,
        "bos_token": start,
        "eos_token": end,
        "unk_token": end,
        "pad_token": end,
        "do_lower_case": true,
        "add_prefix_space": false,
        "errors": "replace",
    });
    let special = json!({
        "bos_token": start, "eos_token": end, "unk_token": end, "pad_token": end,
    });
    Ok(vec![
        ("vocab.json", serde_json::to_string(&vocabulary)?),
        ("merges.txt", format!("#version: 0.2\n{lines}\n")),
        ("tokenizer.json", serde_json::to_string(&fast)?),
        (
            "tokenizer_config.json",
            serde_json::to_string_pretty(&config)? + "\n",
        ),
        (
            "special_tokens_map.json",
            serde_json::to_string_pretty(&special)? + "\n",
        ),
    ])
}
