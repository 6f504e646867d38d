//! The names of openai/CLIP, which the Long-CLIP authors and open_clip use too.
//!
//! Differences from the canonical names: queries, keys and values in one matrix, projections stored
//! for right-multiplication (transposed), and, in Long-CLIP, two positional tables for the text:
//! the first gives rows 0 to 19, the second (not a residual, despite its name) the rest.

use anyhow::{Context, Result, bail, ensure};

use super::{
    LONG_CLIP, OPENAI, TEXT_POSITIONS, WeightLayout, canonical, fold_positions, rename,
    scalar_logits,
};
use crate::checkpoint::Tensors;
use crate::checkpoint::container::StoredTensor;

pub(super) struct OpenAi;

const SECOND_POSITIONS: &str = "positional_embedding_res";

impl WeightLayout for OpenAi {
    fn name(&self, tensors: &Tensors) -> &'static str {
        if tensors.contains_key(SECOND_POSITIONS) {
            LONG_CLIP
        } else {
            OPENAI
        }
    }

    fn has(&self, name: &str) -> bool {
        name == "token_embedding.weight"
            || name == "text.token_embedding.weight"
            || name.starts_with("visual.")
    }

    fn to_canonical(&self, mut tensors: Tensors) -> Result<Tensors> {
        if tensors.keys().any(|name| {
            name.starts_with("visual.trunk.") || name.starts_with("text.transformer.embeddings.")
        }) {
            bail!(
                "a tower comes from another library (timm or transformers inside open_clip), but \
                 longclip supports only CLIP's own towers"
            );
        }
        // open_clip's models with a text tower of their own (CustomTextCLIP) keep it under one
        // name.
        tensors = rename(tensors, |name| {
            Ok(name.strip_prefix("text.").unwrap_or(name).to_owned())
        })?;
        let resnet = canonical::has_resnet(&tensors);
        let second = tensors.remove(SECOND_POSITIONS);
        let mut named = Tensors::new();
        for (name, tensor) in tensors {
            for (new, tensor) in
                convert(&name, tensor, resnet).with_context(|| format!("tensor {name:?}"))?
            {
                ensure!(
                    named.insert(new.clone(), tensor).is_none(),
                    "tensor {name:?} is a duplicate: another one also becomes {new:?}"
                );
            }
        }
        if let Some(second) = second {
            fold_positions(&mut named, TEXT_POSITIONS, second)?;
        }
        scalar_logits(&mut named)?;
        Ok(named)
    }
}

/// The canonical tensors for one of OpenAI's; unknown names stay unchanged, for the
/// later check to report. A ResNet keeps its names: transformers has none for it.
fn convert(name: &str, tensor: StoredTensor, resnet: bool) -> Result<Vec<(String, StoredTensor)>> {
    if resnet && name.starts_with("visual.") {
        return Ok(vec![(name.to_owned(), tensor)]);
    }
    if let Some(rest) = name.strip_prefix("visual.transformer.resblocks.") {
        return block("vision_model", rest, tensor);
    }
    if let Some(rest) = name.strip_prefix("transformer.resblocks.") {
        return block("text_model", rest, tensor);
    }
    let transposed = matches!(name, "text_projection" | "visual.proj");
    let new = match name {
        "token_embedding.weight" => "text_model.embeddings.token_embedding.weight",
        "positional_embedding" => TEXT_POSITIONS,
        "ln_final.weight" => "text_model.final_layer_norm.weight",
        "ln_final.bias" => "text_model.final_layer_norm.bias",
        "text_projection" | "text_projection.weight" => "text_projection.weight",
        "visual.conv1.weight" => "vision_model.embeddings.patch_embedding.weight",
        "visual.class_embedding" => "vision_model.embeddings.class_embedding",
        "visual.positional_embedding" => "vision_model.embeddings.position_embedding.weight",
        // The spelling is that of the published files.
        "visual.ln_pre.weight" => "vision_model.pre_layrnorm.weight",
        "visual.ln_pre.bias" => "vision_model.pre_layrnorm.bias",
        "visual.ln_post.weight" => "vision_model.post_layernorm.weight",
        "visual.ln_post.bias" => "vision_model.post_layernorm.bias",
        "visual.proj" => "visual_projection.weight",
        other => other,
    };
    let tensor = if transposed {
        tensor.transpose()?
    } else {
        tensor
    };
    Ok(vec![(new.to_owned(), tensor)])
}

/// `rest` is `{layer}.{name}` within a residual block.
fn block(tower: &str, rest: &str, tensor: StoredTensor) -> Result<Vec<(String, StoredTensor)>> {
    let (layer, name) = rest.split_once('.').context("no name after the layer")?;
    let path = |name: &str| format!("{tower}.encoder.layers.{layer}.{name}");
    if let Some(kind) = name.strip_prefix("attn.in_proj_") {
        return ["q_proj", "k_proj", "v_proj"]
            .into_iter()
            .enumerate()
            .map(|(part, projection)| {
                let rows = tensor.shape().first().copied().unwrap_or(0);
                ensure!(rows % 3 == 0, "{rows} rows cannot be split into three");
                let third = tensor.narrow(part * rows / 3, rows / 3)?;
                Ok((path(&format!("self_attn.{projection}.{kind}")), third))
            })
            .collect();
    }
    let replaced = [
        ("ln_1.", "layer_norm1."),
        ("ln_2.", "layer_norm2."),
        ("attn.out_proj.", "self_attn.out_proj."),
        ("mlp.c_fc.", "mlp.fc1."),
        ("mlp.c_proj.", "mlp.fc2."),
    ]
    .into_iter()
    .find_map(|(from, to)| Some(format!("{to}{}", name.strip_prefix(from)?)));
    Ok(vec![(path(replaced.as_deref().unwrap_or(name)), tensor)])
}
