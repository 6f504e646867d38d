//! The keys of transformers' config.json, and how each is handled.

use crate::checkpoint::config::keys::{Keys, Rule};

/// Keys of the whole file.
pub(super) const TOP: &[Keys] = &[
    Keys(
        &[
            "text_config",
            "text_config_dict",
            "vision_config",
            "vision_config_dict",
            "projection_dim",
        ],
        Rule::Read,
    ),
    // The stored scale replaces the initial one.
    Keys(&["logit_scale_init_value"], Rule::Harmless),
    // Other families share CLIP's tensors but compute differently. `longclip` marks converted
    // Long-CLIPs.
    Keys(&["model_type"], Rule::Only(&["\"clip\"", "\"longclip\""])),
];

/// Keys of the text tower.
pub(super) const TEXT: &[Keys] = &[
    Keys(&["max_position_embeddings", "vocab_size"], Rule::Read),
    // 2 is a historical mistake that transformers treats as the largest id, 49407.
    Keys(&["eos_token_id"], Rule::Only(&["49407", "2"])),
    // `false` disables the causal mask.
    Keys(&["is_causal"], Rule::Only(&["true"])),
];

/// Keys of the image tower.
pub(super) const VISION: &[Keys] = &[
    Keys(&["image_size", "patch_size"], Rule::Read),
    Keys(&["num_channels"], Rule::Only(&["3"])),
    // Not about text.
    Keys(&["eos_token_id", "is_causal"], Rule::Harmless),
];

/// Keys of both towers.
pub(super) const TOWER: &[Keys] = &[
    Keys(
        &[
            "hidden_act",
            "hidden_size",
            "intermediate_size",
            "layer_norm_eps",
            "num_attention_heads",
            "num_hidden_layers",
        ],
        Rule::Read,
    ),
    // The top-level value applies; a tower's own is for the tower used alone.
    Keys(&["projection_dim"], Rule::Harmless),
    // The top-level value applies; transformers ignores a tower's.
    Keys(&["model_type"], Rule::Harmless),
];

/// Keys of every transformers configuration, and so of each part of this one.
pub(super) const SHARED: &[Keys] = &[
    // Training only.
    Keys(
        &[
            "attention_dropout",
            "chunk_size_feed_forward",
            "dropout",
            "gradient_checkpointing",
            "initializer_factor",
            "initializer_range",
            "label_smoothing",
            "problem_type",
        ],
        Rule::Harmless,
    ),
    // Form of the results, and additional outputs.
    Keys(
        &[
            "output_attentions",
            "output_hidden_states",
            "output_scores",
            "return_dict",
            "return_dict_in_generate",
            "return_loss",
            "torchscript",
            "use_cache",
            "use_return_dict",
        ],
        Rule::Harmless,
    ),
    // Provenance of the file, and the code that reads it.
    Keys(
        &[
            "_commit_hash",
            "_name_or_path",
            "architectures",
            "auto_map",
            "finetuning_task",
            "name_or_path",
            "open_clip_model_name",
            "tokenizer_class",
            "transformers.js_config",
            "transformers_version",
        ],
        Rule::Harmless,
    ),
    // Precision and speed: --precision decides.
    Keys(
        &[
            "_attn_implementation",
            "_attn_implementation_autoset",
            "_attn_implementation_internal",
            "_experts_implementation",
            "_flash_attn_2_enabled",
            "attn_implementation",
            "dtype",
            "tf_legacy_loss",
            "torch_dtype",
            "use_bfloat16",
            "use_flash_attention_2",
        ],
        Rule::Harmless,
    ),
    // Class names of a classifier; CLIP is not one.
    Keys(&["id2label", "label2id", "num_labels"], Rule::Harmless),
    // Model kinds that do not apply to CLIP's towers and that its code ignores.
    Keys(
        &[
            "add_cross_attention",
            "cross_attention_hidden_size",
            "is_decoder",
            "is_encoder_decoder",
            "tie_encoder_decoder",
            "tie_word_embeddings",
        ],
        Rule::Harmless,
    ),
    // Token ids of padding (invisible under the causal mask) and of the start, which the
    // tokenizer sets.
    Keys(
        &[
            "bos_token_id",
            "decoder_start_token_id",
            "pad_token_id",
            "sep_token_id",
        ],
        Rule::Harmless,
    ),
    // Text generation, which CLIP does not do.
    Keys(
        &[
            "bad_words_ids",
            "begin_suppress_tokens",
            "diversity_penalty",
            "do_sample",
            "early_stopping",
            "encoder_no_repeat_ngram_size",
            "exponential_decay_length_penalty",
            "forced_bos_token_id",
            "forced_eos_token_id",
            "length_penalty",
            "max_length",
            "min_length",
            "no_repeat_ngram_size",
            "num_beam_groups",
            "num_beams",
            "num_return_sequences",
            "prefix",
            "remove_invalid_values",
            "repetition_penalty",
            "suppress_tokens",
            "task_specific_params",
            "temperature",
            "top_k",
            "top_p",
            "typical_p",
        ],
        Rule::Harmless,
    ),
    // Pruned or quantised weights.
    Keys(&["pruned_heads", "quantization_config"], Rule::Off),
];
