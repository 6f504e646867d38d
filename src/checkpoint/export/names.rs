//! Canonical names -> those of other libraries: the inverse of `layout`.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::Layout;
use super::entry::{Entry, FloatType};
use crate::checkpoint::container::StoredTensor;
use crate::checkpoint::layout::TEXT_POSITIONS;
use crate::checkpoint::{Checkpoint, Tensors};

/// All tensors of `checkpoint` under the names of `layout`, sorted by name.
pub(super) fn entries(
    checkpoint: &Checkpoint,
    layout: Layout,
    dtype: Option<FloatType>,
) -> Result<Vec<Entry>> {
    let tensors = &checkpoint.tensors;
    let named: BTreeMap<String, Vec<StoredTensor>> = match layout {
        Layout::HuggingFace => tensors
            .iter()
            .map(|(name, tensor)| (name.clone(), vec![tensor.clone()]))
            .collect(),
        // The projection has the same name in transformers' text model.
        Layout::Diffusers => tensors
            .iter()
            .filter(|(name, _)| name.starts_with("text_"))
            .map(|(name, tensor)| (name.clone(), vec![tensor.clone()]))
            .collect(),
        Layout::OpenAi | Layout::OpenClip => openai(tensors)?,
        Layout::LongClip => {
            let mut named = openai(tensors)?;
            // Its code reads rows 0 to 19 from one table and the rest from the other: with the same
            // content in both the model is the same.
            let table = tensors.get(TEXT_POSITIONS).cloned();
            let table = table.context("the model has no text positional embedding")?;
            named.insert("positional_embedding_res".to_owned(), vec![table]);
            named
        }
    };
    named
        .into_iter()
        .map(|(name, parts)| Entry::new(name, parts, dtype))
        .collect()
}

fn openai(tensors: &Tensors) -> Result<BTreeMap<String, Vec<StoredTensor>>> {
    let mut named = BTreeMap::new();
    for (name, tensor) in tensors {
        let (new, parts) = match rename(name) {
            Renamed::Same(new) => (new, vec![tensor.clone()]),
            Renamed::Transposed(new) => (new, vec![tensor.transpose()?]),
            Renamed::Queries(new) => {
                let part = |from: &str| {
                    let name = name.replace(".q_proj.", from);
                    let tensor = tensors.get(&name);
                    tensor.cloned().with_context(|| format!("no {name}"))
                };
                let parts = vec![tensor.clone(), part(".k_proj.")?, part(".v_proj.")?];
                (new, parts)
            }
            Renamed::WithQueries => continue,
        };
        named.insert(new, parts);
    }
    Ok(named)
}

/// How a canonical tensor is written.
enum Renamed {
    Same(String),
    /// As a projection, stored transposed for right-multiplication.
    Transposed(String),
    /// As the first third of a stacked matrix.
    Queries(String),
    /// As one of the other thirds.
    WithQueries,
}

fn rename(name: &str) -> Renamed {
    for (tower, prefix) in [
        ("text_model.encoder.layers.", "transformer.resblocks."),
        (
            "vision_model.encoder.layers.",
            "visual.transformer.resblocks.",
        ),
    ] {
        if let Some((layer, rest)) = name
            .strip_prefix(tower)
            .and_then(|rest| rest.split_once('.'))
        {
            return block(&format!("{prefix}{layer}"), rest);
        }
    }
    let new = match name {
        "text_projection.weight" => return Renamed::Transposed("text_projection".to_owned()),
        "visual_projection.weight" => return Renamed::Transposed("visual.proj".to_owned()),
        "text_model.embeddings.token_embedding.weight" => "token_embedding.weight",
        TEXT_POSITIONS => "positional_embedding",
        "text_model.final_layer_norm.weight" => "ln_final.weight",
        "text_model.final_layer_norm.bias" => "ln_final.bias",
        "vision_model.embeddings.patch_embedding.weight" => "visual.conv1.weight",
        "vision_model.embeddings.class_embedding" => "visual.class_embedding",
        "vision_model.embeddings.position_embedding.weight" => "visual.positional_embedding",
        "vision_model.pre_layrnorm.weight" => "visual.ln_pre.weight",
        "vision_model.pre_layrnorm.bias" => "visual.ln_pre.bias",
        "vision_model.post_layernorm.weight" => "visual.ln_post.weight",
        "vision_model.post_layernorm.bias" => "visual.ln_post.bias",
        other => other,
    };
    Renamed::Same(new.to_owned())
}

/// `rest` within the residual block that becomes `path`.
fn block(path: &str, rest: &str) -> Renamed {
    if let Some(kind) = rest.strip_prefix("self_attn.q_proj.") {
        return Renamed::Queries(format!("{path}.attn.in_proj_{kind}"));
    }
    if rest.starts_with("self_attn.k_proj.") || rest.starts_with("self_attn.v_proj.") {
        return Renamed::WithQueries;
    }
    let new = [
        ("layer_norm1.", "ln_1."),
        ("layer_norm2.", "ln_2."),
        ("self_attn.out_proj.", "attn.out_proj."),
        ("mlp.fc1.", "mlp.c_fc."),
        ("mlp.fc2.", "mlp.c_proj."),
    ]
    .into_iter()
    .find_map(|(from, to)| Some(format!("{to}{}", rest.strip_prefix(from)?)));
    Renamed::Same(format!("{path}.{}", new.as_deref().unwrap_or(rest)))
}
