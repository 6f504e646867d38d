//! What kind of value each key of a configuration file has, whatever object it stands in. Without
//! this, a key that changes no embedding, or that stands where nobody reads it, could hold anything.

use serde_json::Value;

/// What a value must be. `null` stands for an absent key: the code that reads a key decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Whole,
    /// A whole number above zero, or a list of them.
    Sizes,
    Number,
    /// From 0 to 1.
    Share,
    /// 0 and 1 too, which Python treats alike.
    Flag,
    Text,
}

const KINDS: &[(Kind, &[&str])] = &[
    (
        Kind::Whole,
        &[
            "attn_pooler_heads",
            "attn_pooler_queries",
            "bos_token_id",
            "context_length",
            "embed_dim",
            "eos_id",
            "head_width",
            "heads",
            "hidden_size",
            "image_seq_length",
            "intermediate_size",
            "max_position_embeddings",
            "num_attention_heads",
            "num_channels",
            "num_hidden_layers",
            "num_labels",
            "pad_id",
            "projection_dim",
            "vocab_size",
        ],
    ),
    (
        Kind::Sizes,
        &["image_size", "layers", "patch_size", "width"],
    ),
    (
        Kind::Number,
        &[
            "init_logit_bias",
            "init_logit_scale",
            "initializer_factor",
            "initializer_range",
            "logit_scale_init_value",
            "mlp_ratio",
            "model_max_length",
            "rescale_factor",
        ],
    ),
    (
        Kind::Share,
        &[
            "attention_dropout",
            "dropout",
            "eps",
            "layer_norm_eps",
            "patch_dropout",
        ],
    ),
    (
        Kind::Flag,
        &[
            "add_prefix_space",
            "attentional_pool",
            "custom_text",
            "do_center_crop",
            "do_convert_rgb",
            "do_lower_case",
            "do_normalize",
            "do_pad",
            "do_rescale",
            "do_resize",
            "embed_cls",
            "final_ln_after_pool",
            "gradient_checkpointing",
            "is_causal",
            "no_causal_mask",
            "no_ln_pre",
            "nonscalar_logit_scale",
            "output_attentions",
            "output_dict",
            "output_hidden_states",
            "output_tokens",
            "proj_bias",
            "quick_gelu",
            "torchscript",
            "use_cache",
            "use_square_size",
        ],
    ),
    (
        Kind::Text,
        &[
            "hidden_act",
            "image_processor_type",
            "model_type",
            "pool_type",
            "resize_mode",
            "tokenizer_class",
            "transformers_version",
        ],
    ),
];

/// What the value of `key` should be instead, if it is of another kind.
pub(super) fn wrong(key: &str, value: &Value) -> Option<&'static str> {
    let (kind, _) = KINDS.iter().find(|(_, keys)| keys.contains(&key))?;
    let is_size = |value: &Value| value.as_u64().is_some_and(|size| size > 0);
    let (fits, wanted) = match kind {
        Kind::Whole => (value.as_u64().is_some(), "not a whole number"),
        Kind::Sizes => {
            let list = value.as_array();
            let are_sizes = list.is_some_and(|list| !list.is_empty() && list.iter().all(is_size));
            (is_size(value) || are_sizes, "not a whole number above 0")
        }
        Kind::Number => (value.is_number(), "not a number"),
        Kind::Share => {
            let is_share = |number| (0.0..=1.0).contains(&number);
            (
                value.as_f64().is_some_and(is_share),
                "not a number from 0 to 1",
            )
        }
        Kind::Flag => {
            let is_bit = matches!(value.as_u64(), Some(0 | 1));
            (value.is_boolean() || is_bit, "not true or false")
        }
        Kind::Text => (value.is_string(), "not a name in quotes"),
    };
    (!fits && !value.is_null()).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_of_another_kind_is_wrong() {
        let cases = [
            ("num_attention_heads", json!(-1)),
            ("num_hidden_layers", json!(2.5)),
            ("num_hidden_layers", json!("12")),
            ("layer_norm_eps", json!("nan")),
            ("layer_norm_eps", json!(2)),
            ("dropout", json!([0.1])),
            ("width", json!(0)),
            ("layers", json!([3, -4])),
            ("layers", json!([])),
            ("mlp_ratio", json!("4")),
            ("do_resize", json!("false")),
            ("quick_gelu", json!(2)),
            ("hidden_act", json!(7)),
        ];
        for (key, value) in cases {
            assert!(wrong(key, &value).is_some(), "{key} {value}");
        }
        let cases = [
            ("num_attention_heads", json!(8)),
            ("layer_norm_eps", json!(1e-6)),
            ("layers", json!([3, 4, 6, 3])),
            ("image_size", json!([224, 224])),
            ("do_resize", json!(1)),
            ("do_resize", Value::Null),
            ("model_max_length", json!(1e30)),
            ("somebody_elses", json!("anything")),
        ];
        for (key, value) in cases {
            assert_eq!(wrong(key, &value), None, "{key} {value}");
        }
    }

    #[test]
    fn every_key_has_one_kind() {
        let mut keys: Vec<_> = KINDS.iter().flat_map(|(_, keys)| keys.iter()).collect();
        keys.sort_unstable();
        let all = keys.len();
        keys.dedup();
        assert_eq!(keys.len(), all);
    }
}
