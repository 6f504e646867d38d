//! A small model with random weights, written once.

use std::path::Path;
use std::sync::OnceLock;

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::json;
use tempfile::TempDir;

const WIDTH: usize = 64;
const CONTEXT: usize = 77;
const VOCABULARY: usize = 49408;
const PATCH: usize = 8;
const TOKENS: usize = 5;

/// A folder that `--model` takes: transformers' files.
pub(crate) fn path() -> &'static str {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path());
        folder
    });
    folder.path().to_str().unwrap()
}

fn write(folder: &Path) {
    let tensors = shapes();
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = (0..)
        .zip(tensors)
        .map(|(seed, (name, shape))| {
            let values = values(&name, seed, shape.iter().product());
            let bytes = values.iter().flat_map(|value| value.to_le_bytes());
            (name, shape, bytes.collect())
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap();
        (name, view)
    });
    safetensors::serialize_to_file(views, None, &folder.join("model.safetensors")).unwrap();
    let tower = |more: serde_json::Value| {
        let mut tower = json!({
            "hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_hidden_layers": 2,
            "num_attention_heads": 1, "hidden_act": "quick_gelu", "projection_dim": WIDTH,
        });
        let all = tower.as_object_mut().unwrap();
        all.extend(more.as_object().unwrap().clone());
        tower
    };
    let config = json!({
        "model_type": "clip", "projection_dim": WIDTH,
        "text_config": tower(json!({"max_position_embeddings": CONTEXT, "vocab_size": VOCABULARY})),
        "vision_config": tower(json!({"image_size": 2 * PATCH, "patch_size": PATCH})),
    });
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
}

fn shapes() -> Vec<(String, Vec<usize>)> {
    let mut list: Vec<(String, Vec<usize>)> = [
        ("logit_scale", &[][..]),
        (
            "text_model.embeddings.token_embedding.weight",
            &[VOCABULARY, WIDTH],
        ),
        (
            "text_model.embeddings.position_embedding.weight",
            &[CONTEXT, WIDTH],
        ),
        ("text_projection.weight", &[WIDTH, WIDTH]),
        ("visual_projection.weight", &[WIDTH, WIDTH]),
        ("vision_model.embeddings.class_embedding", &[WIDTH]),
        (
            "vision_model.embeddings.patch_embedding.weight",
            &[WIDTH, 3, PATCH, PATCH],
        ),
        (
            "vision_model.embeddings.position_embedding.weight",
            &[TOKENS, WIDTH],
        ),
    ]
    .map(|(name, shape)| (name.to_owned(), shape.to_vec()))
    .into();
    let mut both = |name: &str, shape: &[usize]| {
        list.push((format!("{name}.weight"), shape.to_vec()));
        list.push((format!("{name}.bias"), shape[..1].to_vec()));
    };
    for norm in [
        "text_model.final_layer_norm",
        "vision_model.pre_layrnorm",
        "vision_model.post_layernorm",
    ] {
        both(norm, &[WIDTH]);
    }
    for tower in ["text_model", "vision_model"] {
        for layer in 0..2 {
            let path = |name: &str| format!("{tower}.encoder.layers.{layer}.{name}");
            both(&path("layer_norm1"), &[WIDTH]);
            both(&path("layer_norm2"), &[WIDTH]);
            for name in ["q_proj", "k_proj", "v_proj", "out_proj"] {
                both(&path(&format!("self_attn.{name}")), &[WIDTH, WIDTH]);
            }
            both(&path("mlp.fc1"), &[4 * WIDTH, WIDTH]);
            both(&path("mlp.fc2"), &[WIDTH, 4 * WIDTH]);
        }
    }
    list
}

/// Gains around 1, a logit scale of 20, everything else around 0.
fn values(name: &str, seed: u64, count: usize) -> Vec<f32> {
    let is_gain = name.contains("norm") && name.ends_with(".weight");
    let (centre, spread) = match name {
        "logit_scale" => (3.0, 0.0),
        _ if is_gain => (1.0, 0.1),
        _ => (0.0, 0.2),
    };
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        // Marsaglia's xorshift.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32 * 2.0 - 1.0
    };
    (0..count).map(|_| centre + spread * next()).collect()
}
