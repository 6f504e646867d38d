//! Hugging Face's `CLIPModel` names, which are the canonical ones, and the variant used by
//! transformers ports of Long-CLIP: doubled prefixes and a second positional table.

use anyhow::Result;

use super::{
    LONG_CLIP_HUGGING_FACE, TEXT_POSITIONS, WeightLayout, fold_positions, rename, scalar_logits,
};
use crate::checkpoint::Tensors;

pub(super) struct HuggingFace;

const SECOND_POSITIONS: &str = "text_model.embeddings.position_embedding_res";

impl WeightLayout for HuggingFace {
    fn name(&self, tensors: &Tensors) -> &'static str {
        if tensors
            .keys()
            .any(|name| undouble(name) == SECOND_POSITIONS)
        {
            LONG_CLIP_HUGGING_FACE
        } else {
            super::HUGGING_FACE
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
