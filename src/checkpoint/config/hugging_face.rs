//! The config.json of transformers. An absent key has the default of the transformers class; an old
//! `text_config_dict` or `vision_config_dict` overrides the newer object, absent keys included.

mod tables;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::keys::{Keys, Object, Place, Rule};
use super::{TowerSettings, parse_activation};
use crate::checkpoint::architecture::{Activation, Architecture, ImageTower};
use crate::checkpoint::layout::{IMAGE_TOWER_ONLY, TEXT_ENCODER_ONLY};
use tables::{SHARED, TEXT, TOP, TOWER, VISION};

pub(super) const FILE: &str = "config.json";

/// The towers that a config.json describes, with the defaults of the transformers classes filled
/// in.
#[derive(Clone, Debug)]
pub(super) struct HuggingFace {
    text: Described,
    vision: Described,
    top: Described,
}

/// Settings of a tower, or of the whole model.
#[derive(Clone, Debug)]
struct Described {
    /// The key they stand under; empty for the whole file.
    path: &'static str,
    keys: Object,
}

impl Described {
    /// Reads a tower under its new name and its old one. If the old one is present, each key has
    /// the value given there or the default of the transformers class, whatever the newer object
    /// says.
    fn read(config: &Object, [new, old]: [&'static str; 2], defaults: &Value) -> Result<Self> {
        let mut keys = place("").object(config, new)?;
        let is_old = config.get(old).is_some_and(|value| !value.is_null());
        if is_old {
            keys.extend(defaults.as_object().cloned().unwrap_or_default());
            keys.extend(place("").object(config, old)?);
        }
        let path = if is_old { old } else { new };
        Ok(Self { path, keys })
    }

    fn place(&self) -> Place<'static> {
        place(self.path)
    }
}

impl HuggingFace {
    /// Reads a config.json. Returns `None`, with a warning, if it describes no towers (a file of
    /// the same name from another program).
    ///
    /// # Errors
    /// When a value is not supported.
    pub(super) fn read(config: Object, warnings: &mut Vec<String>) -> Result<Option<Self>> {
        let towers = [
            "text_config",
            "text_config_dict",
            "vision_config",
            "vision_config_dict",
        ];
        if !config.contains_key("model_type") && !towers.iter().any(|key| config.contains_key(*key))
        {
            place("").check_kinds(&config)?;
            let is_shared = |key: &str| SHARED.iter().any(|Keys(keys, _)| keys.contains(&key));
            let keys = config.keys().map(String::as_str);
            let unknown: Vec<&str> = keys.filter(|key| !is_shared(key)).collect();
            warnings.extend(place("").warning(&unknown));
            return Ok(None);
        }
        // A single tower; without this, its tensors would merely be reported as unknown.
        match config.get("model_type").and_then(Value::as_str) {
            Some(kind) if kind.starts_with("clip_text_model") => {
                bail!("{FILE}: {TEXT_ENCODER_ONLY}")
            }
            Some(kind) if kind.starts_with("clip_vision_model") => {
                bail!("{FILE}: {IMAGE_TOWER_ONLY}")
            }
            _ => {}
        }
        let [new, old, ..] = towers;
        let text = Described::read(&config, [new, old], &text_defaults())?;
        let [.., new, old] = towers;
        let vision = Described::read(&config, [new, old], &vision_defaults())?;
        // At the top level, the keys shared by the towers apply to neither.
        let vision_only = [Keys(&["eos_token_id"], Rule::Harmless)];
        let objects: [(_, _, &[&[Keys]]); 3] = [
            ("", &config, &[TOP, &vision_only, SHARED]),
            (text.path, &text.keys, &[TEXT, TOWER, SHARED]),
            (vision.path, &vision.keys, &[VISION, TOWER, SHARED]),
        ];
        for (path, object, tables) in objects {
            warnings.extend(place(path).warning(&place(path).check(object, tables)?));
        }
        Ok(Some(Self {
            text,
            vision,
            top: Described {
                path: "",
                keys: config,
            },
        }))
    }

    /// Head counts and LayerNorm epsilons.
    ///
    /// # Errors
    /// When one is not a number.
    pub(super) fn stated(&self) -> Result<TowerSettings> {
        let heads = |tower: &Described, default| {
            let heads = tower.place().whole(&tower.keys, "num_attention_heads");
            heads.map(|heads| heads.unwrap_or(default))
        };
        let epsilon = |tower: &Described| {
            let epsilon = tower.place().epsilon(&tower.keys, "layer_norm_eps");
            epsilon.map(|epsilon| epsilon.unwrap_or(1e-5))
        };
        Ok(TowerSettings {
            vision_heads: Some(heads(&self.vision, 12)?),
            vision_head_width: None,
            text_heads: heads(&self.text, 8)?,
            vision_epsilon: epsilon(&self.vision)?,
            text_epsilon: epsilon(&self.text)?,
        })
    }

    /// The activation of both towers, and where it is given.
    ///
    /// # Errors
    /// When the towers differ, or name an activation that CLIP models do not have.
    pub(super) fn activation(&self) -> Result<(Activation, String)> {
        let of = |tower: &Described| match tower.keys.get("hidden_act") {
            // The default of transformers, which it does not always write.
            None => Ok(Activation::QuickGelu),
            Some(Value::String(name)) => {
                parse_activation(name).with_context(|| tower.place().name("hidden_act"))
            }
            Some(other) => tower.place().refuse("hidden_act", other, "not a name"),
        };
        let (vision, text) = (of(&self.vision)?, of(&self.text)?);
        ensure!(
            vision == text,
            "config.json: the towers have different activations: {}.hidden_act is {vision}, \
             {}.hidden_act is {text}",
            self.vision.path,
            self.text.path
        );
        Ok((vision, "hidden_act in config.json".to_owned()))
    }

    /// Compares the dimensions with those of the tensors. A different context length is a warning,
    /// any other difference an error.
    ///
    /// # Errors
    /// When the two contradict each other.
    pub(super) fn check(&self, a: &Architecture) -> Result<Option<String>> {
        let (text, vision) = (&self.text, &self.vision);
        let mut stated = vec![
            (vision, "image_size", a.image.image_size()),
            (text, "hidden_size", a.text.width),
            (text, "num_hidden_layers", a.text.layers),
            (text, "intermediate_size", a.text.mlp_width),
            (text, "vocab_size", a.vocabulary),
            (&self.top, "projection_dim", a.embed_dim),
        ];
        // transformers has no CLIP ResNet, and so no names for one.
        if let ImageTower::VisionTransformer(sizes) = &a.image {
            stated.extend([
                (vision, "hidden_size", sizes.tower.width),
                (vision, "num_hidden_layers", sizes.tower.layers),
                (vision, "intermediate_size", sizes.tower.mlp_width),
                (vision, "patch_size", sizes.patch_size),
            ]);
        }
        for (part, key, found) in stated {
            if let Some(number) = part.place().whole(&part.keys, key)? {
                super::agree(part.place(), key, &json!(number), &json!(found))?;
            }
        }
        let context = text.place().whole(&text.keys, "max_position_embeddings")?;
        Ok(context
            .filter(|&context| context != a.context_length)
            .map(|context| {
                format!(
                    "config.json says a context of {context} tokens, but the positional table has \
                     {}; using the table",
                    a.context_length
                )
            }))
    }
}

fn place(path: &str) -> Place<'_> {
    Place {
        file: FILE,
        path,
        library: "transformers",
    }
}

/// Defaults of `CLIPTextConfig` that matter here.
fn text_defaults() -> Value {
    json!({
        "vocab_size": 49408, "hidden_size": 512, "intermediate_size": 2048,
        "num_hidden_layers": 12, "num_attention_heads": 8, "max_position_embeddings": 77,
        "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "eos_token_id": 49407,
    })
}

/// Defaults of `CLIPVisionConfig` that matter here.
fn vision_defaults() -> Value {
    json!({
        "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
        "num_attention_heads": 12, "num_channels": 3, "image_size": 224, "patch_size": 32,
        "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(config: Value) -> Result<(Option<HuggingFace>, Vec<String>)> {
        let mut warnings = Vec::new();
        let config = config.as_object().unwrap().clone();
        let read = HuggingFace::read(config, &mut warnings)?;
        Ok((read, warnings))
    }

    #[test]
    fn the_old_dict_wins_and_leaves_the_rest_to_the_class() {
        let both = |old: Value| {
            json!({
                "text_config": {"hidden_act": "gelu", "layer_norm_eps": 1e-3},
                "text_config_dict": old.clone(),
                "vision_config": {"hidden_act": "gelu"},
                "vision_config_dict": old,
            })
        };
        let cases = [
            (Value::Null, Activation::Gelu, 1e-3),
            (json!({}), Activation::QuickGelu, 1e-5),
            (
                json!({"hidden_act": "quick_gelu"}),
                Activation::QuickGelu,
                1e-5,
            ),
            (
                json!({"hidden_act": "gelu", "layer_norm_eps": 0.5}),
                Activation::Gelu,
                0.5,
            ),
        ];
        for (old, activation, epsilon) in cases {
            let (config, warnings) = read(both(old.clone())).unwrap();
            let config = config.unwrap();
            assert_eq!(config.activation().unwrap().0, activation, "{old}");
            assert_eq!(config.stated().unwrap().text_epsilon, epsilon, "{old}");
            assert_eq!(warnings, [""; 0]);
        }
    }

    #[test]
    fn absent_heads_are_those_of_the_class() {
        let (config, _) = read(json!({"model_type": "clip"})).unwrap();
        let stated = config.unwrap().stated().unwrap();
        assert_eq!((stated.vision_heads, stated.text_heads), (Some(12), 8));
    }

    #[test]
    fn values_that_change_the_numbers_are_refused_by_name() {
        let cases = [
            (json!({"model_type": "siglip"}), "model_type is \"siglip\""),
            (
                json!({"model_type": "clip_text_model"}),
                "text encoder only",
            ),
            (json!({"model_type": "clip_vision_model"}), "image encoder"),
            (
                json!({"text_config": {"eos_token_id": 5}}),
                "text_config.eos_token_id is 5",
            ),
            (
                json!({"text_config": {"is_causal": false}}),
                "text_config.is_causal is false",
            ),
            (json!({"text_config": 7}), "text_config is 7"),
            (
                json!({"vision_config": {"num_channels": 4}}),
                "vision_config.num_channels is 4",
            ),
            (
                json!({"vision_config": {"layer_norm_eps": null}}),
                "layer_norm_eps is null",
            ),
            (
                json!({"text_config": {"num_attention_heads": "8"}}),
                "num_attention_heads is \"8\"",
            ),
            (
                json!({"text_config_dict": {"hidden_act": null}}),
                "text_config_dict.hidden_act is null",
            ),
            (
                json!({"text_config": {"hidden_act": "gelu_new"}}),
                "text_config.hidden_act: the configuration names",
            ),
            (
                json!({"model_type": "clip", "quantization_config": {"bits": 4}}),
                "quantization_config is",
            ),
        ];
        for (config, words) in cases {
            let found = read(config.clone()).and_then(|(config, _)| {
                let config = config.unwrap();
                config.stated()?;
                config.activation()
            });
            let error = format!("{:#}", found.unwrap_err());
            assert!(
                error.contains("config.json: ") && error.contains(words),
                "{config}: {error}"
            );
        }
    }

    #[test]
    fn unknown_keys_and_files_of_others_are_named() {
        let (_, warnings) = read(json!({"text_config": {"rope": 1}, "new": 2})).unwrap();
        assert!(warnings[0].contains("config.json: new"), "{warnings:?}");
        assert!(warnings[1].contains("text_config.rope"), "{warnings:?}");
        let (config, warnings) = read(json!({"architecture": "vit", "num_classes": 0})).unwrap();
        assert!(config.is_none());
        assert!(
            warnings[0].contains("architecture, num_classes"),
            "{warnings:?}"
        );
        let marqo = json!({
            "architectures": ["MarqoFashionCLIP"], "auto_map": {}, "open_clip_model_name": "x",
            "torch_dtype": "float32", "transformers_version": "4.41",
        });
        let newer = json!({
            "model_type": "clip", "transformers.js_config": {}, "use_flash_attention_2": false,
            "vision_config": {"_flash_attn_2_enabled": true},
        });
        for config in [json!({}), marqo, newer] {
            assert_eq!(read(config).unwrap().1, [""; 0]);
        }
    }

    #[test]
    fn a_published_file_with_all_its_old_keys_is_read_in_silence() {
        let tower = r#"{
            "_name_or_path": "", "add_cross_attention": false, "architectures": null,
            "attention_dropout": 0.0, "bad_words_ids": null, "begin_suppress_tokens": null,
            "bos_token_id": 0, "chunk_size_feed_forward": 0, "cross_attention_hidden_size": null,
            "decoder_start_token_id": null, "diversity_penalty": 0.0, "do_sample": false,
            "dropout": 0.0, "early_stopping": false, "encoder_no_repeat_ngram_size": 0,
            "eos_token_id": 2, "exponential_decay_length_penalty": null, "finetuning_task": null,
            "forced_bos_token_id": null, "forced_eos_token_id": null, "hidden_act": "gelu",
            "hidden_size": 512, "id2label": {"0": "LABEL_0"}, "initializer_factor": 1.0,
            "initializer_range": 0.02, "intermediate_size": 2048, "is_decoder": false,
            "is_encoder_decoder": false, "label2id": {"LABEL_0": 0}, "layer_norm_eps": 1e-05,
            "length_penalty": 1.0, "max_length": 20, "min_length": 0, "no_repeat_ngram_size": 0,
            "num_attention_heads": 8, "num_beam_groups": 1, "num_beams": 1,
            "num_hidden_layers": 12, "num_return_sequences": 1, "output_attentions": false,
            "output_hidden_states": false, "output_scores": false, "pad_token_id": 1,
            "prefix": null, "problem_type": null, "projection_dim": 512, "pruned_heads": {},
            "remove_invalid_values": false, "repetition_penalty": 1.0, "return_dict": true,
            "return_dict_in_generate": false, "sep_token_id": null, "suppress_tokens": null,
            "task_specific_params": null, "temperature": 1.0, "tf_legacy_loss": false,
            "tie_encoder_decoder": false, "tie_word_embeddings": true, "tokenizer_class": null,
            "top_k": 50, "top_p": 1.0, "torch_dtype": null, "torchscript": false,
            "transformers_version": "4.24.0", "typical_p": 1.0, "use_bfloat16": false
        }"#;
        let tower: Value = serde_json::from_str(tower).unwrap();
        let mut text = tower.clone();
        text["model_type"] = json!("clip_text_model");
        text["max_position_embeddings"] = json!(77);
        text["vocab_size"] = json!(49408);
        let mut vision = tower;
        vision["model_type"] = json!("clip_vision_model");
        vision["image_size"] = json!(224);
        vision["num_channels"] = json!(3);
        vision["patch_size"] = json!(32);
        let config = json!({
            "_commit_hash": null, "architectures": ["CLIPModel"], "initializer_factor": 1.0,
            "logit_scale_init_value": 2.6592, "model_type": "clip", "projection_dim": 512,
            "text_config": text, "text_config_dict": null, "torch_dtype": "float32",
            "transformers_version": null, "vision_config": vision, "vision_config_dict": null,
        });
        let (found, warnings) = read(config).unwrap();
        assert_eq!(warnings, [""; 0]);
        assert_eq!(found.unwrap().activation().unwrap().0, Activation::Gelu);
    }
}
