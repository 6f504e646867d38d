//! Explains a file with unknown tensor names, for the error that refuses it.

use super::wrapper::shared_prefixes;
use super::{IMAGE_TOWER_ONLY, TEXT_ENCODER_ONLY};
use crate::checkpoint::Tensors;

/// The error for the low-rank matrices of an adapter, whatever their prefix.
pub(super) fn adapter(tensors: &Tensors) -> Option<&'static str> {
    let part = |part: &str| tensors.keys().any(|name| name.contains(part));
    if !part(".lora_A.") && !part(".lora_down.") {
        return None;
    }
    Some(match part(".base_layer.") {
        true => {
            "this is a model with an adapter (LoRA) that is not merged; merge it (merge_and_unload in \
             peft) and save the model"
        }
        false => {
            "these are the low-rank matrices of an adapter (LoRA), not a model; pass a model that \
             they were added to, as longclip finetune --train lora writes next to its adapter"
        }
    })
}

/// Names that identify a file; the first one present decides.
const SIGNS: [(&str, &str); 7] = [
    // transformers 5 saves single towers without their prefix.
    ("embeddings.token_embedding.weight", TEXT_ENCODER_ONLY),
    ("embeddings.patch_embedding.weight", IMAGE_TOWER_ONLY),
    // The state dict of `model.visual` alone, in OpenAI's names.
    ("class_embedding", IMAGE_TOWER_ONLY),
    ("attnpool.positional_embedding", IMAGE_TOWER_ONLY),
    ("patch_embed.proj.weight", TIMM),
    ("stem.conv.weight", TIMM),
    ("attn_pool.latent", TIMM),
];

const TRAINING_STATE: &str = "this is the state of a run of longclip finetune, not a model; finish \
    the run with the same command and --resume, then pass its folder";

const TIMM: &str = "the file holds an image tower only, in timm's names, without a text tower; take the \
     full model, which timm's repositories have as open_clip_model.safetensors";

/// Identifies the tensors, or lists some of them.
pub(super) fn describe(tensors: &Tensors) -> String {
    let names: Vec<&str> = tensors.keys().map(String::as_str).collect();
    if names.iter().any(|name| name.starts_with("square:")) {
        return TRAINING_STATE.to_owned();
    }
    let named = |sign: &str| {
        shared_prefixes(&names).any(|prefix| names.contains(&&*format!("{prefix}{sign}")))
    };
    if let Some((_, what)) = SIGNS.iter().find(|(sign, _)| named(sign)) {
        return (*what).to_owned();
    }
    let first: Vec<_> = tensors.keys().take(3).map(String::as_str).collect();
    format!(
        "these are not the tensors of a CLIP model that longclip knows: {} tensors, the first are \
         {}; expected the names of Hugging Face (text_model.…), OpenAI or Long-CLIP \
         (visual.…, token_embedding.weight)",
        tensors.len(),
        first.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use crate::checkpoint::container::StoredTensor;
    use crate::checkpoint::layout::to_canonical;

    #[test]
    fn files_that_are_not_models_are_identified() {
        let cases: [(&[&str], &str); 12] = [
            (
                &["embeddings.token_embedding.weight", "final_layer_norm.bias"],
                "text encoder only",
            ),
            (
                &[
                    "text_encoder.embeddings.token_embedding.weight",
                    "text_encoder.final_layer_norm.bias",
                ],
                "text encoder only",
            ),
            (&["embeddings.patch_embedding.weight"], "image tower only"),
            (&["class_embedding", "conv1.weight"], "image tower only"),
            (
                &["layer1.0.bn1.bias", "attnpool.positional_embedding"],
                "image tower only",
            ),
            (&["cls_token", "patch_embed.proj.weight"], "in timm's names"),
            (&["trunk.patch_embed.proj.weight"], "in timm's names"),
            (
                &["x.q_proj.lora_A.weight", "x.q_proj.lora_B.weight"],
                "an adapter (LoRA), not a model",
            ),
            (
                &["base_model.model.text_model.x.lora_A.default.weight"],
                "an adapter (LoRA), not a model",
            ),
            (
                &[
                    "m.text_model.q.base_layer.weight",
                    "m.text_model.q.lora_A.default.weight",
                ],
                "not merged",
            ),
            (&["square:x", "x"], "longclip finetune"),
            (&["x", "y", "z", "zz"], "4 tensors, the first are x, y, z"),
        ];
        for (names, expected) in cases {
            let tensor = |name: &&str| {
                let tensor = StoredTensor::from_f32(&[1], vec![1.0]).unwrap();
                ((*name).to_owned(), tensor)
            };
            let tensors = names.iter().map(tensor).collect();
            let error = to_canonical(tensors).err().unwrap().to_string();
            assert!(error.contains(expected), "{names:?}: {error}");
        }
    }
}
