//! The configuration and tokenizer files that transformers and open_clip expect next to the
//! weights.

use anyhow::{Result, bail};
use serde_json::{Map, Value, json};

use crate::checkpoint::architecture::{Activation, ImageTower, Tower};
use crate::checkpoint::{Checkpoint, metadata};
use crate::input::preprocess::Resize;
use crate::input::resize::Filter;
use crate::input::tokenizer::{self, END_OF_TEXT, START_OF_TEXT};

/// A file's name and content.
pub(super) type Text = (&'static str, String);

/// The properties of a tower as transformers names them.
fn tower(checkpoint: &Checkpoint, tower: &Tower, model_type: &str) -> Value {
    json!({
        "model_type": model_type,
        "hidden_size": tower.width,
        "intermediate_size": tower.mlp_width,
        "num_hidden_layers": tower.layers,
        "num_attention_heads": tower.heads,
        "hidden_act": checkpoint.activation.to_string(),
        "layer_norm_eps": plain(tower.norm_epsilon),
        "projection_dim": checkpoint.architecture.embed_dim,
    })
}

/// The properties of `CLIPTextConfig`.
fn text_tower(checkpoint: &Checkpoint) -> Value {
    let a = &checkpoint.architecture;
    let mut text = tower(checkpoint, &a.text, "clip_text_model");
    text["max_position_embeddings"] = json!(a.context_length);
    text["vocab_size"] = json!(a.vocabulary);
    text["bos_token_id"] = json!(START_OF_TEXT);
    text["eos_token_id"] = json!(END_OF_TEXT);
    text["pad_token_id"] = json!(END_OF_TEXT);
    text
}

/// `config.json` of transformers' `CLIPTextModelWithProjection`, which `CLIPTextModel` reads too.
pub(super) fn text_encoder(checkpoint: &Checkpoint) -> Result<Text> {
    let mut config = text_tower(checkpoint);
    config["architectures"] = json!(["CLIPTextModelWithProjection"]);
    Ok(("config.json", pretty(&config)?))
}

/// `config.json` and `preprocessor_config.json` of transformers.
pub(super) fn hugging_face(checkpoint: &Checkpoint) -> Result<Vec<Text>> {
    let a = &checkpoint.architecture;
    let ImageTower::VisionTransformer(sizes) = &a.image else {
        bail!("transformers has no {}", a.image.describe());
    };
    let mut vision = tower(checkpoint, &sizes.tower, "clip_vision_model");
    vision["image_size"] = json!(sizes.image_size);
    vision["patch_size"] = json!(sizes.patch_size);
    let config = json!({
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": a.embed_dim,
        "text_config": text_tower(checkpoint),
        "vision_config": vision,
    });
    let pixels = &checkpoint.preprocess;
    let side = a.image.image_size();
    let preprocessor = json!({
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": true,
        "size": metadata::size(pixels.resize),
        "resample": match pixels.filter {
            Filter::Bilinear => 2,
            Filter::Bicubic => 3,
        },
        "do_center_crop": true,
        "crop_size": {"height": side, "width": side},
        "do_convert_rgb": true,
        "do_rescale": true,
        "rescale_factor": 1.0 / 255.0,
        "do_normalize": true,
        "image_mean": pixels.mean.map(plain),
        "image_std": pixels.std.map(plain),
    });
    Ok(vec![
        ("config.json", pretty(&config)?),
        ("preprocessor_config.json", pretty(&preprocessor)?),
    ])
}

/// `open_clip_config.json`.
pub(super) fn open_clip(checkpoint: &Checkpoint) -> Result<Vec<Text>> {
    let a = &checkpoint.architecture;
    let mut vision = match &a.image {
        ImageTower::VisionTransformer(sizes) => json!({
            "image_size": sizes.image_size,
            "layers": sizes.tower.layers,
            "width": sizes.tower.width,
            "head_width": sizes.tower.width / sizes.tower.heads,
            "patch_size": sizes.patch_size,
        }),
        ImageTower::ResNet(sizes) => json!({
            "image_size": sizes.image_size,
            "layers": sizes.blocks,
            "width": sizes.width,
            "patch_size": null,
        }),
    };
    let mut text = json!({
        "context_length": a.context_length,
        "vocab_size": a.vocabulary,
        "width": a.text.width,
        "heads": a.text.heads,
        "layers": a.text.layers,
    });
    if let ImageTower::VisionTransformer(sizes) = &a.image {
        exceptions(&mut vision, &sizes.tower);
    }
    exceptions(&mut text, &a.text);
    let mut model = json!({"embed_dim": a.embed_dim, "vision_cfg": vision, "text_cfg": text});
    if checkpoint.activation == Activation::QuickGelu {
        model["quick_gelu"] = json!(true);
    }
    if let Some(bias) = checkpoint.logit_bias()? {
        // Without it, open_clip builds a model that has no such tensor.
        model["init_logit_bias"] = json!(plain(bias));
    }
    let pixels = &checkpoint.preprocess;
    let config = json!({
        "model_cfg": model,
        "preprocess_cfg": {
            "mean": pixels.mean.map(plain),
            "std": pixels.std.map(plain),
            "interpolation": pixels.filter.name(),
            "resize_mode": match pixels.resize {
                Resize::ShortestEdge(_) => "shortest",
                Resize::Exact { .. } => "squash",
            },
        },
    });
    Ok(vec![("open_clip_config.json", pretty(&config)?)])
}

/// Adds the MLP width if it is not the usual four times the tower's, and an unusual
/// epsilon.
fn exceptions(config: &mut Value, tower: &Tower) {
    if tower.mlp_width != 4 * tower.width {
        config["mlp_ratio"] = json!(tower.mlp_width as f64 / tower.width as f64);
    }
    if tower.norm_epsilon != 1e-5 {
        config["norm_kwargs"] = json!({"eps": plain(tower.norm_epsilon)});
    }
}

/// The shortest decimal that rounds to this f32, because JSON numbers are f64.
fn plain(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

fn pretty(value: &Value) -> Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

/// `vocab.json`, `merges.txt`, `tokenizer.json`, `tokenizer_config.json` and
/// `special_tokens_map.json` for a model with this context length.
pub(super) fn tokenizer(context_length: usize) -> Result<Vec<Text>> {
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
        ("tokenizer_config.json", pretty(&config)?),
        ("special_tokens_map.json", pretty(&special)?),
    ])
}
