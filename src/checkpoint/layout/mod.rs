//! Whose names a checkpoint uses, and how they become the canonical ones.
//!
//! A new layout is a new file here and one line in `LAYOUTS`. Past this module there is one set
//! of names, and Long-CLIP's two positional tables are one.

pub mod canonical;
mod geometric;
mod hugging_face;
mod openai;

use anyhow::{Context, Result, bail, ensure};

use super::Tensors;
use super::container::StoredTensor;

/// One family of tensor names.
trait WeightLayout: Sync {
    /// What people call it.
    fn name(&self, tensors: &Tensors) -> &'static str;
    /// Whether these tensors are named this way.
    fn matches(&self, tensors: &Tensors) -> bool;
    /// The same tensors under canonical names.
    fn to_canonical(&self, tensors: Tensors) -> Result<Tensors>;
}

const LAYOUTS: [&dyn WeightLayout; 2] = [&hugging_face::HuggingFace, &openai::OpenAi];

/// The name of the layout that openai/CLIP publishes.
pub const OPENAI: &str = "openai";
/// The name of the layout that the Long-CLIP authors publish.
pub const LONG_CLIP: &str = "longclip";
/// The name of Hugging Face's layout.
pub const HUGGING_FACE: &str = "hugging-face";
/// The name of Hugging Face's layout with Long-CLIP's two positional tables.
pub const LONG_CLIP_HUGGING_FACE: &str = "longclip-hugging-face";

/// The first rows of a Long-CLIP text table that keep CLIP's own positions; the rest comes from
/// the second, trained table (Long-CLIP `model_longclip.py`, `mask1` and `mask2`).
pub const KEPT_POSITIONS: usize = super::positions::KEPT;

/// The canonical name of the text's table of positions.
pub const TEXT_POSITIONS: &str = "text_model.embeddings.position_embedding.weight";

/// Tensors under canonical names, and the layout they came in.
pub struct Named {
    /// The layout's name.
    pub layout: &'static str,
    /// Whether the file is one of OpenAI's own: only those store their sizes as tensors.
    pub openai_sizes: bool,
    /// Canonical names to tensors.
    pub tensors: Tensors,
}

/// Renames whatever is in a file to canonical names.
///
/// # Errors
/// When no layout fits the names, or two tensors get the same name.
pub fn to_canonical(tensors: Tensors) -> Result<Named> {
    let tensors = strip_wrappers(tensors)?;
    let openai_sizes = OPENAI_SIZES.iter().all(|name| tensors.contains_key(*name));
    let tensors = geometric::recompose(drop_buffers(tensors))?;
    for layout in LAYOUTS {
        if layout.matches(&tensors) {
            let name = layout.name(&tensors);
            let tensors = layout.to_canonical(tensors)?;
            return Ok(Named {
                layout: name,
                openai_sizes,
                tensors,
            });
        }
    }
    bail!("{}", unknown_layout(&tensors))
}

/// Training wrappers put one prefix before every name.
const WRAPPERS: [&str; 3] = ["module.", "_orig_mod.", "clip_model."];

fn strip_wrappers(mut tensors: Tensors) -> Result<Tensors> {
    while let Some(prefix) = WRAPPERS
        .iter()
        .find(|prefix| !tensors.is_empty() && tensors.keys().all(|name| name.starts_with(**prefix)))
    {
        tensors = rename(tensors, |name| Ok(name[prefix.len()..].to_owned()))?;
    }
    Ok(tensors)
}

/// Names every tensor anew; two that meet under one name are an error.
fn rename(tensors: Tensors, new_name: impl Fn(&str) -> Result<String>) -> Result<Tensors> {
    let mut renamed = Tensors::new();
    for (name, tensor) in tensors {
        let new = new_name(&name)?;
        ensure!(
            renamed.insert(new.clone(), tensor).is_none(),
            "tensor {name:?} is there twice: another one is {new:?} as well"
        );
    }
    Ok(renamed)
}

/// Sizes that OpenAI's archives hold as tensors.
const OPENAI_SIZES: [&str; 3] = ["input_resolution", "context_length", "vocab_size"];

/// Buffers that hold no weights: counters, index ranges, masks, sizes that the shapes tell anyway.
/// (A TorchScript archive also keeps tensors that a state dict leaves out.)
fn drop_buffers(mut tensors: Tensors) -> Tensors {
    const WHOLE: [&str; 2] = ["mask1", "mask2"];
    const LAST: [&str; 3] = ["position_ids", "num_batches_tracked", "attn_mask"];
    tensors.retain(|name, _| {
        let last = name.rsplit('.').next().unwrap_or(name);
        let whole = name.as_str();
        !(OPENAI_SIZES.contains(&whole) || WHOLE.contains(&whole) || LAST.contains(&last))
    });
    tensors
}

/// One table from two: rows 0 to 19 of the first, the rest of the second.
fn fold_positions(tensors: &mut Tensors, name: &str, second: StoredTensor) -> Result<()> {
    let first = tensors
        .get(name)
        .with_context(|| format!("the second positional table is there, the first ({name}) not"))?;
    ensure!(
        first.shape() == second.shape() && first.shape().len() == 2,
        "the two positional tables of the text differ in shape: {:?} and {:?}",
        first.shape(),
        second.shape()
    );
    let (rows, width) = (first.shape()[0], first.shape()[1]);
    let kept = KEPT_POSITIONS.min(rows);
    let mut values = first.narrow(0, kept)?.to_f32()?;
    values.extend(second.narrow(kept, rows - kept)?.to_f32()?);
    let folded = StoredTensor::from_f32(&[rows, width], values)?;
    tensors.insert(name.to_owned(), folded);
    Ok(())
}

/// Some files store the scale as `[1]`.
fn scalar_logit_scale(tensors: &mut Tensors) -> Result<()> {
    if let Some(scale) = tensors.get_mut("logit_scale")
        && scale.elements() == 1
    {
        *scale = scale.reshape(&[])?;
    }
    Ok(())
}

fn unknown_layout(tensors: &Tensors) -> String {
    if tensors.keys().any(|name| name.ends_with("lora_A.weight")) {
        return "these are the low-rank matrices of an adapter (LoRA), not a model; name a model that they were added to, \
                as longclip finetune --train lora writes beside its adapter"
            .to_owned();
    }
    if tensors.keys().any(|name| name.starts_with("square:")) {
        return "this is the state of a run of longclip finetune, not a model; finish the run with the same command and \
                --resume, and name its folder"
            .to_owned();
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
