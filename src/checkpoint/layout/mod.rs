//! Detection of a checkpoint's naming scheme, and translation to canonical names.
//!
//! Outside this module there is one set of names, and Long-CLIP's two positional tables are merged
//! into one. How to add a layout is in `src/lib.rs`.

pub mod canonical;
mod geometric;
mod openai;
mod unknown;
mod wrapper;

use anyhow::{Context, Result, bail, ensure};

use super::Tensors;
use super::container::StoredTensor;
use super::sizes::Code;

/// One scheme of tensor names.
trait WeightLayout: Sync {
    /// Its common name.
    fn name(&self, tensors: &Tensors) -> &'static str;
    /// Whether this tensor name is in every file of the layout, or in those with only one tower.
    fn has(&self, name: &str) -> bool;
    /// The same tensors under canonical names.
    fn to_canonical(&self, tensors: Tensors) -> Result<Tensors>;
}

const LAYOUTS: [&dyn WeightLayout; 2] = [&HuggingFace, &openai::OpenAi];

/// The name of the layout that openai/CLIP publishes.
pub(crate) const OPENAI: &str = "openai";
/// The name of the layout that the Long-CLIP authors publish.
pub(crate) const LONG_CLIP: &str = "longclip";
/// The name of Hugging Face's layout.
pub(crate) const HUGGING_FACE: &str = "hugging-face";
/// The name of Hugging Face's layout with Long-CLIP's two positional tables.
pub(crate) const LONG_CLIP_HUGGING_FACE: &str = "longclip-hugging-face";

/// The first rows of a Long-CLIP text table that keep CLIP's own positions; the rest comes from
/// the second, trained table (Long-CLIP `model_longclip.py`, `mask1` and `mask2`).
pub(crate) const KEPT_POSITIONS: usize = super::positions::KEPT;

/// The canonical name of the text positional embedding.
pub const TEXT_POSITIONS: &str = "text_model.embeddings.position_embedding.weight";

/// The bias added to every logit by models trained with a sigmoid loss; others have none.
pub(crate) const LOGIT_BIAS: &str = "logit_bias";

/// The error for a file without an image tower.
pub(super) const TEXT_ENCODER_ONLY: &str = "the file holds a text encoder only (as diffusion pipelines use), without the image tower; take \
     the full model's file";
/// The error for a file without a text tower.
pub(super) const IMAGE_TOWER_ONLY: &str = "the file holds an image tower only (an image encoder), without the text tower; take the full \
     model's file";

/// Tensors under canonical names, and their original layout.
pub(crate) struct Named {
    /// The layout's name.
    pub layout: &'static str,
    /// Whether the file is one of OpenAI's own: only those store their sizes as tensors.
    pub openai_sizes: bool,
    /// Tensors by canonical name.
    pub tensors: Tensors,
}

impl Named {
    /// The code that the file is written for.
    #[must_use]
    pub(crate) fn code(&self) -> Code {
        match self.layout {
            OPENAI if self.openai_sizes => Code::OpenAi,
            LONG_CLIP | LONG_CLIP_HUGGING_FACE => Code::LongClip,
            _ => Code::Any,
        }
    }
}

/// Renames the tensors of a file to canonical names.
///
/// # Errors
/// When no layout fits the names, or two tensors get the same name.
pub(crate) fn to_canonical(tensors: Tensors) -> Result<Named> {
    if let Some(what) = unknown::adapter(&tensors) {
        bail!(what);
    }
    let tensors = wrapper::strip(tensors)?;
    let openai_sizes = OPENAI_SIZES.iter().all(|name| tensors.contains_key(*name));
    let tensors = geometric::recompose(drop_buffers(tensors))?;
    let Some(layout) = layout_of(|wanted| tensors.keys().any(|name| wanted(name))) else {
        bail!(unknown::describe(&tensors));
    };
    Ok(Named {
        layout: layout.name(&tensors),
        openai_sizes,
        tensors: layout.to_canonical(tensors)?,
    })
}

/// The layout of a set of names; `any` reports whether one of them satisfies a predicate.
fn layout_of(any: impl Fn(&dyn Fn(&str) -> bool) -> bool) -> Option<&'static dyn WeightLayout> {
    LAYOUTS
        .into_iter()
        .find(|layout| any(&|name| layout.has(name)))
}

/// Renames every tensor; two that end up with the same name are an error.
fn rename(tensors: Tensors, new_name: impl Fn(&str) -> Result<String>) -> Result<Tensors> {
    let mut renamed = Tensors::new();
    for (name, tensor) in tensors {
        let new = new_name(&name)?;
        ensure!(
            renamed.insert(new.clone(), tensor).is_none(),
            "tensor {name:?} is a duplicate: another one also becomes {new:?}"
        );
    }
    Ok(renamed)
}

/// Sizes that OpenAI's archives hold as tensors.
const OPENAI_SIZES: [&str; 3] = ["input_resolution", "context_length", "vocab_size"];

/// Buffers that hold no weights: counters, index ranges, masks, sizes that the shapes show anyway.
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
    let first = tensors.get(name).with_context(|| {
        format!("the second positional table is present, but the first ({name}) is missing")
    })?;
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

/// Some files store the scale and the bias of logits as `[1]`.
fn scalar_logits(tensors: &mut Tensors) -> Result<()> {
    for name in ["logit_scale", LOGIT_BIAS] {
        if let Some(number) = tensors.get_mut(name)
            && number.elements() == 1
        {
            *number = number.reshape(&[])?;
        }
    }
    Ok(())
}

/// The names of transformers, which are the canonical ones; some files say `text_model` twice.
struct HuggingFace;

const SECOND_POSITIONS: &str = "text_model.embeddings.position_embedding_res";

impl WeightLayout for HuggingFace {
    fn name(&self, tensors: &Tensors) -> &'static str {
        if tensors
            .keys()
            .any(|name| undouble(name) == SECOND_POSITIONS)
        {
            LONG_CLIP_HUGGING_FACE
        } else {
            HUGGING_FACE
        }
    }

    fn has(&self, name: &str) -> bool {
        name.starts_with("text_model.") || name.starts_with("vision_model.")
    }

    fn to_canonical(&self, tensors: Tensors) -> Result<Tensors> {
        let mut tensors = rename(tensors, |name| Ok(undouble(name)))?;
        if let Some(second) = tensors.remove(SECOND_POSITIONS) {
            fold_positions(&mut tensors, TEXT_POSITIONS, second)?;
        }
        scalar_logits(&mut tensors)?;
        Ok(tensors)
    }
}

/// `text_model.text_model.x` -> `text_model.x`, and the same for the image tower.
fn undouble(name: &str) -> String {
    for tower in ["text_model.", "vision_model."] {
        if let Some(rest) = name.strip_prefix(tower)
            && rest.starts_with(tower)
        {
            return rest.to_owned();
        }
    }
    name.to_owned()
}
