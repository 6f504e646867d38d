//! The keys of open_clip_config.json, and how each is handled.

use crate::checkpoint::config::keys::{Keys, Rule};

/// Keys of `model_cfg`.
pub(super) const MODEL: &[Keys] = &[
    Keys(
        &["embed_dim", "quick_gelu", "text_cfg", "vision_cfg"],
        Rule::Read,
    ),
    // Whether tensors have the prefix `text.`; their names show it.
    Keys(&["custom_text"], Rule::Harmless),
    // The stored scale and bias replace the initial ones, and their shapes are known.
    Keys(
        &[
            "init_logit_bias",
            "init_logit_scale",
            "nonscalar_logit_scale",
        ],
        Rule::Harmless,
    ),
    // Form of the results, and the precision open_clip computes in.
    Keys(&["cast_dtype", "output_dict"], Rule::Harmless),
    // CoCa.
    Keys(&["multimodal_cfg"], Rule::Off),
];

/// Keys of both towers.
pub(super) const TOWER: &[Keys] = &[
    Keys(&["layers", "mlp_ratio", "norm_kwargs", "width"], Rule::Read),
    // Whether the tokens are returned too.
    Keys(&["output_tokens"], Rule::Harmless),
    Keys(
        &[
            "act_kwargs",
            "qk_norm",
            "scale_attn",
            "scale_attn_inner",
            "scale_fc",
            "scale_heads",
            "scaled_cosine_attn",
        ],
        Rule::Off,
    ),
    Keys(&["block_type"], Rule::Only(&["null", "\"default\""])),
    // Any number, including 0, means that there are scales.
    Keys(&["ls_init_value"], Rule::Only(&["null"])),
];

/// Keys of the image tower.
pub(super) const VISION: &[Keys] = &[
    Keys(&["head_width", "image_size", "patch_size"], Rule::Read),
    // Training only.
    Keys(&["patch_dropout"], Rule::Harmless),
    // Unused without attentional_pool.
    Keys(
        &["attn_pooler_heads", "attn_pooler_queries"],
        Rule::Harmless,
    ),
    // With the class token, the LayerNorm may come before or after selecting it.
    Keys(&["final_ln_after_pool"], Rule::Harmless),
    Keys(
        &["attentional_pool", "no_ln_pre", "timm_model_name"],
        Rule::Off,
    ),
    Keys(&["pool_type"], Rule::Only(&["\"tok\""])),
    // Initialisation of the table; the trained values are stored.
    Keys(
        &["pos_embed_type"],
        Rule::Only(&["\"learnable\"", "\"sin_cos_2d\""]),
    ),
    // Unused without timm_model_name.
    Keys(
        &[
            "timm_drop",
            "timm_drop_path",
            "timm_model_pretrained",
            "timm_pool",
            "timm_proj",
            "timm_proj_bias",
        ],
        Rule::Harmless,
    ),
];

/// Keys of the text tower.
pub(super) const TEXT: &[Keys] = &[
    Keys(
        &[
            "context_length",
            "eos_id",
            "heads",
            "pool_type",
            "tokenizer_kwargs",
            "vocab_size",
        ],
        Rule::Read,
    ),
    // open_clip uses the padding id only with a class token (embed_cls).
    Keys(&["pad_id"], Rule::Harmless),
    // open_clip does not pass it to the tower.
    Keys(&["final_ln_after_pool"], Rule::Harmless),
    Keys(
        &[
            "embed_cls",
            "hf_model_name",
            "hf_tokenizer_name",
            "no_causal_mask",
            "proj_bias",
        ],
        Rule::Off,
    ),
    Keys(&["proj_type"], Rule::Only(&["\"linear\""])),
    // Unused without hf_model_name and hf_tokenizer_name.
    Keys(
        &[
            "hf_model_pretrained",
            "hf_pooler_type",
            "hf_proj_type",
            "tokenizer_mode",
        ],
        Rule::Harmless,
    ),
];

/// Keys of `tokenizer_kwargs`.
pub(super) const TOKENIZER: &[Keys] = &[
    Keys(&["clean"], Rule::Only(&["\"lower\""])),
    Keys(&["additional_special_tokens", "reduction_mask"], Rule::Off),
];

/// Keys of `preprocess_cfg`. `null` is the default.
pub(super) const PREPROCESS: &[Keys] = &[
    Keys(&["mean", "resize_mode", "size", "std"], Rule::Read),
    Keys(&["mode"], Rule::Only(&["\"RGB\"", "null"])),
    // "random" is for training; open_clip then evaluates with bicubic.
    Keys(
        &["interpolation"],
        Rule::Only(&["\"bicubic\"", "\"bilinear\"", "\"random\"", "null"]),
    ),
    // The padding colour of resize_mode "longest", which is refused.
    Keys(&["fill_color"], Rule::Harmless),
];
