//! The keys of transformers' config.json, with what becomes of each.

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
    // Other families have CLIP's tensors and compute differently. `longclip` is Long-CLIP's converted.
    Keys(&["model_type"], Rule::Only(&["\"clip\"", "\"longclip\""])),
];

/// Keys of the text tower.
pub(super) const TEXT: &[Keys] = &[
    Keys(&["max_position_embeddings", "vocab_size"], Rule::Read),
    // transformers takes 2, an old mistake, for the largest id, which is 49407.
    Keys(&["eos_token_id"], Rule::Only(&["49407", "2"])),
    // `false` lets every token see the ones after it.
    Keys(&["is_causal"], Rule::Only(&["true"])),
];

/// Keys of the image tower.
pub(super) const VISION: &[Keys] = &[
    Keys(&["image_size", "patch_size"], Rule::Read),
    Keys(&["num_channels"], Rule::Only(&["3"])),
    // No text.
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
    // The whole file's counts; a tower's own is for the tower used alone.
    Keys(&["projection_dim"], Rule::Harmless),
    // The whole file's counts, and transformers ignores a tower's.
    Keys(&["model_type"], Rule::Harmless),
];

/// Keys of every file of transformers, and so of each part of this one.
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
    // How results are returned, and what else is returned.
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
    // Where the file comes from and which code reads it.
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
    // Precision and speed: --precision says what is computed in.
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
    // Names of the classes of a classifier, which CLIP is not.
    Keys(&["id2label", "label2id", "num_labels"], Rule::Harmless),
    // Kinds of model that CLIP's towers are not; its code does not ask.
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
    // Token ids of padding (under the causal mask nothing sees it) and of the start, which the
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
    // Generation of text, which CLIP does not do.
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
    // Weights with parts cut out, or in few bits.
    Keys(&["pruned_heads", "quantization_config"], Rule::Off),
];
