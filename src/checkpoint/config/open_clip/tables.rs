//! The keys of open_clip_config.json, with what becomes of each.

use crate::checkpoint::config::keys::{Keys, Rule};

/// Keys of `model_cfg`.
pub(super) const MODEL: &[Keys] = &[
    Keys(
        &["embed_dim", "quick_gelu", "text_cfg", "vision_cfg"],
        Rule::Read,
    ),
    // Where the tensors have the prefix `text.`; their names say it.
    Keys(&["custom_text"], Rule::Harmless),
    // The stored scale and bias replace the initial ones, and say their own shapes.
    Keys(
        &[
            "init_logit_bias",
            "init_logit_scale",
            "nonscalar_logit_scale",
        ],
        Rule::Harmless,
    ),
    // How results are returned, and in which precision open_clip computes.
    Keys(&["cast_dtype", "output_dict"], Rule::Harmless),
    // CoCa.
    Keys(&["multimodal_cfg"], Rule::Off),
];

/// Keys of both towers.
pub(super) const TOWER: &[Keys] = &[
    Keys(&["layers", "mlp_ratio", "norm_kwargs", "width"], Rule::Read),
    // Whether the tokens are returned as well.
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
    // Any number, 0 included, means that there are scales.
    Keys(&["ls_init_value"], Rule::Only(&["null"])),
];

/// Keys of the image tower.
pub(super) const VISION: &[Keys] = &[
    Keys(&["head_width", "image_size", "patch_size"], Rule::Read),
    // Training only.
    Keys(&["patch_dropout"], Rule::Harmless),
    // Without attentional_pool they are for nothing.
    Keys(
        &["attn_pooler_heads", "attn_pooler_queries"],
        Rule::Harmless,
    ),
    // For the class token the LayerNorm may come before or after the choice of the token.
    Keys(&["final_ln_after_pool"], Rule::Harmless),
    Keys(
        &["attentional_pool", "no_ln_pre", "timm_model_name"],
        Rule::Off,
    ),
    Keys(&["pool_type"], Rule::Only(&["\"tok\""])),
    // How the table began; what it became is stored.
    Keys(
        &["pos_embed_type"],
        Rule::Only(&["\"learnable\"", "\"sin_cos_2d\""]),
    ),
    // Without timm_model_name they are for nothing.
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
    // Only a class token (embed_cls) makes open_clip look where the padding is.
    Keys(&["pad_id"], Rule::Harmless),
    // open_clip does not hand it to the tower.
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
    // Without hf_model_name and hf_tokenizer_name they are for nothing.
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
    // "random" is for training; open_clip evaluates with bicubic then.
    Keys(
        &["interpolation"],
        Rule::Only(&["\"bicubic\"", "\"random\"", "null"]),
    ),
    // The colour of the bars of resize_mode "longest", which is refused.
    Keys(&["fill_color"], Rule::Harmless),
];
