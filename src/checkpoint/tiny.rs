//! The built-in model: CLIP's vocabulary and Long-CLIP's context, weights drawn from a fixed seed.

use anyhow::Result;

use super::architecture::{Activation, Architecture, ImageTower, Tower, VisionTransformer};
use super::container::StoredTensor;
use super::{Checkpoint, Tensors, layout};
use crate::input::preprocess::Preprocess;

/// What `--model tiny` says on stderr.
pub const NOTICE: &str = "model tiny is built in and its weights are random: the answers mean \
     nothing, but everything else works (choose a real model with --model)";

const SEED: u64 = 0x10c6_c119;

/// The sizes of the built-in model.
#[must_use]
pub fn architecture() -> Architecture {
    let tower = Tower {
        width: 64,
        layers: 2,
        heads: 1,
        mlp_width: 256,
        norm_epsilon: 1e-5,
    };
    Architecture {
        context_length: 248,
        vocabulary: 49408,
        embed_dim: 64,
        image: ImageTower::VisionTransformer(VisionTransformer {
            image_size: 64,
            patch_size: 16,
            tower: tower.clone(),
        }),
        text: tower,
    }
}

/// The built-in checkpoint.
///
/// # Errors
/// None in practice: the shapes are fixed.
pub fn checkpoint(activation: Option<Activation>) -> Result<Checkpoint> {
    let architecture = architecture();
    let mut tensors = Tensors::new();
    for (index, (name, shape)) in layout::canonical::expected(&architecture)
        .into_iter()
        .enumerate()
    {
        let count = shape.iter().product();
        let values = values(&name, SEED.wrapping_add(index as u64), count);
        tensors.insert(name, StoredTensor::from_f32(&shape, values)?);
    }
    Ok(Checkpoint {
        name: "tiny".to_owned(),
        tensors,
        preprocess: Preprocess::clip(architecture.image.image_size()),
        architecture,
        activation: activation.unwrap_or(Activation::QuickGelu),
        activation_source: match activation {
            Some(_) => "--activation".to_owned(),
            None => "the built-in model's".to_owned(),
        },
        layout: layout::HUGGING_FACE,
        container: None,
        files: Vec::new(),
        warnings: Vec::new(),
        weights: Vec::new(),
        archives: Vec::new(),
    })
}

/// Values that give a model whose outputs differ from input to input: gains around 1, a scale of
/// 100 for the logits, everything else around 0.
fn values(name: &str, seed: u64, count: usize) -> Vec<f32> {
    let is_gain = name.contains("norm") && name.ends_with(".weight");
    let (centre, spread) = match name {
        "logit_scale" => (100f32.ln(), 0.0),
        _ if is_gain => (1.0, 0.1),
        _ => (0.0, 0.25),
    };
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        // SplitMix64 (Steele, Lea, Flood 2014): uniform, and the same on every machine.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 24) as f32 * 2.0 - 1.0
    };
    (0..count).map(|_| centre + spread * next()).collect()
}
